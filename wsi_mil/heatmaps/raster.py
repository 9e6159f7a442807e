"""Scores as a pyramidal OME-TIFF with one pixel for each cell of the tile grid."""

import hashlib
import io
import json
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_mil.geometry import gridded, halved
from wsi_mil.heatmaps.slide_scores import SlideScores
from wsi_mil.version import __version__

LEAST_SIDE = 256
"""Levels are halved until no side is longer than this."""

TILE = (256, 256)

BAND_PX = 4_000_000
"""Levels with more pixels (small tiles on a large slide) are halved band by band."""

OFF_GRID_NOTE = "tiles are not on one grid: each pixel is the highest of the tiles whose corner is next to it"


def ome_tiff(channels: Sequence[SlideScores]) -> bytes:
    """Return an OME-TIFF of the stored scores in float32, NaN where no tile starts. The same scores give the same bytes.

    A channel for each output, named after it, in the order of the model's outputs, so that it is the same on every slide. All
    channels are of one method and on the same tiles.

    Pixel [row, column] is the tile whose corner is the level-0 pixel (round(column·stride x), round(row·stride y)).
    Overlapping tiles are not averaged, since that would move the hottest point off the corner of its tile. Physical sizes
    and the position of the first pixel are in µm; the image description contains the exact numbers as JSON, and a trust line for
    each of `outputs`.
    """
    channels = sorted(channels, key=lambda scores: scores.metadata["output"] or 0)
    grid = channels[0].grid
    rasters = [gridded(s.values, grid.coords, stride=grid.stride, dimensions=grid.dimensions) for s in channels]
    levels = [np.stack(level) for level in zip(*map(pyramid, rasters), strict=True)]
    file = io.BytesIO()
    options: dict[str, Any] = {"tile": TILE, "compression": "zlib", "photometric": "minisblack"}
    with tifffile.TiffWriter(file, ome=True) as tif:
        tif.write(levels[0], subifds=len(levels) - 1, metadata=_metadata(channels, levels[0]), **options)
        for level in levels[1:]:
            tif.write(level, subfiletype=1, **options)
    return file.getvalue()


def pyramid(image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the levels of a pyramid: the image, halved until its longest side is at most 256 pixels."""
    levels = [image]
    while max(levels[-1].shape) > LEAST_SIDE:
        levels.append(halved(levels[-1]) if levels[-1].size <= BAND_PX else _halved_in_bands(levels[-1]))
    return levels


def _halved_in_bands(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Halve an image band by band, in parallel."""
    from wsi_mil.runtime.parallel import parallel_map  # imports Dask, which the rasters of most slides do not need

    rows = 2 * max(1, BAND_PX // (2 * image.shape[1]))
    return np.concatenate(parallel_map(halved, [image[top : top + rows] for top in range(0, len(image), rows)], threads=1))


def _metadata(channels: Sequence[SlideScores], raster: NDArray[np.float32]) -> dict[str, object]:
    """Metadata of an image [channel, height, width]."""
    first = next((scores for scores in channels if scores.metadata["unit"]), channels[0])
    grid, stamp, n = first.grid, channels[0].stamp, len(channels)
    names = [scores.stamp["output"] or stamp["method"] for scores in channels]
    exact = {
        **{key: text for key, text in stamp.items() if key not in ("output", "trust")},
        "outputs": names,
        "trust": [scores.trust.text for scores in channels],
        "unit": first.metadata["unit"],
        "kind": first.metadata["kind"],
        "origin_level0": [0, 0],
        "stride_level0": list(grid.stride),
        "tile_px_level0": list(grid.box),
        "dimensions_level0": list(grid.dimensions),
        "mpp_level0": [grid.mpp.x, grid.mpp.y],
        **({} if grid.on_lattice else {"note": OFF_GRID_NOTE}),
    }
    description = json.dumps(exact, sort_keys=True)
    content = hashlib.sha256(raster.tobytes() + description.encode()).hexdigest()
    return {
        "axes": "CYX",
        "Channel": {"Name": names},
        "Name": f"{stamp['slide_id']} {stamp['method']}",
        "Description": description,
        "Creator": f"wsi_mil {__version__}",
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, content)),
        "PhysicalSizeX": grid.stride[0] * grid.mpp.x,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": grid.stride[1] * grid.mpp.y,
        "PhysicalSizeYUnit": "µm",
        "Plane": {
            **{f"Position{axis}": [0.0] * n for axis in "XY"},
            **{f"Position{axis}Unit": ["µm"] * n for axis in "XY"},
        },
    }
