"""TRIDENT layout: `features` (n, d), in some versions (1, n, d), and `coords` (n, 2) level-0 pixels with the scale as attributes.

TRIDENT states scales as magnification, which it defines as 10 divided by the µm per pixel.
"""

from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.interchange.hdf5 import Hdf5, write_hdf5
from wsi_mil.interchange.tile_features import OWN_ATTRIBUTE, Scale, TileFeatures

NAME = "trident"
MAGNIFIED_MPP = 10.0
"""µm per pixel times magnification."""

MARKS = ("patch_size_level0", "target_magnification")


def is_layout(file: Hdf5) -> bool:
    """Return whether the attributes of a file's coords are TRIDENT's."""
    return any(mark in file.attributes("coords") for mark in MARKS)


def read(file: Hdf5) -> TileFeatures:
    """Read a file; the features are empty if it has coords alone."""
    features = file.array("features")
    coords = file.array("coords")
    attributes = file.attributes("coords")
    encoder = str(file.attributes("features").get("encoder", ""))
    empty = np.zeros((0 if coords is None else len(coords), 0), np.float32)
    return TileFeatures(empty if features is None else features, coords, scale=_scale(attributes), encoder=encoder).with_metadata(
        attributes
    )


def _scale(attributes: dict[str, Any]) -> Scale:
    target, level0 = attributes.get("target_magnification"), attributes.get("level0_magnification")
    tile_px = attributes.get("patch_size")
    box = attributes.get("patch_size_level0")
    if box is None and tile_px and target and level0:
        box = tile_px * level0 / target
    step = box * (tile_px - attributes["overlap"]) / tile_px if box and tile_px and "overlap" in attributes else None
    size = (attributes.get("level0_width"), attributes.get("level0_height"))
    return Scale(
        tile_px_level0=(round(box), round(box)) if box else None,
        tile_px=round(tile_px) if tile_px else None,
        mpp=MAGNIFIED_MPP / target if target else None,
        dimensions=(round(size[0]), round(size[1])) if size[0] and size[1] else None,
        stride=(step, step) if step else None,
    )


def write(folder: Path, slide_id: str, tile_features: TileFeatures) -> list[Path]:
    """Write `{slide_id}.h5`; features in float32, as TRIDENT does."""
    scale = tile_features.scale
    assert scale.tile_px_level0 is not None and scale.tile_px is not None and scale.mpp is not None
    assert tile_features.coords is not None
    size = {} if scale.dimensions is None else dict(zip(("level0_width", "level0_height"), scale.dimensions, strict=True))
    target = MAGNIFIED_MPP / scale.mpp
    attributes: dict[str, object] = {
        "patch_size": scale.tile_px,
        "patch_size_level0": scale.tile_px_level0[0],
        "level0_magnification": _number(target * scale.tile_px_level0[0] / scale.tile_px),
        "target_magnification": _number(target),
        "overlap": _number(scale.overlap),
        "name": slide_id,
        "savetodir": "",
        **size,
        OWN_ATTRIBUTE: tile_features.metadata_json(),
    }
    path = folder / f"{slide_id}.h5"
    by_dataset: dict[str, dict[str, object]] = {
        "coords": attributes,
        "features": {"name": slide_id, "encoder": tile_features.encoder, "savetodir": ""},
    }
    write_hdf5(path, {"features": tile_features.features.astype(np.float32), "coords": tile_features.coords}, by_dataset)
    return [path]


def _number(value: float) -> float:
    """Value as a whole number if it is one up to rounding errors."""
    return round(value) if abs(value - round(value)) < 1e-6 else value
