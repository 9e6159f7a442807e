"""What removing tiles does to the prediction: mean deletion curves of methods, in SVG's unit square, y downwards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wsi_mil.report.scatter import PALETTE
from wsi_mil.wording import method_title

TICKS = {0.01: "1 %", 0.1: "10 %", 0.5: "50 %", 1.0: "100 %"}
"""Shares of removed tiles that the axis names."""


@dataclass(frozen=True)
class RemovalLines:
    """Curves of one method: its name, colour, and points with the hottest and with the coldest tiles removed first."""

    name: str
    colour: str
    hottest: str
    coldest: str


@dataclass(frozen=True)
class RemovalPlot:
    """Curves of a model's methods.

    Attributes:
        lines: of each method.
        random: points of the first method's random orders; those of the others differ by chance only.
        ends: numbers at the lower and upper end of the vertical axis.
        ticks: positions and names on the horizontal axis.
    """

    lines: list[RemovalLines]
    random: str
    ends: tuple[str, str]
    ticks: list[tuple[float, str]]


def removal_plot(methods: Mapping[str, Mapping[str, Any]]) -> RemovalPlot | None:
    """Return the plot of methods with curves; None if none has any.

    Positions on the horizontal axis are square roots of shares, since evidence often lies in a few percent of the tiles. With the
    coldest tiles removed first, the curve is that of insertion read from its end: what is left are the hottest tiles.

    Args:
        methods: figures of methods as `evaluate` writes them, by name.
    """
    curves = {name: figures["mean_curves"] for name, figures in methods.items() if figures.get("mean_curves")}
    if not curves:
        return None
    values = [value for each in curves.values() for name in ("deletion", "insertion", "random_deletion") for value in each[name]]
    low, high = (0.0, 1.0) if min(values) >= 0 and max(values) <= 1 else (min(values), max(values))
    height = (high - low) or 1.0

    def points(shares: Iterable[float], heights: Iterable[float]) -> str:
        return " ".join(f"{x**0.5:.4f},{(high - y) / height:.4f}" for x, y in zip(shares, heights, strict=True))

    lines = [
        RemovalLines(
            method_title(name),
            PALETTE[number % len(PALETTE)],
            points(each["shares"], each["deletion"]),
            points((1 - share for share in reversed(each["shares"])), reversed(each["insertion"])),
        )
        for number, (name, each) in enumerate(curves.items())
    ]
    first = next(iter(curves.values()))
    ends = (f"{low:.3g}", f"{high:.3g}")
    return RemovalPlot(lines, points(first["shares"], first["random_deletion"]), ends, [(s**0.5, t) for s, t in TICKS.items()])
