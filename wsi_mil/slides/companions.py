"""Slides that are more than one file."""

from collections.abc import Iterable
from pathlib import Path

from wsi_mil.slides.dicom import series_files

MIRAX = ".mrxs"
HAMAMATSU_INI = (".vms", ".vmu")


def companions(path: Path) -> list[Path]:
    """Return the other files of a slide, sorted by name: the folder beside a .mrxs, the files that a Hamamatsu .vms lists,
    the DICOM files of the same series.
    """
    suffix = path.suffix.lower()
    if suffix == MIRAX:
        return _files(path.with_suffix("").glob("*"))
    if suffix in HAMAMATSU_INI:
        names = [line.partition("=")[2].strip() for line in path.read_text(encoding="latin-1").splitlines()]
        return _files(path.parent / name for name in names if name and Path(name).name == name)
    return [file for file in series_files(path) if file != path]


def with_companions(path: Path) -> Path:
    """Return the file itself, or a link's target if more of the slide's files lie beside the target than beside the link."""
    if not path.is_symlink():
        return path
    original = path.resolve()
    return original if len(companions(original)) > len(companions(path)) else path


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file())
