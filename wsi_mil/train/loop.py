"""The training loop: fit a model on labelled bags. It reads no files itself."""

import copy
import logging
import math
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.bags import BagSet, LabelledBag, finite_logits, stored_tensor
from wsi_mil.config import LinearTraining, Training
from wsi_mil.errors import DivergedError, NotFiniteError
from wsi_mil.models import BagLoss, MeanLinear, MILModel, RiskLoss, create_loss
from wsi_mil.runtime.progress import ProgressMeter
from wsi_mil.tasks import Task, Truth
from wsi_mil.train.cohort_loss import accumulate_cohort_gradient
from wsi_mil.train.curves import Curve, not_shown
from wsi_mil.train.epochs import (
    Epoch,
    for_task,
    is_better,
    is_over,
    length_in_words,
    n_epochs,
    time_left,
    with_epochs,
    with_selection,
)
from wsi_mil.train.mean_linear import Described, fit_mean
from wsi_mil.train.optimizers import create_optimizer, learning_rate
from wsi_mil.train.resume import Snapshot, TrainingState, generator_from

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Objective:
    """What is minimised.

    Attributes:
        loss: of a bag's outputs.
        weights: the task's `loss_weights`, which the loss has too.
        labels: `(n_bags, …)` what it compares the outputs of each training bag with.
        bag_weights: `(n_bags,)` weight of each training bag, 1 on average.
    """

    loss: BagLoss
    weights: NDArray[np.float32]
    labels: Tensor
    bag_weights: NDArray[np.float64]

    @classmethod
    def of(cls, task: Task, truth: Truth, settings: Training, device: torch.device) -> "Objective":
        """Return the objective of a task on training bags."""
        weights = task.loss_weights(truth.labels, balanced=settings.class_weights)
        loss = create_loss(task, torch.from_numpy(weights).to(device))
        return cls(loss, weights, torch.from_numpy(task.learned(truth.labels)), task.bag_weights(truth.patients))

    def of_bag(self, index: int) -> tuple[BagLoss, Tensor]:
        """Return the loss, and what it compares the outputs of a training bag with `(1, …)`."""
        return self.loss, self.labels[index : index + 1]


def fit(
    model: MILModel,
    train: BagSet,
    val: BagSet,
    settings: Training | LinearTraining,
    *,
    task: Task,
    state: TrainingState | None = None,
    curve: Curve = not_shown,
) -> tuple[list[Epoch], int]:
    """Train a model in place, one bag per step, and load the weights of the selected epoch.

    A validation loss counts as lower only if it falls by more than `min_improvement`: once the validation bags are separated,
    it still falls as weights grow, while attention drifts away from the evidence. If a class has fewer validation bags than
    `min_val_bags` (for other kinds see `Task.rarest`), selection would be random: the last epoch is kept, with a warning.

    `MeanLinear` is fitted at once (`wsi_mil.train.mean_linear`), and an epoch of its curve is a penalty, without a learning rate.

    Args:
        model: to train.
        train: bags to fit on.
        val: bags that select the epoch.
        settings: of the training.
        task: the task that labels belong to, with the constants of the training bags.
        state: file from which an interrupted training resumes, or None.
        curve: where each epoch is shown when it ends, and the earlier ones of a resumed training at the start.

    Returns:
        The training curve, and the index of the epoch that was kept.

    Raises:
        DivergedError: the loss is not finite; names epoch and bag.
        TypeError: settings of a linear model for another one, or the reverse.
    """
    if isinstance(model, MeanLinear) and isinstance(settings, LinearTraining):
        fitted = fit_mean(model, Described.of(train), Described.of(val), settings, task)
        trials = enumerate(fitted.trials, 1)
        return [Epoch(i, t.train_loss, t.val_loss, t.val_figure, lr=math.nan) for i, t in trials], fitted.chosen
    if isinstance(model, MeanLinear) or isinstance(settings, LinearTraining):
        raise TypeError(f"{type(model).__name__} cannot be fitted by {type(settings).__name__}")
    settings = _resolved_settings(settings, train, val, task)
    objective = Objective.of(task, train.truth, settings, next(model.parameters()).device)
    optimizer = create_optimizer(model, settings)
    state = state or TrainingState(None)
    resumed = state.load(model, optimizer)
    history = [Epoch(**line) for line in resumed.history] if resumed else []
    best, best_weights = (resumed.best, resumed.best_weights) if resumed else (0, _weights(model))
    rng = generator_from(resumed.rng_state if resumed else None, settings.seed)
    log.info("%s", length_in_words(settings, len(train)))
    if resumed:
        log.info("resuming an interrupted training after epoch %d", len(history))
        curve(history)
    with ProgressMeter("train", total=n_epochs(settings), unit="epochs", already=len(history)) as meter:
        while not is_over(history, best, settings):
            number, lr = len(history), learning_rate(settings, len(history))
            train_loss = _train_epoch(model, train, optimizer, settings, objective, number=number, rng=rng)
            history.append(Epoch(number + 1, train_loss, *_validate(model, val, task, objective, number), lr))
            _log_epoch(history[-1], task)
            if number == 0 or is_better(history[-1], history[best], settings):
                best, best_weights = number, _weights(model)
            rng_state = dict(rng.bit_generator.state)
            state.save(model, optimizer, Snapshot([asdict(epoch) for epoch in history], best, best_weights, rng_state))
            curve(history[-1:])
            seconds_per_epoch = meter.seconds() / (len(history) - meter.already)
            meter.advance(1, left=time_left(history, best, settings, seconds_per_epoch=seconds_per_epoch))
    model.deployed.load_state_dict(best_weights)
    return history, best


