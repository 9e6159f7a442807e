"""Receipts: JSON files in which a stage records its work, written last, `{slide_id}.json` beside the store `{slide_id}.zarr`.

The same content gives the same bytes, so that later stages recognise unchanged inputs.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import StoreError, StoreMismatchError
from wsi_mil.files import write_text
from wsi_mil.geometry import Mpp, footprint

TILE_IDENTITY = ("coords_digest", "slide_hash")
"""Keys of a receipt that identify the tiles of a slide; scores and features carry them to be matched with their tiles."""

IMPORTED = "imported"
"""Key of imported tiles' extent and stride in receipts, and value of unknown entries there: the reader if there was no slide, the
encoder, the hash of its weights."""

CELLS = "cells"
"""Key of extent and stride of the finer grid that shifted tilings have together, in the description of that grid."""

USUAL = "usual"
"""Key of a receipt of finer scores and of their pictures: hash of the receipt of the slide's usual scores."""

MADE_FROM = "made_from"
"""Key of a receipt: fingerprint of all that determines the outputs of its stage."""


def store_path(receipt: Path) -> Path:
    """Return the path of a receipt's store."""
    return receipt.with_suffix(".zarr")


def store_marker(receipt: Path) -> Path:
    """Return the file of a receipt's store that exists if the store does."""
    return store_path(receipt) / "zarr.json"


def write_receipt(path: Path, content: Mapping[str, object]) -> None:
    """Write a receipt atomically. The same content gives the same bytes; NaN becomes null."""
    write_text(path, receipt_text(content))


def receipt_text(content: Mapping[str, object]) -> str:
    """Return the text that `write_receipt` writes."""
    return json.dumps(_plain(content), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_receipt(path: Path) -> dict[str, Any]:
    """Read a receipt.

    Raises:
        StoreError: the receipt does not exist, or is not JSON.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:  # null and numbers are JSON too
        raise StoreError(path, f"is no readable receipt ({error}); run its stage again") from error


def read_tile_receipt(path: Path) -> dict[str, Any]:
    """Read the receipt of `tile` of a slide with tiles.

    Raises:
        StoreError: the receipt does not exist, or is not JSON.
        StoreMismatchError: the receipt was written by an earlier version, without the slide's bounds.
    """
    content = read_receipt(path)
    if "bounds" not in content:
        raise StoreMismatchError(path, "lacks the slide's bounds (written by an earlier version); run `tile` again")
    return content


def extent_and_stride(tiled: Mapping[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the extent of a tile and the stride of neighbouring tiles, both (x, y) level-0 pixels, unrounded.

    They follow from the settings in the receipt of `tile`; for imported tiles and finer grids the receipt holds them.
    """
    for given in (tiled[key] for key in (IMPORTED, CELLS) if key in tiled):
        (width, height), (right, down) = given["extent"], given["stride"]
        return (width, height), (right, down)
    mpp = Mpp(*tiled["mpp"])
    tiling = tiled["settings"]["tiling"]
    side = tiling["tile_px"]
    step = side - tiling["overlap"]
    return (
        footprint((side, side), target_mpp=tiling["mpp"], slide_mpp=mpp),
        footprint((step, step), target_mpp=tiling["mpp"], slide_mpp=mpp),
    )


def fingerprint(content: Mapping[str, object]) -> str:
    """Return the sha256 of the canonical JSON of all that determines a store's content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def made_from(content: Mapping[str, object]) -> dict[str, str]:
    """Return the entry of a receipt that tells from what its outputs were made, so that a later job can skip the slide."""
    return {MADE_FROM: fingerprint(content)}


def is_current(receipt: Path, stamp: Mapping[str, str], outputs: Iterable[Path]) -> bool:
    """Return whether a receipt was made from the same as `stamp`, and all outputs exist.

    Args:
        receipt: the receipt; it may be missing or damaged.
        stamp: output of `made_from`.
        outputs: files or folders that the stage writes.
    """
    try:
        content = read_receipt(receipt)
    except StoreError:
        return False
    return content.get(MADE_FROM) == stamp[MADE_FROM] and all(output.exists() for output in outputs)


def file_hash(path: Path | None) -> str:
    """Return the sha256 of a file's content; "" without a file that can be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""
    except OSError:
        return ""


def array_digest(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
