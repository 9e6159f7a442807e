"""Tissue mask of any size, held as compressed pieces."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.geometry import Window, box_sums, boxes_on_map, map_area
from wsi_mil.tissue.outlines import outline

COARSE_PX = 4096
"""Longest side of the coarse mask."""


@dataclass(frozen=True)
class MaskPiece:
    """Compressed window of a mask: at most one bit per pixel, a hundredth of that if tissue is in large pieces.

    Attributes:
        window: the window, in mask pixels.
        bits: the packed pixels, deflated.
        n_tissue: number of tissue pixels.
    """

    window: Window
    bits: bytes
    n_tissue: int

    @classmethod
    def of(cls, window: Window, mask: NDArray[np.bool_]) -> Self:
        """Compress bool [height, width] of the window."""
        return cls(window, zlib.compress(np.packbits(mask).tobytes(), 1), int(mask.sum()))

    def mask(self) -> NDArray[np.bool_]:
        """Return the pixels, bool [height, width]."""
        shape = self.window.height, self.window.width
        if self.n_tissue in (0, shape[0] * shape[1]):
            return np.full(shape, self.n_tissue > 0)
        packed = np.frombuffer(zlib.decompress(self.bits), np.uint8)
        return np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape).view(bool)


@dataclass(frozen=True)
class TissueMask:
    """Tissue mask of a slide.

    Attributes:
        shape: [height, width] of the mask.
        pieces: windows that cover it.
        step: side of a `coarse` pixel in mask pixels.
        coarse: bool [height, width], at most `COARSE_PX` a side; True if at least half of the pixel is tissue.
    """

    shape: tuple[int, int]
    pieces: tuple[MaskPiece, ...]
    step: int
    coarse: NDArray[np.bool_]

    @classmethod
    def of(cls, pieces: Sequence[MaskPiece], shape: tuple[int, int]) -> Self:
        """Create from the windows that cover a mask of `shape`."""
        step = math.ceil(max(shape) / COARSE_PX)
        return cls(shape, tuple(pieces), step, _coarse(pieces, shape, step))

    @classmethod
    def whole(cls, mask: NDArray[np.bool_]) -> Self:
        """Create from bool [height, width]."""
        height, width = mask.shape
        return cls.of([MaskPiece.of(Window(0, 0, width, height), mask)], (height, width))

    @property
    def share(self) -> float:
        """Return the share of the slide that is tissue."""
        return sum(piece.n_tissue for piece in self.pieces) / math.prod(self.shape)

    def part(self, window: Window) -> NDArray[np.bool_]:
        """Return a window of the mask, bool [height, width]."""
        tissue = np.zeros((window.height, window.width), bool)
        corners = self._corners
        touched = (corners[:, :2] < (window.right, window.bottom)) & (corners[:, 2:] > (window.left, window.top))
        for number in np.flatnonzero(touched.all(axis=1)):
            piece = self.pieces[number]
            left, top, right, bottom = (int(value) for value in corners[number])
            left, top = max(left, window.left), max(top, window.top)
            shared = Window(left, top, min(right, window.right) - left, min(bottom, window.bottom) - top)
            if piece.n_tissue:
                tissue[shared.within(window)] = piece.mask()[shared.within(piece.window)]
        return tissue

    @cached_property
    def _corners(self) -> NDArray[np.int64]:
        """`(n, 4)`: left, top, right, bottom of each piece."""
        return np.array([(w.left, w.top, w.right, w.bottom) for w in (p.window for p in self.pieces)], np.int64).reshape(-1, 4)

    def fractions(
        self, coords: NDArray[np.int64], *, box: tuple[float, float], dimensions: tuple[int, int]
    ) -> NDArray[np.float64]:
        """Return the share of tissue in each tile, exact also if tiles cut through mask pixels.

        Args:
            coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
            box: (width, height) of every tile, level-0 pixels.
            dimensions: (width, height) of the slide, level-0 pixels.

        Returns:
            float64 `(n,)`.
        """
        low, high = boxes_on_map(coords, box=box, dimensions=dimensions, shape=self.shape)
        total = np.zeros(len(coords))
        for piece in self.pieces:
            corner = np.array([piece.window.left, piece.window.top])
            end = np.array([piece.window.right, piece.window.bottom])
            touched = np.flatnonzero(((low < end) & (high > corner)).all(axis=1))
            if piece.n_tissue and len(touched):
                total[touched] += box_sums(piece.mask(), low[touched] - corner, high[touched] - corner)
        return total / map_area(box, dimensions=dimensions, shape=self.shape)

    def outline(self, dimensions: tuple[int, int]) -> BaseGeometry:
        """Return `coarse` as polygons with holes, in level-0 pixels of a slide of `dimensions` (width, height)."""
        covered = [size * n * self.step for size, n in zip(dimensions, self.coarse.shape[::-1], strict=True)]
        reach = covered[0] / self.shape[1], covered[1] / self.shape[0]
        region = outline(self.coarse, dimensions=reach)
        return region if reach == dimensions else region.intersection(shapely.box(0, 0, *dimensions))


def _coarse(pieces: Sequence[MaskPiece], shape: tuple[int, int], step: int) -> NDArray[np.bool_]:
    rows, columns = (np.append(np.arange(0, length, step), length) for length in shape)
    total = np.zeros((len(rows) - 1, len(columns) - 1), np.int32)
    for piece in pieces:
        if piece.n_tissue:
            _add(total, piece, step)
    return np.asarray(2 * total >= np.multiply.outer(np.diff(rows).astype(np.int32), np.diff(columns).astype(np.int32)))


def _add(total: NDArray[np.int32], piece: MaskPiece, step: int) -> None:
    """Add the tissue counts of a piece to the coarse pixels that it touches."""
    window, counts, spans = piece.window, piece.mask(), []
    for axis, (first, last) in enumerate(((window.top, window.bottom), (window.left, window.right))):
        cells = np.arange(first // step, (last - 1) // step + 1)
        counts = np.add.reduceat(counts, np.maximum(cells * step - first, 0), axis=axis, dtype=np.int32)
        spans.append(slice(cells[0], cells[-1] + 1))
    total[tuple(spans)] += counts
