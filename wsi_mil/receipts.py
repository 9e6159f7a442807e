"""What a stage says of its work: a JSON receipt, written last, beside the store that it is about.

`{slide_id}.json` beside `{slide_id}.zarr`. The same content gives the same bytes, so that later stages see what is unchanged.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import StoreError, StoreMismatchError
from wsi_mil.files import write_text
from wsi_mil.geometry import Mpp, footprint

IMPORTED = "imported"
"""In receipts of imported features: the key that says how their tiles lie, and the value of what is unknown: the reader where
there was no slide, the encoder, the hash of its weights."""


def store_path(receipt: Path) -> Path:
    """Where the store of a receipt lies."""
    return receipt.with_suffix(".zarr")


def write_receipt(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON aside, then rename: the same content gives the same bytes; NaN becomes null."""
    write_text(path, receipt_text(content))


def receipt_text(content: Mapping[str, object]) -> str:
    """What `write_receipt` writes."""
    return json.dumps(_plain(content), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_receipt(path: Path) -> dict[str, Any]:
    """What a receipt says.

    Raises:
        StoreError: no such receipt, or not JSON.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:  # null and numbers are JSON too
        raise StoreError(path, f"not a readable receipt ({error}); run its stage again") from error


def read_tiled(path: Path) -> dict[str, Any]:
    """What the receipt of `tile` says of a slide that has tiles.

    Raises:
        StoreError: no such receipt, or not JSON.
        StoreMismatchError: of an earlier version, which did not say where the slide's bounds lie.
    """
    content = read_receipt(path)
    if "bounds" not in content:
        raise StoreMismatchError(path, "does not say the slide's bounds (written by an earlier version); run `tile` again")
    return content


def extent_and_stride(tiled: Mapping[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of a tile and of neighbouring corners, (x, y) level-0 pixels, unrounded, by the receipt of `tile`; imported tiles bring
    their own.
    """
    if IMPORTED in tiled:
        (width, height), (right, down) = tiled[IMPORTED]["extent"], tiled[IMPORTED]["stride"]
        return (width, height), (right, down)
    mpp, tiling = Mpp(*tiled["mpp"]), tiled["settings"]["tiling"]
    side, step = tiling["tile_px"], tiling["tile_px"] - tiling["overlap"]
    return (
        footprint((side, side), target_mpp=tiling["mpp"], slide_mpp=mpp),
        footprint((step, step), target_mpp=tiling["mpp"], slide_mpp=mpp),
    )


def fingerprint(content: Mapping[str, object]) -> str:
    """sha256 over canonical JSON of everything that decides a store's content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def array_digest(array: NDArray[Any]) -> str:
    """sha256 over an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
