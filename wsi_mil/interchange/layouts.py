"""List the layouts of feature files, and detect that of a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange import clam, h5ad, pt, spatial_zarr, stamp, trident
from wsi_mil.interchange.hdf5 import open_hdf5
from wsi_mil.interchange.tile_features import AS_VECTORS, TileFeatures

HDF5: dict[str, Any] = {module.NAME: module for module in (stamp, trident, clam)}
"""Modules of the HDF5 layouts, in the order in which they are tested."""

LAYOUTS = ("clam", "trident", "stamp", "pt")
TABLES = (h5ad.NAME, spatial_zarr.NAME)
"""Layouts that are only written: tables of tiles with what else is known of them."""
HDF5_SUFFIXES, PT_SUFFIXES = (".h5", ".hdf5"), (".pt", ".pth")
SUFFIXES = (*HDF5_SUFFIXES, *PT_SUFFIXES)
VECTORS_ONLY = (".npy", ".csv", ".tsv")
"""Endings of files that hold vectors of whole slides only."""

WRITERS: dict[str, Callable[[Path, str, TileFeatures], list[Path]]] = {
    module.NAME: module.write for module in (clam, trident, stamp, pt)
}
"""Writer of each layout: (folder, slide_id, features) → the written files."""


def read_file(path: Path, layout: str = "auto") -> tuple[str, TileFeatures]:
    """Read a file of features; return its layout, detected by content for "auto", and the features.

    Raises:
        FeatureFileError: the file cannot be read, or has none of the layouts.
        ConfigError: h5py is needed and not installed.
    """
    if not path.is_file():
        raise FeatureFileError(path, "no such file")
    if path.suffix in VECTORS_ONLY:
        raise FeatureFileError(path, f"features of tiles are in files that end in {', '.join(SUFFIXES)}; {AS_VECTORS}")
    if layout == pt.NAME or (layout == "auto" and path.suffix in PT_SUFFIXES):
        return pt.NAME, _read_checked(path, lambda: pt.read(path))
    with open_hdf5(path) as file:
        fitting = [name for name, module in HDF5.items() if module.is_layout(file)]
        if not fitting or (layout != "auto" and (layout == stamp.NAME) != (fitting[0] == stamp.NAME)):
            expected = "'feats' (STAMP) or 'features' (CLAM, TRIDENT)"
            of_layout = "" if layout == "auto" else f" of layout {layout}"
            content = ", ".join(file.names) or "nothing"
            raise FeatureFileError(path, f"has no features{of_layout}: expected {expected}, found {content}")
        name = fitting[0] if layout == "auto" else layout
        return name, _read_checked(path, lambda: HDF5[name].read(file))


def _read_checked(path: Path, read: Callable[[], TileFeatures]) -> TileFeatures:
    """Result of `read`; raises FeatureFileError if attributes do not follow the layout."""
    try:
        return read()
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise FeatureFileError(path, f"has attributes that do not follow the layout ({type(error).__name__}: {error})") from error
