"""Scatter plots of slides and tiles in two principal components, coloured by group; coordinates for SVG, y downwards."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.report.axes import round_values, tick_text

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc3311", "#aa4499", "#56b4e9", "#000000", "#999933")
"""Safe for colour-blind readers; each colour also has its own shape."""

REST_COLOUR, REST_SHAPE = "#8a94a0", len(PALETTE)
"""Colour and shape of slides without a group."""

LEFT, TOP, RIGHT, BOTTOM = 44.0, 8.0, 340.0, 276.0
"""Frame of a plot, in units of its viewBox."""

MARGIN = 0.25
"""Margin on either side, as a share of the range of the slides."""

TILE_PERCENTILES = (2.0, 98.0)
"""Range of tiles that is shown if slides do not differ."""

MAX_DOTS = 2000


@dataclass(frozen=True)
class Group:
    """Legend entry of a group: name, colour, number of its shape, number of slides."""

    name: str
    colour: str
    shape: int
    n: int


@dataclass(frozen=True)
class SlideMark:
    """Mark of a slide: position, slide_id, group."""

    x: float
    y: float
    slide_id: str
    group: Group


@dataclass(frozen=True)
class ScatterPlot:
    """Scatter plot of one grouping.

    Attributes:
        name: name of the grouping.
        plane: components that are plotted.
        groups: entries of the legend.
        marks: marks of slides.
        dots: colour, and an SVG path with a dot for each tile.
    """

    name: str
    plane: "Plane"
    groups: tuple[Group, ...]
    marks: tuple[SlideMark, ...]
    dots: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plane:
    """Projections on two components; all plots of a plane have the same frame.

    Attributes:
        axes: numbers, from 0, of the components along x and y.
        slide_ids: slide_id of each slide.
        slides: `(n, 2)`, projections of slides.
        tile_slides: slide_id of each tile.
        tiles: `(m, 2)`, projections of tiles.
    """

    axes: tuple[int, int]
    slide_ids: tuple[str, ...]
    slides: NDArray[np.float64]
    tile_slides: tuple[str, ...]
    tiles: NDArray[np.float64]

    @property
    def extent(self) -> NDArray[np.float64]:
        """Lowest and highest value along each axis, `(2, 2)`.

        The frame fits the slides, which are closer together than tiles; along axes on which slides do not differ, it fits
        most tiles.
        """
        low, high = self.slides.min(axis=0), self.slides.max(axis=0)
        differ = high > low
        if len(self.tiles) and not differ.all():
            lowest, highest = np.percentile(self.tiles, TILE_PERCENTILES, axis=0)
            low, high = np.where(differ, low, np.minimum(low, lowest)), np.where(differ, high, np.maximum(high, highest))
        pad = np.where(high > low, MARGIN * (high - low), 1.0)
        return np.stack([low - pad, high + pad])

    def to_view(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert points `(n, 2)` to units of the viewBox."""
        low, high = self.extent
        share = (points - low) / (high - low)
        return np.stack([LEFT + share[:, 0] * (RIGHT - LEFT), BOTTOM - share[:, 1] * (BOTTOM - TOP)], axis=1)

    def ticks(self, axis: int) -> list[tuple[float, str]]:
        """Return position and text of round numbers along an axis."""
        low, high = self.extent[:, axis].tolist()
        values = round_values(low, high)
        points = np.zeros((len(values), 2))
        points[:, axis] = values
        positions = self.to_view(points)[:, axis]
        return [(float(position), tick_text(value)) for position, value in zip(positions, values, strict=True)]

    def plot(self, name: str, group_of: dict[str, str], order: Sequence[str], *, rest: str) -> ScatterPlot:
        """Return the scatter plot of a grouping.

        Args:
            name: name of the grouping.
            group_of: group by slide_id; slides without a group are grey.
            order: groups that come first in the legend; others follow by number of slides.
            rest: legend entry of slides without a group.
        """
        groups = _groups(Counter(group_of.get(s, "") for s in self.slide_ids), order, rest)
        marks = tuple(
            SlideMark(float(x), float(y), slide_id, groups[group_of.get(slide_id, "")])
            for slide_id, (x, y) in zip(self.slide_ids, self.to_view(self.slides), strict=True)
        )
        return ScatterPlot(name, self, tuple(dict.fromkeys(groups.values())), marks, self._dots(group_of, groups))

    def _dots(self, group_of: dict[str, str], groups: dict[str, Group]) -> tuple[tuple[str, str], ...]:
        step = max(1, -(-len(self.tiles) // MAX_DOTS))
        paths: dict[str, list[str]] = {}
        for slide_id, (x, y) in zip(self.tile_slides[::step], self.to_view(self.tiles[::step]).tolist(), strict=True):
            if LEFT <= x <= RIGHT and TOP <= y <= BOTTOM:
                paths.setdefault(groups[group_of.get(slide_id, "")].colour, []).append(f"M{x:.1f} {y:.1f}h0")
        return tuple((colour, "".join(dots)) for colour, dots in paths.items())


def _groups(counts: Counter[str], order: Sequence[str], rest: str) -> dict[str, Group]:
    """Legend entry of each group; groups beyond the palette share one entry."""
    names = [name for name in order if counts[name]]
    names += sorted((n for n in counts if n and n not in names), key=lambda n: (-counts[n], n))
    if len(names) > len(PALETTE):
        shown, others = names[: len(PALETTE) - 1], names[len(PALETTE) - 1 :]
    else:
        shown, others = names, []
    entries = {name: Group(name, PALETTE[i], i, counts[name]) for i, name in enumerate(shown)}
    shared = Group(f"{len(others)} others", PALETTE[-1], len(PALETTE) - 1, sum(counts[name] for name in others))
    entries |= dict.fromkeys(others, shared)
    if counts[""]:
        entries[""] = Group(rest, REST_COLOUR, REST_SHAPE, counts[""])
    return entries
