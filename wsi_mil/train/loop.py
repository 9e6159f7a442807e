"""The training loop: fit a model on labelled bags. It reads no files itself."""

import copy
import logging
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.bags import BagSet, LabelledBag, finite_logits, stored_tensor
from wsi_mil.config import Training
from wsi_mil.errors import DivergedError, NotFiniteError
from wsi_mil.models import BagLoss, MILModel, create_loss
from wsi_mil.runtime.progress import ProgressMeter
from wsi_mil.tasks import Task
from wsi_mil.train.epochs import Epoch, is_better, is_over, length_in_words, n_epochs, time_left, with_epochs, with_selection
from wsi_mil.train.optimizers import create_optimizer, learning_rate
from wsi_mil.train.resume import Snapshot, TrainingState, generator_from

log = logging.getLogger(__name__)


def fit(
    model: MILModel, train: BagSet, val: BagSet, settings: Training, *, task: Task, state: TrainingState | None = None
) -> tuple[list[Epoch], int]:
    """Train a model in place, one bag per step, and load the weights of the selected epoch.

    An epoch is better only if it improves by `min_improvement`: once the validation bags are separated, the loss still
    falls as weights grow, while attention drifts away from the evidence. If a class has fewer validation bags than
    `min_val_bags`, selection would be random: the last epoch is kept, with a warning.

    Args:
        model: to train.
        train: bags to fit on.
        val: bags that select the epoch.
        settings: of the training.
        task: the task that labels belong to.
        state: file from which an interrupted training resumes, or None.

    Returns:
        The training curve, and the index of the epoch that was kept.

    Raises:
        DivergedError: the loss is not finite; names epoch and bag.
    """
    device = next(model.parameters()).device
    settings = _resolved_settings(settings, train, val, task)
    weights = torch.from_numpy(task.loss_weights(train.labels, balanced=settings.class_weights)).to(device)
    loss = create_loss(task, weights)
    optimizer = create_optimizer(model, settings)
    state = state or TrainingState(None)
    resumed = state.load(model, optimizer)
    history = [Epoch(**line) for line in resumed.history] if resumed else []
    best, best_weights = (resumed.best, resumed.best_weights) if resumed else (0, _weights(model))
    rng = generator_from(resumed.rng_state if resumed else None, settings.seed)
    log.info("%s", length_in_words(settings, len(train)))
    if resumed:
        log.info("resuming an interrupted training after epoch %d", len(history))
    with ProgressMeter("train", total=n_epochs(settings), unit="epochs", already=len(history)) as meter:
        while not is_over(history, best, settings):
            number, lr = len(history), learning_rate(settings, len(history))
            train_loss = _train_epoch(model, train, optimizer, settings, loss, number=number, rng=rng)
            history.append(Epoch(number + 1, train_loss, *_validate(model, val, task, weights, number), lr))
            log.info("epoch %d: training loss %.4f, validation loss %.4f, AUROC %.3f", *list(vars(history[-1]).values())[:4])
            if number == 0 or is_better(history[-1], history[best], settings):
                best, best_weights = number, _weights(model)
            rng_state = dict(rng.bit_generator.state)
            state.save(model, optimizer, Snapshot([asdict(epoch) for epoch in history], best, best_weights, rng_state))
            seconds_per_epoch = meter.seconds() / (len(history) - meter.already)
            meter.advance(1, left=time_left(history, best, settings, seconds_per_epoch=seconds_per_epoch))
    model.deployed.load_state_dict(best_weights)
    return history, best


def _resolved_settings(settings: Training, train: BagSet, val: BagSet, task: Task) -> Training:
    """Return settings with the number of epochs, and `select` as the number of validation bags allows."""
    resolved = with_selection(with_epochs(settings, len(train)), task.rarest(val.labels))
    if resolved.select != settings.select:
        log.warning(
            "too few validation bags to select an epoch (%d, fewer than %d of a class): the last epoch is kept",
            len(val),
            settings.min_val_bags,
        )
    return resolved


def _train_epoch(
    model: MILModel,
    bags: BagSet,
    optimizer: torch.optim.Optimizer,
    settings: Training,
    loss: BagLoss,
    *,
    number: int,
    rng: np.random.Generator,
) -> float:
    """Train on all bags once, in random order; return the mean loss."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, number)
    order = rng.permutation(len(bags))
    updates, total = -(-len(bags) // settings.accumulate), 0.0
    optimizer.zero_grad()
    with closing(bags.read(order)) as items:
        for position, item in enumerate(items):
            instances = sample_instances(len(item.bag.features), settings, rng)
            bag_loss = _loss(model, item, instances, settings, loss)
            if not torch.isfinite(bag_loss):
                raise DivergedError(
                    epoch=number + 1, bag=item.bag.slide_id, features_are_finite=bool(np.isfinite(item.bag.features).all())
                )
            total += float(bag_loss.detach())
            group_size = min(settings.accumulate, len(bags) - position // settings.accumulate * settings.accumulate)
            (bag_loss / group_size).backward()  # type: ignore[no-untyped-call]
            if (position + 1) % settings.accumulate == 0 or position + 1 == len(bags):
                optimizer.step()
                optimizer.zero_grad()
                model.after_update((number * updates + position // settings.accumulate + 1) / (n_epochs(settings) * updates))
    return total / len(bags)


def _loss(model: MILModel, item: LabelledBag, instances: Tensor | None, settings: Training, loss: BagLoss) -> Tensor:
    features = stored_tensor(item.bag, model)
    if instances is not None:
        features = features[:, instances.to(features.device)]
    features = features.float()  # only now: what is left out would be converted for nothing
    label = torch.tensor([item.label], device=features.device)
    with torch.autocast(features.device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16"):
        return model.training_loss(features, label, loss)


def n_sampled(n: int, settings: Training) -> int:
    """How many of a bag's `n` instances a step sees, at least one."""
    kept = min(n, settings.max_instances or n)
    return max(1, kept - round(settings.instance_dropout * kept))


def sample_instances(n: int, settings: Training, rng: np.random.Generator) -> Tensor | None:
    """Return the sorted indices of the instances that a step uses, or None for all `n`."""
    n_kept = n_sampled(n, settings)
    return None if n_kept == n else torch.from_numpy(np.sort(rng.permutation(n)[:n_kept]))


def _validate(model: MILModel, bags: BagSet, task: Task, weights: Tensor, number: int) -> tuple[float, float]:
    """Return the mean weighted loss and the metric that can select the epoch; raise before an epoch with NaN weights is kept."""
    try:
        outputs = predict_outputs(model, bags, task)
    except NotFiniteError as error:
        raise DivergedError(epoch=number + 1, bag=error.bag, features_are_finite=error.features_are_finite) from error
    truth = np.array(bags.labels)
    return task.validation_loss(outputs, truth, weights.cpu().numpy()), task.selection_figure(outputs, truth)


@torch.inference_mode()
def predict_outputs(model: MILModel, bags: Iterable[LabelledBag], task: Task) -> NDArray[np.float64]:
    """Return a model's outputs for bags, `(n_bags, n_outputs)`; for classes, probabilities.

    The train or eval mode of the model is restored afterwards.

    Raises:
        NotFiniteError: features or logits of a bag are not finite.
    """
    was_training = model.training
    model.eval()
    try:
        logits = torch.cat([finite_logits(model, b.bag) for b in bags])
    finally:
        model.train(was_training)
    return task.outputs(logits)


def _weights(model: MILModel) -> dict[str, Tensor]:
    return copy.deepcopy(model.deployed.state_dict())
