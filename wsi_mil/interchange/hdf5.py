"""Read and write HDF5 files. The only importer of h5py."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import ConfigError, FeatureFileError
from wsi_mil.interchange.tile_features import not_of_tiles

INSTALL = "pip install 'wsi_mil[interchange]' (or: pip install h5py)"


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError([f"HDF5 files need the package h5py, which is not installed: {INSTALL}"]) from error
    return h5py


class Hdf5:
    """HDF5 file opened for reading."""

    def __init__(self, path: Path, file: Any):
        self.path = path
        self._file = file

    @property
    def names(self) -> list[str]:
        """Return the names of the top-level objects."""
        return sorted(self._file)

    def array(self, name: str) -> NDArray[Any] | None:
        """Read a dataset of tiles; None if it does not exist. A leading axis of length 1, as in some versions, is removed.

        Raises:
            FeatureFileError: the dataset is unreadable, does not have one row per tile, or is stored in another file.
        """
        values = self.numbers(name)
        if values is not None and values.ndim == 3 and values.shape[0] == 1:
            values = values[0]
        if values is not None and values.ndim != 2:
            raise FeatureFileError(self.path, not_of_tiles(name, values))
        return values

    def numbers(self, name: str) -> NDArray[Any] | None:
        """Read a dataset of any shape; None if it does not exist.

        Raises:
            FeatureFileError: the dataset is unreadable, or is stored in another file.
        """
        if self._file.get(name, getlink=True) is None:
            return None
        try:
            self._require_local_data(name)
            values: NDArray[Any] = np.asarray(self._file[name][...])
        except (OSError, TypeError) as error:
            raise FeatureFileError(self.path, f"{name} cannot be read ({error})") from error
        return values

    def _require_local_data(self, name: str) -> None:
        """Raise FeatureFileError if a dataset refers to another file: an untrusted file must not read others on this machine."""
        h5py = _h5py()
        link = self._file.get(name, getlink=True)
        dataset = None if isinstance(link, h5py.ExternalLink) else self._file[name]
        is_local = dataset is not None and dataset.file.filename == self._file.filename
        if not is_local or (isinstance(dataset, h5py.Dataset) and (dataset.is_virtual or dataset.external)):
            raise FeatureFileError(self.path, f"{name} is in another file, which is not opened; copy the data into this one")

    def attributes(self, name: str = "/") -> dict[str, Any]:
        """Return the attributes of a dataset, or of the file; arrays as lists, bytes as text."""
        return {key: _plain(value) for key, value in self._file[name].attrs.items()} if name in self._file else {}


@contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5]:
    """Open an HDF5 file for reading.

    Raises:
        FeatureFileError: the file is no readable HDF5 file.
        ConfigError: h5py is not installed.
    """
    h5py = _h5py()
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FeatureFileError(path, f"is no readable HDF5 file ({error})") from error
    with file:
        yield Hdf5(path, file)


def write_hdf5(path: Path, arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Mapping[str, object]]) -> None:
    """Write datasets and attributes (by the name of their dataset, "/" for the file) to a temporary file, then rename it.

    The same content gives the same bytes.
    """
    h5py = _h5py()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with h5py.File(part, "w", libver=("earliest", "v110")) as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, track_times=False)
        for name, content in attributes.items():
            for key, value in content.items():
                file[name].attrs[key] = value
        file.flush()
    _to_disk(part)
    part.replace(path)


def add_matrix(path: Path, name: str, shape: tuple[int, int], blocks: Iterable[NDArray[np.float32]]) -> None:
    """Add a float32 array to a file of AnnData, and wait until the file is on disk.

    Args:
        path: the file.
        name: of the array.
        shape: of the array, (rows, columns).
        blocks: its rows, some at a time, in order.
    """
    with _h5py().File(path, "r+") as file:
        dataset = file.create_dataset(name, shape=shape, dtype="<f4", track_times=False)
        dataset.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        start = 0
        for block in blocks:
            dataset[start : start + len(block)] = block
            start += len(block)
    _to_disk(path)


def _to_disk(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
