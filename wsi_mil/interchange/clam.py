"""CLAM layout: `features` (n, d) float32 and `coords` (n, 2) level-0 pixels, with a `.pt` of the features alone beside it.

The attributes of `coords` (patch_size and patch_level with its downsample, level_dim) are in CLAM's `patches/*.h5`; its
feature files have none unless a related tool wrote them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.interchange import pt
from wsi_mil.interchange.hdf5 import Hdf5, write_hdf5
from wsi_mil.interchange.tile_features import OWN_ATTRIBUTE, Scale, TileFeatures

NAME = "clam"


def is_layout(file: Hdf5) -> bool:
    """Return whether a file has CLAM's `features`, or coords alone. TRIDENT uses the same name and is tested first."""
    return "features" in file.names or file.names == ["coords"]


def read(file: Hdf5) -> TileFeatures:
    """Read a file; the features are empty if it has coords alone."""
    features = file.array("features")
    coords = file.array("coords")
    attributes = file.attributes("coords")
    empty = np.zeros((0 if coords is None else len(coords), 0), np.float32)
    return TileFeatures(empty if features is None else features, coords, scale=_scale(attributes)).with_metadata(attributes)


def _scale(attributes: Mapping[str, Any]) -> Scale:
    if "patch_size" not in attributes:
        return Scale()
    side, step = _pair(attributes["patch_size"]), _pair(attributes.get("downsample", 1.0))
    if "custom_downsample" in attributes:
        step = (step[0] * attributes["custom_downsample"], step[1] * attributes["custom_downsample"])
    box = (round(side[0] * step[0]), round(side[1] * step[1]))
    if "level_dim" not in attributes:
        return Scale(tile_px_level0=box, tile_px=round(side[0]))
    width, height = attributes["level_dim"]
    return Scale(tile_px_level0=box, tile_px=round(side[0]), dimensions=(round(width * step[0]), round(height * step[1])))


def _pair(value: Any) -> tuple[float, float]:
    return (float(value[0]), float(value[1])) if isinstance(value, list | tuple) else (float(value), float(value))


def write(folder: Path, slide_id: str, tile_features: TileFeatures) -> list[Path]:
    """Write `h5_files/{slide_id}.h5` and `pt_files/{slide_id}.pt`, as CLAM does; features in float32."""
    scale = tile_features.scale
    assert scale.tile_px_level0 is not None and tile_features.coords is not None
    level = {} if scale.dimensions is None else dict.fromkeys(("level_dim", "downsampled_level_dim"), scale.dimensions)
    attributes = {
        "patch_size": scale.tile_px_level0[0],
        "patch_level": 0,
        "downsample": (1.0, 1.0),
        "name": slide_id,
        **level,
        OWN_ATTRIBUTE: tile_features.metadata_json(),
    }
    h5, tensor = folder / "h5_files" / f"{slide_id}.h5", folder / "pt_files" / f"{slide_id}.pt"
    features = tile_features.features.astype(np.float32)
    pt.write_tensor(tensor, features)
    write_hdf5(h5, {"features": features, "coords": tile_features.coords}, {"coords": attributes})
    return [h5, tensor]
