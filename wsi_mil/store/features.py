"""Stores of `extract`: features of a slide's tiles, which grow shard by shard and say in their attributes how far they are.

A feature store's arrays are raw: neither compressed nor cut within a row, a shard of rows is one chunk, so one file. Any
Zarr reader opens them, and `read_bag` takes them straight from the files, because Zarr's own way costs milliseconds and a
copy or two a bag. Arrays of any other layout, such as the compressed ones of earlier versions, it reads through Zarr.
"""

import hashlib
import logging
import math
from collections.abc import Mapping
from contextlib import ExitStack
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
    aside,
    attributes_of,
    create_array,
    is_raw,
    metadata,
    outer_chunk,
    read_array,
    read_raw_rows,
    swap,
)

log = logging.getLogger(__name__)

SHARD_UNIT = 256
"""Shards are whole multiples of it: the rows of the chunks that earlier versions cut shards into."""

MIN_SHARD_ROWS = 2048
MAX_SHARDS = 6
"""With the other arrays and what describes them, twelve files a store."""


def shard_rows(n: int, batch_size: int) -> int:
    """Rows of a shard: the larger of 2,048 and a sixth of `n`, up to a multiple of 256 and of the batch."""
    unit = math.lcm(SHARD_UNIT, batch_size)
    return math.ceil(max(MIN_SHARD_ROWS, math.ceil(n / MAX_SHARDS)) / unit) * unit


def feature_bytes(n: int, dim: int, batch_size: int) -> int:
    """Bytes of a slide's feature store: features, coords and validity of `n` tiles, without the few KB that describe them.

    Args:
        n: number of tiles.
        dim: length of a feature vector.
        batch_size: of the encoder entry; shards are whole multiples of it, and the last one is filled up.
    """
    chunk = max(1, min(shard_rows(n, batch_size), n))
    rows = math.ceil(n / chunk) * chunk
    return rows * dim * np.dtype(np.float16).itemsize + n * (2 * np.dtype(np.int64).itemsize + np.dtype(np.bool_).itemsize)


