"""What goes into the cells of docs/papers.md: the runs, summed up over seeds."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

NOT_RUN = "not yet run"

Result = Mapping[str, Any]


def read_results(folder: Path) -> dict[str, Result]:
    """Every run's JSON by its name."""
    return {
        str(path.relative_to(folder).with_suffix("")): json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))
    }


def below(results: Mapping[str, Result], start: str) -> list[Result]:
    """The runs below a name, in order."""
    return [result for name, result in results.items() if name.startswith(f"{start}/")]


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
