"""Arithmetic of levels, mpp and boxes; the only place that converts between (x, y) and [row, column].

Coordinates are in *level-0* pixels, the pixels of the slide's finest level, (x, y) from its top-left corner. *mpp* is µm per
pixel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UPSAMPLING_TOLERANCE = 1.1
"""Factor by which a slide may be coarser than requested, since scanners write 0.5021 for 0.5."""

LEVEL_TOLERANCE = 1.01
"""Factor by which a level may be coarser than the target and is still used instead of the next finer one."""


@dataclass(frozen=True)
class Mpp:
    """µm per pixel along x and y."""

    x: float
    y: float

    def scaled(self, factor: float) -> "Mpp":
        """Return the mpp of pixels `factor` times as wide and high."""
        return Mpp(self.x * factor, self.y * factor)

    @property
    def area_um2(self) -> float:
        """Return the area of a pixel in µm²."""
        return self.x * self.y


@dataclass(frozen=True)
class Window:
    """Part of an image: (x, y) of its top-left corner, width and height, in pixels of the image."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """Return the first column to its right."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """Return the first row below it."""
        return self.top + self.height

    def grown(self, margin: int, shape: tuple[int, int]) -> "Window":
        """Return the window grown by `margin` pixels on every side, clipped to an image of `shape` [height, width]."""
        left, top = max(0, self.left - margin), max(0, self.top - margin)
        right, bottom = min(shape[1], self.right + margin), min(shape[0], self.bottom + margin)
        return Window(left, top, right - left, bottom - top)

    def within(self, outer: "Window") -> tuple[slice, slice]:
        """Return its slices [rows, columns] in an array of `outer`, which contains it."""
        top, left = self.top - outer.top, self.left - outer.left
        return slice(top, top + self.height), slice(left, left + self.width)


def windows(shape: tuple[int, int], side: int) -> list[Window]:
    """Tile `shape` [height, width] with windows of `side` pixels (the last of a row or column is smaller), row by row."""
    height, width = shape
    return [
        Window(left, top, min(side, width - left), min(side, height - top))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def footprint(size: tuple[int, int], *, target_mpp: float, slide_mpp: Mpp) -> tuple[float, float]:
    """Return (width, height) in level-0 pixels, unrounded, of `size` = (width, height) pixels at `target_mpp`."""
    return size[0] * target_mpp / slide_mpp.x, size[1] * target_mpp / slide_mpp.y


def rounded(size: tuple[float, float]) -> tuple[int, int]:
    """Round (width, height) to whole pixels, at least one each."""
    return max(1, round(size[0])), max(1, round(size[1]))


def size_at(dimensions: tuple[int, int], *, slide_mpp: Mpp, target_mpp: float) -> tuple[int, int]:
    """Return (width, height) at `target_mpp` of a slide of `dimensions` level-0 pixels, at least (1, 1)."""
    return rounded((dimensions[0] * slide_mpp.x / target_mpp, dimensions[1] * slide_mpp.y / target_mpp))


def is_reduction(dimensions: tuple[int, int], level_dimensions: tuple[int, int]) -> bool:
    """Return whether an image may be a smaller copy of another: both sides reduced by one factor, up to rounding.

    Args:
        dimensions: (width, height) of the larger image in its pixels.
        level_dimensions: (width, height) of the smaller image in its pixels.
    """
    pairs = list(zip(dimensions, level_dimensions, strict=True))
    if any(level < 1 or level > full for full, level in pairs):
        return False
    least = max(full / (level + 1) for full, level in pairs)
    return least <= min(full / (level - 1) if level > 1 else math.inf for full, level in pairs)


def best_level(level_downsamples: Sequence[float], downsample: float) -> int:
    """Return the index of the coarsest level that is at least as fine as `downsample`.

    Args:
        level_downsamples: level-0 pixels per pixel of each level, ascending from 1.
        downsample: requested level-0 pixels per pixel; below 1 the result is level 0.
    """
    fine_enough = [i for i, level in enumerate(level_downsamples) if level <= downsample * LEVEL_TOLERANCE]
    return max(fine_enough, key=lambda i: level_downsamples[i], default=0)


@dataclass(frozen=True)
class LevelWindows:
    """Windows in one level of a slide from which regions are resampled.

    Attributes:
        corners: int64 `(n, 2)`, (x, y) of the top-left corner, level pixels; may lie outside the level.
        sizes: int64 `(n, 2)`, (width, height), level pixels.
        boxes: float64 `(n, 4)`, (left, top, right, bottom) of the region within its window, level pixels.
    """

    corners: NDArray[np.int64]
    sizes: NDArray[np.int64]
    boxes: NDArray[np.float64]

    def box(self, i: int) -> tuple[float, float, float, float]:
        """Return (left, top, right, bottom) of one region within its window."""
        left, top, right, bottom = self.boxes[i].tolist()
        return left, top, right, bottom


def level_windows(
    locations: NDArray[np.int64],
    extent: tuple[float, float],
    *,
    dimensions: tuple[int, int],
    level_dimensions: tuple[int, int],
) -> LevelWindows:
    """Return the windows of whole level pixels that cover regions.

    Args:
        locations: `(n, 2)` top-left corners (x, y), level-0 pixels.
        extent: (width, height) of every region, level-0 pixels, unrounded.
        dimensions: (width, height) of level 0.
        level_dimensions: (width, height) of the level; x and y may be reduced by different factors.
    """
    to_level = np.array(level_dimensions) / np.array(dimensions)
    low = locations * to_level
    high = low + np.array(extent) * to_level
    corners = np.floor(low).astype(np.int64)
    sizes = np.maximum(1, np.ceil(high - 1e-6).astype(np.int64) - corners)
    return LevelWindows(corners, sizes, np.concatenate([low - corners, np.minimum(high - corners, sizes)], axis=1))


def axis_positions(length: int, *, tile: float, stride: float, start: float = 0.0, pad: bool = False) -> NDArray[np.int64]:
    """Return the left (or top) edges, level-0 pixels, of all tiles inside `length`; with `pad`, of all that overlap it.

    Position i is round(start + i·stride), never accumulated, so there is no drift.
    """
    if tile <= 0 or stride <= 0:
        raise ValueError(f"tile and stride must be positive, got {tile} and {stride}")
    n = max(0, math.floor((length - start) / stride) + 2)
    positions = np.rint(start + np.arange(n) * stride).astype(np.int64)
    inside = positions < length if pad else positions + max(1, round(tile)) <= length
    return np.asarray(positions[inside])


def crossing(*axes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (x, y) of all pairs of x and y positions, row by row: int64 `(len(xs)·len(ys), 2)`."""
    xs, ys = axes
    grid_y, grid_x = np.meshgrid(ys, xs, indexing="ij")
    return np.stack([grid_x.ravel(), grid_y.ravel()], axis=1)


