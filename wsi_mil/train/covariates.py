"""Covariates in a training: their coding from the training part, and the linear model of them alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wsi_mil.config import LinearTraining
from wsi_mil.covariates import Cells, Coding
from wsi_mil.models import MILModel
from wsi_mil.tasks import Task, Truth
from wsi_mil.train.epochs import Epoch
from wsi_mil.train.linear import LinearFit, LinearProblem, fit_linear
from wsi_mil.wording import listed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CodedParts:
    """Covariates of the bags of a fold.

    Attributes:
        coding: fitted on the training part.
        train: cells of each training bag.
        val: cells of each validation bag.
    """

    coding: Coding
    train: Sequence[Cells]
    val: Sequence[Cells]

    def log_missing(self) -> None:
        """Say in the log what is missing from the training part, and what of the validation part it has not."""
        for column, n in self.coding.missing(self.train).items():
            log.info("covariates: %s is missing in %d of %d training bags: %s", column, n, len(self.train), MISSING)
        unseen = [f"{column} {value!r}" for cells in self.val for column, value in self.coding.unseen(cells).items()]
        if unseen:
            log.info("covariates: no training bag has %s; coded as no category", listed(sorted(set(unseen))))


MISSING = "the mean, or no category, takes its place, and an indicator is 1"


def fit_of_covariates(parts: CodedParts, task: Task, truths: tuple[Truth, Truth], settings: LinearTraining) -> LinearFit:
    """Fit the linear model of covariates alone.

    Args:
        parts: covariates of training and validation bags.
        task: with the constants of the training part.
        truths: labels and patients of training and of validation bags.
        settings: of the fit.
    """
    coded = [parts.coding.design(bags) for bags in (parts.train, parts.val)]
    return fit_linear(LinearProblem(task, coded[0], truths[0], coded[1], truths[1], settings.penalties, settings.class_weights))


def start_from(model: MILModel, fit: LinearFit) -> None:
    """Give a model the weights of covariates of a linear fit, and add its intercepts to the biases of the bag's classifiers."""
    weights = fit.coefficients / fit.scale
    intercepts = fit.intercepts - weights @ fit.centre
    rows = torch.from_numpy(np.column_stack([weights, intercepts])).float()  # (n_outputs, k + 1)
    if len(rows) != len(model.covariate_weights):
        rows = model.outputs.units_of(rows.T).T
    model.start_covariates(rows[:, :-1], rows[:, -1])


def epochs_of(fit: LinearFit) -> list[Epoch]:
    """Return the fits with each penalty as lines of a training curve, the strongest penalty first; the rate is the penalty."""
    return [Epoch(i + 1, t.train_loss, t.val_loss, t.val_figure, t.penalty) for i, t in enumerate(fit.trials)]
