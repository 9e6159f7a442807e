"""Slides and tiles in the plane of two components, coloured by groups: coordinates for SVG, y downwards."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc3311", "#aa4499", "#56b4e9", "#000000", "#999933")
"""Told apart by the colour-blind; each has a shape of its own besides."""

REST_COLOUR, REST_SHAPE = "#8a94a0", len(PALETTE)
"""Of slides that belong nowhere, and of groups beyond the palette."""

LEFT, TOP, RIGHT, BOTTOM = 44.0, 8.0, 340.0, 276.0
"""The frame of a panel, in units of its viewBox."""

MARGIN = 0.25
"""Of the range of the slides, beyond it on either side."""

MOST_TILES = (2.0, 98.0)
"""Percentiles."""

MAX_DOTS = 2000


@dataclass(frozen=True)
class Group:
    """What the legend says of a group: name, colour, number of its shape, number of slides."""

    name: str
    colour: str
    shape: int
    n: int


@dataclass(frozen=True)
class Mark:
    """A slide: place, and what it is called."""

    x: float
    y: float
    slide_id: str
    group: Group


@dataclass(frozen=True)
class Panel:
    """One grouping in one plane.

    Attributes:
        name: of the grouping.
        plane: what it is drawn in.
        marks: slides.
        dots: colour, and an SVG path with a dot for each tile.
    """

    name: str
    plane: "Plane"
    groups: tuple[Group, ...]
    marks: tuple[Mark, ...]
    dots: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plane:
    """Two components, with a frame that is the same for all panels in it.

    Attributes:
        axes: numbers, from 0, of the components, along x and y.
        slide_ids: of each slide.
        slides: `(n, 2)`.
        tile_slides: slide of each tile.
        tiles: `(m, 2)`.
    """

    axes: tuple[int, int]
    slide_ids: tuple[str, ...]
    slides: NDArray[np.float64]
    tile_slides: tuple[str, ...]
    tiles: NDArray[np.float64]

    @property
    def extent(self) -> NDArray[np.float64]:
        """Lowest and highest value along each axis, `(2, 2)`: laid around the slides, which lie closer together than tiles
        and would be a blot among all of these. Where slides do not differ, around most tiles.
        """
        low, high = self.slides.min(axis=0), self.slides.max(axis=0)
        differ = high > low
        if len(self.tiles) and not differ.all():
            lowest, highest = np.percentile(self.tiles, MOST_TILES, axis=0)
            low, high = np.where(differ, low, np.minimum(low, lowest)), np.where(differ, high, np.maximum(high, highest))
        pad = np.where(high > low, MARGIN * (high - low), 1.0)
        return np.stack([low - pad, high + pad])

    def placed(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points `(n, 2)` in units of the viewBox."""
        low, high = self.extent
        share = (points - low) / (high - low)
        return np.stack([LEFT + share[:, 0] * (RIGHT - LEFT), BOTTOM - share[:, 1] * (BOTTOM - TOP)], axis=1)

    def ticks(self, axis: int) -> list[tuple[float, str]]:
        """Place and text of round numbers along an axis."""
        low, high = self.extent[:, axis].tolist()
        raw = (high - low) / 5
        unit = 10.0 ** np.floor(np.log10(raw))
        step = unit * next(m for m in (1, 2, 5, 10) if m * unit >= raw)
        values = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
        points = np.zeros((len(values), 2))
        points[:, axis] = values
        return [(float(place), f"{value or 0.0:g}") for place, value in zip(self.placed(points)[:, axis], values, strict=True)]

    def panel(self, name: str, group_of: dict[str, str], order: Sequence[str], *, rest: str) -> Panel:
        """Slides and tiles by group.

        Args:
            name: of the grouping.
            group_of: group by slide_id; slides that have none are grey and called `rest`.
            order: groups that come first in the legend; others follow by their number of slides.
            rest: what slides without a group are called.
        """
        groups = _groups(Counter(group_of.get(s, "") for s in self.slide_ids), order, rest)
        marks = tuple(
            Mark(float(x), float(y), slide_id, groups[group_of.get(slide_id, "")])
            for slide_id, (x, y) in zip(self.slide_ids, self.placed(self.slides), strict=True)
        )
        return Panel(name, self, tuple(dict.fromkeys(groups.values())), marks, self._dots(group_of, groups))

    def _dots(self, group_of: dict[str, str], groups: dict[str, Group]) -> tuple[tuple[str, str], ...]:
        step = max(1, -(-len(self.tiles) // MAX_DOTS))
        paths: dict[str, list[str]] = {}
        for slide_id, (x, y) in zip(self.tile_slides[::step], self.placed(self.tiles[::step]).tolist(), strict=True):
            if LEFT <= x <= RIGHT and TOP <= y <= BOTTOM:
                paths.setdefault(groups[group_of.get(slide_id, "")].colour, []).append(f"M{x:.1f} {y:.1f}h0")
        return tuple((colour, "".join(dots)) for colour, dots in paths.items())


def _groups(counts: Counter[str], order: Sequence[str], rest: str) -> dict[str, Group]:
    """Legend entry of each group; those beyond the palette share one with each other."""
    known = [name for name in order if counts[name]]
    known += sorted((n for n in counts if n and n not in known), key=lambda n: (-counts[n], n))
    if len(known) > len(PALETTE):
        shown, others = known[: len(PALETTE) - 1], known[len(PALETTE) - 1 :]
    else:
        shown, others = known, []
    found = {name: Group(name, PALETTE[i], i, counts[name]) for i, name in enumerate(shown)}
    together = Group(f"{len(others)} others", PALETTE[-1], len(PALETTE) - 1, sum(counts[name] for name in others))
    found |= dict.fromkeys(others, together)
    if counts[""]:
        found[""] = Group(rest, REST_COLOUR, REST_SHAPE, counts[""])
    return found
