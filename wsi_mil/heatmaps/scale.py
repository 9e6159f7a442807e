"""Scores → the numbers that a heatmap shows, and the range of its colour bar. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOP_PERCENTILE = 99.5
LEAST_TOP_OF_ATTENTION = 3.0
"""Colour bars of attention reach at least thrice an even share, so that a negative slide stays cold."""

LEAST_TOP_OF_LOG_ODDS = 1.0


@dataclass(frozen=True)
class Shown:
    """What is painted: `values` `(n,)`, the colour bar's range, and its label."""

    values: NDArray[np.float32]
    low: float
    high: float
    label: str


def shown_scores(values: NDArray[np.float32], *, unit: str, prob: float, target: str) -> Shown:
    """The numbers to paint for one slide's scores.

    Shares (attention, which sums to 1 in a negative slide too) are shown as n·a·P: the multiple of an even share, times
    the probability of the class. Log odds are shown as they are.

    Args:
        values: `(n,)`, NaN where there is nothing to show.
        unit: as the receipt says.
        prob: the slide's probability of the class shown.
        target: name of the class shown.
    """
    if unit != "share":
        return Shown(values, 0.0, _top(values, LEAST_TOP_OF_LOG_ODDS), f"evidence for {target} (log odds; at or below 0: none)")
    scaled = (values * len(values) * prob).astype(np.float32)
    return Shown(scaled, 0.0, _top(scaled, LEAST_TOP_OF_ATTENTION), f"attention / even share × P({target})")


def _top(values: NDArray[np.float32], least: float) -> float:
    known = values[np.isfinite(values)]
    return max(least, float(np.percentile(known, TOP_PERCENTILE))) if len(known) else least
