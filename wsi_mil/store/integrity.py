"""Whether a feature store holds what its receipt says: every byte of it is read."""

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
    """Shards of a feature store that are still to be written.

    Raises:
        StoreError: no readable store.
    """
    about = metadata(path, "features")
    return math.ceil(int(about["shape"][0]) / outer_chunk(about)[0]) - int(metadata(path)["attributes"]["shards_done"])


def feature_faults(path: Path, receipt: Mapping[str, Any]) -> list[str]:
    """What a finished feature store has that its receipt does not say, or the other way round; [] where it is sound.

    Raises:
        StoreError: no readable store, or arrays of it are missing or cut short.
    """
    attributes, shape = metadata(path)["attributes"], metadata(path, "features")["shape"]
    coords, valid = read_array(path, "coords"), read_array(path, "valid")
    said = {key: receipt.get(key) for key in ("fingerprint", "dim", "n_corrupt", "coords_digest", "digest")}
    found = {
        "fingerprint": attributes["fingerprint"],
        "dim": shape[1],
        "n_corrupt": int((~valid).sum()),
        "coords_digest": array_digest(coords),
        "digest": fingerprint({"shards": attributes["shard_digests"]}),
    }
    faults = [f"{key}: the receipt says {said[key]}, the store has {found[key]}" for key in said if said[key] != found[key]]
    if not len(coords) == len(valid) == shape[0]:
        return [*faults, f"features of {shape[0]} tiles, coords of {len(coords)}, valid of {len(valid)}"]
    return [*faults, *_shard_faults(path, attributes["shard_digests"], valid)]


def _shard_faults(path: Path, digests: list[str], valid: NDArray[np.bool_]) -> Iterator[str]:
    about = metadata(path, "features")
    rows, dim = outer_chunk(about)
    for number, digest in enumerate(digests):
        name, here = f"features/c/{number}/0", valid[number * rows : (number + 1) * rows]
        try:
            values = np.fromfile(path / name, "<f2")
        except FileNotFoundError:
            yield f"{name} is missing"
            continue
        if len(values) != rows * dim:
            yield f"{name} has {2 * len(values)} bytes, expected {2 * rows * dim}"
            continue
        features = values.reshape(rows, dim)[: len(here)]
        if shard_digest(features, here) != digest:
            yield f"{name} (or valid) is not what was written"
        elif not np.isfinite(features).all():
            row = number * rows + int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            yield f"{name}: the features of tile {row} are not finite"


def grid_faults(path: Path, receipt: Mapping[str, Any]) -> list[str]:
    """Likewise of a store of `tile`."""
    coords = read_array(path, "coords")
    for name in ("tissue_fraction", "thumbnail"):
        read_array(path, name)  # its checksum is held against it
    if array_digest(coords) == receipt.get("coords_digest"):
        return []
    return [f"coords of {len(coords)} tiles are not those of the receipt, which says {receipt.get('n_tiles')}"]
