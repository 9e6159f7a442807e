"""Slides that are more than one file."""

from collections.abc import Iterable
from pathlib import Path

from wsi_mil.slides.dicom import series_files

MIRAX = ".mrxs"
HAMAMATSU_INI = (".vms", ".vmu")


def companions(path: Path) -> list[Path]:
    """The other files of a slide, in the order of their names: the folder beside a .mrxs, what a Hamamatsu .vms lists, the
    DICOM files of the same series.
    """
    suffix = path.suffix.lower()
    if suffix == MIRAX:
        return _files(path.with_suffix("").glob("*"))
    if suffix in HAMAMATSU_INI:
        named = [line.partition("=")[2].strip() for line in path.read_text(encoding="latin-1").splitlines()]
        return _files(path.parent / name for name in named if name and Path(name).name == name)
    return [file for file in series_files(path) if file != path]


def with_companions(path: Path) -> Path:
    """The file itself; the original of a link where more of the slide's files lie beside that than beside the link."""
    if not path.is_symlink():
        return path
    original = path.resolve()
    return original if len(companions(original)) > len(companions(path)) else path


def _files(found: Iterable[Path]) -> list[Path]:
    return sorted(file for file in found if file.is_file())
