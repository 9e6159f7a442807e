"""Fit probabilities of classes again to patients of a new cohort: Platt scaling or isotonic regression. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Recalibration
from wsi_mil.tasks import Task, Truth, one_number

if TYPE_CHECKING:
    from sklearn.isotonic import IsotonicRegression

Array = NDArray[np.float64]

LEAST_PATIENTS: dict[Recalibration, int] = {"platt": 5, "isotonic": 20}
"""Patients of each class needed: two numbers can be fitted to few; a step function follows every chance of a few."""
EDGE = 1e-6
"""Probabilities are read from a table with six decimals, and nearer to 0 or 1 than this count as this far from it."""


@dataclass(frozen=True)
class Platt:
    """`expit(slope · logit(p) + intercept)`."""

    slope: float
    intercept: float

    def __call__(self, probs: Array) -> Array:
        """Return recalibrated probabilities `(n,)`."""
        return np.asarray(1 / (1 + np.exp(-(self.slope * _logit(probs) + self.intercept))))


@dataclass(frozen=True)
class Isotonic:
    """Increasing step function with straight lines between its steps."""

    curve: "IsotonicRegression"

    def __call__(self, probs: Array) -> Array:
        """Return recalibrated probabilities `(n,)`."""
        return np.asarray(self.curve.predict(probs), np.float64)


@dataclass(frozen=True)
class Recalibrated:
    """What probabilities of classes become in a new cohort.

    Attributes:
        task: the classes.
        method: how the curves were fitted.
        curves: of the positive one of two classes, or of each of several.
        threshold: threshold on the recalibrated probability of the positive one of two classes, chosen on the same patients.
        n_patients: number of patients that they were fitted to.
    """

    task: Task
    method: Recalibration
    curves: tuple[Platt | Isotonic, ...]
    threshold: float | None
    n_patients: int

    def probs(self, probs: Array) -> Array:
        """Return the recalibrated probabilities of bags `(n, n_classes)`; each row sums to 1."""
        return _apply(self.curves, probs)

    def about(self) -> dict[str, object]:
        """Return values for JSON: method, number of patients, threshold, and slopes and intercepts if it has any."""
        fitted = [{"slope": c.slope, "intercept": c.intercept} for c in self.curves if isinstance(c, Platt)]
        about = {"method": self.method, "n_fitted_patients": self.n_patients, "threshold": self.threshold}
        return {**about, **({"platt": fitted} if fitted else {})}


def calibration_faults(task: Task, labels: Sequence[Sequence[str]], method: Recalibration) -> list[str]:
    """Return why probabilities cannot be fitted to patients.

    Args:
        task: the classes.
        labels: labels of the slides of each patient.
        method: how they are to be fitted.
    """
    counts = [sum(index in task.groups_of(own) for own in labels) for index in range(task.n_outputs)]
    least = LEAST_PATIENTS[method]
    few = [f"{n} of class {name!r}" for name, n in zip(task.label_values, counts, strict=True) if n < least]
    if not few:
        return []
    fix = "or use method: platt" if method == "isotonic" and min(counts) >= LEAST_PATIENTS["platt"] else "or leave it out"
    return [f"recalibrate: {method} needs {least} patients of each class, and there are {' and '.join(few)}: add patients, {fix}"]


def fit_recalibration(task: Task, probs: Array, truth: Truth, method: Recalibration) -> Recalibrated:
    """Fit probabilities to the labels of bags that no model has seen.

    Source: J. Platt, "Probabilistic outputs for support vector machines", Advances in Large Margin Classifiers (1999), 61-74,
        on the logit of the probability, with his targets (n + 1) / (n + 2) and 1 / (n + 2) in place of 1 and 0. B. Zadrozny and
        C. Elkan, KDD 2002, for isotonic regression, and for several classes: each against the rest, then divided by their sum.

    Args:
        task: the classes.
        probs: `(n, n_classes)`, the mean over the models of all folds.
        truth: class indices `(n,)`, every class occurs, and patients.
        method: how to fit.
    """
    columns = [1] if task.n_outputs == 2 else range(task.n_outputs)
    fit = _platt if method == "platt" else _isotonic
    curves = tuple(fit(probs[:, column], truth.labels == column) for column in columns)
    threshold = one_number(task.threshold(_apply(curves, probs), truth))
    return Recalibrated(task, method, curves, threshold, len(set(truth.patients)))


def _platt(probs: Array, positive: NDArray[np.bool_]) -> Platt:
    from sklearn.linear_model import LogisticRegression  # imported here: it takes half a second

    n, n_positive = len(positive), int(positive.sum())
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n - n_positive + 2))
    twice = np.tile(_logit(probs), 2)[:, None]  # each bag as positive and as negative, weighted by its target
    model = LogisticRegression(C=np.inf, max_iter=1000, tol=1e-8)
    model.fit(twice, np.repeat([1, 0], n), sample_weight=np.concatenate([target, 1 - target]))
    return Platt(float(model.coef_[0, 0]), float(model.intercept_[0]))


def _isotonic(probs: Array, positive: NDArray[np.bool_]) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression

    return Isotonic(IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probs, positive.astype(float)))


def _apply(curves: Sequence[Platt | Isotonic], probs: Array) -> Array:
    if len(curves) == 1:
        positive = curves[0](probs[:, 1])
        return np.stack([1 - positive, positive], axis=1)
    each = np.stack([curve(probs[:, k]) for k, curve in enumerate(curves)], axis=1)
    total = each.sum(axis=1, keepdims=True)
    return np.where(total > 0, each / np.where(total > 0, total, 1), probs)  # no class is possible: as the models say


def _logit(probs: Array) -> Array:
    clipped = np.clip(probs, EDGE, 1 - EDGE)
    return np.asarray(np.log(clipped / (1 - clipped)))
