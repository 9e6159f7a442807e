"""Figures on arrays: how well classes are told apart, and how sure that is.

What the bootstrap asks for a thousand times is counted here in numpy, and a test holds it against scikit-learn. What
is asked for once comes from scikit-learn, imported where it is used: half a second that most commands need not pay.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

N_BINS = 10
"""Bins of the reliability curve, as in most papers that give an expected calibration error."""


@dataclass(frozen=True)
class Difference:
    """A figure of one model less that of another on the same slides.

    Attributes:
        value: first less second.
        ci95: percentile interval over draws.
        p: two-sided, of no difference.
    """

    value: float
    ci95: Interval
    p: float


def auroc(truth: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Area under the ROC curve; of more than two classes the mean over classes, each against the rest.

    Args:
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.

    Returns:
        NaN where a class (or its rest) has no sample, or a probability is NaN.
    """
    return _against_the_rest(_share_of_pairs_in_order, truth, probs)


def auprc(truth: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Average precision; of more than two classes the mean over classes, each against the rest.

    Chance is the share of the positive class, not 0.5.

    Args:
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.

    Returns:
        NaN where a class (or its rest) has no sample, or a probability is NaN.
    """
    return _against_the_rest(_average_precision, truth, probs)


def brier(truth: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Brier score: squared error of the probabilities, 0 at best; NaN of no sample.

    Of two classes the mean of `(p1 - y)²`, at most 1. Of more the mean over samples of the sum over classes of
    squared differences, at most 2.

    Args:
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.
    """
    n_classes = probs.shape[1]
    squares = (probs - np.eye(n_classes)[truth]) ** 2
    return _mean(squares[:, 1] if n_classes == 2 else squares.sum(axis=1))


def reliability_curve(
    truth: NDArray[np.int64], probs: NDArray[np.float64], *, bins: int = N_BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """What was predicted beside what came true, in `bins` equally wide bins of (0, 1], those with a sample.

    Of two classes: probability of the positive class, and its share. Of more: probability of the most probable
    class, and how often that class is the true one.

    Args:
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.
        bins: how many bins.

    Returns:
        Mean prediction, observed share and number of samples of each bin, `(n_bins_with_a_sample,)`.
    """
    if probs.shape[1] == 2:
        predicted, is_so = probs[:, 1], truth == 1
    else:
        predicted, is_so = probs.max(axis=1), probs.argmax(axis=1) == truth
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], predicted)
    counts, sums, hits = (np.bincount(bin_of, weights, bins) for weights in (None, predicted, is_so))
    filled = counts > 0
    return sums[filled] / counts[filled], hits[filled] / counts[filled], counts[filled]


def expected_calibration_error(truth: NDArray[np.int64], probs: NDArray[np.float64], *, bins: int = N_BINS) -> float:
    """Mean distance of the reliability curve from the diagonal, weighted by samples; NaN of no sample.

    Chance alone keeps it above 0, the more so the fewer samples there are, and in resamples more than in the sample.

    Args:
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.
        bins: how many equally wide bins.
    """
    predicted, observed, counts = reliability_curve(truth, probs, bins=bins)
    return float(np.average(np.abs(predicted - observed), weights=counts)) if len(counts) else float("nan")


