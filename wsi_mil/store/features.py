"""Feature stores of `extract`: features of a slide's tiles, written shard by shard, with their progress in the attributes.

The arrays are uncompressed, and one shard of whole rows is one chunk and one file. Any Zarr reader opens them; `read_bag`
reads the files directly, which saves milliseconds and a copy or two per bag. Arrays with any other layout, such as the
compressed ones of earlier versions, are read through Zarr.
"""

import hashlib
import logging
import math
from collections.abc import Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from wsi_mil.errors import IncompleteStoreError, StoreError
from wsi_mil.files import exclusive
from wsi_mil.receipts import fingerprint, store_path
from wsi_mil.records import Bag
from wsi_mil.store.zarr_files import (
    array_of,
    attributes_of,
    create_array,
    is_raw,
    metadata,
    outer_chunk,
    part_folder,
    read_array,
    read_raw_rows,
    replace_store,
)

log = logging.getLogger(__name__)

SHARD_UNIT = 256
"""Rows per shard are a multiple of this, the chunk length of earlier versions."""

MIN_SHARD_ROWS = 2048
MAX_SHARDS = 6
"""Upper bound on shards, so that a store has at most twelve files."""


def shard_rows(n: int, batch_size: int) -> int:
    """Return the rows per shard: the larger of 2,048 and a sixth of `n`, rounded up to a multiple of 256 and of the batch."""
    unit = math.lcm(SHARD_UNIT, batch_size)
    return math.ceil(max(MIN_SHARD_ROWS, math.ceil(n / MAX_SHARDS)) / unit) * unit


def feature_bytes(n: int, dim: int, batch_size: int) -> int:
    """Return the bytes of a slide's feature store: features, coords and validity of `n` tiles, without a few KB of metadata.

    Args:
        n: number of tiles.
        dim: length of a feature vector.
        batch_size: batch size of the encoder entry; shards are multiples of it, and the last one is padded.
    """
    chunk = max(1, min(shard_rows(n, batch_size), n))
    rows = math.ceil(n / chunk) * chunk
    return rows * dim * np.dtype(np.float16).itemsize + n * (2 * np.dtype(np.int64).itemsize + np.dtype(np.bool_).itemsize)


class FeatureStore:
    """Features of one slide, written shard by shard by one process at a time.

    As a context manager it takes the store's lock, waiting for a writer that is still alive. An existing store with the same
    fingerprint is resumed; any other is replaced on `begin`.
    """

    def __init__(self, path: Path, *, coords: NDArray[np.int64], batch_size: int, attributes: Mapping[str, object]):
        """Prepare a store; `attributes` are those of its root and must contain "fingerprint".

        `batch_size` determines the rows per shard of a new store; a resumed one keeps its own.
        """
        self.path = path
        self.coords = coords
        self.attributes: dict[str, Any] = dict(attributes)
        self.shard_rows = shard_rows(len(coords), batch_size)
        """Rows of every shard but the last."""
        self.batch_size = batch_size
        """Tiles to encode at once: `batch_size`, or fewer, so that shards are multiples of it."""
        self._locked = ExitStack()
        self._group: zarr.Group | None = None

    def __enter__(self) -> Self:
        self._locked.enter_context(exclusive(self.path))
        self._resume_if_same()
        return self

    def __exit__(self, *_: object) -> None:
        self._locked.close()

    @property
    def rows_done(self) -> int:
        """Return the number of rows on disk: whole shards, or all."""
        shards = int(attributes_of(self._group)["shards_done"]) if self._group else 0
        return min(shards * self.shard_rows, len(self.coords))

    @property
    def is_complete(self) -> bool:
        """Return whether all tiles are encoded."""
        return self._group is not None and self.rows_done == len(self.coords)

    @property
    def dim(self) -> int:
        """Return the length of a feature vector."""
        return int(self._features().shape[1])

    def begin(self, dim: int) -> None:
        """Create the store, unless one with the same fingerprint is resumed."""
        if self._group is None:
            self._create(dim)
            self._resume_if_same()

    def append_shard(self, features: NDArray[np.float16], valid: NDArray[np.bool_]) -> None:
        """Write the next shard: `(shard_rows, dim)`, fewer rows only for the last one."""
        start = self.rows_done
        stop = min(start + self.shard_rows, len(self.coords))
        if features.shape != (stop - start, self.dim):
            raise ValueError(f"the next shard is {(stop - start, self.dim)}, got {features.shape}")
        self._features()[start:stop] = features
        self._open_group()["valid"][start:stop] = valid  # type: ignore[index]
        digests = [*self._shard_digests(), shard_digest(features, valid)]
        self._open_group().attrs.update({"shards_done": len(digests), "shard_digests": digests})

    def valid(self) -> NDArray[np.bool_]:
        """Return which tiles could be read."""
        return array_of(self._open_group(), "valid")

    def digest(self) -> str:
        """Return the digest of the features and of which tiles could be read."""
        return _whole_digest(self._shard_digests())

    def _shard_digests(self) -> list[str]:
        return list(attributes_of(self._open_group())["shard_digests"])

    def _open_group(self) -> zarr.Group:
        if self._group is None:
            raise IncompleteStoreError(self.path, "begin() was not called")
        return self._group

    def _features(self) -> zarr.Array[Any]:
        return self._open_group()["features"]  # type: ignore[return-value]

    def _resume_if_same(self) -> None:
        """Resume the store on disk, finished or not, if its fingerprint is the same."""
        try:
            group = zarr.open_group(self.path, mode="r+", zarr_format=3)
        except (FileNotFoundError, ValueError):
            return
        for part in self.path.rglob("*.partial"):
            part.unlink()  # left over from a killed run
        if group.attrs.get("fingerprint") != self.attributes["fingerprint"]:
            return
        try:
            self._require_whole_shards(int(attributes_of(group)["shards_done"]))
        except StoreError as error:
            log.warning("%s; the store is written anew", error)
            return
        self._group = group
        self.shard_rows = outer_chunk(metadata(self.path, "features"))[0]
        if self.shard_rows < len(self.coords):
            self.batch_size = next(size for size in range(self.batch_size, 0, -1) if self.shard_rows % size == 0)

    def _require_whole_shards(self, shards: int) -> None:
        """Raise StoreError if a file is missing or truncated, as after an interrupted copy."""
        for name, chunks in (("coords", 1), ("valid", min(1, shards)), ("features", shards)):
            array = metadata(self.path, name)
            no_rows = np.empty((0, *array["shape"][1:]), array["data_type"])
            for chunk in range(chunks if is_raw(array) else 0):
                read_raw_rows(self.path / name, array, chunk, 0, no_rows)

    def _create(self, dim: int) -> None:
        part = part_folder(self.path)
        group = zarr.open_group(
            part, mode="w", zarr_format=3, attributes={**self.attributes, "shards_done": 0, "shard_digests": []}
        )
        n, rows = len(self.coords), self.shard_rows
        create_array(group, "coords", self.coords, compressors=None)
        group.create_array("valid", shape=(n,), dtype="bool", chunks=(max(1, n),), compressors=None)
        chunks = (max(1, min(rows, n)), dim)
        group.create_array("features", shape=(n, dim), dtype="float16", chunks=chunks, compressors=None)
        replace_store(part, self.path)


