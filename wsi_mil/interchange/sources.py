"""Assign feature files to slides."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.cohort import SLIDE_ID
from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange.layouts import HDF5_SUFFIXES, PT_SUFFIXES
from wsi_mil.records import NO_PATH, SlideRow

COORDS_ENDINGS = ("", "_patches")
"""Suffixes of a slide's name in names of coords files; TRIDENT uses the second."""


@dataclass(frozen=True)
class FeatureSource:
    """Source of a slide's features.

    Attributes:
        row: the slide; without a sheet it has only an id.
        path: file with features.
        coords: file with coords and their attributes if `path` has none, or None.
    """

    row: SlideRow
    path: Path
    coords: Path | None = None


def find_sources(
    paths: Sequence[Path], rows: Iterable[SlideRow] | None, coords: Path | None, layout: str
) -> tuple[list[FeatureSource], list[str]]:
    """Return a source for each slide with a file, and notes on files and slides without a match.

    A file belongs to the slide whose id or slide file has the same name. If a slide has an HDF5 file and a `.pt` (CLAM writes
    both), the HDF5 file is used, since it has coords.

    Args:
        paths: files, or folders that are searched recursively.
        rows: the sheet; None: every file is a slide with the name of the file.
        coords: file, or folder with a file for each slide.
        layout: "auto" or one of `LAYOUTS`.

    Raises:
        FeatureFileError: there are no files, two files of one slide, a file that matches two slides, or without a sheet a name
            that is no valid slide_id.
    """
    by_name = _by_name(paths, layout)
    if rows is None:
        invalid = next((path for name, path in by_name.items() if not SLIDE_ID.fullmatch(name)), None)
        if invalid is not None:
            raise FeatureFileError(invalid, "its name is no valid slide_id; give the sheet (--slides), or rename it")
        return [FeatureSource(SlideRow(name, NO_PATH), path, _coords_of(coords, [name])) for name, path in by_name.items()], []
    sources = []
    notes = []
    used: dict[str, str] = {}
    for row in rows:
        names = [row.slide_id, Path(row.path).stem] if row.path != NO_PATH else [row.slide_id]
        name = next((name for name in names if name in by_name), None)
        if name is None:
            notes.append(f"{row.slide_id}: no file")
        else:
            _require_one_slide(by_name[name], used.setdefault(name, row.slide_id), row.slide_id)
            sources.append(FeatureSource(row, by_name[name], _coords_of(coords, names)))
    notes += [f"{path}: no slide of the sheet" for name, path in by_name.items() if name not in used]
    return sources, notes


def _require_one_slide(path: Path, first: str, second: str) -> None:
    """Raise if the name of a file matches two slides, which would both get the same features."""
    if first != second:
        reason = f"its name matches two slides of the sheet, {first} and {second}; give each a file named by its slide_id"
        raise FeatureFileError(path, reason)


def _by_name(paths: Sequence[Path], layout: str) -> Mapping[str, Path]:
    suffixes = HDF5_SUFFIXES + PT_SUFFIXES if layout == "auto" else PT_SUFFIXES if layout == "pt" else HDF5_SUFFIXES
    by_name: dict[str, Path] = {}
    for path in paths:
        inside = (file for file in path.rglob("*") if file.suffix in suffixes and file.is_file() and file.name[0] != ".")
        for file in sorted(inside) if path.is_dir() else [path]:
            other = by_name.setdefault(file.stem, file)
            if other != file and (other.suffix in PT_SUFFIXES) == (file.suffix in PT_SUFFIXES):
                raise FeatureFileError(file, f"is of the same slide as {other}; give one of them")
            if other.suffix in PT_SUFFIXES:
                by_name[file.stem] = file
    if not by_name:
        raise FeatureFileError(paths[0] if paths else Path(), f"has no files that end in {', '.join(suffixes)}")
    return dict(sorted(by_name.items()))


def _coords_of(coords: Path | None, names: Sequence[str]) -> Path | None:
    """File with a slide's coords; if there is none, the first candidate, which the error message names."""
    if coords is None or not coords.is_dir():
        return coords
    places = [coords / f"{name}{ending}{suffix}" for name in names for ending in COORDS_ENDINGS for suffix in HDF5_SUFFIXES]
    return next((place for place in places if place.is_file()), places[0])