def roc_points(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False-positive and true-positive rates of the ROC curve of 0/1 `truth`."""
    from sklearn.metrics import roc_curve

    false_positive, true_positive, _ = roc_curve(truth, scores)
    return false_positive, true_positive


def youden_threshold(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Cut-off with the largest sensitivity + specificity; predicted positive means score ≥ cut-off.

    Candidates lie half-way between neighbouring distinct scores, so that a gap is cut in its middle; of equally good
    ones the nearest to 0.5 is taken. 0.5 where there is only one class or one score.
    """
    distinct = np.unique(scores)
    if positive.all() or not positive.any() or len(distinct) < 2:
        return 0.5
    candidates = (distinct[1:] + distinct[:-1]) / 2
    sensitivity = np.array([(scores[positive] >= c).mean() for c in candidates])
    specificity = np.array([(scores[~positive] < c).mean() for c in candidates])
    youden = sensitivity + specificity
    best = candidates[youden >= youden.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def predicted_class(probs: NDArray[np.float64], threshold: float | None) -> int:
    """Of two classes the positive one from `threshold` on; otherwise the most probable."""
    if threshold is not None:
        return int(probs[1] >= threshold)
    return int(np.argmax(probs))


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """How many samples of each true class (row) were predicted as each class (column), `(n_classes, n_classes)`."""
    return np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracies(truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> dict[str, float]:
    """Accuracy, balanced accuracy and F1; of two classes sensitivity and specificity too.

    Balanced accuracy is the mean over classes of the share recognised, NaN where a class has no sample.
    """
    counts = confusion(truth, predicted, n_classes)
    recall = _ratio(counts.diagonal(), counts.sum(axis=1))
    figures = {"accuracy": _mean(truth == predicted), "balanced_accuracy": float(recall.mean()), "f1": f1(counts)}
    if n_classes == 2:
        figures |= {"sensitivity": float(recall[1]), "specificity": float(recall[0])}
    return figures


def f1(counts: NDArray[np.int64]) -> float:
    """F1 of the positive class; of more than two classes the mean over classes.

    Args:
        counts: `confusion`, `(n_classes, n_classes)`.

    Returns:
        NaN where a class that counts is neither in the truth nor predicted.
    """
    of_class = _ratio(2 * counts.diagonal(), counts.sum(axis=0) + counts.sum(axis=1))
    return float(of_class[1] if len(counts) == 2 else of_class.mean())


def patient_draws(patients: Sequence[str], *, draws: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Rows of each bootstrap draw: as many patients as there are, with replacement, each with all its rows.

    The same patients and seed give the same draws, so that figures and models may be compared draw by draw.

    Args:
        patients: patient of each row.
        draws: how many.
        seed: of the draws.
    """
    names, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    rows_of = [np.flatnonzero(patient_of == index) for index in range(len(names))]
    for drawn in _drawn(len(names), draws, seed):
        yield np.concatenate([rows_of[index] for index in drawn])


def patient_weights(n_patients: int, *, draws: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each patient, in the order of their names, stands in the very draws that `patient_draws` gives.

    Returns:
        `(draws, n_patients)`, each row with the sum `n_patients`.
    """
    return np.array([np.bincount(drawn, minlength=n_patients) for drawn in _drawn(n_patients, draws, seed)])


def interval95(drawn: NDArray[np.float64]) -> Interval:
    """2.5 and 97.5 percentiles of the draws in which a figure is defined; NaN where that is none."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def paired_difference(figures: tuple[float, float], first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
    """Difference of a figure between two models, with its bootstrap interval and p-value.

    p is 2 · min(share of draws with a difference ≤ 0, share with one ≥ 0), each share counted as (k + 1) / (draws + 1)
    so that it is never 0, and at most 1 (Davison and Hinkley 1997, Bootstrap Methods and their Application, 4.2.3).

    Args:
        figures: of the first and the second model, on all slides.
        first: `(draws,)` the first model's figure in each draw.
        second: `(draws,)` the second's in the very same draws.
    """
    drawn = first - second
    known = drawn[~np.isnan(drawn)]
    rarer = min((known <= 0).sum(), (known >= 0).sum())
    p = min(1.0, 2 * float(rarer + 1) / (len(known) + 1)) if len(known) else float("nan")
    return Difference(figures[0] - figures[1], interval95(drawn), p)


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values `(n,)` adjusted for there being n of them (Holm 1979); an unknown one stays NaN and is not counted."""
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def _drawn(n_patients: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Patients of each draw, as many as there are, with replacement."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield rng.integers(n_patients, size=n_patients)


def mid_ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of `values` `(n,)` that lie below each, equal ones counting half: Spearman's ranks between 0 and 1."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(((np.cumsum(counts) - counts / 2) / len(values))[index])


def _against_the_rest(
    figure: Callable[[NDArray[np.bool_], NDArray[np.float64]], float], truth: NDArray[np.int64], probs: NDArray[np.float64]
) -> float:
    """Mean over classes of a figure of (is it that class, its probability); of two classes the positive one's alone."""
    n_classes = probs.shape[1]
    columns = [1] if n_classes == 2 else range(n_classes)
    counts = np.bincount(truth, minlength=n_classes)
    if any(counts[index] in (0, len(truth)) for index in columns) or np.isnan(probs).any():
        return float("nan")
    return float(np.mean([figure(truth == index, probs[:, index]) for index in columns]))


def _share_of_pairs_in_order(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """AUROC as Mann and Whitney's statistic: pairs of a positive above a negative sample, ties counted half."""
    negatives, positives = np.sort(scores[~positive]), scores[positive]
    below, not_above = (np.searchsorted(negatives, positives, side).sum() for side in ("left", "right"))
    return float(below + not_above) / (2 * len(negatives) * len(positives))


def _average_precision(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Sum over distinct scores, highest first, of precision · gain in recall."""
    order = np.argsort(-scores)
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(positive[order])[last_of_ties]
    precision = hits / (last_of_ties + 1)
    return float((precision * np.diff(hits, prepend=0)).sum() / hits[-1])


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    """NaN where the denominator is 0."""
    return numerator / np.where(denominator > 0, denominator, np.nan)


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")
