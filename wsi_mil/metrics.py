"""Figures on arrays: AUROC with its interval, threshold, accuracy. Scores are those of the positive class.

scikit-learn is imported where it is used: half a second that most commands need not pay.
"""

import warnings

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]


def auroc(truth: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Area under the ROC curve; of more than two classes the mean over classes, each against the rest.

    Args:
        truth: `(n,)` class indices.
        probs: `(n, n_classes)`.

    Returns:
        NaN where a class (or its rest) has no sample.
    """
    from sklearn.metrics import roc_auc_score

    n_classes = probs.shape[1]
    columns = [1] if n_classes == 2 else range(n_classes)
    values = []
    for index in columns:
        positive = truth == index
        if positive.all() or not positive.any():
            return float("nan")
        values.append(roc_auc_score(positive, probs[:, index]))
    return float(np.mean(values))


def roc_points(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False-positive and true-positive rates of the ROC curve of 0/1 `truth`."""
    from sklearn.metrics import roc_curve

    false_positive, true_positive, _ = roc_curve(truth, scores)
    return false_positive, true_positive


def patient_bootstrap(
    truth: NDArray[np.int64], probs: NDArray[np.float64], patients: list[str], *, draws: int, seed: int = 0
) -> Interval:
    """95 % percentile interval of the AUROC under resampling of whole patients.

    Draws in which a class is missing are left out; NaN where that is all of them.
    """
    rng = np.random.default_rng(seed)
    names = sorted(set(patients))
    rows_of = {name: np.flatnonzero(np.array(patients) == name) for name in names}
    values = []
    for _ in range(draws):
        chosen = np.concatenate([rows_of[names[i]] for i in rng.integers(len(names), size=len(names))])
        values.append(auroc(truth[chosen], probs[chosen]))
    known = np.array([v for v in values if v == v])
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


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


def accuracies(truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> dict[str, float]:
    """Accuracy and balanced accuracy; of two classes sensitivity and specificity too (NaN without a sample)."""
    from sklearn.metrics import balanced_accuracy_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a predicted class that is not in the truth
        figures = {
            "accuracy": float((truth == predicted).mean()),
            "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
        }
    if n_classes == 2:
        figures["sensitivity"] = _share(predicted[truth == 1] == 1)
        figures["specificity"] = _share(predicted[truth == 0] == 0)
    return figures


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else float("nan")
