"""Metrics of classification and of regression on arrays, with bootstrap intervals by patient.

Metrics that the bootstrap computes a thousand times are implemented in numpy and tested against scikit-learn. Metrics
computed once come from scikit-learn, imported in the function: the import takes half a second that most commands save.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

N_BINS = 10
"""Bins of the reliability curve, as in most papers that report an expected calibration error."""


@dataclass(frozen=True)
class Difference:
    """Difference of a metric between two models on the same slides.

    Attributes:
        value: first minus second.
        ci95: percentile interval over bootstrap draws.
        p: two-sided p-value of the hypothesis of no difference.
    """

    value: float
    ci95: Interval
    p: float


def auroc(truth: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve; for more than two classes the one-vs-rest mean over classes.

    Args:
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.

    Returns:
        A value from 0 to 1, or NaN if a class or its rest has no sample, or a probability is NaN.
    """
    return _one_vs_rest(_rank_auroc, truth, probs)


def auprc(truth: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Return the average precision; for more than two classes the one-vs-rest mean over classes.

    Chance level is the share of the positive class, not 0.5.

    Args:
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.

    Returns:
        A value from 0 to 1, or NaN if a class or its rest has no sample, or a probability is NaN.
    """
    return _one_vs_rest(_average_precision, truth, probs)


def brier(truth: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Return the Brier score, the mean squared error of the probabilities; 0 is best, NaN without samples.

    For two classes it is the mean of `(p1 - y)²`, at most 1. For more classes it is the mean over samples of the sum over
    classes of squared differences, at most 2.

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
    """Return predicted probabilities and observed frequencies in equally wide bins of (0, 1], empty bins left out.

    For two classes, these are the probability of the positive class and its share. For more, the probability of the most
    probable class, and how often that class is the true one.

    Args:
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.
        bins: number of bins.

    Returns:
        Mean prediction, observed share and number of samples of each bin with samples, `(n_filled_bins,)` each.
    """
    if probs.shape[1] == 2:
        predicted, observed = probs[:, 1], truth == 1
    else:
        predicted, observed = probs.max(axis=1), probs.argmax(axis=1) == truth
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], predicted)
    counts, sums, hits = (np.bincount(bin_of, weights, bins) for weights in (None, predicted, observed))
    filled = counts > 0
    return sums[filled] / counts[filled], hits[filled] / counts[filled], counts[filled]


def expected_calibration_error(truth: NDArray[np.int64], probs: NDArray[np.float64], *, bins: int = N_BINS) -> float:
    """Return the mean distance of the reliability curve from the diagonal, weighted by samples; NaN without samples.

    It is biased upwards by chance: more so for fewer samples, and more in bootstrap samples than in the sample itself.

    Args:
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.
        bins: number of equally wide bins.
    """
    predicted, observed, counts = reliability_curve(truth, probs, bins=bins)
    return float(np.average(np.abs(predicted - observed), weights=counts)) if len(counts) else float("nan")


def roc_points(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the false-positive and true-positive rates along the ROC curve.

    Args:
        truth: `(n,)`, 0 or 1.
        scores: `(n,)`.
    """
    from sklearn.metrics import roc_curve

    false_positive, true_positive, _ = roc_curve(truth, scores)
    return false_positive, true_positive


def wilson_interval(n_positive: float, n: int) -> Interval:
    """Return Wilson's 95 % interval of a share of `n` > 0 independent samples (E. B. Wilson, JASA 22 (1927) 209-212)."""
    z = 1.959964
    share = n_positive / n
    middle, half = share + z**2 / (2 * n), z * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    return max(0.0, (middle - half) / (1 + z**2 / n)), min(1.0, (middle + half) / (1 + z**2 / n))


def youden_threshold(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return the threshold with the largest sensitivity + specificity; a score ≥ threshold is predicted positive.

    Candidates lie halfway between neighbouring distinct scores; of equally good ones the nearest to 0.5 is taken. With
    only one class or one distinct score the threshold is 0.5.

    Args:
        positive: `(n,)` whether a sample is positive.
        scores: `(n,)`.
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
    """Return the predicted class: with a threshold (two classes) 1 from the threshold on, otherwise the most probable.

    Args:
        probs: `(n_classes,)`.
        threshold: on the positive class's probability, or None.
    """
    if threshold is not None:
        return int(probs[1] >= threshold)
    return int(np.argmax(probs))


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix `(n_classes, n_classes)`: rows are true classes, columns predicted ones."""
    return np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracies(truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> dict[str, float]:
    """Return accuracy, balanced accuracy and F1; for two classes also sensitivity and specificity.

    Balanced accuracy is the mean recall over classes, NaN if a class has no sample.
    """
    counts = confusion(truth, predicted, n_classes)
    recall = _ratio(counts.diagonal(), counts.sum(axis=1))
    figures = {"accuracy": _mean(truth == predicted), "balanced_accuracy": float(recall.mean()), "f1": f1(counts)}
    if n_classes == 2:
        figures |= {"sensitivity": float(recall[1]), "specificity": float(recall[0])}
    return figures


def f1(counts: NDArray[np.int64]) -> float:
    """Return the F1 of the positive class; for more than two classes the mean over classes.

    Args:
        counts: confusion matrix `(n_classes, n_classes)`.

    Returns:
        A value from 0 to 1, or NaN if a class it is computed of is neither in the truth nor predicted.
    """
    of_class = _ratio(2 * counts.diagonal(), counts.sum(axis=0) + counts.sum(axis=1))
    return float(of_class[1] if len(counts) == 2 else of_class.mean())


def r2(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return the coefficient of determination: 1 is perfect, 0 as good as the mean of the truth, below 0 worse than it.

    Args:
        truth: `(n,)` values.
        predicted: `(n,)` values in the same unit.

    Returns:
        NaN with fewer than two samples, or if all true values are equal.
    """
    if not _differ(truth):
        return float("nan")
    return float(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def mae(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return the mean absolute error of values `(n,)`, in their unit; NaN without samples."""
    return _mean(np.abs(truth - predicted))


def rmse(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return the root of the mean squared error of values `(n,)`, in their unit; NaN without samples."""
    return float(np.sqrt(_mean((truth - predicted) ** 2)))


def pearson(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return the linear correlation of values `(n,)`, from -1 to 1; NaN if all true or all predicted values are equal."""
    if not (_differ(truth) and _differ(predicted)):
        return float("nan")
    first, second = truth - truth.mean(), predicted - predicted.mean()
    return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))


def spearman(truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> float:
    """Return the correlation of ranks of values `(n,)`, ties averaged; NaN if all true or all predicted values are equal."""
    if np.isnan(truth).any() or np.isnan(predicted).any():
        return float("nan")
    return pearson(mid_ranks(truth), mid_ranks(predicted))


def patient_draws(patients: Sequence[str], *, draws: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each bootstrap draw: all patients resampled with replacement, each with all its rows.

    The same patients and seed give the same draws, so that metrics and models can be compared draw by draw.

    Args:
        patients: patient of each row.
        draws: number of draws.
        seed: of the random generator.
    """
    names, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    rows_of = [np.flatnonzero(patient_of == index) for index in range(len(names))]
    for sample in _resampled_patients(len(names), draws, seed):
        yield np.concatenate([rows_of[index] for index in sample])


def patient_weights(n_patients: int, *, draws: int, seed: int = 0) -> NDArray[np.int64]:
    """Return how often each patient, in the order of their names, is in each of the draws of `patient_draws`.

    Returns:
        `(draws, n_patients)`; each row sums to `n_patients`.
    """
    samples = _resampled_patients(n_patients, draws, seed)
    return np.array([np.bincount(sample, minlength=n_patients) for sample in samples])


def interval95(values: NDArray[np.float64]) -> Interval:
    """Return the 2.5 and 97.5 percentiles of a metric over bootstrap draws.

    Draws in which it is undefined (NaN) are left out; if it is undefined in all, both are NaN.
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def paired_difference(figures: tuple[float, float], first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
    """Return the difference of a metric between two models, with its bootstrap interval and p-value.

    p is 2 · min(share of draws with a difference ≤ 0, share with one ≥ 0), where a share is (k + 1) / (draws + 1) so that
    it is never 0, and p is at most 1 (Davison and Hinkley 1997, Bootstrap Methods and their Application, 4.2.3).

    Args:
        figures: the metric of the first and of the second model, on all slides.
        first: `(draws,)` the first model's metric in each draw.
        second: `(draws,)` the second model's metric in the same draws.
    """
    differences = first - second
    defined = differences[~np.isnan(differences)]
    rarer = min((defined <= 0).sum(), (defined >= 0).sum())
    p = min(1.0, 2 * float(rarer + 1) / (len(defined) + 1)) if len(defined) else float("nan")
    return Difference(figures[0] - figures[1], interval95(differences), p)


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values `(n,)` adjusted for multiple comparisons (Holm 1979); NaN stays NaN and is not counted."""
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def _resampled_patients(n_patients: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the patients `(n_patients,)` of each draw, sampled with replacement."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield rng.integers(n_patients, size=n_patients)


EQUAL = 1e-6
"""Scores that differ by less than this share of the largest are equal, since float32 has seven digits."""


def are_equal(values: NDArray[np.floating], scale: float | None = None) -> bool:
    """Return whether values differ by rounding alone.

    Args:
        values: `(n,)`, none of them NaN.
        scale: size of the numbers that they were computed from, if these are larger than they are.
    """
    largest = float(np.abs(values).max(initial=0)) if scale is None else scale
    return float(np.ptp(values)) <= EQUAL * largest if len(values) else True


def mid_ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return for each of `values` `(n,)` the share of values below it, ties counted half: Spearman's ranks from 0 to 1."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(((np.cumsum(counts) - counts / 2) / len(values))[index])


def _one_vs_rest(
    metric: Callable[[NDArray[np.bool_], NDArray[np.float64]], float], truth: NDArray[np.int64], probs: NDArray[np.float64]
) -> float:
    """Return the mean over classes of a binary metric, each class against the rest; for two classes the positive one's."""
    n_classes = probs.shape[1]
    columns = [1] if n_classes == 2 else range(n_classes)
    counts = np.bincount(truth, minlength=n_classes)
    if any(counts[index] in (0, len(truth)) for index in columns) or np.isnan(probs).any():
        return float("nan")
    return float(np.mean([metric(truth == index, probs[:, index]) for index in columns]))


def _rank_auroc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return the AUROC as Mann and Whitney's statistic: share of pairs ranked correctly, ties counted half."""
    negatives, positives = np.sort(scores[~positive]), scores[positive]
    below, not_above = (np.searchsorted(negatives, positives, side).sum() for side in ("left", "right"))
    return float(below + not_above) / (2 * len(negatives) * len(positives))


def _average_precision(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return the sum over distinct scores, highest first, of precision · increase in recall."""
    order = np.argsort(-scores)
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(positive[order])[last_of_ties]
    precision = hits / (last_of_ties + 1)
    return float((precision * np.diff(hits, prepend=0)).sum() / hits[-1])


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the quotient, NaN where the denominator is 0."""
    return numerator / np.where(denominator > 0, denominator, np.nan)


def _differ(values: NDArray[np.float64]) -> bool:
    return len(values) > 1 and bool(np.ptp(values) != 0)


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")
