"""The figures of a cohort: pooled over folds with intervals, and fold by fold."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.metrics import (
    accuracies,
    auprc,
    auroc,
    brier,
    confusion,
    expected_calibration_error,
    interval95,
    patient_draws,
    reliability_curve,
)


@dataclass(frozen=True)
class FoldPart:
    """What one fold's model says about the slides that this fold held out.

    Attributes:
        fold: index of the fold.
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.
        predicted: `(n,)` class indices.
    """

    fold: int
    truth: NDArray[np.int64]
    probs: NDArray[np.float64]
    predicted: NDArray[np.int64]


def cohort_figures(
    truth: NDArray[np.int64],
    probs: NDArray[np.float64],
    predicted: NDArray[np.int64],
    patients: Sequence[str],
    parts: Sequence[FoldPart],
    *,
    classes: tuple[str, ...],
    draws: int,
) -> dict[str, object]:
    """Every figure, with its 95 % interval over draws of whole patients, and over folds.

    A draw or a fold that lacks a class is left out of the figures that need it. A figure that is defined nowhere is
    NaN, and so is the standard deviation of fewer than two folds.

    Args:
        truth: `(n,)` class indices, n > 0; a row is what was predicted at once: a slide, or a patient's bag.
        probs: `(n, n_classes)`, out of fold; with repeated folds the mean over those that held the row out.
        predicted: `(n,)` class indices.
        patients: patient of each row.
        parts: each fold's own test part; one without rows is left out.
        classes: class names, in order.
        draws: of the bootstrap.

    Returns:
        Ready for JSON: each figure under its name and `{name}_ci95`; `reliability`, `confusion_matrix` (rows truth,
        columns predicted), `n_bags`, `n_patients`, `n_of_class`; `of_fold` with the figures of each fold, and
        `fold_mean` and `fold_sd` (n - 1) of them.
    """
    pooled = point_figures(truth, probs, predicted)
    drawn = [point_figures(truth[rows], probs[rows], predicted[rows]) for rows in patient_draws(patients, draws=draws)]
    intervals = {f"{name}_ci95": list(interval95(np.array([figures[name] for figures in drawn]))) for name in pooled}
    curve = zip(*(values.tolist() for values in reliability_curve(truth, probs)), strict=True)
    return {
        "n_bags": len(truth),
        "n_patients": len(set(patients)),
        "n_of_class": {name: int((truth == index).sum()) for index, name in enumerate(classes)},
        **pooled,
        **intervals,
        "reliability": [{"predicted": mean, "observed": share, "count": count} for mean, share, count in curve],
        "confusion_matrix": confusion(truth, predicted, len(classes)).tolist(),
        **_over_folds(parts, list(pooled)),
    }


def point_figures(truth: NDArray[np.int64], probs: NDArray[np.float64], predicted: NDArray[np.int64]) -> dict[str, float]:
    """Every figure of `(n,)` true and predicted class indices and `(n, n_classes)` probabilities; NaN where undefined."""
    return {
        "auroc": auroc(truth, probs),
        "auprc": auprc(truth, probs),
        **accuracies(truth, predicted, probs.shape[1]),
        "brier": brier(truth, probs),
        "ece": expected_calibration_error(truth, probs),
    }


def _over_folds(parts: Sequence[FoldPart], names: list[str]) -> dict[str, object]:
    of_fold = {str(part.fold): point_figures(part.truth, part.probs, part.predicted) for part in parts if len(part.truth)}
    known = {name: [figures[name] for figures in of_fold.values() if figures[name] == figures[name]] for name in names}
    return {
        "of_fold": of_fold,
        "fold_mean": {name: statistics.fmean(values) if values else float("nan") for name, values in known.items()},
        "fold_sd": {name: statistics.stdev(values) if len(values) > 1 else float("nan") for name, values in known.items()},
    }
