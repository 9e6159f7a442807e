"""Cells of the tables in docs/papers.md: results of runs, summarised over seeds."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from benchmarks.papers.histology import TASK
from wsi_mil.figures import cohort_figures
from wsi_mil.tasks import Outcomes

NOT_RUN = "not yet run"
DRAWS = 1000
"""Number of bootstrap draws for intervals."""

Result = Mapping[str, Any]


def read_results(folder: Path) -> dict[str, Result]:
    """Return the JSON of each run by its name."""
    return {
        str(path.relative_to(folder).with_suffix("")): json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))
    }


def results_under(results: Mapping[str, Result], prefix: str) -> list[Result]:
    """Return the runs whose name starts with `prefix/`, in order."""
    return [result for name, result in results.items() if name.startswith(f"{prefix}/")]


def truth_and_probs(part: Mapping[str, Mapping[str, float]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return class indices `(n,)` and probabilities `(n, 2)` of {slide: {"label": index, "prob": of the positive class}}."""
    truth = np.array([image["label"] for image in part.values()], np.int64)
    positive = np.array([image["prob"] for image in part.values()], np.float64)
    return truth, np.stack([1 - positive, positive], axis=1)


def outcomes_at_half(truth: NDArray[np.int64], probs: NDArray[np.float64]) -> Outcomes:
    """Return the outcomes of two classes at the threshold 0.5."""
    return Outcomes(truth, probs, (probs[:, 1] >= 0.5).astype(np.int64))


def repeat_figures(parts: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Return the figures of all images of one cross-validation, each predicted by the fold that held it out.

    Args:
        parts: for each fold, {image: {"label": index, "prob": of the positive class}}.
    """
    arrays = [truth_and_probs(part) for part in parts]
    folds = {number: outcomes_at_half(truth, probs) for number, (truth, probs) in enumerate(arrays)}
    pooled = outcomes_at_half(*(np.concatenate([a[i] for a in arrays]) for i in range(2)))
    figures = cohort_figures(TASK, pooled, [name for part in parts for name in part], folds, draws=DRAWS)
    (_, false_positives), (_, true_positives) = figures["confusion_matrix"]
    predicted = true_positives + false_positives
    return {**figures, "precision": true_positives / predicted if predicted else math.nan}


def over_seeds(values: Sequence[float], n_expected: int) -> str:
    """Return mean ± standard deviation (n - 1), with the number of runs if some are missing."""
    defined = [value for value in values if value is not None and not math.isnan(value)]
    if not defined:
        return NOT_RUN
    spread = f" ± {statistics.stdev(defined):.3f}" if len(defined) > 1 else ""
    count = f" ({len(defined)} of {n_expected})" if len(defined) < n_expected else ""
    return f"{statistics.fmean(defined):.3f}{spread}{count}"


def difference(first: Sequence[float], second: Sequence[float]) -> str:
    """Return the mean of paired differences with its 95 % interval (Student's t)."""
    differences = np.subtract(first, second)
    n = len(differences)
    if n < 2:
        return f"{differences.mean():+.3f}" if n else NOT_RUN
    mean = differences.mean()
    half = float(student.ppf(0.975, n - 1)) * differences.std(ddof=1) / math.sqrt(n)
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
