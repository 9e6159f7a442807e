"""Compute the grid of tiles from a slide's dimensions and tissue mask. No file access."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Tiling
from wsi_mil.geometry import Mpp, axis_positions, crossing, footprint, rounded
from wsi_mil.records import TileGrid
from wsi_mil.tissue import TissueMask


def tile_grid(
    dimensions: tuple[int, int],
    mask: TissueMask,
    settings: Tiling,
    slide_mpp: Mpp,
    start: tuple[float, float] = (0.0, 0.0),
) -> TileGrid:
    """Return every tile with enough tissue, row by row.

    Args:
        dimensions: (width, height) of the slide, level-0 pixels.
        mask: tissue mask at any resolution.
        settings: resolution, side, overlap, least tissue, whether tiles may reach beyond the slide. Area beyond the slide
            counts as background.
        slide_mpp: µm per pixel of level 0.
        start: (x, y) of the corner of the grid's first tile, level-0 pixels, unrounded.

    Returns:
        The grid; it has no tiles if the slide is smaller than one, or has no tissue.
    """
    side = (settings.tile_px, settings.tile_px)
    step = (settings.tile_px - settings.overlap,) * 2
    box = footprint(side, target_mpp=settings.mpp, slide_mpp=slide_mpp)
    stride = footprint(step, target_mpp=settings.mpp, slide_mpp=slide_mpp)
    pad = settings.edge == "pad"
    sides = zip(dimensions, box, stride, start, strict=True)
    axes = [axis_positions(length, tile=t, stride=s, start=first, pad=pad) for length, t, s, first in sides]
    coords = crossing(*axes)
    whole_box = rounded(box)
    fraction = mask.fractions(coords, box=whole_box, dimensions=dimensions)
    kept = (fraction >= settings.min_tissue - 1e-9) & (fraction > 0)
    return TileGrid(coords[kept], fraction[kept].astype(np.float32), settings.tile_px, whole_box)


def select_tiles(grid: TileGrid, kept: NDArray[np.bool_]) -> TileGrid:
    """Return the tiles for which `kept` `(n,)` is True, in the same order."""
    return TileGrid(grid.coords[kept], grid.tissue_fraction[kept], grid.tile_px, grid.tile_px_level0)


def sample_tiles(grid: TileGrid, settings: Tiling) -> TileGrid:
    """Return a uniform random sample of at most `settings.max_tiles` tiles, in the same order."""
    n = len(grid.coords)
    if settings.max_tiles is None or n <= settings.max_tiles:
        return grid
    kept = np.zeros(n, bool)
    kept[np.random.default_rng(settings.seed).choice(n, settings.max_tiles, replace=False)] = True
    return select_tiles(grid, kept)
