"""Tilings that are shifted by a part of a tile, and the mean of their scores on the finer grid. No I/O.

Shifts are multiples of 1/steps of the distance between neighbouring tiles (the side of a tile, without overlap), along x and y.
The corners of all shifted tilings together are a grid of *cells* with sides of such a part; column and row of a cell are counted
from the corner of the slide.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.geometry import grid_cells, rounded

TOLERANCE = 1e-6
"""Share of a cell by which the extent of a tile may be off a whole number of cells and is taken for it."""


@dataclass(frozen=True)
class Shift:
    """A shift of a tiling.

    Attributes:
        right: shift along x, in parts.
        down: shift along y, in parts.
        steps: number of parts of the distance between neighbouring tiles.
    """

    right: int
    down: int
    steps: int

    @property
    def name(self) -> str:
        """Name of the shift, which is part of paths."""
        return f"{self.right}-{self.down}-of-{self.steps}"

    def of(self, stride: float) -> tuple[float, float]:
        """Return the shift (x, y) in the unit of `stride`, the distance between neighbouring tiles."""
        return self.right * stride / self.steps, self.down * stride / self.steps


def shifts(steps: int) -> tuple[Shift, ...]:
    """Return the shifts by 1/steps along both axes, row by row, without the one that moves nothing."""
    return tuple(Shift(right, down, steps) for down in range(steps) for right in range(steps) if right or down)


@dataclass(frozen=True)
class Cells:
    """Grid of cells.

    Attributes:
        side: (width, height) of a cell, level-0 pixels, unrounded.
        tile: (width, height) of a tile, level-0 pixels, unrounded.
        dimensions: (width, height) of the slide, level-0 pixels.
    """

    side: tuple[float, float]
    tile: tuple[float, float]
    dimensions: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns that cover the slide."""
        columns, rows = (max(1, math.ceil(length / side)) for length, side in zip(self.dimensions, self.side, strict=True))
        return rows, columns

    @property
    def box(self) -> tuple[int, int]:
        """(width, height) of a cell, rounded to level-0 pixels."""
        return rounded(self.side)

    @property
    def per_tile(self) -> tuple[int, int]:
        """Number of columns and rows of cells whose centres a tile covers."""
        across, down = (max(1, math.ceil(t / s - 0.5 - TOLERANCE)) for t, s in zip(self.tile, self.side, strict=True))
        return across, down

    def coords(self, covered: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the corners (x, y) `(m, 2)`, level-0 pixels, of the cells that are True in [rows, columns], row by row."""
        rows, columns = np.nonzero(covered)
        corners = np.stack([columns, rows], axis=1) * np.asarray(self.side)
        return np.asarray(np.rint(corners), np.int64)

    def covered(self, tilings: Iterable[NDArray[np.int64]]) -> NDArray[np.bool_]:
        """Return which cells [rows, columns] have a tile over their centre; `tilings` are corners (x, y) `(n, 2)`."""
        count = np.zeros(self.shape)
        for coords in tilings:
            count += self._sum(np.ones(len(coords)), coords)
        return count > 0

    def mean(self, parts: Sequence[tuple[NDArray[np.int64], NDArray[np.floating]]]) -> NDArray[np.float64]:
        """Return for each cell [rows, columns] the mean score of all tiles of all tilings that cover its centre.

        Args:
            parts: of each tiling the corners (x, y) `(n, 2)`, level-0 pixels, and the scores `(n,)`; tiles whose score is NaN
                are left out.

        Returns:
            float64, NaN where no tile has a score.
        """
        total, count = np.zeros(self.shape), np.zeros(self.shape)
        for coords, values in parts:
            finite = np.isfinite(values)
            total += self._sum(values[finite].astype(np.float64), coords[finite])
            count += self._sum(np.ones(int(finite.sum())), coords[finite])
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def _sum(self, values: NDArray[np.float64], coords: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of the values of the tiles that cover each cell."""
        total = np.zeros(self.shape)
        first = grid_cells(coords, self.side)
        across, down = self.per_tile
        for right in range(across):
            for below in range(down):
                columns, rows = first[:, 0] + right, first[:, 1] + below
                inside = (columns < self.shape[1]) & (rows < self.shape[0])  # padded tiles extend beyond the slide
                np.add.at(total, (rows[inside], columns[inside]), values[inside])
        return total
