"""Rasters of tile scores, for a whole slide or a view of it. No I/O."""

import numpy as np
from numpy.typing import NDArray

Sides = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Left, top, right and bottom edges of boxes, `(n,)` each."""


def tile_raster(
    values: NDArray[np.float32],
    coords: NDArray[np.int64],
    *,
    box: tuple[int, int],
    dimensions: tuple[int, int],
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Return a raster with each tile's value in its box: the mean of overlapping tiles, NaN outside of tiles.

    Args:
        values: `(n,)`; tiles whose value is NaN are left out.
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of each tile, level-0 pixels.
        dimensions: (width, height) of the slide, level-0 pixels.
        shape: [height, width] of the raster, which covers the whole slide.

    Returns:
        float32 [height, width].
    """
    finite = np.flatnonzero(np.isfinite(values))
    scores = values[finite].astype(np.float64)
    corners = coords[finite]
    to_raster = np.array([shape[1] / dimensions[0], shape[0] / dimensions[1]])
    low = np.rint(corners * to_raster).astype(np.int64)
    high = np.maximum(np.rint((corners + np.asarray(box)) * to_raster).astype(np.int64), low + 1)
    (left, top), (right, bottom) = (np.clip(at, 0, shape[::-1]).T for at in (low, high))
    sides = (left, top, right, bottom)
    count = np.rint(sum_raster(np.ones(len(finite)), sides, shape)).astype(np.int64)
    if (count > 1).any():
        return _mean_of_overlapping(scores, sides, shape)
    number = np.rint(sum_raster(np.arange(len(finite), dtype=np.float64), sides, shape)).astype(np.int64)
    return np.append(scores, np.nan)[np.where(count, number, -1)].astype(np.float32)


def sum_raster(values: NDArray[np.float64], sides: tuple[NDArray[np.int64], ...], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return for each pixel the sum of the values of the boxes that cover it.

    Args:
        values: `(n,)`.
        sides: left, top, right, bottom of the boxes, `(n,)` each, pixels from 0 to the width or height.
        shape: [height, width] of the raster.

    Returns:
        float64 [height, width].
    """
    left, top, right, bottom = sides
    width = shape[1] + 1
    corners = np.concatenate([top * width + left, bottom * width + right, top * width + right, bottom * width + left])
    weights = np.concatenate([values, values, -values, -values])
    differences = np.bincount(corners, weights, minlength=(shape[0] + 1) * width).reshape(shape[0] + 1, width)
    return np.asarray(differences.cumsum(axis=0).cumsum(axis=1)[:-1, :-1])


def _mean_of_overlapping(values: NDArray[np.float64], sides: Sides, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Add one box after another: sums over all boxes would lose small values next to large ones."""
    total, count = np.zeros(shape), np.zeros(shape, np.int32)
    for value, left, top, right, bottom in zip(values, *sides, strict=True):
        total[top:bottom, left:right] += value
        count[top:bottom, left:right] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
