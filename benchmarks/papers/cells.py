"""What goes into the cells of docs/papers.md: the runs, summed up over seeds."""

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
"""Of the bootstrap behind intervals."""

Result = Mapping[str, Any]


def read_results(folder: Path) -> dict[str, Result]:
    """Every run's JSON by its name."""
    return {
        str(path.relative_to(folder).with_suffix("")): json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))
    }


def below(results: Mapping[str, Result], start: str) -> list[Result]:
    """The runs below a name, in order."""
    return [result for name, result in results.items() if name.startswith(f"{start}/")]


def truth_and_probs(part: Mapping[str, Mapping[str, float]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Class indices `(n,)` and probabilities `(n, 2)` of {slide: {"label": index, "prob": of the positive class}}."""
    truth = np.array([image["label"] for image in part.values()], np.int64)
    positive = np.array([image["prob"] for image in part.values()], np.float64)
    return truth, np.stack([1 - positive, positive], axis=1)


def at_half(truth: NDArray[np.int64], probs: NDArray[np.float64]) -> Outcomes:
    """Outcomes of two classes at the cut-off 0.5."""
    return Outcomes(truth, probs, (probs[:, 1] >= 0.5).astype(np.int64))


def repeat_figures(parts: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Figures of all images of one cross-validation, each by the fold that held it out.

    Args:
        parts: of each fold, {image: {"label": index, "prob": of the positive class}}.
    """
    arrays = [truth_and_probs(part) for part in parts]
    folds = {number: at_half(truth, probs) for number, (truth, probs) in enumerate(arrays)}
    whole = at_half(*(np.concatenate([a[i] for a in arrays]) for i in range(2)))
    found = cohort_figures(TASK, whole, [name for part in parts for name in part], folds, draws=DRAWS)
    (_, false_positive), (_, hits) = found["confusion_matrix"]
    return {**found, "precision": hits / (hits + false_positive) if hits + false_positive else math.nan}


def over_seeds(values: Sequence[float], wanted: int) -> str:
    """Mean ± standard deviation (n - 1); how many of the wanted runs there are, if not all."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return NOT_RUN
    spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.3f}{spread}" + (f" ({len(known)} of {wanted})" if len(known) < wanted else "")


def difference(first: Sequence[float], second: Sequence[float]) -> str:
    """Mean of paired differences with its 95 % interval (Student's t)."""
    each = np.subtract(first, second)
    if len(each) < 2:
        return f"{each.mean():+.3f}" if len(each) else NOT_RUN
    half = float(student.ppf(0.975, len(each) - 1)) * each.std(ddof=1) / math.sqrt(len(each))
    return f"{each.mean():+.3f} ({each.mean() - half:+.3f} to {each.mean() + half:+.3f})"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
