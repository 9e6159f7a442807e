"""Dimensions and tissue mask → grid of tiles. Pure."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Tiling
from wsi_mil.geometry import Mpp, axis_positions, box_means, crossing, footprint, rounded
from wsi_mil.records import TileGrid


def tile_grid(dimensions: tuple[int, int], mask: NDArray[np.bool_], settings: Tiling, slide_mpp: Mpp) -> TileGrid:
    """Every tile that lies wholly inside the slide and holds enough tissue, row by row.

    Args:
        dimensions: (width, height) of the slide, level-0 pixels.
        mask: bool [height, width] tissue mask of the whole slide, at any resolution.
        settings: resolution, side, overlap, least tissue.
        slide_mpp: µm per pixel of level 0.

    Returns:
        The grid; without tiles where the slide is smaller than one, or has no tissue.
    """
    side = (settings.tile_px, settings.tile_px)
    step = (settings.tile_px - settings.overlap,) * 2
    box = footprint(side, target_mpp=settings.mpp, slide_mpp=slide_mpp)
    stride = footprint(step, target_mpp=settings.mpp, slide_mpp=slide_mpp)
    axes = [axis_positions(n, tile=t, stride=s) for n, t, s in zip(dimensions, box, stride, strict=True)]
    coords = crossing(*axes)
    whole_box = rounded(box)
    fraction = box_means(mask, coords, box=whole_box, dimensions=dimensions)
    kept = (fraction >= settings.min_tissue - 1e-9) & (fraction > 0)
    return TileGrid(coords[kept], fraction[kept].astype(np.float32), settings.tile_px, whole_box)
