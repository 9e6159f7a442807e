"""CLAM: `features` (n, d) float32 and `coords` (n, 2) level-0 pixels; a `.pt` with the features alone goes beside it.

The attributes of `coords` (patch_size and patch_level with its downsample, level_dim) stand in CLAM's `patches/*.h5`; its
feature files have none unless other tools of the family wrote them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.interchange import pt
from wsi_mil.interchange.hdf5 import Hdf5, write_hdf5
from wsi_mil.interchange.tile_features import OWN, Scale, TileFeatures

NAME = "clam"


def is_layout(file: Hdf5) -> bool:
    """Whether a file holds what CLAM calls features, or coords alone; TRIDENT calls them so too, and is asked first."""
    return "features" in file.names or file.names == ["coords"]


def read(file: Hdf5) -> TileFeatures:
    """What a file holds; features are empty where it is one of coords alone."""
    features = file.array("features")
    coords, said = file.array("coords"), file.attributes("coords")
    empty = np.zeros((0 if coords is None else len(coords), 0), np.float32)
    return TileFeatures(empty if features is None else features, coords, scale=_scale(said)).with_own(said)


def _scale(said: Mapping[str, Any]) -> Scale:
    if "patch_size" not in said:
        return Scale()
    side, step = _pair(said["patch_size"]), _pair(said.get("downsample", 1.0))
    if "custom_downsample" in said:
        step = (step[0] * said["custom_downsample"], step[1] * said["custom_downsample"])
    box = (round(side[0] * step[0]), round(side[1] * step[1]))
    if "level_dim" not in said:
        return Scale(tile_px_level0=box, tile_px=round(side[0]))
    width, height = said["level_dim"]
    return Scale(tile_px_level0=box, tile_px=round(side[0]), dimensions=(round(width * step[0]), round(height * step[1])))


def _pair(value: Any) -> tuple[float, float]:
    return (float(value[0]), float(value[1])) if isinstance(value, list | tuple) else (float(value), float(value))


def write(folder: Path, slide_id: str, found: TileFeatures) -> list[Path]:
    """Write `h5_files/{slide_id}.h5` and `pt_files/{slide_id}.pt`, as CLAM lays them; features in float32, as it has them."""
    scale = found.scale
    assert scale.tile_px_level0 is not None and found.coords is not None
    level = {} if scale.dimensions is None else dict.fromkeys(("level_dim", "downsampled_level_dim"), scale.dimensions)
    said = {
        "patch_size": scale.tile_px_level0[0],
        "patch_level": 0,
        "downsample": (1.0, 1.0),
        "name": slide_id,
        **level,
        OWN: found.own_json(),
    }
    h5, tensor = folder / "h5_files" / f"{slide_id}.h5", folder / "pt_files" / f"{slide_id}.pt"
    features = found.features.astype(np.float32)
    pt.write_tensor(tensor, features)
    write_hdf5(h5, {"features": features, "coords": found.coords}, {"coords": said})
    return [h5, tensor]
