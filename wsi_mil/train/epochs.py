"""Number of epochs of a training, early stopping, and selection of the epoch to keep. No I/O."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wsi_mil.config import Training
from wsi_mil.tasks import Task


@dataclass(frozen=True)
class Epoch:
    """One epoch of the training curve; `epoch` counts from 1, `val_figure` is the task's figure of the validation bags."""

    epoch: int
    train_loss: float
    val_loss: float
    val_figure: float
    lr: float


def with_epochs(settings: Training, n_bags: int) -> Training:
    """Return settings with `epochs` set: `updates` converted to whole epochs, rounded up, but at least `min_epochs`.

    Args:
        settings: with `epochs` or `updates`.
        n_bags: number of training bags.
    """
    if settings.epochs is not None or settings.updates is None:
        return settings
    updates_per_epoch = -(-n_bags // settings.accumulate)
    epochs = max(-(-settings.updates // updates_per_epoch), settings.min_epochs)
    return settings.model_copy(update={"epochs": epochs, "updates": None})


def for_task(settings: Training, task: Task, n_bags: int) -> Training:
    """Return settings as they hold for a task.

    Where all training bags make one update, its own number of updates and learning rate hold. `select: auto` becomes `auroc`
    where the loss shows confidence as well, and `loss` elsewhere, where `min_improvement` is zero.

    Args:
        settings: of the training.
        task: the task to learn.
        n_bags: number of training bags.
    """
    changes: dict[str, object] = {} if task.loss_shows_confidence else {"min_improvement": 0.0}
    if settings.select == "auto":
        changes["select"] = "auroc" if task.loss_shows_confidence else "loss"
    if task.is_learned_at_once:
        changes |= {"epochs": settings.cox_updates, "updates": None, "lr": settings.cox_lr, "accumulate": n_bags}
    return settings.model_copy(update=changes)


def n_epochs(settings: Training) -> int:
    """Return the number of epochs of settings that `with_epochs` returned."""
    assert settings.epochs is not None, "`with_epochs` sets the number of epochs before training starts"
    return settings.epochs


def with_selection(settings: Training, n_rarest: int) -> Training:
    """Return settings with `select: last` if there are too few validation bags to select an epoch.

    Args:
        settings: of the training.
        n_rarest: number of validation bags of the rarest stratum.
    """
    return settings if n_rarest >= settings.min_val_bags else settings.model_copy(update={"select": "last"})


def is_better(new: Epoch, best: Epoch, settings: Training) -> bool:
    """Return whether an epoch is better than the best one before it, by the criterion in `select`.

    A validation loss counts as lower if it falls by more than `min_improvement`. Of equal figures, that with the lower loss is
    better; the loss also decides where the validation part has no figure (NaN, R² of equal values for example). With
    `select: last` a later epoch is always better.
    """
    if settings.select == "last":
        return True
    is_lower = new.val_loss < best.val_loss - settings.min_improvement
    if settings.select == "loss" or (math.isnan(new.val_figure) and math.isnan(best.val_figure)):
        return is_lower
    return new.val_figure > best.val_figure or (new.val_figure == best.val_figure and is_lower)


def is_over(history: Sequence[Epoch], best: int, settings: Training) -> bool:
    """Return whether training ends: all epochs are done, or patience has run out.

    An epoch with the same figure and a lower loss does not restart patience.

    Args:
        history: epochs so far.
        best: index of the best of them.
        settings: of the training.
    """
    if settings.select == "last" or len(history) >= n_epochs(settings):
        return len(history) >= n_epochs(settings)
    if settings.select == "loss" or all(math.isnan(epoch.val_figure) for epoch in history):
        last_gain = best
    else:
        figures = [epoch.val_figure for epoch in history]
        last_gain = figures.index(max(figures))
    return len(history) >= max(settings.min_epochs, 1) and len(history) - 1 - last_gain >= settings.patience


def epochs_left(history: Sequence[Epoch], best: int, settings: Training) -> tuple[int, int]:
    """Return the number of epochs that training still takes at most, and if no epoch is better from now on.

    Args:
        history: epochs so far.
        best: index of the best of them.
        settings: of the training, with `epochs`.
    """
    imagined = list(history)
    while not is_over(imagined, best, settings):
        imagined.append(Epoch(len(imagined) + 1, math.inf, val_loss=math.inf, val_figure=-math.inf, lr=0.0))
    return n_epochs(settings) - len(history), len(imagined) - len(history)


def length_in_words(settings: Training, n_bags: int) -> str:
    """Return how long training lasts, in epochs and updates; `settings` with `epochs`, `n_bags` for training."""
    most, least = epochs_left([], 0, settings)
    updates = most * -(-n_bags // settings.accumulate)
    early = f"; it may end after {least}" if least < most else ""
    return f"training lasts at most {most} epochs of {n_bags} bags, {updates} updates{early}"


def time_left(history: Sequence[Epoch], best: int, settings: Training, *, seconds_per_epoch: float) -> str:
    """Return the time that training still takes, in words.

    Args:
        history: epochs so far.
        best: index of the best of them.
        settings: of the training, with `epochs`.
        seconds_per_epoch: of the epochs so far.
    """
    most, least = epochs_left(history, best, settings)
    if least == 0:
        return "patience has run out" if most else "all epochs are done"
    early = f", {duration(least * seconds_per_epoch)} if nothing improves from now on" if least < most else ""
    return f"at most {duration(most * seconds_per_epoch)} more{early}"


def duration(seconds: float) -> str:
    """Return a time in words, such as 40 s, 5 min 10 s or 3 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
