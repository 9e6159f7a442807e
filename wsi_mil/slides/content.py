"""What tells one slide from another, without reading all of it."""

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from wsi_mil.errors import MissingFileError, SlideAccessError
from wsi_mil.slides.remote import RemoteFile, remote_object

MIB = 1 << 20
N_SAMPLES = 16

HAMAMATSU_INI = (".vms", ".vmu")
DICOM_SERIES = b"\x20\x00\x0e\x00UI"
"""Tag (0020,000E) SeriesInstanceUID with explicit, little-endian value representation; two bytes of length follow."""

DICOM_HEAD = 64 << 10
"""The UID stands in the first so many bytes."""


def slide_hash(path: Path | str) -> str:
    """`{size}-{sha256}` over size and first, last and 16 evenly spaced MiB of every file that the slide is made of; never
    their mtime.
    """
    files = [path, *companions(path)] if isinstance(path, Path) else [path]
    digests = [_sampled(RemoteFile(file) if isinstance(file, str) else file.open("rb")) for file in files]
    if len(digests) == 1:
        return "-".join(map(str, digests[0]))
    total = sum(size for size, _ in digests)
    return f"{total}-{hashlib.sha256(' '.join(text for _, text in digests).encode()).hexdigest()}"


def is_there(path: Path | str) -> bool:
    """Whether there is such a file, or its server has it and gives it. Raises UnreachableError."""
    if isinstance(path, Path):
        return path.is_file()
    try:
        return bool(remote_object(path).version)
    except SlideAccessError:
        return False


def is_same_slide(path: Path | str, tiled: Mapping[str, Any]) -> bool:
    """Whether a slide is the one that a receipt of `tile` is about. Of a URL with the version that the receipt names nothing
    is read.

    Raises:
        MissingFileError: it is gone.
        UnreachableError: its server does not answer.
        OSError: the machine cannot read it.
    """
    if isinstance(path, Path):
        if not path.is_file():
            raise MissingFileError(path, "no such file")
        return bool(slide_hash(path) == tiled["slide_hash"])
    try:
        return bool(remote_object(path).version == tiled.get("remote") or slide_hash(path) == tiled["slide_hash"])
    except SlideAccessError as error:
        raise MissingFileError(path, str(error).removeprefix(f"{path}: ")) from error


def companions(path: Path) -> list[Path]:
    """The other files of a slide, in the order of their names: the folder beside a .mrxs, what a Hamamatsu .vms lists, the
    DICOM files of the same series.
    """
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        return _files(path.with_suffix("").glob("*"))
    if suffix in HAMAMATSU_INI:
        named = [line.partition("=")[2].strip() for line in path.read_text(encoding="latin-1").splitlines()]
        return _files(path.parent / name for name in named if name and Path(name).name == name)
    series = _dicom_series(path)
    if series:
        return [f for f in _files(path.parent.iterdir()) if f != path and _dicom_series(f) == series]
    return []


def _files(found: Iterable[Path]) -> list[Path]:
    return sorted(file for file in found if file.is_file())


def _dicom_series(path: Path) -> bytes:
    """SeriesInstanceUID of a DICOM file; empty for any other."""
    with path.open("rb") as file:
        head = file.read(132)
        if head[128:] != b"DICM":
            return b""
        head += file.read(DICOM_HEAD)
    at = head.find(DICOM_SERIES)
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return b"" if at < 0 else head[at + 8 : at + 8 + length]


def _sampled(opened: BinaryIO | io.RawIOBase) -> tuple[int, str]:
    """Size of a file, and sha256 over the size and the sampled parts."""
    with opened as file:
        size = file.seek(0, 2)
        digest = hashlib.sha256(str(size).encode())
        last = max(0, size - MIB)
        for offset in sorted({0, last, *(last * i // (N_SAMPLES + 1) for i in range(1, N_SAMPLES + 1))}):
            file.seek(offset)
            digest.update(file.read(MIB) or b"")
    return size, digest.hexdigest()
