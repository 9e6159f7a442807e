"""Records ↔ Zarr stores, fingerprints and receipts. The only importer of zarr.

A store is a Zarr v3 group beside its receipt, `{slide_id}.zarr` beside `{slide_id}.json`. Whole stores are written
aside and renamed; feature stores grow shard by shard and say in their own attributes how far they are.

A feature store's arrays are raw: neither compressed nor cut within a row, a shard of rows is one chunk, so one file. Any
Zarr reader opens them, and `read_bag` takes them straight from the files, because Zarr's own way costs milliseconds and a
copy or two a bag. Arrays of any other layout, such as the compressed ones of earlier versions, it reads through Zarr.
"""

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from wsi_mil.errors import IncompleteStoreError, StoreError, StoreMismatchError
from wsi_mil.records import Bag, InstanceScores, TileGrid

log = logging.getLogger(__name__)

zarr.config.set({"array.write_empty_chunks": True})  # so that a file that is missing is known to be lost

SHARD_UNIT = 256
"""Shards are whole multiples of it: the rows of the chunks that earlier versions cut shards into, and go on with."""

MIN_SHARD_ROWS = 2048
MAX_SHARDS = 8

RAW = {
    "zarr_format": 3,
    "node_type": "array",
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
}
RAW_CODECS = {
    "float16": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "int64": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "bool": [{"name": "bytes"}],
}
"""By data type, what `zarr.json` says of an array whose chunks are nothing but their values."""


def store_path(receipt: Path) -> Path:
    """Where the store of a receipt lies."""
    return receipt.with_suffix(".zarr")


