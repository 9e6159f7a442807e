"""How long a model is trained, and which of its epochs is kept. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from wsi_mil.config import Training


@dataclass(frozen=True)
class Epoch:
    """One line of the training curve."""

    epoch: int
    train_loss: float
    val_loss: float
    val_auroc: float
    lr: float


def planned(settings: Training, n_bags: int) -> Training:
    """With `epochs` for so many training bags: what `updates` comes to in whole epochs, and not less than `min_epochs`."""
    if settings.epochs is not None or settings.updates is None:
        return settings
    each = -(-n_bags // settings.accumulate)
    epochs = max(-(-settings.updates // each), settings.min_epochs)
    return settings.model_copy(update={"epochs": epochs, "updates": None})


def epochs_of(settings: Training) -> int:
    """The number of epochs of a planned training."""
    assert settings.epochs is not None, "a training is planned before it is done"
    return settings.epochs


def with_choice(settings: Training, fewest: int) -> Training:
    """The same, but `select: last` where the validation bags are too few to choose an epoch by them.

    Args:
        settings: of the training.
        fewest: validation bags of the rarest stratum.
    """
    return settings if fewest >= settings.min_val_bags else settings.model_copy(update={"select": "last"})


def is_better(new: Epoch, best: Epoch, settings: Training) -> bool:
    """By the figure that `select` names; of equal AUROCs the lower loss is better, and the last epoch than all before."""
    if settings.select == "last":
        return True
    if settings.select == "loss":
        return new.val_loss < best.val_loss - settings.min_improvement
    gain = new.val_auroc - best.val_auroc
    return gain > settings.min_improvement or (gain == 0 and new.val_loss < best.val_loss)


def is_over(history: Sequence[Epoch], best: int, settings: Training) -> bool:
    """Whether all epochs are done, or patience has run out; a tie of AUROCs that a lower loss decides is no gain to wait for."""
    if settings.select == "last" or len(history) >= epochs_of(settings):
        return len(history) >= epochs_of(settings)
    since = best if settings.select == "loss" else _last_gain([epoch.val_auroc for epoch in history], settings.min_improvement)
    return len(history) >= max(settings.min_epochs, 1) and len(history) - 1 - since >= settings.patience


def _last_gain(figures: list[float], least: float) -> int:
    """Index of the last figure that was more than `least` above all that counted before it."""
    last = 0
    for index, value in enumerate(figures):
        if value > figures[last] + least:
            last = index
    return last
