"""What tells one slide from another, without reading all of it."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from wsi_mil.errors import MissingFileError, SlideAccessError
from wsi_mil.slides.companions import companions, with_companions
from wsi_mil.slides.remote import RemoteFile, remote_object

MIB = 1 << 20
N_SAMPLES = 16


def slide_hash(path: Path | str) -> str:
    """`{size}-{sha256}` over size and first, last and 16 evenly spaced MiB of every file that the slide is made of; never
    their mtime.
    """
    own = with_companions(path) if isinstance(path, Path) else path
    files = [own, *companions(own)] if isinstance(own, Path) else [own]
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