def features_digest(features: NDArray[np.float16], valid: NDArray[np.bool_], batch_size: int) -> str:
    """Return the `FeatureStore.digest` of features `(n, dim)` and validity `(n,)`, without writing a store."""
    rows = shard_rows(len(features), batch_size)
    starts = range(0, len(features), rows)
    return _whole_digest([shard_digest(features[start : start + rows], valid[start : start + rows]) for start in starts])


def _whole_digest(shards: list[str]) -> str:
    return fingerprint({"shards": shards})


def shard_digest(features: NDArray[np.float16], valid: NDArray[np.bool_]) -> str:
    """Return the sha256 of a shard's features `(rows, dim)` and validity `(rows,)`."""
    digest = hashlib.sha256(np.ascontiguousarray(features).data)
    digest.update(np.ascontiguousarray(valid).data)
    return digest.hexdigest()


def read_bag(receipt: Path) -> Bag:
    """Read the features of a slide's valid tiles.

    Raises:
        IncompleteStoreError: the store was never finished.
        StoreError: the store is missing or damaged, or its arrays differ in their number of tiles.
    """
    path = store_path(receipt)
    slide_id = receipt.name.removesuffix(".json")
    coords, valid = finished_tiles(path, metadata(path, "features"))
    features = read_array(path, "features")
    return Bag(slide_id, features, coords) if valid.all() else Bag(slide_id, features[valid], coords[valid])


def finished_tiles(path: Path, features: Mapping[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read coords `(n, 2)` and validity `(n,)` of a finished feature store.

    Args:
        path: the store.
        features: metadata of its array `features`.

    Raises:
        IncompleteStoreError: the store was never finished.
        StoreError: its arrays differ in their number of tiles.
    """
    n = int(features["shape"][0])
    if int(metadata(path)["attributes"]["shards_done"]) * outer_chunk(features)[0] < n:
        raise IncompleteStoreError(path, "not all shards are written; run `extract` again")
    coords, valid = read_array(path, "coords"), read_array(path, "valid")
    if not n == len(coords) == len(valid):
        rows = f"features {n}, coords {len(coords)}, valid {len(valid)}"
        raise StoreError(path, f"its arrays have different numbers of tiles ({rows}); delete it and run `extract` again")
    return coords, valid


def feature_dim(receipt: Path) -> int:
    """Return the length of a slide's feature vectors, from the store's metadata alone.

    Raises:
        StoreError: the store is missing, or has no features.
    """
    path = store_path(receipt)
    shape = metadata(path, "features")["shape"]
    if len(shape) != 2:
        raise StoreError(path, f"features must have the shape (n, dim), but have {tuple(shape)}; run `extract` again")
    return int(shape[1])


def feature_attributes(store: Path) -> dict[str, Any]:
    """Return the root attributes of a feature store, read as JSON and once: Zarr takes a millisecond. Raises StoreError."""
    file = store / "zarr.json"
    return dict(_attributes(store, file.stat().st_mtime_ns if file.is_file() else 0))


@lru_cache(maxsize=1 << 14)
def _attributes(store: Path, modified_ns: int) -> dict[str, Any]:
    """Attributes of the version of a store that was written at a time."""
    return dict(metadata(store)["attributes"])


def n_tiles(receipt: Path) -> int:
    """Return the number of a slide's tiles, unreadable ones included, from the store's metadata alone. Raises StoreError."""
    return int(metadata(store_path(receipt), "features")["shape"][0])
