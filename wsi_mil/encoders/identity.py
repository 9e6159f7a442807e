"""What tells one network from another, without building it: for fingerprints, and for reruns when it changes."""

import hashlib
import logging
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.catalogue import record_of
from wsi_mil.encoders.names import default_weights
from wsi_mil.files import write_text

log = logging.getLogger(__name__)

WORTH_KEEPING = 64 * 2**20
"""Bytes of a file from which its hash is kept on disk: hashing takes seconds, for every slide anew."""


def weights_hash(name: str, weights: str) -> str:
    """What tells an encoder's weights from others, without loading them.

    sha256 of a file. Of a record's weights on the Hub: repository and commit, which is the same before and after they are
    fetched, and on a machine that has no network. For timm's own pretrained weights the name and timm's version stand.
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
    """Everything that decides what an entry of `encoders` makes of an image, but for dtype and device; as JSON holds it.

    For names of timm that is the name, the weights, and timm's version, which decides the rest.
    """
    known: dict[str, object] = {"encoder": settings.encoder, "weights_hash": weights_hash(settings.encoder, settings.weights)}
    record = record_of(settings.encoder)
    if record is None:
        return {**known, "timm": version("timm")}
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
    return {**known, "network": network}


def file_hash(path: Path) -> str:
    """sha256 of a file; that of a large one is kept in the user's cache until its size or time of change differs."""
    about = path.stat()
    return _file_hash(path.resolve(), about.st_size, about.st_mtime_ns)


@cache
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    if size < WORTH_KEEPING:
        return _hashed(path)
    key = hashlib.sha256(f"{path}\0{size}\0{mtime_ns}".encode()).hexdigest()
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsi_mil" / "weights" / f"{key}.sha256"
    try:
        return kept.read_text(encoding="utf-8")
    except OSError:
        found = _hashed(path)
    try:
        write_text(kept, found)
    except OSError as error:
        log.info("%s: its hash cannot be kept (%s)", path, error)
    return found


def _hashed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
