"""Rasterise polygons in level-0 pixels to boolean masks."""

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.geometry import Window, windows
from wsi_mil.tissue.masks import MaskPiece, TissueMask

BLOCK_PX, PIECE_PX = 32, 4096
"""Side of the blocks that are tested as a whole for a border, and of a large mask's pieces."""


def region_mask(region: BaseGeometry, *, dimensions: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask of pixels whose centre is inside polygons. Holes are outside.

    Args:
        region: polygons, level-0 pixels (x, y).
        dimensions: (width, height) of the slide, level-0 pixels.
        shape: [height, width] of the mask, which covers the whole slide.

    Returns:
        bool [height, width].
    """
    return inside_of(on_map(region, dimensions, shape), Window(0, 0, shape[1], shape[0]))


def region_tissue(region: BaseGeometry, *, dimensions: tuple[int, int], shape: tuple[int, int]) -> TissueMask:
    """Return `region_mask` as a `TissueMask` of any size, computed piece by piece."""
    on_mask = on_map(region, dimensions, shape)
    return TissueMask.of([MaskPiece.of(window, inside_of(on_mask, window)) for window in windows(shape, PIECE_PX)], shape)


def on_map(region: BaseGeometry, dimensions: tuple[int, int], shape: tuple[int, int]) -> BaseGeometry:
    """Scale polygons from level-0 pixels of a slide of `dimensions` (width, height) to a mask of `shape` [height, width]."""
    to_map = np.array([shape[1] / dimensions[0], shape[0] / dimensions[1]])
    scaled = shapely.transform(region, lambda xy: xy * to_map)
    shapely.prepare(scaled)
    return scaled


def inside_of(region: BaseGeometry, window: Window) -> NDArray[np.bool_]:
    """Return the pixels of a window whose centre is inside polygons, which are in mask pixels: bool [height, width].

    Only blocks that a border crosses are tested pixel by pixel.
    """
    left = np.arange(window.left, window.right, BLOCK_PX)
    top = np.arange(window.top, window.bottom, BLOCK_PX)[:, np.newaxis]
    boxes = shapely.box(left, top, left + BLOCK_PX, top + BLOCK_PX)
    whole = shapely.contains_properly(region, boxes)
    mask, cut = (_enlarged(blocks, window) for blocks in (whole, shapely.intersects(region, boxes) & ~whole))
    rows, columns = np.nonzero(cut)
    mask[rows, columns] = shapely.contains_xy(region, columns + window.left + 0.5, rows + window.top + 0.5)
    return mask


def _enlarged(blocks: NDArray[np.bool_], window: Window) -> NDArray[np.bool_]:
    return blocks.repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1)[: window.height, : window.width]
