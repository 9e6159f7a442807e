"""Read and write arrays in Zarr v3 groups. Whole stores are written to a temporary folder and renamed."""

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

zarr.config.set({"array.write_empty_chunks": True})  # so that a missing file always means lost data

CHECKED = ZstdCodec(checksum=True)
"""Codec with a checksum, which makes altered bytes unreadable. (Features are not compressed; they have digests.)"""

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
"""Codecs in `zarr.json`, by data type, of an array whose chunks are its plain values."""


def remove_store(path: Path) -> None:
    """Remove a store if it exists. It is renamed first, so that a kill never leaves half of it in place."""
    gone = path.with_name(f".{path.name}.gone")
    if gone.exists():
        shutil.rmtree(gone)
    if path.exists():
        path.rename(gone)
        shutil.rmtree(gone)


def bytes_on_disk(path: Path) -> int:
    """Return the bytes of all files of a store; 0 if it does not exist."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def read_attributes(path: Path) -> dict[str, Any]:
    """Return a store's root attributes."""
    return attributes_of(open_store(path))


def open_store(path: Path) -> zarr.Group:
    """Open a store's group for reading. Raises StoreError."""
    try:
        return zarr.open_group(path, mode="r", zarr_format=3)
    except (FileNotFoundError, ValueError, TypeError) as error:  # TypeError: an unknown key in zarr.json
        raise StoreError(path, f"is no readable store ({error}); run its stage again") from error


def attributes_of(group: zarr.Group) -> dict[str, Any]:
    """Return a group's attributes."""
    return dict(group.attrs)


def array_of(group: zarr.Group, name: str) -> NDArray[Any]:
    """Read a whole array. Raises StoreError if it does not exist or is damaged."""
    try:
        return np.asarray(group[name][...])  # type: ignore[index]
    except KeyError as error:
        raise StoreError(_place(group), f"has no array {name!r}") from error
    except (RuntimeError, ValueError, TypeError) as error:  # each codec has its own
        raise StoreError(_place(group), f"array {name!r} cannot be read ({error}); run its stage again") from error


def metadata(store: Path, name: str = "") -> dict[str, Any]:
    """Return the content of `zarr.json` of a store's root or of one of its arrays."""
    try:
        return dict(json.loads((store / name / "zarr.json").read_bytes()))
    except (OSError, ValueError) as error:
        missing = f"has no readable array {name!r}" if name and (store / "zarr.json").is_file() else "is no readable store"
        raise StoreError(store, f"{missing} ({error}); run its stage again") from error


def outer_chunk(array: Mapping[str, Any]) -> list[int]:
    """Return the shape of the rows in one file: a shard if there are shards, else a chunk."""
    return list(array["chunk_grid"]["configuration"]["chunk_shape"])


def _place(group: zarr.Group) -> Path:
    return Path(str(group.store_path).removeprefix("file://"))


def read_array(store: Path, name: str) -> NDArray[Any]:
    """Read a whole array: a raw one directly from its files, any other through Zarr."""
    array = metadata(store, name)
    return _read_raw(store / name, array) if is_raw(array) else array_of(open_store(store), name)


def is_raw(array: Mapping[str, Any]) -> bool:
    """Return whether the files of an array hold whole rows as in memory, and nothing else."""
    return (
        all(array.get(key) == value for key, value in RAW.items())
        and array["codecs"] == RAW_CODECS.get(str(array["data_type"]))
        and array["chunk_grid"]["name"] == "regular"
        and outer_chunk(array)[1:] == array["shape"][1:]
        and not array.get("storage_transformers")
    )


def _read_raw(folder: Path, array: Mapping[str, Any]) -> NDArray[Any]:
    """Raw array as Zarr would read it (the last file is padded to a whole chunk), except that a missing file is an error."""
    values: NDArray[Any] = np.empty(array["shape"], np.dtype(array["data_type"]).newbyteorder("<"))
    for i, start in enumerate(range(0, len(values), outer_chunk(array)[0])):
        read_raw_rows(folder, array, i, 0, values[start : start + outer_chunk(array)[0]])
    return values


def read_raw_rows(folder: Path, array: Mapping[str, Any], chunk: int, first: int, out: NDArray[Any]) -> None:
    """Read rows `first`, `first` + 1, … of one chunk of a raw array into `out`.

    Raises:
        StoreError: the chunk's file is missing, or does not have the length of a whole chunk.
    """
    name = f"c/{chunk}" + "/0" * (out.ndim - 1)
    n_bytes = math.prod(outer_chunk(array)) * out.itemsize
    try:
        with (folder / name).open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            file.seek(first * math.prod(out.shape[1:]) * out.itemsize)
            read = file.readinto(out.data)
    except FileNotFoundError as error:
        reason = f"{folder.name}/{name} is missing; delete the store and run `extract` again"
        raise StoreError(folder.parent, reason) from error
    if file_bytes != n_bytes or read != out.nbytes:
        reason = f"{folder.name}/{name} is damaged: expected {n_bytes} bytes, found {file_bytes}"
        raise StoreError(folder.parent, f"{reason}; delete the store and run `extract` again")


def write_whole(path: Path, arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, object]) -> None:
    """Write a store to a temporary folder, then rename it."""
    part = part_folder(path)
    group = zarr.open_group(part, mode="w", zarr_format=3, attributes=_json(attributes))
    for name, values in arrays.items():
        create_array(group, name, values)
    replace_store(part, path)


def create_array(group: zarr.Group, name: str, values: NDArray[Any], *, compressors: ZstdCodec | None = CHECKED) -> None:
    """Write an array as one chunk, since it is small and always read as a whole."""
    chunks = tuple(max(1, side) for side in values.shape)
    array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=compressors)
    array[...] = values


def part_folder(path: Path) -> Path:
    """Return the temporary folder in which a store is written, after removing one of a killed run."""
    part = path.with_name(f".{path.name}.part")
    remove_store(part)
    part.parent.mkdir(parents=True, exist_ok=True)
    return part


def replace_store(part: Path, path: Path) -> None:
    """Replace a store by the one written to `part`."""
    remove_store(path)
    part.replace(path)


def _json(attributes: Mapping[str, object]) -> dict[str, Any]:
    return dict(attributes)
