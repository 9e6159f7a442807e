"""Which layouts there are, and which of them a file has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange import clam, pt, stamp, trident
from wsi_mil.interchange.hdf5 import opened
from wsi_mil.interchange.tile_features import TileFeatures

HDF5: dict[str, Any] = {module.NAME: module for module in (stamp, trident, clam)}
"""Modules of the HDF5 layouts, in the order in which a file is asked."""

LAYOUTS = ("clam", "trident", "stamp", "pt")
HDF5_SUFFIXES, PT_SUFFIXES = (".h5", ".hdf5"), (".pt", ".pth")

WRITERS: dict[str, Callable[[Path, str, TileFeatures], list[Path]]] = {
    module.NAME: module.write for module in (clam, trident, stamp, pt)
}
"""By layout: (folder, slide_id, features) → the files that were written."""


def read_file(path: Path, layout: str = "auto") -> tuple[str, TileFeatures]:
    """The layout of a file, found by its content unless it is given, and what it holds.

    Raises:
        FeatureFileError: it cannot be read, or has none of the layouts.
        ConfigError: h5py is needed and not installed.
    """
    if not path.is_file():
        raise FeatureFileError(path, "no such file")
    if layout == pt.NAME or (layout == "auto" and path.suffix in PT_SUFFIXES):
        return pt.NAME, _understood(path, lambda: pt.read(path))
    with opened(path) as file:
        fitting = [name for name, module in HDF5.items() if module.is_layout(file)]
        if not fitting or (layout != "auto" and (layout == stamp.NAME) != (fitting[0] == stamp.NAME)):
            wanted = "'feats' (STAMP) or 'features' (CLAM, TRIDENT)"
            asked = "" if layout == "auto" else f" of layout {layout}"
            raise FeatureFileError(path, f"no features{asked}: holds {', '.join(file.names) or 'nothing'}, expected {wanted}")
        name = fitting[0] if layout == "auto" else layout
        return name, _understood(path, lambda: HDF5[name].read(file))


def _understood(path: Path, read: Callable[[], TileFeatures]) -> TileFeatures:
    """What is read, where attributes are what the layout says."""
    try:
        return read()
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise FeatureFileError(path, f"attributes that cannot be understood ({type(error).__name__}: {error})") from error
