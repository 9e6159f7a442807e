"""Write files and CSV tables atomically, and lock them for one writer at a time."""

import csv
import io
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from wsi_mil.errors import MissingFileError

log = logging.getLogger(__name__)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: to a temporary file, which is then renamed."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: to a temporary file, which is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def write_table(path: Path, columns: list[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file atomically."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file as dictionaries.

    Raises:
        MissingFileError: the file does not exist.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise MissingFileError(path, "no such file; run the stage that writes it again") from error


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of the file or store at `path`, waiting for a writer that is still alive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("%s: another process, perhaps of a killed run, is writing it; waiting", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
