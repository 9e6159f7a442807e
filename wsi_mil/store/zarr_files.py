"""Arrays ↔ Zarr v3 groups. Whole stores are written aside and renamed."""

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from wsi_mil.errors import StoreError

zarr.config.set({"array.write_empty_chunks": True})  # so that a file that is missing is known to be lost

CHECKED = ZstdCodec(checksum=True)
"""A byte that is another than what was written makes it unreadable. (Features are not compressed; they have digests.)"""

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


def remove_store(path: Path) -> None:
    """Take away what an earlier run left. It leaves its place at once: a kill meanwhile leaves no half of it there."""
    gone = path.with_name(f".{path.name}.gone")
    if gone.exists():
        shutil.rmtree(gone)
    if path.exists():
        path.rename(gone)
        shutil.rmtree(gone)


def bytes_on_disk(path: Path) -> int:
    """Bytes of all files of a store; 0 where there is none."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def read_attributes(path: Path) -> dict[str, Any]:
    """A store's root attributes."""
    return attributes_of(open_store(path))


def open_store(path: Path) -> zarr.Group:
    """A store's group, to read. Raises StoreError."""
    try:
        return zarr.open_group(path, mode="r", zarr_format=3)
    except (FileNotFoundError, ValueError, TypeError) as error:  # TypeError: a key that Zarr does not know
        raise StoreError(path, f"no readable store ({error}); run its stage again") from error


def attributes_of(group: zarr.Group) -> dict[str, Any]:
    """What a group's `zarr.json` says beside its arrays."""
    return dict(group.attrs)


def array_of(group: zarr.Group, name: str) -> NDArray[Any]:
    """A whole array. Raises StoreError where there is none of that name, or its bytes are damaged."""
    try:
        return np.asarray(group[name][...])  # type: ignore[index]
    except KeyError as error:
        raise StoreError(_place(group), f"has no array {name!r}") from error
    except (RuntimeError, ValueError, TypeError) as error:  # of the codecs, each its own
        raise StoreError(_place(group), f"array {name!r} cannot be read ({error}); run its stage again") from error


def metadata(store: Path, name: str = "") -> dict[str, Any]:
    """What `zarr.json` says of a store's root or of one of its arrays."""
    try:
        return dict(json.loads((store / name / "zarr.json").read_bytes()))
    except (OSError, ValueError) as error:
        missing = f"has no readable array {name!r}" if name and (store / "zarr.json").is_file() else "no readable store"
        raise StoreError(store, f"{missing} ({error}); run its stage again") from error


def outer_chunk(about: Mapping[str, Any]) -> list[int]:
    """Shape of what lies in one file: a shard where there are shards, else a chunk."""
    return list(about["chunk_grid"]["configuration"]["chunk_shape"])


def _place(group: zarr.Group) -> Path:
    return Path(str(group.store_path).removeprefix("file://"))


def read_array(store: Path, name: str) -> NDArray[Any]:
    """A whole array: a raw one straight from its files, any other through Zarr."""
    about = metadata(store, name)
    return _read_raw(store / name, about) if is_raw(about) else array_of(open_store(store), name)


def is_raw(about: Mapping[str, Any]) -> bool:
    """Whether each file holds whole rows, as they lie in memory, and nothing else."""
    return (
        all(about.get(key) == value for key, value in RAW.items())
        and about["codecs"] == RAW_CODECS.get(str(about["data_type"]))
        and about["chunk_grid"]["name"] == "regular"
        and outer_chunk(about)[1:] == about["shape"][1:]
        and not about.get("storage_transformers")
    )


def _read_raw(folder: Path, about: Mapping[str, Any]) -> NDArray[Any]:
    """A raw array, as Zarr would read it (the last file is filled up to a whole chunk), but a missing file is no zeros."""
    values: NDArray[Any] = np.empty(about["shape"], np.dtype(about["data_type"]).newbyteorder("<"))
    for i, start in enumerate(range(0, len(values), outer_chunk(about)[0])):
        read_raw_rows(folder, about, i, 0, values[start : start + outer_chunk(about)[0]])
    return values


def read_raw_rows(folder: Path, about: Mapping[str, Any], chunk: int, first: int, out: NDArray[Any]) -> None:
    """Rows `first`, `first` + 1, … of one chunk of a raw array, as many as `out` holds.

    Raises:
        StoreError: its file is missing, or not as long as a whole chunk.
    """
    name = f"c/{chunk}" + "/0" * (out.ndim - 1)
    n_bytes = math.prod(outer_chunk(about)) * out.itemsize
    try:
        with (folder / name).open("rb") as file:
            found = os.fstat(file.fileno()).st_size
            file.seek(first * math.prod(out.shape[1:]) * out.itemsize)
            read = file.readinto(out.data)
    except FileNotFoundError as error:
        reason = f"{folder.name}/{name} is missing; delete the store and run `extract` again"
        raise StoreError(folder.parent, reason) from error
    if found != n_bytes or read != out.nbytes:
        reason = f"{folder.name}/{name} is damaged: expected {n_bytes} bytes, got {found}"
        raise StoreError(folder.parent, f"{reason}; delete the store and run `extract` again")


def write_whole(path: Path, arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, object]) -> None:
    """Write a store aside, then rename."""
    part = aside(path)
    group = zarr.open_group(part, mode="w", zarr_format=3, attributes=_json(attributes))
    for name, values in arrays.items():
        create_array(group, name, values)
    swap(part, path)


def create_array(group: zarr.Group, name: str, values: NDArray[Any], *, compressors: ZstdCodec | None = CHECKED) -> None:
    """One chunk an array: whole arrays are small, and are read whole."""
    chunks = tuple(max(1, side) for side in values.shape)
    array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=compressors)
    array[...] = values


def aside(path: Path) -> Path:
    """Where a store is written before it is renamed; what a killed run left there is gone."""
    part = path.with_name(f".{path.name}.part")
    remove_store(part)
    part.parent.mkdir(parents=True, exist_ok=True)
    return part


def swap(part: Path, path: Path) -> None:
    """Put a store that was written aside in its place."""
    remove_store(path)
    part.replace(path)


def _json(attributes: Mapping[str, object]) -> dict[str, Any]:
    return dict(attributes)
