"""Fit the linear model of the mean of the features: statistics of all bags → coefficients → a network."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.bags import BagSet
from wsi_mil.config import LinearTraining
from wsi_mil.errors import NotFiniteError
from wsi_mil.models.mean_linear import MeanLinear
from wsi_mil.runtime.progress import ProgressMeter
from wsi_mil.tasks import Task, Truth
from wsi_mil.train.linear import LinearFit, LinearProblem, fit_linear
from wsi_mil.train.slide_statistics import FeatureStatistics, statistics_of_bag

log = logging.getLogger(__name__)

COLUMNS = ("penalty", "train_loss", "val_loss", "val_{figure}", "converged")
"""Of `history.csv`, a row for each penalty; `{figure}` is the name of the task's figure."""


@dataclass(frozen=True)
class Described:
    """Bags by the statistics of their features.

    Attributes:
        statistics: of each bag.
        truth: encoded labels and patients.
    """

    statistics: Sequence[FeatureStatistics]
    truth: Truth

    @classmethod
    def of(cls, bags: BagSet) -> "Described":
        """Read bags, once.

        Raises:
            EmptyBagError: a bag has no instances.
            NotFiniteError: features of a bag are not finite.
        """
        found = []
        for item in bags:
            found.append(FeatureStatistics.of([item.bag.features]))
            if not np.isfinite(found[-1].mean).all():
                raise NotFiniteError(item.bag.slide_id, features_are_finite=False)
        return cls(found, bags.truth)

    @classmethod
    def read(cls, members: Mapping[str, Sequence[Path]], truth: Truth, kept: Path | None, meter: ProgressMeter) -> "Described":
        """Read bags, each of the slides with these receipts of `extract`; see `statistics_of_bag` for `kept` and errors."""
        found = []
        for bag_id, receipts in members.items():
            found.append(statistics_of_bag(bag_id, receipts, kept))
            meter.advance(1)
        return cls(found, truth)

    def design(self, model: MeanLinear) -> NDArray[np.float64]:
        """Return what the model's logits are linear in, `(n_bags, k)`."""
        means = np.stack([found.mean for found in self.statistics])
        return np.hstack([means, np.stack([f.deviation for f in self.statistics])]) if model.has_deviation else means

    @torch.inference_mode()
    def outputs(self, model: MeanLinear, task: Task) -> NDArray[np.float64]:
        """Return a model's outputs for the bags, `(n_bags, n_columns)`."""
        weight = model.classifier.weight
        return task.outputs(model.classified(torch.from_numpy(self.design(model)).to(weight)).logits)


def fit_mean(model: MeanLinear, train: Described, val: Described, settings: LinearTraining, task: Task) -> LinearFit:
    """Fit a model in place, with the penalty that is best for the validation bags.

    Args:
        model: to fit.
        train: bags to fit on.
        val: bags that choose the penalty.
        settings: of the fit.
        task: the task that labels belong to, with the constants of the training bags.
    """
    fitted = fit_linear(
        LinearProblem(
            task, train.design(model), train.truth, val.design(model), val.truth, settings.penalties, settings.class_weights
        )
    )
    log_fit(fitted, task)
    weight, bias = fitted.of_raw_columns
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(weight))
        model.classifier.bias.copy_(torch.from_numpy(bias))
    return fitted


def log_fit(fitted: LinearFit, task: Task) -> None:
    """Say in the log how the fits with each penalty are, and which is kept."""
    for trial in fitted.trials:
        words = "" if trial.converged else "; the fit did not converge"
        losses = "penalty %g: training loss %.4f, validation loss %.4f, %s %.3f%s"
        log.info(losses, trial.penalty, trial.train_loss, trial.val_loss, task.figure_label, trial.val_figure, words)
    log.info("penalty %g is kept", fitted.penalty)
    if not fitted.trials[fitted.chosen].converged:
        log.warning("the fit with the chosen penalty %g did not converge: raise the smallest of train.penalties", fitted.penalty)


def rows_of(fitted: LinearFit) -> Iterable[Iterable[object]]:
    """Return the rows of `history.csv`."""
    return [[t.penalty, t.train_loss, t.val_loss, t.val_figure, int(t.converged)] for t in fitted.trials]
