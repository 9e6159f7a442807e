"""Number of epochs of a training, early stopping, and selection of the epoch to keep. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

from wsi_mil.config import Training


@dataclass(frozen=True)
class Epoch:
    """One epoch of the training curve; `epoch` counts from 1."""

    epoch: int
    train_loss: float
    val_loss: float
    val_auroc: float
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

    If AUROCs are equal, the lower validation loss is better. With `select: last` a later epoch is always better.
    """
    if settings.select == "last":
        return True
    if settings.select == "loss":
        return new.val_loss < best.val_loss - settings.min_improvement
    gain = new.val_auroc - best.val_auroc
    return gain > settings.min_improvement or (gain == 0 and new.val_loss < best.val_loss)


def is_over(history: Sequence[Epoch], best: int, settings: Training) -> bool:
    """Return whether training ends: all epochs are done, or patience has run out.

    An epoch with the same AUROC and a lower loss does not restart patience.

    Args:
        history: epochs so far.
        best: index of the best of them.
        settings: of the training.
    """
    if settings.select == "last" or len(history) >= n_epochs(settings):
        return len(history) >= n_epochs(settings)
    if settings.select == "loss":
        last_gain = best
    else:
        last_gain = _last_improvement([epoch.val_auroc for epoch in history], settings.min_improvement)
    return len(history) >= max(settings.min_epochs, 1) and len(history) - 1 - last_gain >= settings.patience


def _last_improvement(values: list[float], min_improvement: float) -> int:
    """Return the index of the last value that exceeded the previous improvement by more than `min_improvement`."""
    last = 0
    for index, value in enumerate(values):
        if value > values[last] + min_improvement:
            last = index
    return last
