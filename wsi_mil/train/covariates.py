"""Covariates in a training: their coding from the training part, and the linear model of them alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.config import LinearTraining
from wsi_mil.covariates import Cells, Coding
from wsi_mil.models import Clinical
from wsi_mil.tasks import Task, Truth
from wsi_mil.train.linear import LinearFit, LinearProblem, fit_linear
from wsi_mil.wording import listed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CodedBags:
    """Bags by their covariates.

    Attributes:
        design: coded covariates, float64 `(n_bags, k)`.
        truth: encoded labels and patients.
    """

    design: NDArray[np.float64]
    truth: Truth

    @torch.inference_mode()
    def outputs(self, model: Clinical, task: Task) -> NDArray[np.float64]:
        """Return a model's outputs for the bags, `(n_bags, n_columns)`."""
        coded = torch.from_numpy(self.design).to(model.covariate_weights)
        return task.outputs(coded @ model.covariate_effects.T + model.classifier.bias)


def log_coding(coding: Coding, train: Sequence[Cells], val: Sequence[Cells]) -> None:
    """Say in the log how many training bags lack a value, and which categories of validation bags no training bag has."""
    for column, n in coding.missing(train).items():
        taken = "no category" if column in [code.column for code in coding.categories] else "the mean"
        log.info(
            "covariates: %s is missing in %d of %d training bags: coded as %s, with an indicator", column, n, len(train), taken
        )
    unseen = [f"{column} {value!r}" for cells in val for column, value in coding.unseen(cells).items()]
    if unseen:
        log.info("covariates: no training bag has %s; coded as no category", listed(sorted(set(unseen))))


def fit_covariates(model: Clinical, train: CodedBags, val: CodedBags, settings: LinearTraining, task: Task) -> LinearFit:
    """Fit the linear model of covariates alone in place, with the penalty that is best for the validation bags.

    Args:
        model: to fit.
        train: bags to fit on.
        val: bags that choose the penalty.
        settings: of the fit.
        task: the task that labels belong to, with the constants of the training bags.
    """
    fitted = fit_linear(
        LinearProblem(task, train.design, train.truth, val.design, val.truth, settings.penalties, settings.class_weights)
    )
    weight, bias = fitted.of_raw_columns
    model.set_covariate_effects(torch.from_numpy(weight))
    with torch.no_grad():
        model.classifier.bias.copy_(torch.from_numpy(bias))
    return fitted
