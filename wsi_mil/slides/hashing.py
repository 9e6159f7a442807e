"""Identify a slide by a hash of samples, without reading all of it."""

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
    """Return `{size}-{sha256}` over the size and the first, last and 16 evenly spaced MiB of every file of the slide.

    Modification times do not enter.
    """
    main = with_companions(path) if isinstance(path, Path) else path
    files = [main, *companions(main)] if isinstance(main, Path) else [main]
    digests = [_sampled(RemoteFile(file) if isinstance(file, str) else file.open("rb")) for file in files]
    if len(digests) == 1:
        return "-".join(map(str, digests[0]))
    total = sum(size for size, _ in digests)
    return f"{total}-{hashlib.sha256(' '.join(text for _, text in digests).encode()).hexdigest()}"


def slide_exists(path: Path | str) -> bool:
    """Return whether a file exists, or a server provides the URL. Raises UnreachableError."""
    if isinstance(path, Path):
        return path.is_file()
    try:
        return bool(remote_object(path).version)
    except SlideAccessError:
        return False


def is_same_slide(path: Path | str, tiled: Mapping[str, Any]) -> bool:
    """Return whether a slide is the one that a receipt of `tile` describes.

    A URL whose version equals the receipt's is not read.

    Raises:
        MissingFileError: the file no longer exists.
        UnreachableError: the server does not answer.
        OSError: the operating system cannot read the file.
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
    """Size of a file, and sha256 over the size and the samples."""
    with opened as file:
        size = file.seek(0, 2)
        digest = hashlib.sha256(str(size).encode())
        last = max(0, size - MIB)
        for offset in sorted({0, last, *(last * i // (N_SAMPLES + 1) for i in range(1, N_SAMPLES + 1))}):
            file.seek(offset)
            digest.update(file.read(MIB) or b"")
    return size, digest.hexdigest()
