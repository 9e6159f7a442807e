"""Reliability curves as coordinates in SVG's unit square, y downwards."""

from dataclasses import dataclass
from typing import Any

DOT_AREA, LEAST_RADIUS = 0.004, 0.014
"""Area (over π) of a reliability dot that holds every slide, and a radius that can be seen; the square's side is 1."""


@dataclass(frozen=True)
class Dot:
    """A bin of the reliability curve: centre, radius, and how many slides lie in it."""

    x: float
    y: float
    radius: float
    count: int


def reliability_dots(curve: list[dict[str, Any]]) -> list[Dot]:
    """A dot for each bin of the figures' `reliability`, its area by its share of slides."""
    total = sum(point["count"] for point in curve)
    radii = [max(LEAST_RADIUS, (DOT_AREA * point["count"] / total) ** 0.5) for point in curve]
    return [Dot(p["predicted"], 1 - p["observed"], radius, p["count"]) for p, radius in zip(curve, radii, strict=True)]
