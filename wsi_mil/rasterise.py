"""Scores of tiles → rasters of the whole slide or of a view of it. Pure."""

import numpy as np
from numpy.typing import NDArray

Sides = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Left, top, right and bottom of boxes, `(n,)` each."""


def painted(
    values: NDArray[np.float32],
    coords: NDArray[np.int64],
    *,
    box: tuple[int, int],
    dimensions: tuple[int, int],
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Paint each tile's value over its box; where tiles overlap, their mean; elsewhere NaN.

    Args:
        values: `(n,)`; NaN values paint nothing.
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of every tile, level-0 pixels.
        dimensions: (width, height) of the slide, level-0 pixels.
        shape: [height, width] of the raster, which covers the whole slide.

    Returns:
        float32 [height, width].
    """
    known = np.flatnonzero(np.isfinite(values))
    scores, corners = values[known].astype(np.float64), coords[known]
    to_map = np.array([shape[1] / dimensions[0], shape[0] / dimensions[1]])
    low = np.rint(corners * to_map).astype(np.int64)
    high = np.maximum(np.rint((corners + np.asarray(box)) * to_map).astype(np.int64), low + 1)
    (left, top), (right, bottom) = (np.clip(at, 0, shape[::-1]).T for at in (low, high))
    sides = (left, top, right, bottom)
    count = np.rint(painted_sums(np.ones(len(known)), sides, shape)).astype(np.int64)
    if (count > 1).any():
        return _mean_of_overlapping(scores, sides, shape)
    number = np.rint(painted_sums(np.arange(len(known), dtype=np.float64), sides, shape)).astype(np.int64)
    return np.append(scores, np.nan)[np.where(count, number, -1)].astype(np.float32)


def painted_sums(
    values: NDArray[np.float64], sides: tuple[NDArray[np.int64], ...], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Sum of the values of the boxes that cover each pixel of `shape` [height, width].

    Args:
        values: `(n,)`.
        sides: left, top, right, bottom of the boxes, `(n,)` each, pixels from 0 to the width or height.
        shape: [height, width].
    """
    left, top, right, bottom = sides
    width = shape[1] + 1
    corners = np.concatenate([top * width + left, bottom * width + right, top * width + right, bottom * width + left])
    weights = np.concatenate([values, values, -values, -values])
    steps = np.bincount(corners, weights, minlength=(shape[0] + 1) * width).reshape(shape[0] + 1, width)
    return np.asarray(steps.cumsum(axis=0).cumsum(axis=1)[:-1, :-1])


def _mean_of_overlapping(values: NDArray[np.float64], sides: Sides, shape: tuple[int, int]) -> NDArray[np.float32]:
    """One box after another: sums over all of them would lose the least values beside the greatest."""
    total, count = np.zeros(shape), np.zeros(shape, np.int32)
    for value, left, top, right, bottom in zip(values, *sides, strict=True):
        total[top:bottom, left:right] += value
        count[top:bottom, left:right] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
