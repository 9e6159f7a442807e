"""DICOM files: the files of one slide, and the colour space of their frames."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.slides.jpeg_colours import HEAD_BYTES, is_ycbcr

MAGIC_AT, MAGIC = 128, b"DICM"
SERIES_UID = b"\x20\x00\x0e\x00UI"
"""Tag (0020,000E) SeriesInstanceUID with explicit, little-endian value representation; two bytes of length follow."""

SERIES_HEAD = 64 << 10
"""Number of leading bytes in which the UID is searched."""

COLOURS = b"\x28\x00\x04\x00CS"
"""(0028,0004) PhotometricInterpretation."""

COLUMNS, ROWS = b"\x48\x00\x06\x00UL\x04\x00", b"\x48\x00\x07\x00UL\x04\x00"
"""(0048,0006) TotalPixelMatrixColumns and (0048,0007) TotalPixelMatrixRows; four bytes of value follow."""

FRAMES = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0"
"""(7FE0,0010) PixelData, encapsulated, with the item that holds the frame offsets."""


@dataclass(frozen=True)
class Instance:
    """One file of a series.

    Attributes:
        dimensions: (width, height) of the image that its frames form.
        declared_ycbcr: whether the DICOM header declares the frames as YCbCr.
        is_ycbcr: whether the first frame is YCbCr by its own JPEG markers; None if it has no such marker, or is no JPEG.
    """

    dimensions: tuple[int, int]
    declared_ycbcr: bool
    is_ycbcr: bool | None


def is_dicom(head: bytes) -> bool:
    """Return whether `head`, the first 132 bytes of a file, is a DICOM header."""
    return head[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC


def series_of(path: Path) -> bytes:
    """Return the SeriesInstanceUID of a DICOM file; empty for any other."""
    with path.open("rb") as file:
        head = file.read(MAGIC_AT + len(MAGIC))
        if not is_dicom(head):
            return b""
        head += file.read(SERIES_HEAD)
    at = head.find(SERIES_UID)
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return b"" if at < 0 else head[at + 8 : at + 8 + length]


def series_files(path: Path) -> list[Path]:
    """Return all files of a DICOM file's series in its folder, sorted by name and with the file itself; none for other files."""
    series = series_of(path)
    return [file for file in sorted(path.parent.iterdir()) if file.is_file() and series_of(file) == series] if series else []


def instances(path: Path) -> Iterator[Instance]:
    """Yield the files of the same series that hold encapsulated frames."""
    for file in series_files(path):
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            pixels = data.find(FRAMES)
            if pixels >= 0:
                yield _instance(data, pixels)


def _instance(data: mmap.mmap, pixels: int) -> Instance:
    colours = data[(at := _after(data, COLOURS, pixels)) + 2 : at + 2 + _number(data, at, 2)]
    frame = data.find(b"\xff\xd8\xff", pixels)
    width, height = (_number(data, _after(data, tag, pixels), 4) for tag in (COLUMNS, ROWS))
    by_markers = is_ycbcr(data[frame : frame + HEAD_BYTES]) if frame >= 0 else None
    return Instance((width, height), colours.startswith(b"YBR"), by_markers)


def _after(data: mmap.mmap, tag: bytes, end: int) -> int:
    """Offset of a tag's value (for text: of its length field); the end of the file if the header has no such tag."""
    at = data.find(tag, 0, end)
    return len(data) if at < 0 else at + len(tag)


def _number(data: mmap.mmap, at: int, n_bytes: int) -> int:
    return int.from_bytes(data[at : at + n_bytes], "little")
