"""ROC and reliability curves as coordinates in SVG's unit square, y downwards."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.metrics import roc_points, wilson_interval

DOT_AREA, LEAST_RADIUS = 0.004, 0.014
"""Area (divided by π) of a reliability dot for all slides, and the smallest visible radius; the side of the square is 1."""


@dataclass(frozen=True)
class Dot:
    """Bin of the reliability curve: centre, radius, number of slides, and ends of the 95 % interval of the share."""

    x: float
    y: float
    radius: float
    count: int
    low: float
    high: float


def roc_polyline(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> str:
    """Return the points of the ROC curve of scores `(n,)`; "" if no sample is positive, or all are."""
    if not positive.any() or positive.all():
        return ""
    points = zip(*roc_points(positive.astype(np.int64), scores), strict=True)
    return " ".join(f"{x:.4f},{1 - y:.4f}" for x, y in points)


def reliability_dots(curve: list[dict[str, Any]]) -> list[Dot]:
    """Return a dot for each bin of the metrics' `reliability`; its area is proportional to the number of slides."""
    total = sum(point["count"] for point in curve)
    radii = [max(LEAST_RADIUS, (DOT_AREA * point["count"] / total) ** 0.5) for point in curve]
    ends = [wilson_interval(point["observed"] * point["count"], point["count"]) for point in curve]
    return [
        Dot(p["predicted"], 1 - p["observed"], radius, p["count"], 1 - low, 1 - high)
        for p, radius, (low, high) in zip(curve, radii, ends, strict=True)
    ]