class FeatureStore:
    """Features of one slide, written shard by shard by one process at a time.

    A context manager: entering takes the store's lock, and waits for a writer that is still alive. What lies there
    of the same fingerprint is gone on with; anything else is replaced on `begin`.
    """

    def __init__(self, path: Path, *, coords: NDArray[np.int64], batch_size: int, attributes: Mapping[str, object]):
        """`attributes` go to the store's root and must hold "fingerprint".

        `batch_size` says how long the shards of a new store are; one that is gone on with has its own.
        """
        self.path, self.coords = path, coords
        self.attributes: dict[str, Any] = dict(attributes)
        self.shard_rows = shard_rows(len(coords), batch_size)
        """Rows of every shard but the last."""
        self.batch_size = batch_size
        """Tiles to encode at once: as asked for, or fewer, so that shards are whole multiples of it."""
        self._locked = ExitStack()
        self._group: zarr.Group | None = None

    def __enter__(self) -> Self:
        self._locked.enter_context(exclusive(self.path))
        self._find_same()
        return self

    def __exit__(self, *_: object) -> None:
        self._locked.close()

    @property
    def rows_done(self) -> int:
        """Rows that are safely on disk: whole shards, or all."""
        shards = int(attributes_of(self._group)["shards_done"]) if self._group else 0
        return min(shards * self.shard_rows, len(self.coords))

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left to encode."""
        return self._group is not None and self.rows_done == len(self.coords)

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return int(self._features().shape[1])

    def begin(self, dim: int) -> None:
        """Make the store, unless one of the same content is there to go on with."""
        if self._group is None:
            self._create(dim)
            self._find_same()

    def append_shard(self, features: NDArray[np.float16], valid: NDArray[np.bool_]) -> None:
        """Write the next shard: `(shard_rows, dim)`, fewer rows only for the last one."""
        start = self.rows_done
        stop = min(start + self.shard_rows, len(self.coords))
        if features.shape != (stop - start, self.dim):
            raise ValueError(f"the next shard is {(stop - start, self.dim)}, got {features.shape}")
        self._features()[start:stop] = features
        self._begun()["valid"][start:stop] = valid  # type: ignore[index]
        digests = [*self._shard_digests(), shard_digest(features, valid)]
        self._begun().attrs.update({"shards_done": len(digests), "shard_digests": digests})

    def valid(self) -> NDArray[np.bool_]:
        """Which tiles could be read."""
        return array_of(self._begun(), "valid")

    def digest(self) -> str:
        """What tells the features written, and which tiles could be read, from others."""
        return _whole_digest(self._shard_digests())

    def _shard_digests(self) -> list[str]:
        return list(attributes_of(self._begun())["shard_digests"])

    def _begun(self) -> zarr.Group:
        if self._group is None:
            raise IncompleteStoreError(self.path, "not begun")
        return self._group

    def _features(self) -> zarr.Array[Any]:
        return self._begun()["features"]  # type: ignore[return-value]

    def _find_same(self) -> None:
        """Go on with the store on disk, if it is of this very content, finished or not."""
        try:
            group = zarr.open_group(self.path, mode="r+", zarr_format=3)
        except (FileNotFoundError, ValueError):
            return
        for part in self.path.rglob("*.partial"):
            part.unlink()  # what Zarr was writing when the run was killed
        if group.attrs.get("fingerprint") != self.attributes["fingerprint"]:
            return
        try:
            self._refuse_holes(int(attributes_of(group)["shards_done"]))
        except StoreError as error:
            log.warning("%s; it is begun afresh", error)
            return
        self._group = group
        self.shard_rows = outer_chunk(metadata(self.path, "features"))[0]
        if self.shard_rows < len(self.coords):
            self.batch_size = next(size for size in range(self.batch_size, 0, -1) if self.shard_rows % size == 0)

    def _refuse_holes(self, shards: int) -> None:
        """Raise StoreError where a file is missing or cut short, as in a copy that was broken off."""
        for name, chunks in (("coords", 1), ("valid", min(1, shards)), ("features", shards)):
            about = metadata(self.path, name)
            nothing = np.empty((0, *about["shape"][1:]), about["data_type"])
            for chunk in range(chunks if is_raw(about) else 0):
                read_raw_rows(self.path / name, about, chunk, 0, nothing)

    def _create(self, dim: int) -> None:
        part = aside(self.path)
        group = zarr.open_group(
            part, mode="w", zarr_format=3, attributes={**self.attributes, "shards_done": 0, "shard_digests": []}
        )
        n, rows = len(self.coords), self.shard_rows
        create_array(group, "coords", self.coords, compressors=None)
        group.create_array("valid", shape=(n,), dtype="bool", chunks=(max(1, n),), compressors=None)
        chunks = (max(1, min(rows, n)), dim)
        group.create_array("features", shape=(n, dim), dtype="float16", chunks=chunks, compressors=None)
        swap(part, self.path)


def features_digest(features: NDArray[np.float16], valid: NDArray[np.bool_], batch_size: int) -> str:
    """`FeatureStore.digest` of a store of these features `(n, dim)` and validity `(n,)`, without writing it."""
    rows = shard_rows(len(features), batch_size)
    starts = range(0, len(features), rows)
    return _whole_digest([shard_digest(features[start : start + rows], valid[start : start + rows]) for start in starts])


def _whole_digest(shards: list[str]) -> str:
    return fingerprint({"shards": shards})


def shard_digest(features: NDArray[np.float16], valid: NDArray[np.bool_]) -> str:
    """sha256 over a shard's features `(rows, dim)` and validity `(rows,)`."""
    digest = hashlib.sha256(np.ascontiguousarray(features).data)
    digest.update(np.ascontiguousarray(valid).data)
    return digest.hexdigest()


def read_bag(receipt: Path) -> Bag:
    """The features of a slide, valid tiles only.

    Raises:
        IncompleteStoreError: the store was never finished.
        StoreError: no store, a damaged one, or its arrays are not of the same tiles.
    """
    path, slide_id = store_path(receipt), receipt.name.removesuffix(".json")
    coords, valid = finished_tiles(path, metadata(path, "features"))
    features = read_array(path, "features")
    return Bag(slide_id, features, coords) if valid.all() else Bag(slide_id, features[valid], coords[valid])


def finished_tiles(path: Path, about: Mapping[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Coords `(n, 2)` and validity `(n,)` of a finished feature store, whose `features` are described by `about`.

    Raises:
        IncompleteStoreError: the store was never finished.
        StoreError: its arrays are not of the same tiles.
    """
    n = int(about["shape"][0])
    if int(metadata(path)["attributes"]["shards_done"]) * outer_chunk(about)[0] < n:
        raise IncompleteStoreError(path, "not all shards are written; run `extract` again")
    coords, valid = read_array(path, "coords"), read_array(path, "valid")
    if not n == len(coords) == len(valid):
        rows = f"features of {n} tiles, coords of {len(coords)}, valid of {len(valid)}"
        raise StoreError(path, f"arrays of different tiles ({rows}); delete it and run `extract` again")
    return coords, valid


def feature_dim(receipt: Path) -> int:
    """Length of a slide's feature vectors, from the store's metadata alone.

    Raises:
        StoreError: no store, or it holds no features.
    """
    path = store_path(receipt)
    shape = metadata(path, "features")["shape"]
    if len(shape) != 2:
        raise StoreError(path, f"features are expected to be (n, dim), got {tuple(shape)}; run `extract` again")
    return int(shape[1])


def n_tiles(receipt: Path) -> int:
    """Tiles of a slide, those that could not be read among them, from the store's metadata alone. Raises StoreError."""
    return int(metadata(store_path(receipt), "features")["shape"][0])