def _resolved_settings(settings: Training, train: BagSet, val: BagSet, task: Task) -> Training:
    """Return settings with the number of epochs, and `select` as the number of validation bags allows."""
    settings = for_task(settings, task, len(train))
    resolved = with_selection(with_epochs(settings, len(train)), task.rarest(val.truth))
    if resolved.select != settings.select:
        log.warning(
            "too few validation bags to select an epoch (%d, but min_val_bags asks for %d): the last epoch is kept",
            task.rarest(val.truth),
            settings.min_val_bags,
        )
    return resolved


def _log_epoch(epoch: Epoch, task: Task) -> None:
    losses = "epoch %d: training loss %.4f, validation loss %.4f, %s %.3f"
    log.info(losses, epoch.epoch, epoch.train_loss, epoch.val_loss, task.figure_label, epoch.val_figure)


def _train_epoch(
    model: MILModel,
    bags: BagSet,
    optimizer: torch.optim.Optimizer,
    settings: Training,
    objective: Objective,
    *,
    number: int,
    rng: np.random.Generator,
) -> float:
    """Train on all bags once, in random order, or with one update on all of them; return the mean loss."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, number)
    optimizer.zero_grad()
    if isinstance(objective.loss, RiskLoss):
        return _train_on_cohort(model, bags, optimizer, settings, objective, number=number, rng=rng)
    order = rng.permutation(len(bags))
    updates, total = -(-len(bags) // settings.accumulate), 0.0
    with closing(bags.read(order)) as items:
        for position, (index, item) in enumerate(zip(order, items, strict=True)):
            instances = sample_instances(len(item.bag.features), settings, rng)
            bag_loss = _loss(model, item, instances, settings, objective.of_bag(index)) * float(objective.bag_weights[index])
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


def _train_on_cohort(
    model: MILModel,
    bags: BagSet,
    optimizer: torch.optim.Optimizer,
    settings: Training,
    objective: Objective,
    *,
    number: int,
    rng: np.random.Generator,
) -> float:
    """Do one update on the loss of all bags together; return it."""
    assert isinstance(objective.loss, RiskLoss)

    def step(index: int, item: LabelledBag, sampling: np.random.Generator) -> Tensor:
        instances = sample_instances(len(item.bag.features), settings, sampling)
        return _loss(model, item, instances, settings, objective.of_bag(index))

    value = accumulate_cohort_gradient(bags, objective.loss, step, rng, epoch=number + 1)
    optimizer.step()
    optimizer.zero_grad()
    model.after_update((number + 1) / n_epochs(settings))
    return value


def _loss(
    model: MILModel, item: LabelledBag, instances: Tensor | None, settings: Training, objective: tuple[BagLoss, Tensor]
) -> Tensor:
    loss, label = objective
    features = stored_tensor(item.bag, model)
    if instances is not None:
        features = features[:, instances.to(features.device)]
    features = features.float()  # only now: what is left out would be converted for nothing
    with torch.autocast(features.device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16"):
        return model.at(item.bag.covariates).training_loss(features, label.to(features.device), loss)


def n_sampled(n: int, settings: Training) -> int:
    """How many of a bag's `n` instances a step sees, at least one."""
    kept = min(n, settings.max_instances or n)
    return max(1, kept - round(settings.instance_dropout * kept))


def sample_instances(n: int, settings: Training, rng: np.random.Generator) -> Tensor | None:
    """Return the sorted indices of the instances that a step uses, or None for all `n`."""
    n_kept = n_sampled(n, settings)
    return None if n_kept == n else torch.from_numpy(np.sort(rng.permutation(n)[:n_kept]))


def _validate(model: MILModel, bags: BagSet, task: Task, objective: Objective, number: int) -> tuple[float, float]:
    """Return the mean loss and the figure that can select the epoch; raise before an epoch with NaN weights is kept."""
    try:
        logits = predict_logits(model, bags)
    except NotFiniteError as error:
        raise DivergedError(epoch=number + 1, bag=error.bag, features_are_finite=error.features_are_finite) from error
    loss = task.validation_loss(logits, bags.truth, objective.weights)
    return loss, task.selection_figure(task.outputs(logits), bags.truth)


def predict_outputs(model: MILModel, bags: Iterable[LabelledBag], task: Task) -> NDArray[np.float64]:
    """Return a model's outputs for bags, `(n_bags, n_columns)`; for classes, probabilities.

    Raises:
        NotFiniteError: features or logits of a bag are not finite.
    """
    return task.outputs(predict_logits(model, bags))


@torch.inference_mode()
def predict_logits(model: MILModel, bags: Iterable[LabelledBag]) -> Tensor:
    """Return a model's logits for bags, `(n_bags, n_outputs)`.

    The train or eval mode of the model is restored afterwards.

    Raises:
        NotFiniteError: features or logits of a bag are not finite.
    """
    was_training = model.training
    model.eval()
    try:
        return torch.cat([finite_logits(model, b.bag) for b in bags])
    finally:
        model.train(was_training)


def _weights(model: MILModel) -> dict[str, Tensor]:
    return copy.deepcopy(model.deployed.state_dict())
