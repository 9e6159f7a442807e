"""ROC and reliability curves as coordinates in SVG's unit square, y downwards."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsi_mil.metrics import roc_points
from wsi_mil.report.comparison import Row, class_arrays, counted

DOT_AREA, LEAST_RADIUS = 0.004, 0.014
"""Area (over π) of a reliability dot that holds every slide, and a radius that can be seen; the square's side is 1."""


@dataclass(frozen=True)
class Dot:
    """A bin of the reliability curve: centre, radius, and how many slides lie in it."""

    x: float
    y: float
    radius: float
    count: int


def roc_polyline(predictions: Iterable[Row], classes: tuple[str, ...]) -> str:
    """Points of the ROC polyline; only for two classes that both have a slide."""
    truth, probs = class_arrays(counted(predictions), classes)
    if len(classes) != 2 or len(np.unique(truth)) < 2:
        return ""
    return " ".join(f"{x:.4f},{1 - y:.4f}" for x, y in zip(*roc_points(truth, probs[:, 1]), strict=True))


def reliability_dots(curve: list[dict[str, Any]]) -> list[Dot]:
    """A dot for each bin of the figures' `reliability`, its area by its share of slides."""
    total = sum(point["count"] for point in curve)
    radii = [max(LEAST_RADIUS, (DOT_AREA * point["count"] / total) ** 0.5) for point in curve]
    return [Dot(p["predicted"], 1 - p["observed"], radius, p["count"]) for p, radius in zip(curve, radii, strict=True)]
