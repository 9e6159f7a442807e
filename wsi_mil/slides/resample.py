"""Shrinking by exact area averages."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[float, float, float, float]
EXACT = 1e-6


def resampled(image: NDArray[np.uint8], box: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The part of `image` under `box`, at `size`: area-averaged down, bilinear where it has to grow.

    Args:
        image: [height, width, 3].
        box: (left, top, right, bottom) in pixels of `image`, fractions allowed, inside it.
        size: (width, height) wanted.

    Returns:
        uint8 [size[1], size[0], 3].
    """
    left, top, right, bottom = box
    x_ratio, y_ratio = (right - left) / size[0], (bottom - top) / size[1]
    if _whole(left, top, x_ratio, y_ratio):
        x, y, x_step, y_step = (round(v) for v in (left, top, x_ratio, y_ratio))
        part = image[y : y + size[1] * y_step, x : x + size[0] * x_step]
        if x_step == y_step == 1:
            return np.ascontiguousarray(part)
        return np.asarray(Image.fromarray(np.ascontiguousarray(part)).reduce((x_step, y_step)))
    if x_ratio < 1 or y_ratio < 1:
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box))
    rows = _area_means(image.astype(np.float64), np.linspace(top, bottom, size[1] + 1))
    columns = _area_means(rows.transpose(1, 0, 2), np.linspace(left, right, size[0] + 1))
    return np.rint(columns.transpose(1, 0, 2)).astype(np.uint8)


def _whole(left: float, top: float, x_ratio: float, y_ratio: float) -> bool:
    near = all(abs(v - round(v)) < EXACT for v in (left, top, x_ratio, y_ratio))
    return near and round(x_ratio) >= 1 and round(y_ratio) >= 1


def _area_means(image: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis between successive `edges`, fractions of a pixel counted as such."""
    running = np.concatenate([np.zeros((1, *image.shape[1:])), np.cumsum(image, axis=0)])
    below = np.minimum(edges.astype(np.int64), len(image) - 1)
    share = (edges - below)[:, None, None]
    at_edges = running[below] * (1 - share) + running[below + 1] * share
    return np.asarray(np.diff(at_edges, axis=0) / np.diff(edges)[:, None, None])
