"""Fit a model on labelled bags: the training loop, from top to bottom. Works on bags, knows no file."""

import copy
import logging
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.bags import BagSet, LabelledBag, bag_tensor, finite_logits
from wsi_mil.config import Training
from wsi_mil.errors import DivergedError, NotFiniteError
from wsi_mil.models import BagLoss, MILModel, create_loss
from wsi_mil.runtime.progress import ProgressMeter
from wsi_mil.tasks import Task
from wsi_mil.train.epochs import Epoch, epochs_of, is_better, is_over, planned, with_choice
from wsi_mil.train.optimizers import create_optimizer, learning_rate
from wsi_mil.train.resume import Snapshot, TrainingState, generator_from

log = logging.getLogger(__name__)


def fit(
    model: MILModel, train: BagSet, val: BagSet, settings: Training, *, task: Task, state: TrainingState | None = None
) -> tuple[list[Epoch], int]:
    """Train in place, a bag a step, and leave the weights of the best epoch by the validation part, or of the last.

    An epoch counts as better only by `min_improvement`: once the validation bags are told apart, a smaller and smaller
    loss comes from larger weights, while attention drifts away from the evidence. Where a class has fewer validation bags
    than `min_val_bags`, the choice would be drawn by lot: the last epoch is kept, and a warning says so.

    Returns:
        The curve, and the index of the epoch that was kept.

    Raises:
        DivergedError: a loss that is no finite number; names epoch and bag.
    """
    device = next(model.parameters()).device
    settings = _planned(settings, train, val, task)
    weights = torch.from_numpy(task.loss_weights(train.labels, balanced=settings.class_weights)).to(device)
    loss = create_loss(task, weights)
    optimizer, state = create_optimizer(model, settings), state or TrainingState(None)
    resumed = state.load(model, optimizer)
    history = [Epoch(**line) for line in resumed.history] if resumed else []
    best, best_weights = (resumed.best, resumed.best_weights) if resumed else (0, _weights(model))
    rng = generator_from(resumed.order if resumed else None, settings.seed)
    if resumed:
        log.info("going on after epoch %d of an interrupted training", len(history))
    with ProgressMeter("train", total=epochs_of(settings), unit="epochs", already=len(history)) as meter:
        while not is_over(history, best, settings):
            number, lr = len(history), learning_rate(settings, len(history))
            train_loss = _train_epoch(model, train, optimizer, settings, loss, number=number, rng=rng)
            history.append(Epoch(number + 1, train_loss, *_validate(model, val, task, weights, number), lr))
            log.info("epoch %d: training loss %.4f, validation loss %.4f, AUROC %.3f", *list(vars(history[-1]).values())[:4])
            if number == 0 or is_better(history[-1], history[best], settings):
                best, best_weights = number, _weights(model)
            order = dict(rng.bit_generator.state)
            state.save(model, optimizer, Snapshot([asdict(epoch) for epoch in history], best, best_weights, order))
            meter.advance(1)
    model.deployed.load_state_dict(best_weights)
    return history, best


def _planned(settings: Training, train: BagSet, val: BagSet, task: Task) -> Training:
    """With its number of epochs, and `select` as these validation bags allow."""
    chosen = with_choice(planned(settings, len(train)), task.rarest(val.labels))
    if chosen.select != settings.select:
        log.warning(
            "%d validation bags, fewer than %d of a class: they are too few to choose an epoch by, the last one is kept",
            len(val),
            settings.min_val_bags,
        )
    return chosen


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
    """One pass over the bags in a drawn order; the mean loss."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, number)
    order = rng.permutation(len(bags))
    updates, total = -(-len(bags) // settings.accumulate), 0.0
    optimizer.zero_grad()
    for position, item in enumerate(bags.read(order)):
        chosen = sample_instances(len(item.bag.features), settings, rng)
        bag_loss = _loss(model, item, chosen, settings, loss)
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
            model.after_update((number * updates + position // settings.accumulate + 1) / (epochs_of(settings) * updates))
    return total / len(bags)


def _loss(model: MILModel, item: LabelledBag, chosen: Tensor | None, settings: Training, loss: BagLoss) -> Tensor:
    features = bag_tensor(item.bag, model)
    if chosen is not None:
        features = features[:, chosen.to(features.device)]
    label = torch.tensor([item.label], device=features.device)
    with torch.autocast(features.device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16"):
        return model.training_loss(features, label, loss)


def n_sampled(n: int, settings: Training) -> int:
    """How many of a bag's `n` instances a step sees, at least one."""
    kept = min(n, settings.max_instances or n)
    return max(1, kept - round(settings.instance_dropout * kept))


def sample_instances(n: int, settings: Training, rng: np.random.Generator) -> Tensor | None:
    """Which instances a step sees, ascending; None: all of them."""
    kept = n_sampled(n, settings)
    return None if kept == n else torch.from_numpy(np.sort(rng.permutation(n)[:kept]))


def _validate(model: MILModel, bags: BagSet, task: Task, weights: Tensor, number: int) -> tuple[float, float]:
    """Mean weighted loss, and the figure that can choose the epoch; nothing is kept of an epoch whose weights are no numbers."""
    try:
        outputs, truth = predict_outputs(model, bags, task), np.array(bags.labels)
    except NotFiniteError as error:
        raise DivergedError(epoch=number + 1, bag=error.bag, features_are_finite=error.features_are_finite) from error
    return task.validation_loss(outputs, truth, weights.cpu().numpy()), task.selection_figure(outputs, truth)


@torch.inference_mode()
def predict_outputs(model: MILModel, bags: Iterable[LabelledBag], task: Task) -> NDArray[np.float64]:
    """Return what a model predicts for bags, `(n_bags, n_outputs)`, of classes probabilities; its mode stays as it was.

    Raises:
        NotFiniteError: features or logits of a bag that are no numbers.
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
