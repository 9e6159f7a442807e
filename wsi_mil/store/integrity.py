"""Check stores against their receipts, reading every byte."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.receipts import array_digest, fingerprint
from wsi_mil.store.features import shard_digest
from wsi_mil.store.zarr_files import metadata, outer_chunk, read_array


def shards_missing(path: Path) -> int:
    """Return the number of shards of a feature store that are not yet written.

    Raises:
        StoreError: the store is missing or unreadable.
    """
    features = metadata(path, "features")
    return math.ceil(int(features["shape"][0]) / outer_chunk(features)[0]) - int(metadata(path)["attributes"]["shards_done"])


def feature_faults(path: Path, receipt: Mapping[str, Any]) -> list[str]:
    """Return the differences between a finished feature store and its receipt; [] if the store is sound.

    Raises:
        StoreError: the store is unreadable, or arrays of it are missing or truncated.
    """
    attributes = metadata(path)["attributes"]
    shape = metadata(path, "features")["shape"]
    coords = read_array(path, "coords")
    valid = read_array(path, "valid")
    actual = {
        "fingerprint": attributes["fingerprint"],
        "dim": shape[1],
        "n_corrupt": int((~valid).sum()),
        "coords_digest": array_digest(coords),
        "digest": fingerprint({"shards": attributes["shard_digests"]}),
    }
    faults = [
        f"{key}: the receipt has {receipt.get(key)}, the store {actual[key]}" for key in actual if receipt.get(key) != actual[key]
    ]
    if not len(coords) == len(valid) == shape[0]:
        return [
            *faults,
            f"its arrays have different numbers of tiles: features {shape[0]}, coords {len(coords)}, valid {len(valid)}",
        ]
    return [*faults, *_shard_faults(path, attributes["shard_digests"], valid)]


def _shard_faults(path: Path, digests: list[str], valid: NDArray[np.bool_]) -> Iterator[str]:
    rows, dim = outer_chunk(metadata(path, "features"))
    for number, digest in enumerate(digests):
        name = f"features/c/{number}/0"
        valid_here = valid[number * rows : (number + 1) * rows]
        try:
            values = np.fromfile(path / name, "<f2")
        except FileNotFoundError:
            yield f"{name} is missing"
            continue
        if len(values) != rows * dim:
            yield f"{name} has {2 * len(values)} bytes, expected {2 * rows * dim}"
            continue
        features = values.reshape(rows, dim)[: len(valid_here)]
        if shard_digest(features, valid_here) != digest:
            yield f"{name} or valid has changed since it was written"
        elif not np.isfinite(features).all():
            row = number * rows + int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            yield f"{name}: the features of tile {row} are not finite"


def grid_faults(path: Path, receipt: Mapping[str, Any]) -> list[str]:
    """Return the differences between a store of `tile` and its receipt; [] if the store is sound. Raises StoreError."""
    coords = read_array(path, "coords")
    for name in ("tissue_fraction",) if "shift" in receipt else ("tissue_fraction", "thumbnail"):
        read_array(path, name)  # verifies its checksum
    if array_digest(coords) == receipt.get("coords_digest"):
        return []
    return [f"its {len(coords)} coords are not those of the receipt, which has {receipt.get('n_tiles')} tiles"]
