"""Small slides and tables."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.conftest import tissue_image, write_aperio


@cache
def _aperio() -> bytes:
    with TemporaryDirectory() as folder:
        return write_aperio(Path(folder) / "slide.svs", tissue_image(160, 112), levels=(1,)).read_bytes()


def write_slide(path: Path, content: str = "") -> Path:
    """Write an Aperio slide, 160×112 at 0.5 µm; `content` beyond its end makes it another file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_aperio() + (content or path.as_posix()).encode())
    return path


def write_slides(folder: Path, names: Sequence[str]) -> Path:
    """Write slides of different content."""
    for name in names:
        write_slide(folder / name)
    return folder


def write_text(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    """Write a table as text."""
    path.write_bytes("\n".join(lines).encode(encoding))
    return path