def box_means(
    image: NDArray[np.bool_] | NDArray[np.float32],
    coords: NDArray[np.int64],
    *,
    box: tuple[float, float],
    dimensions: tuple[int, int],
) -> NDArray[np.float64]:
    """Return the mean of `image` under each box, exact also if boxes cut through pixels.

    Bilinear interpolation of the integral image is exact for an image that is constant within each pixel.

    Args:
        image: [height, width] map of the whole slide.
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of every box, level-0 pixels.
        dimensions: (width, height) of the slide, level-0 pixels.

    Returns:
        float64 `(n,)`.
    """
    low, high = boxes_on_map(coords, box=box, dimensions=dimensions, shape=image.shape)
    return box_sums(image, low, high) / map_area(box, dimensions=dimensions, shape=image.shape)


def boxes_on_map(
    coords: NDArray[np.int64], *, box: tuple[float, float], dimensions: tuple[int, int], shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return top-left and bottom-right corners (x, y) `(n, 2)` of boxes in pixels of a map of the whole slide of `shape`."""
    to_map = np.array([shape[1] / dimensions[0], shape[0] / dimensions[1]])
    return coords * to_map, (coords + np.asarray(box)) * to_map


def map_area(box: tuple[float, float], *, dimensions: tuple[int, int], shape: tuple[int, ...]) -> float:
    """Return the area in pixels, unrounded, of a box of level-0 pixels on a map of the whole slide of `shape`."""
    return box[0] * shape[1] / dimensions[0] * (box[1] * shape[0] / dimensions[1])


def box_sums(
    image: NDArray[np.bool_] | NDArray[np.float32], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sum of `image` under each box, weighting cut pixels by their share; outside the image it is 0.

    Args:
        image: [height, width].
        low: `(n, 2)` top-left corners (x, y), pixels of `image`.
        high: `(n, 2)` bottom-right corners.

    Returns:
        float64 `(n,)`.
    """
    height, width = image.shape
    integral = np.zeros((height + 1, width + 1))
    integral[1:, 1:] = np.cumsum(np.cumsum(image, axis=0, dtype=np.float64), axis=1)
    low, high = np.clip(low, 0, (width, height)), np.clip(high, 0, (width, height))
    return (
        _bilinear(integral, high[:, 0], high[:, 1])
        - _bilinear(integral, low[:, 0], high[:, 1])
        - _bilinear(integral, high[:, 0], low[:, 1])
        + _bilinear(integral, low[:, 0], low[:, 1])
    )


def _bilinear(image: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    left = np.minimum(x.astype(np.int64), image.shape[1] - 2)
    top = np.minimum(y.astype(np.int64), image.shape[0] - 2)
    right_share, bottom_share = x - left, y - top
    upper = image[top, left] * (1 - right_share) + image[top, left + 1] * right_share
    lower = image[top + 1, left] * (1 - right_share) + image[top + 1, left + 1] * right_share
    return np.asarray(upper * (1 - bottom_share) + lower * bottom_share)


def grid_cells(coords: NDArray[np.int64], stride: tuple[float, float]) -> NDArray[np.int64]:
    """Return (column, row) `(n, 2)` of tiles whose corners are multiples of `stride`, rounded; both level-0 pixels, (x, y)."""
    return np.asarray(np.rint(coords / np.asarray(stride)), np.int64)


def gridded(
    values: NDArray[np.float32], coords: NDArray[np.int64], *, stride: tuple[float, float], dimensions: tuple[int, int]
) -> NDArray[np.float32]:
    """Rasterise tiles to one pixel per grid cell, without averaging; cells without a tile are NaN.

    Tiles off the grid go to the cell nearest to their corner; of several in a cell the highest value is kept.

    Args:
        values: `(n,)`.
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        stride: distance of tiles along x and y, level-0 pixels, unrounded. The corner of [row, column] is
            (round(column·stride x), round(row·stride y)).
        dimensions: (width, height) of the slide, level-0 pixels; the raster covers the whole slide.

    Returns:
        float32 [rows, columns].
    """
    columns, rows = (max(1, math.ceil(length / step)) for length, step in zip(dimensions, stride, strict=True))
    raster = np.full((rows, columns), np.nan, np.float32)
    cells = grid_cells(coords, stride)
    np.fmax.at(raster, (np.minimum(cells[:, 1], rows - 1), np.minimum(cells[:, 0], columns - 1)), values)
    return raster


def halved(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Halve an image, rounded up: each pixel is the mean of the finite ones of 2 × 2, or NaN if there is none."""
    height, width = image.shape
    even = np.pad(image, ((0, height % 2), (0, width % 2)), constant_values=np.nan)
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)
    count = np.isfinite(blocks).sum(axis=(1, 3))
    total = np.nansum(blocks, axis=(1, 3), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
