"""STAMP: `feats` (n, d) float16 and `coords` (n, 2) in µm, with the size of a tile in µm and pixels at the top of the file.

Files of before version 2 name no unit: tiles are 256 µm wide and 224 pixels, and coords are µm (a stride of 256) or pixels of
the tile (a stride of 224).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange.hdf5 import Hdf5, write_hdf5
from wsi_mil.interchange.tile_features import OWN, Scale, TileFeatures

NAME = "stamp"
OLD_TILE_UM, OLD_TILE_PX = 256.0, 224
LAYOUT_VERSION = "2.1.0"
"""The first version of STAMP that calls its attributes so."""


def is_layout(file: Hdf5) -> bool:
    """Whether a file holds what STAMP calls features."""
    return "feats" in file.names


def read(file: Hdf5) -> TileFeatures:
    """What a file holds.

    Raises:
        FeatureFileError: features of whole slides or patients, or coords in no unit that is known.
    """
    features, coords, said = file.array("feats"), file.array("coords"), file.attributes()
    if said.get("feat_type", "tile") != "tile":
        raise FeatureFileError(file.path, f"holds features of a {said['feat_type']}, not of tiles")
    assert features is not None
    tile_um, tile_px = float(said.get("tile_size_um", said.get("tile_size", OLD_TILE_UM))), said.get("tile_size_px", OLD_TILE_PX)
    if coords is not None and said.get("unit") != "um":
        coords, tile_um = _old_um(file.path, coords, said)
    return TileFeatures(
        features,
        coords,
        unit="um",
        scale=Scale(tile_px=int(tile_px), mpp=tile_um / int(tile_px)),
        encoder=str(said.get("extractor", "")),
    ).with_own(said)


def _old_um(path: Path, coords: NDArray[Any], said: dict[str, Any]) -> tuple[NDArray[np.float64], float]:
    """Coords of an old file in µm, and the width of its tiles, µm."""
    steps = [np.diff(np.unique(axis)) for axis in np.asarray(coords, np.float64).T]
    stride = round(min((float(step.min()) for step in steps if len(step)), default=0.0))
    if stride == round(OLD_TILE_UM):
        return np.asarray(coords, np.float64), OLD_TILE_UM
    if stride == OLD_TILE_PX:
        return np.asarray(coords, np.float64) * OLD_TILE_UM / OLD_TILE_PX, OLD_TILE_UM
    apart = f"in its old files tiles are 256 or 224 apart, here {stride}"
    raise FeatureFileError(path, f"coords have unit {said.get('unit', 'none')}, expected 'um' ({apart})")


def write(folder: Path, slide_id: str, found: TileFeatures) -> list[Path]:
    """Write `{slide_id}.h5`; features in float16, coords in float32, as STAMP does."""
    scale = found.scale
    assert found.coords is not None and scale.slide_mpp is not None and scale.mpp is not None and scale.tile_px is not None
    said = {
        "unit": "um",
        "tile_size_um": scale.mpp * scale.tile_px,
        "tile_size_px": scale.tile_px,
        "extractor": found.encoder,
        "feat_type": "tile",
        "stamp_version": LAYOUT_VERSION,
        "code_hash": "",
        OWN: found.own_json(),
    }
    um = (found.coords * (scale.slide_mpp.x, scale.slide_mpp.y)).astype(np.float32)
    path = folder / f"{slide_id}.h5"
    write_hdf5(path, {"feats": found.features, "coords": um}, {"/": said})
    return [path]
