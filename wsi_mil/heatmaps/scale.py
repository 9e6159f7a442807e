"""Scores → the numbers that a heatmap shows, and the range of its colour bar. Pure."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Scale
from wsi_mil.weighing import Meaning, weighed_scores

TOP_PERCENTILE = 99.5
EVEN_SHARE = 1.0

LEAST_TOP = {"share": 10.0, "logit": math.log(10.0), "log_odds": 1.0, "deviation": 4.0, "probability": 1.0, "contribution": 1.0}
"""By unit, the least top of a colour bar of weighed scores, so that a slide on which nothing stands out stays cold."""

SAYS = {
    "share": "attention / even share × P({target})",
    "logit": "log(attention / even share × P({target}))",
    "log_odds": "log odds of {target} × P({target})",
    "deviation": "standard deviations above the slide's mean × P({target})",
    "probability": "tile's probability of {target} × P({target})",
    "contribution": "contribution to the log odds of {target} × P({target})",
}
"""By unit, what weighed scores are."""


@dataclass(frozen=True)
class Shown:
    """What is painted: `values` `(n,)`, the colour bar's range, whether it is logarithmic, and its label."""

    values: NDArray[np.float32]
    low: float
    high: float
    is_log: bool
    label: str


def shown_scores(values: NDArray[np.float32], meaning: Meaning, scale: Scale) -> Shown:
    """The numbers to paint for one slide's scores.

    Args:
        values: `(n,)`, NaN where there is nothing to show.
        meaning: what they are.
        scale: which numbers are shown.
    """
    if not meaning.unit:
        return Shown(values, 0.0, 1.0, False, "")
    shown = weighed_scores(values, meaning)
    low = EVEN_SHARE if meaning.unit == "share" else 0.0
    high = max(LEAST_TOP[meaning.unit], _top(shown))
    return Shown(shown, low, high, meaning.unit == "share", SAYS[meaning.unit].format(target=meaning.target))


def _top(values: NDArray[np.float32]) -> float:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, TOP_PERCENTILE)) if len(known) else -math.inf
