"""Identify networks without building them, for fingerprints and for reruns after a change."""

import hashlib
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.catalogue import record_of
from wsi_mil.encoders.names import default_weights
from wsi_mil.encoders.remembered import remembered

WORTH_KEEPING = 64 * 2**20
"""File size in bytes from which hashes are cached on disk, since hashing would take seconds per slide."""

_SHA256 = re.compile("[0-9a-f]{64}")


def weights_hash(name: str, weights: str) -> str:
    """Return an identifier of an encoder's weights, without loading them.

    For a file this is its sha256; for a built-in encoder's weights on the Hub repository and commit, which are the same before
    and after download and without a network; for timm's own pretrained weights the name and timm's version.
    """
    if weights == "random":
        return "random-seed-0"
    if weights != "pretrained":
        return file_hash(Path(weights))
    record = record_of(name)
    if record is None:
        return f"timm-{version('timm')}-{name}"
    return record.hub.identity if record.hub else file_hash(default_weights())


def network_identity(settings: EncoderSettings) -> dict[str, object]:
    """Return all that determines an entry's features except dtype and device, JSON-serialisable.

    For timm models that is the name, the weights, and timm's version, which determines the rest.
    """
    identity: dict[str, object] = {"encoder": settings.encoder, "weights_hash": weights_hash(settings.encoder, settings.weights)}
    record = record_of(settings.encoder)
    if record is None:
        return {**identity, "timm": version("timm")}
    network: dict[str, object] = {
        "architecture": record.architecture,
        "arguments": dict(record.arguments),
        "change": record.change,
        "pooling": record.pooling,
        "mean": list(record.mean),
        "std": list(record.std),
        "interpolation": record.interpolation,
        "input_px": record.input_px,
        "resize_px": record.resize_px,
    }
    return {**identity, "network": network}


def file_hash(path: Path) -> str:
    """Return the sha256 of a file; that of a large file is cached until its size or modification time changes."""
    status = path.stat()
    return _file_hash(path.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    if size < WORTH_KEEPING:
        return _sha256(path)
    key = hashlib.sha256(f"{path}\0{size}\0{mtime_ns}".encode()).hexdigest()
    return remembered(f"{key}.sha256", lambda: _sha256(path), is_valid=lambda text: bool(_SHA256.fullmatch(text)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
