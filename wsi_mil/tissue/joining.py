"""Combine masks of different resolutions: resample to one grid, intersect, subtract polygons."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from shapely.geometry.base import BaseGeometry

from wsi_mil.geometry import Window, windows
from wsi_mil.tissue.masks import MaskPiece, TissueMask
from wsi_mil.tissue.regions import PIECE_PX, inside_of, on_map

PART_PX = 16 << 20
"""Largest number of pixels of a finer mask that are unpacked at once."""

HALF = 128
"""Threshold of 255: a pixel is tissue if at least half of its area is."""


@dataclass(frozen=True)
class MaskExtent:
    """Part of the slide that a mask covers: left, top, right and bottom as shares of the slide's width or height."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    def on(self, shape: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom in pixels of a mask of `shape` of the whole slide."""
        height, width = shape
        return self.left * width, self.top * height, self.right * width, self.bottom * height


def full_mask(shape: tuple[int, int]) -> TissueMask:
    """Return a mask of `shape` that is all tissue."""
    return TissueMask.of([MaskPiece.of(w, np.ones((w.height, w.width), bool)) for w in windows(shape, PIECE_PX)], shape)


def regridded(mask: TissueMask, shape: tuple[int, int], place: MaskExtent = MaskExtent()) -> TissueMask:
    """Resample a mask to another grid. A pixel is tissue if at least half of it is; outside `mask` there is no tissue.

    Args:
        mask: mask of the whole slide, or of a part of it.
        shape: [height, width] of the new mask, of the whole slide.
        place: part of the slide that `mask` covers.
    """
    left, top, right, bottom = place.on(shape)
    ratio = max(mask.shape[1] / (right - left), mask.shape[0] / (bottom - top), 1.0)
    side = max(1, int(min(PIECE_PX, PART_PX**0.5 / ratio)))
    return TissueMask.of([MaskPiece.of(w, _at(mask, w, (left, top, right, bottom))) for w in windows(shape, side)], shape)


def _at(mask: TissueMask, window: Window, place: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    """Window of the new grid, on which `mask` covers `place`."""
    tissue = np.zeros((window.height, window.width), bool)
    left, top = max(window.left, round(place[0])), max(window.top, round(place[1]))
    right, bottom = min(window.right, round(place[2])), min(window.bottom, round(place[3]))
    if right <= left or bottom <= top:
        return tissue
    height, width = mask.shape
    x, y = width / (place[2] - place[0]), height / (place[3] - place[1])
    low = np.clip([(left - place[0]) * x, (top - place[1]) * y], 0, (width - 0.5, height - 0.5))
    high = np.clip([(right - place[0]) * x, (bottom - place[1]) * y], low + 1e-3, (width, height))
    corner, end = np.floor(low).astype(int), np.ceil(high).astype(int)
    part = mask.part(Window(int(corner[0]), int(corner[1]), int(end[0] - corner[0]), int(end[1] - corner[1])))
    inner = Window(left, top, right - left, bottom - top)
    tissue[inner.within(window)] = _shrunk(part, low - corner, high - corner, (inner.width, inner.height))
    return tissue


def _shrunk(
    part: NDArray[np.bool_], low: NDArray[np.float64], high: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Part of a mask between two corners (x, y), downsampled to `size` (width, height)."""
    if not part.any():
        return np.zeros(size[::-1], bool)
    image = Image.fromarray(part.view(np.uint8) * np.uint8(255))
    box = float(low[0]), float(low[1]), float(high[0]), float(high[1])
    return np.asarray(np.asarray(image.resize(size, Image.Resampling.BOX, box=box)) >= HALF)


def intersection(first: TissueMask, second: TissueMask) -> TissueMask:
    """Return the intersection of two masks of one shape."""
    pieces = [MaskPiece.of(p.window, p.mask() & second.part(p.window)) if p.n_tissue else p for p in first.pieces]
    return TissueMask.of(pieces, first.shape)


def without_region(mask: TissueMask, region: BaseGeometry, *, dimensions: tuple[int, int]) -> TissueMask:
    """Remove the pixels whose centre is inside polygons from a mask.

    Args:
        mask: mask of the whole slide.
        region: polygons, level-0 pixels (x, y).
        dimensions: (width, height) of the slide, level-0 pixels.
    """
    on_mask = on_map(region, dimensions, mask.shape)
    return TissueMask.of([_without(piece, on_mask) for piece in mask.pieces], mask.shape)


def _without(piece: MaskPiece, region: BaseGeometry) -> MaskPiece:
    window = piece.window
    box = shapely.box(window.left, window.top, window.right, window.bottom)
    if not piece.n_tissue or not region.intersects(box):
        return piece
    return MaskPiece.of(window, piece.mask() & ~inside_of(region, window))
