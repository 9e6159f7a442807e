"""Read vectors of whole slides: files with one vector, files with a vector for each of several slides, and tables.

TRIDENT writes `features` (d,) beside the coords of the tiles that the vector was computed from; STAMP `feats` with `feat_type`
"slide", and before version 2 one file with a dataset for each slide. A `.pt` file holds a tensor, GigaPath's or PRISM's
dictionary, or a tensor for each slide; `.npy` one vector; a table `slide_id` and a column for each number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange.hdf5 import Hdf5, open_hdf5
from wsi_mil.interchange.layouts import HDF5_SUFFIXES, PT_SUFFIXES
from wsi_mil.interchange.pt import load_pt, tensor_array
from wsi_mil.interchange.tile_features import AS_TILES
from wsi_mil.interchange.vector_table import TABLE_SUFFIXES, read_vector_table

NPY_SUFFIX = ".npy"
VECTOR_SUFFIXES = (*HDF5_SUFFIXES, *PT_SUFFIXES, NPY_SUFFIX, *TABLE_SUFFIXES)
VECTOR_KEYS = ("features", "feats", "image_embedding", "last_layer_embed")
"""Keys of the vector in a file of one slide; the last two are PRISM's and GigaPath's."""

OF_TILES = f"has features of tiles, expected a vector of the slide; {AS_TILES}"


@dataclass(frozen=True)
class SlideVector:
    """Vector of a whole slide, as it stands in a file.

    Attributes:
        name: name of the slide: the file's, or within the file.
        path: the file.
        values: `(d,)`.
        layout: name of the layout.
        encoder: name of the encoder, or "".
    """

    name: str
    path: Path
    values: NDArray[Any]
    layout: str
    encoder: str = ""


def read_vectors(path: Path) -> list[SlideVector]:
    """Read all vectors of a file.

    Raises:
        FeatureFileError: the file cannot be read, or has no vectors of slides.
        ConfigError: h5py is needed and not installed.
    """
    if not path.is_file():
        raise FeatureFileError(path, "no such file")
    if path.suffix in TABLE_SUFFIXES:
        rows = read_vector_table(path)
        return [_vector(path, name, values, "table") for name, values in rows.items()]
    if path.suffix == NPY_SUFFIX:
        return [_vector(path, path.stem, _npy(path), "npy")]
    if path.suffix in PT_SUFFIXES:
        return _pt(path)
    with open_hdf5(path) as file:
        return _hdf5(file)


def _npy(path: Path) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FeatureFileError(path, f"is no readable .npy file of numbers ({error})") from error
    return values


def _pt(path: Path) -> list[SlideVector]:
    content = load_pt(path)
    if not isinstance(content, Mapping):
        return [_vector(path, path.stem, tensor_array(path, "its content", content), "pt")]
    key = next((key for key in VECTOR_KEYS if key in content), None)
    if key is not None:
        values = tensor_array(path, key, content[key])
        coords = content.get("coords")
        if values.ndim > 1 and coords is not None and len(coords) == 1:
            raise FeatureFileError(path, OF_TILES)
        return [_vector(path, path.stem, values, "pt")]
    if not content or not all(isinstance(name, str) for name in content):
        found = ", ".join(map(str, content)) or "nothing"
        raise FeatureFileError(path, f"expected a tensor, or a tensor for each slide_id, found {found}")
    return [_vector(path, name, tensor_array(path, name, value), "pt") for name, value in content.items()]


def _hdf5(file: Hdf5) -> list[SlideVector]:
    key = next((key for key in VECTOR_KEYS if key in file.names), None)
    about = file.attributes()
    if key is None:
        return _one_for_each_slide(file, str(about.get("encoder", "")))
    _require_kind(file.path, str(about.get("feat_type", "slide")))
    values, coords = file.numbers(key), file.numbers("coords")
    assert values is not None
    of_one_tile = values.ndim > 1 and coords is not None and coords.ndim == 2 and len(coords) == 1
    if of_one_tile or "encoder" in file.attributes(key):  # TRIDENT names the encoder of tiles only
        raise FeatureFileError(file.path, OF_TILES)
    layout = "stamp" if key == "feats" else "trident" if coords is not None else "hdf5"
    return [_vector(file.path, file.path.stem, values, layout, str(about.get("encoder", "")))]


def _require_kind(path: Path, kind: str) -> None:
    """Raise if STAMP says that a file's features are not those of a slide."""
    if kind == "tile":
        raise FeatureFileError(path, OF_TILES)
    if kind != "slide":
        fix = "encode slides (`stamp encode_slides`)"
        raise FeatureFileError(path, f"has the features of a {kind}, expected a vector of a slide; {fix}")


def _one_for_each_slide(file: Hdf5, encoder: str) -> list[SlideVector]:
    """Vectors of a file with a dataset for each slide, as STAMP wrote them before version 2."""
    arrays = {name: file.numbers(name) for name in file.names if name != "coords"}
    if not arrays:
        raise FeatureFileError(file.path, f"has no vectors of slides: expected one of {', '.join(VECTOR_KEYS)}, found nothing")
    return [_vector(file.path, name, values, "stamp", encoder) for name, values in arrays.items() if values is not None]


def _vector(path: Path, name: str, values: NDArray[Any], layout: str, encoder: str = "") -> SlideVector:
    """A vector (d,) of an array (d,), (1, d) or (1, 1, d). Raises FeatureFileError for any other."""
    shape = values.shape
    while values.ndim > 1 and len(values) == 1:
        values = values[0]
    if values.ndim != 1 or not len(values):
        of_tiles = f" (features of {len(values)} tiles?)" if values.ndim == 2 else ""
        expected = f"{name}: has shape {shape}{of_tiles}, expected that of one vector, (d,) or (1, d)"
        raise FeatureFileError(path, f"{expected}; {AS_TILES}")
    if values.dtype.kind != "f":
        raise FeatureFileError(path, f"{name}: has numbers of type {values.dtype}, expected floating-point numbers")
    return SlideVector(name, path, values, layout, encoder)


def vectors_of(paths: Iterable[Path]) -> tuple[dict[str, SlideVector], list[str]]:
    """Return the vectors of files, or of all files in folders, by the slide's name, and the faults.

    A slide that is found twice is a fault, whether the vectors differ or not.
    """
    found: dict[str, SlideVector] = {}
    faults = []
    for path in _files(paths):
        try:
            vectors = read_vectors(path)
        except FeatureFileError as error:
            faults.append(str(error))
            continue
        for vector in vectors:
            first = found.setdefault(vector.name, vector)
            if first is not vector:
                faults.append(f"{path}: has a vector of slide {vector.name}, and so has {first.path}; give one of the files")
    return found, faults


def _files(paths: Iterable[Path]) -> list[Path]:
    files = []
    for path in paths:
        inside = [f for f in path.rglob("*") if f.suffix in VECTOR_SUFFIXES and f.is_file() and f.name[0] != "."]
        if path.is_dir() and not inside:
            raise FeatureFileError(path, f"has no files that end in {', '.join(VECTOR_SUFFIXES)}")
        files += sorted(inside) if path.is_dir() else [path]
    return files
