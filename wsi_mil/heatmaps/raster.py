"""Scores as a raster: a pyramidal OME-TIFF with one pixel for each cell of the tiles' grid."""

import hashlib
import io
import json
import uuid
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_mil import __version__
from wsi_mil.geometry import gridded, halved
from wsi_mil.heatmaps.slide_scores import Scored

LEAST_SIDE = 256
"""Levels are halved until no side is longer."""

TILE = (256, 256)

BAND_PX = 4_000_000
"""A level of more pixels (of small tiles on a large slide) is halved band by band."""

OFF_LATTICE = "tiles are not on one grid: each pixel is the highest of the tiles whose corner is next to it"


def ome_tiff(scored: Scored) -> bytes:
    """The stored scores, not the shown ones, as float32; NaN where no tile starts. The same scores give the same bytes.

    Pixel [row, column] is the tile whose corner is the level-0 pixel (round(column·stride x), round(row·stride y)). Where
    tiles overlap nothing is averaged, which would move the hottest point off its tile's corner. Physical sizes and the
    position of the first pixel are in µm; the image's description holds the exact numbers as JSON.
    """
    grid = scored.grid
    levels = pyramid(gridded(scored.values, grid.coords, stride=grid.stride, dimensions=grid.dimensions))
    file = io.BytesIO()
    options: dict[str, Any] = {"tile": TILE, "compression": "zlib", "photometric": "minisblack"}
    with tifffile.TiffWriter(file, ome=True) as tif:
        tif.write(levels[0], subifds=len(levels) - 1, metadata=_metadata(scored, levels[0]), **options)
        for level in levels[1:]:
            tif.write(level, subfiletype=1, **options)
    return file.getvalue()


def pyramid(image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The image, and halves of halves of it until its longest side is at most 256 pixels."""
    levels = [image]
    while max(levels[-1].shape) > LEAST_SIDE:
        levels.append(halved(levels[-1]) if levels[-1].size <= BAND_PX else _halved_in_bands(levels[-1]))
    return levels


def _halved_in_bands(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same, band by band, by whatever does large work."""
    from wsi_mil.runtime.parallel import parallel_map  # Dask is not needed for the rasters of most slides

    rows = 2 * max(1, BAND_PX // (2 * image.shape[1]))
    return np.concatenate(parallel_map(halved, [image[top : top + rows] for top in range(0, len(image), rows)], threads=1))


def _metadata(scored: Scored, raster: NDArray[np.float32]) -> dict[str, object]:
    grid, stamp = scored.grid, scored.stamp
    about = {
        **stamp,
        "unit": scored.about["unit"],
        "kind": scored.about["kind"],
        "origin_level0": [0, 0],
        "stride_level0": list(grid.stride),
        "tile_px_level0": list(grid.box),
        "dimensions_level0": list(grid.dimensions),
        "mpp_level0": [grid.mpp.x, grid.mpp.y],
        **({} if grid.on_lattice else {"note": OFF_LATTICE}),
    }
    description = json.dumps(about, sort_keys=True)
    content = hashlib.sha256(raster.tobytes() + description.encode()).hexdigest()
    return {
        "axes": "YX",
        "Name": f"{stamp['slide_id']} {stamp['method']}",
        "Description": description,
        "Creator": f"wsi_mil {__version__}",
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, content)),
        "PhysicalSizeX": grid.stride[0] * grid.mpp.x,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": grid.stride[1] * grid.mpp.y,
        "PhysicalSizeYUnit": "µm",
        "Plane": {"PositionX": [0.0], "PositionXUnit": ["µm"], "PositionY": [0.0], "PositionYUnit": ["µm"]},
    }