def write_receipt(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON aside, then rename: the same content gives the same bytes; NaN becomes null."""
    write_text(path, json.dumps(_plain(content), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file aside, then rename."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file aside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def read_receipt(path: Path) -> dict[str, Any]:
    """What a receipt says.

    Raises:
        StoreError: no such receipt, or not JSON.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
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


def fingerprint(content: Mapping[str, object]) -> str:
    """sha256 over canonical JSON of everything that decides a store's content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def array_digest(array: NDArray[Any]) -> str:
    """sha256 over an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def remove_store(path: Path) -> None:
    """Take away what an earlier run left."""
    if path.exists():
        shutil.rmtree(path)


def write_grid(path: Path, grid: TileGrid, thumbnail: NDArray[np.uint8], attributes: Mapping[str, object]) -> None:
    """Write a slide's tiles with its thumbnail [height, width, 3], which later stages draw on."""
    arrays: dict[str, NDArray[Any]] = {"coords": grid.coords, "tissue_fraction": grid.tissue_fraction, "thumbnail": thumbnail}
    geometry = {"tile_px": grid.tile_px, "tile_px_level0": list(grid.tile_px_level0)}
    _write_whole(path, arrays, {**attributes, **geometry})


def read_grid(path: Path) -> TileGrid:
    """The tiles of a slide."""
    group = _open(path)
    about = _attributes(group)
    width, height = about["tile_px_level0"]
    return TileGrid(
        coords=_array(group, "coords"),
        tissue_fraction=_array(group, "tissue_fraction"),
        tile_px=int(about["tile_px"]),
        tile_px_level0=(int(width), int(height)),
    )


def read_thumbnail(path: Path) -> NDArray[np.uint8]:
    """The picture of the whole slide kept with its tiles, [height, width, 3]."""
    return _array(_open(path), "thumbnail")


def shard_rows(n: int, batch_size: int) -> int:
    """Rows of a shard: the larger of 2,048 and an eighth of `n`, up to a multiple of 256 and of the batch."""
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


def bytes_on_disk(path: Path) -> int:
    """Bytes of all files of a store; 0 where there is none."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of what is written at `path`, and wait for a writer that is still alive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("%s: another process is writing it (perhaps of a killed run); waiting", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class FeatureStore:
    """Features of one slide, written shard by shard by one process at a time.

    A context manager: entering takes the store's lock, and waits for a writer that is still alive. What lies there
    of the same fingerprint is gone on with; anything else is replaced on `begin`.
    """

    def __init__(self, path: Path, *, coords: NDArray[np.int64], batch_size: int, attributes: Mapping[str, object]):
        """`attributes` go to the store's root and must hold "fingerprint"."""
        self.path, self.coords = path, coords
        self.attributes: dict[str, Any] = dict(attributes)
        self.shard_rows = shard_rows(len(coords), batch_size)
        self._locked = ExitStack()
        self._group: zarr.Group | None = None

    def __enter__(self) -> Self:
        self._locked.enter_context(exclusive(self.path))
        self._group = self._open_same()
        return self

    def __exit__(self, *_: object) -> None:
        self._locked.close()

    @property
    def rows_done(self) -> int:
        """Rows that are safely on disk: whole shards, or all."""
        shards = int(_attributes(self._group)["shards_done"]) if self._group else 0
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
            self._group = self._open_same()

    def append_shard(self, features: NDArray[np.float16], valid: NDArray[np.bool_]) -> None:
        """Write the next shard: `(shard_rows, dim)`, fewer rows only for the last one."""
        start = self.rows_done
        stop = min(start + self.shard_rows, len(self.coords))
        if features.shape != (stop - start, self.dim):
            raise ValueError(f"the next shard is {(stop - start, self.dim)}, got {features.shape}")
        self._features()[start:stop] = features
        self._begun()["valid"][start:stop] = valid  # type: ignore[index]
        self._begun().attrs["shards_done"] = math.ceil(stop / self.shard_rows)

    def valid(self) -> NDArray[np.bool_]:
        """Which tiles could be read."""
        return _array(self._begun(), "valid")

    def _begun(self) -> zarr.Group:
        if self._group is None:
            raise IncompleteStoreError(self.path, "not begun")
        return self._group

    def _features(self) -> zarr.Array[Any]:
        return self._begun()["features"]  # type: ignore[return-value]

    def _open_same(self) -> zarr.Group | None:
        """The store on disk, if it is of this very content, finished or not."""
        try:
            group = zarr.open_group(self.path, mode="r+", zarr_format=3)
        except (FileNotFoundError, ValueError):
            return None
        for part in self.path.rglob("*.partial"):
            part.unlink()  # what Zarr was writing when the run was killed
        return group if group.attrs.get("fingerprint") == self.attributes["fingerprint"] else None

    def _create(self, dim: int) -> None:
        part = _aside(self.path)
        group = zarr.open_group(part, mode="w", zarr_format=3, attributes={**self.attributes, "shards_done": 0})
        n, rows = len(self.coords), self.shard_rows
        _create(group, "coords", self.coords, compressors=None)
        group.create_array("valid", shape=(n,), dtype="bool", chunks=(max(1, n),), compressors=None)
        chunks = (max(1, min(rows, n)), dim)
        group.create_array("features", shape=(n, dim), dtype="float16", chunks=chunks, compressors=None)
        _swap(part, self.path)


def read_bag(receipt: Path) -> Bag:
    """The features of a slide, valid tiles only.

    Raises:
        IncompleteStoreError: the store was never finished.
        StoreError: no store, a damaged one, or its arrays are not of the same tiles.
    """
    path, slide_id = store_path(receipt), receipt.name.removesuffix(".json")
    about = _metadata(path, "features")
    n = int(about["shape"][0])
    if int(_metadata(path)["attributes"]["shards_done"]) * _outer_chunk(about)[0] < n:
        raise IncompleteStoreError(path, "not all shards are written; run `extract` again")
    coords, valid = _read(path, "coords"), _read(path, "valid")
    if not n == len(coords) == len(valid):
        rows = f"features of {n} tiles, coords of {len(coords)}, valid of {len(valid)}"
        raise StoreError(path, f"arrays of different tiles ({rows}); delete it and run `extract` again")
    features = _read(path, "features")
    return Bag(slide_id, features, coords) if valid.all() else Bag(slide_id, features[valid], coords[valid])


def feature_dim(receipt: Path) -> int:
    """Length of a slide's feature vectors, from the store's metadata alone.

    Raises:
        StoreError: no store, or it holds no features.
    """
    path = store_path(receipt)
    shape = _metadata(path, "features")["shape"]
    if len(shape) != 2:
        raise StoreError(path, f"features are expected to be (n, dim), got {tuple(shape)}; run `extract` again")
    return int(shape[1])


def read_attributes(path: Path) -> dict[str, Any]:
    """A store's root attributes."""
    return _attributes(_open(path))


def write_scores(path: Path, coords: NDArray[np.int64], scores: list[InstanceScores], attributes: Mapping[str, object]) -> None:
    """Write one float32 array per method beside the coords they belong to."""
    _write_whole(path, {"coords": coords, **{s.method: s.values for s in scores}}, attributes)


def read_scores(path: Path, method: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Coords `(n, 2)`, level-0 pixels, and a method's values `(n,)`."""
    group = _open(path)
    return _array(group, "coords"), _array(group, method)


def _json(attributes: Mapping[str, object]) -> dict[str, Any]:
    return dict(attributes)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _open(path: Path) -> zarr.Group:
    try:
        return zarr.open_group(path, mode="r", zarr_format=3)
    except (FileNotFoundError, ValueError) as error:
        raise StoreError(path, f"no readable store ({error}); run its stage again") from error


def _attributes(group: zarr.Group) -> dict[str, Any]:
    return dict(group.attrs)


def _array(group: zarr.Group, name: str) -> NDArray[Any]:
    try:
        return np.asarray(group[name][...])  # type: ignore[index]
    except KeyError as error:
        raise StoreError(Path(str(group.store_path)), f"has no array {name!r}") from error


def _metadata(store: Path, name: str = "") -> dict[str, Any]:
    """What `zarr.json` says of a store's root or of one of its arrays."""
    try:
        return dict(json.loads((store / name / "zarr.json").read_bytes()))
    except (OSError, ValueError) as error:
        missing = f"has no readable array {name!r}" if name and (store / "zarr.json").is_file() else "no readable store"
        raise StoreError(store, f"{missing} ({error}); run its stage again") from error


def _outer_chunk(about: Mapping[str, Any]) -> list[int]:
    """Shape of what lies in one file: a shard where there are shards, else a chunk."""
    return list(about["chunk_grid"]["configuration"]["chunk_shape"])


def _read(store: Path, name: str) -> NDArray[Any]:
    """A whole array: a raw one straight from its files, any other through Zarr."""
    about = _metadata(store, name)
    return _read_raw(store / name, about) if _is_raw(about) else _array(_open(store), name)


def _is_raw(about: Mapping[str, Any]) -> bool:
    """Whether each file holds whole rows, as they lie in memory, and nothing else."""
    return (
        all(about.get(key) == value for key, value in RAW.items())
        and about["codecs"] == RAW_CODECS.get(str(about["data_type"]))
        and about["chunk_grid"]["name"] == "regular"
        and _outer_chunk(about)[1:] == about["shape"][1:]
        and not about.get("storage_transformers")
    )


def _read_raw(folder: Path, about: Mapping[str, Any]) -> NDArray[Any]:
    """A raw array, as Zarr would read it (the last file is filled up to a whole chunk), but a missing file is no zeros."""
    values: NDArray[Any] = np.empty(about["shape"], np.dtype(about["data_type"]).newbyteorder("<"))
    chunk = _outer_chunk(about)
    n_bytes, key = math.prod(chunk) * values.itemsize, "/0" * (values.ndim - 1)
    for i, start in enumerate(range(0, len(values), chunk[0])):
        rows = values[start : start + chunk[0]]
        try:
            with (folder / f"c/{i}{key}").open("rb") as file:
                found = os.fstat(file.fileno()).st_size
                read = file.readinto(rows.data)
        except FileNotFoundError as error:
            reason = f"{folder.name}/c/{i}{key} is missing; delete the store and run `extract` again"
            raise StoreError(folder.parent, reason) from error
        if found != n_bytes or read != rows.nbytes:
            reason = f"{folder.name}/c/{i}{key} is damaged: expected {n_bytes} bytes, got {found}"
            raise StoreError(folder.parent, f"{reason}; delete the store and run `extract` again")
    return values


def _write_whole(path: Path, arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, object]) -> None:
    part = _aside(path)
    group = zarr.open_group(part, mode="w", zarr_format=3, attributes=_json(attributes))
    for name, values in arrays.items():
        _create(group, name, values)
    _swap(part, path)


def _create(group: zarr.Group, name: str, values: NDArray[Any], *, compressors: Literal["auto"] | None = "auto") -> None:
    """One chunk an array: whole arrays are small, and are read whole."""
    chunks = tuple(max(1, side) for side in values.shape)
    array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=compressors)
    array[...] = values


def _aside(path: Path) -> Path:
    part = path.with_name(f".{path.name}.part")
    remove_store(part)
    part.parent.mkdir(parents=True, exist_ok=True)
    return part


def _swap(part: Path, path: Path) -> None:
    remove_store(path)
    part.replace(path)
