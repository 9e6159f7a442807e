"""Scores → the numbers that a heatmap shows, and the range of its colour bar. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOP_PERCENTILE = 99.5
EVEN_SHARE = 1.0
LEAST_TOP_OF_ATTENTION = 10.0
"""Colour bars of attention run from an even share to at least ten times it, so that a negative slide stays cold."""

LEAST_TOP_OF_LOG_ODDS = 1.0


@dataclass(frozen=True)
class Shown:
    """What is painted: `values` `(n,)`, the colour bar's range, whether it is logarithmic, and its label."""

    values: NDArray[np.float32]
    low: float
    high: float
    is_log: bool
    label: str


def shown_scores(values: NDArray[np.float32], *, unit: str, prob: float, target: str, n: int) -> Shown:
    """The numbers to paint for one slide's scores.

    Shares (attention, which sums to 1 in a negative slide too) are shown as n·a·P: the multiple of an even share, times
    the probability of the class, on a logarithmic scale, since a few instances win by far. Log odds are shown as they are.

    Args:
        values: `(n,)`, NaN where there is nothing to show.
        unit: as the receipt says.
        prob: the slide's probability of the class shown.
        target: name of the class shown.
        n: instances of the bag, over which shares sum to 1: those of the slide, or of all slides of its patient.
    """
    if unit != "share":
        return Shown(
            values, 0.0, _top(values, LEAST_TOP_OF_LOG_ODDS), False, f"evidence for {target} (log odds; at or below 0: none)"
        )
    scaled = (values * n * prob).astype(np.float32)
    return Shown(scaled, EVEN_SHARE, _top(scaled, LEAST_TOP_OF_ATTENTION), True, f"attention / even share × P({target})")


def _top(values: NDArray[np.float32], least: float) -> float:
    known = values[np.isfinite(values)]
    return max(least, float(np.percentile(known, TOP_PERCENTILE))) if len(known) else least
