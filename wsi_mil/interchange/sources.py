"""Files and folders → one source of features for each slide."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.cohort import SLIDE_ID
from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange.layouts import HDF5_SUFFIXES, PT_SUFFIXES
from wsi_mil.records import NO_PATH, SlideRow

COORDS_ENDINGS = ("", "_patches")
"""What may follow a slide's name in the name of a file with its coords; TRIDENT's end so."""


@dataclass(frozen=True)
class Source:
    """Where the features of a slide come from.

    Attributes:
        row: the slide; without a sheet it has an id alone.
        path: file with features.
        coords: file with coords and their attributes, where `path` has none; or None.
    """

    row: SlideRow
    path: Path
    coords: Path | None = None


def find_sources(
    paths: Sequence[Path], rows: Iterable[SlideRow] | None, coords: Path | None, layout: str
) -> tuple[list[Source], list[str]]:
    """A source for each slide that has a file, and in words which files and slides are left over.

    A file belongs to the slide whose id, or the name of whose slide file, is its own name. Where a slide has an HDF5 file
    and a `.pt` (as CLAM writes both) the first is taken, since it has coords.

    Args:
        paths: files, or folders that are searched to the bottom.
        rows: the sheet; None: every file is a slide of the name of the file.
        coords: file, or folder with a file for each slide.
        layout: "auto" or one of `LAYOUTS`.

    Raises:
        FeatureFileError: no files at all, two of one slide, one that fits two slides, or without a sheet a name that cannot
            be a slide's.
    """
    by_name = _by_name(paths, layout)
    if rows is None:
        odd = next((path for name, path in by_name.items() if not SLIDE_ID.fullmatch(name)), None)
        if odd is not None:
            raise FeatureFileError(odd, "its name cannot be a slide_id; give the sheet (--slides), or rename it")
        found = [Source(SlideRow(name, NO_PATH), path, _coords_of(coords, [name])) for name, path in by_name.items()]
        return found, []
    found, notes = [], []
    used: dict[str, str] = {}
    for row in rows:
        names = [row.slide_id, Path(row.path).stem] if row.path != NO_PATH else [row.slide_id]
        name = next((name for name in names if name in by_name), None)
        if name is None:
            notes.append(f"{row.slide_id}: no file")
        else:
            _refuse_second(by_name[name], used.setdefault(name, row.slide_id), row.slide_id)
            found.append(Source(row, by_name[name], _coords_of(coords, names)))
    notes += [f"{path}: no slide of the sheet" for name, path in by_name.items() if name not in used]
    return found, notes


def _refuse_second(path: Path, first: str, second: str) -> None:
    """Raise where the name of a file fits two slides: the features of one would stand for both."""
    if first != second:
        reason = f"its name fits two slides of the sheet, {first} and {second}; give each a file named by its slide_id"
        raise FeatureFileError(path, reason)


def _by_name(paths: Sequence[Path], layout: str) -> Mapping[str, Path]:
    suffixes = HDF5_SUFFIXES + PT_SUFFIXES if layout == "auto" else PT_SUFFIXES if layout == "pt" else HDF5_SUFFIXES
    found: dict[str, Path] = {}
    for path in paths:
        inside = (file for file in path.rglob("*") if file.suffix in suffixes and file.is_file() and file.name[0] != ".")
        for file in sorted(inside) if path.is_dir() else [path]:
            other = found.setdefault(file.stem, file)
            if other != file and (other.suffix in PT_SUFFIXES) == (file.suffix in PT_SUFFIXES):
                raise FeatureFileError(file, f"of the same slide as {other}; give one of them")
            if other.suffix in PT_SUFFIXES:
                found[file.stem] = file
    if not found:
        raise FeatureFileError(paths[0] if paths else Path(), f"no files that end in {', '.join(suffixes)}")
    return dict(sorted(found.items()))


def _coords_of(coords: Path | None, names: Sequence[str]) -> Path | None:
    """The file with a slide's coords; the first place where it should be, so that its absence is named."""
    if coords is None or not coords.is_dir():
        return coords
    places = [coords / f"{name}{ending}{suffix}" for name in names for ending in COORDS_ENDINGS for suffix in HDF5_SUFFIXES]
    return next((place for place in places if place.is_file()), places[0])
