"""Kaplan-Meier curves of the risk groups, with their intervals and numbers at risk; coordinates for SVG, y downwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.report.axes import Axis, round_values

LEFT, TOP, RIGHT, BOTTOM = 100.0, 10.0, 510.0, 240.0
"""Frame of the plot, in units of its viewBox; the names of the groups stand left of it, beside the numbers at risk."""

COLOURS = {"low": "#0072b2", "high": "#cc3311"}
DASHES = {"low": "7 3", "high": "none"}
TITLES = {"low": "lower risk", "high": "higher risk"}
"""Of each group. Safe for colour-blind readers; the groups have different lines, for print in black and white."""


@dataclass(frozen=True)
class GroupCurve:
    """Curve of one risk group.

    Attributes:
        title: name of the group.
        colour: of line and band.
        dash: pattern of the line.
        line: SVG path of the curve.
        band: SVG path around its 95 % interval.
        censored: SVG path of marks at the times of censored patients.
        at_risk: number of patients at risk at each tick.
        n: number of patients.
        n_events: number of them with the event.
        median: median time, or "not reached".
    """

    title: str
    colour: str
    dash: str
    line: str
    band: str
    censored: str
    at_risk: tuple[int, ...]
    n: int
    n_events: int
    median: str


@dataclass(frozen=True)
class KaplanMeierPlot:
    """Curves of the risk groups in one frame.

    Attributes:
        time: axis of the time.
        share: axis of the share without the event.
        groups: lower risk first; a group without patients is missing.
    """

    time: Axis
    share: Axis
    groups: tuple[GroupCurve, ...]


def kaplan_meier_plot(risk_groups: Mapping[str, Any]) -> KaplanMeierPlot | None:
    """Return the plot of the metrics' `risk_groups` (`survival.group_figures`); None without patients."""
    if not risk_groups:
        return None
    time = Axis(0.0, max(group["ends"][-1] for group in risk_groups.values()), LEFT, RIGHT)
    share = Axis(0.0, 1.0, BOTTOM, TOP)
    curves = tuple(_curve(name, risk_groups[name], time, share) for name in TITLES if name in risk_groups)
    return KaplanMeierPlot(time, share, curves)


def median_text(group: Mapping[str, Any]) -> str:
    """Return the median time of a group of `risk_groups` to three digits, or that it was not reached."""
    return "not reached" if group["median"] is None else f"{group['median']:.3g}"


def _curve(name: str, group: Mapping[str, Any], time: Axis, share: Axis) -> GroupCurve:
    x = time.at(group["times"])
    upper, lower = (_steps(x, share.at(group[key])) for key in ("survival_high", "survival_low"))
    ends, ticks = np.array(group["ends"]), np.array(round_values(time.low, time.high))
    return GroupCurve(
        title=TITLES[name],
        colour=COLOURS[name],
        dash=DASHES[name],
        line=_path(_steps(x, share.at(group["survival"]))),
        band=f"{_path(np.concatenate([upper, lower[::-1]]))}Z",
        censored=_marks(group, time, share),
        at_risk=tuple((ends[:, None] >= ticks).sum(axis=0).tolist()),
        n=group["n"],
        n_events=group["n_events"],
        median=median_text(group),
    )


def _steps(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners of a curve that keeps each value until the next time."""
    return np.stack([np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]], axis=1)


def _marks(group: Mapping[str, Any], time: Axis, share: Axis) -> str:
    """Short vertical lines on the curve where patients are censored."""
    censored = np.unique(group["censored"])
    steps = np.searchsorted(group["times"], censored, "right") - 1
    positions = zip(time.at(censored), share.at(np.array(group["survival"])[steps]), strict=True)
    return "".join(dict.fromkeys(f"M{x:.1f} {y - 3:.1f}v6" for x, y in positions))


def _path(corners: NDArray[np.float64]) -> str:
    """SVG path through corners; neighbours that coincide at the precision of a tenth are named once."""
    points = (point for point, _ in groupby(f"{x:.1f} {y:.1f}" for x, y in corners))
    return f"M{'L'.join(points)}"
