"""STAMP layout: `feats` (n, d) float16 and `coords` (n, 2) in µm, with the tile size in µm and pixels in the file's attributes.

Files before version 2 have no unit: tiles are 256 µm and 224 pixels wide, and coords are in µm (a stride of 256) or in tile
pixels (a stride of 224).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange.hdf5 import Hdf5, write_hdf5
from wsi_mil.interchange.tile_features import AS_VECTORS, OWN_ATTRIBUTE, Scale, TileFeatures

NAME = "stamp"
OLD_TILE_UM, OLD_TILE_PX = 256.0, 224
LAYOUT_VERSION = "2.1.0"
"""First version of STAMP with these attributes."""


def is_layout(file: Hdf5) -> bool:
    """Return whether a file has STAMP's `feats`."""
    return "feats" in file.names


def read(file: Hdf5) -> TileFeatures:
    """Read a file.

    Raises:
        FeatureFileError: the features are of whole slides or patients, or the unit of the coords is unknown.
    """
    attributes = file.attributes()
    kind = attributes.get("feat_type", "tile")
    if kind != "tile":
        fix = f"; {AS_VECTORS}" if kind == "slide" else ""
        raise FeatureFileError(file.path, f"expected features of tiles, found those of a {kind}{fix}")
    features = file.array("feats")
    coords = file.array("coords")
    assert features is not None
    tile_um = float(attributes.get("tile_size_um", attributes.get("tile_size", OLD_TILE_UM)))
    tile_px = attributes.get("tile_size_px", OLD_TILE_PX)
    if coords is not None and attributes.get("unit") != "um":
        coords, tile_um = _old_um(file.path, coords, attributes)
    return TileFeatures(
        features,
        coords,
        unit="um",
        scale=Scale(tile_px=int(tile_px), mpp=tile_um / int(tile_px)),
        encoder=str(attributes.get("extractor", "")),
    ).with_metadata(attributes)


def _old_um(path: Path, coords: NDArray[Any], attributes: dict[str, Any]) -> tuple[NDArray[np.float64], float]:
    """Coords of an old file in µm, and the width of its tiles in µm."""
    steps = [np.diff(np.unique(axis)) for axis in np.asarray(coords, np.float64).T]
    stride = round(min((float(step.min()) for step in steps if len(step)), default=0.0))
    if stride == round(OLD_TILE_UM):
        return np.asarray(coords, np.float64), OLD_TILE_UM
    if stride == OLD_TILE_PX:
        return np.asarray(coords, np.float64) * OLD_TILE_UM / OLD_TILE_PX, OLD_TILE_UM
    old_files = f"in old files tiles are 256 or 224 apart, here {stride}"
    raise FeatureFileError(path, f"coords must have unit 'um', but have {attributes.get('unit', 'none')} ({old_files})")


def write(folder: Path, slide_id: str, tile_features: TileFeatures) -> list[Path]:
    """Write `{slide_id}.h5`; features in float16, coords in float32, as STAMP does."""
    scale = tile_features.scale
    assert (
        tile_features.coords is not None and scale.slide_mpp is not None and scale.mpp is not None and scale.tile_px is not None
    )
    attributes = {
        "unit": "um",
        "tile_size_um": scale.mpp * scale.tile_px,
        "tile_size_px": scale.tile_px,
        "extractor": tile_features.encoder,
        "feat_type": "tile",
        "stamp_version": LAYOUT_VERSION,
        "code_hash": "",
        OWN_ATTRIBUTE: tile_features.metadata_json(),
    }
    um = (tile_features.coords * (scale.slide_mpp.x, scale.slide_mpp.y)).astype(np.float32)
    path = folder / f"{slide_id}.h5"
    write_hdf5(path, {"feats": tile_features.features, "coords": um}, {"/": attributes})
    return [path]
