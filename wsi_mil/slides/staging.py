"""Copies of remote slides on the node's own disk, never more of them than a bound allows.

A copy is shared by all jobs of a node and kept for the next stage until another needs its room. Every user holds a shared
lock of the operating system on the copy, whoever writes or removes it the exclusive one: so nothing in use is removed, and
what a killed job left behind is free at once.
"""

import fcntl
import hashlib
import logging
import os
import re
import stat
import tempfile
import time
from pathlib import Path

from filelock import FileLock

from wsi_mil.errors import ConfigError, UnreachableError
from wsi_mil.slides.remote import RemoteObject, asked, open_remote, remote_object, remote_settings

log = logging.getLogger(__name__)

CHUNK = 8 << 20
"""Bytes of a request."""

WAIT_S = 0.5
PATIENCE_S = 3600.0
"""For room that copies in use take; then the job fails, and is tried again."""

PART = ".part"

NEW = ".new"
"""A part without its size, and so without its name: whoever holds the accounts makes it. One that lies there was left over."""


class LocalCopy:
    """A copy of a remote slide that stays as long as this is open."""

    def __init__(self, about: RemoteObject, path: Path, lock: int):
        """`lock`: descriptor of the copy that holds the lock."""
        self.about, self.path, self._lock = about, path, lock

    @property
    def url(self) -> str:
        """Where it comes from."""
        return self.about.url

    def close(self) -> None:
        """Let others remove it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    __del__ = close


def scratch_folder() -> Path:
    """Where copies lie; for the user alone, since slides are patients' data.

    Raises:
        ConfigError: under that name, which is known to all, somebody else has put something.
    """
    base = remote_settings().scratch or Path(tempfile.gettempdir())
    folder = base / f"wsi_mil-slides-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
        raise ConfigError([f"remote.scratch: {folder} is a link, or another user's; name another folder, or have it removed"])
    if about.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def local_copy(url: str, *, patience_s: float = PATIENCE_S) -> LocalCopy:
    """A copy of what lies at an address, made now or by somebody before.

    Raises:
        ConfigError: it is larger than all copies may be together, or there is no folder for them.
        UnreachableError: the server does not answer, or there was no room for too long.
        OSError: no room on the disk.
        SlideAccessError, SlideFormatError, MissingFileError: as `remote_object`.
    """
    about, limit = remote_object(url), int(remote_settings().scratch_gb * 1e9)
    if about.size > limit:
        raise ConfigError([f"remote.scratch_gb: {url} alone has {about.size / 1e9:.3g} GB, the bound is {limit / 1e9:.3g}"])
    path = scratch_folder() / _file_name(about)
    start = time.monotonic()
    while True:
        found = _held(path, fcntl.LOCK_SH)
        if found is not None:
            os.utime(path)
            return LocalCopy(about, path, found)
        lock = _begun(about, path, limit)
        if lock is not None:
            return LocalCopy(about, path, _written(about, path, lock))
        if time.monotonic() - start > patience_s:
            raise UnreachableError(url, f"cannot be copied: other jobs' slides fill {path.parent}; raise remote.scratch_gb")
        time.sleep(WAIT_S)


def remove_copies() -> int:
    """Remove all copies that nobody uses; how many bytes that was."""
    folder = scratch_folder()
    with _accounts(folder):
        before = sum(size for _, size, _ in _copies(folder))
        _make_room(folder, 0, 0)
        return before - sum(size for _, size, _ in _copies(folder))


def _file_name(about: RemoteObject) -> str:
    """Of the copy: by address and version; ends as the slide does, since readers look at that."""
    key = hashlib.sha256(f"{about.url} {about.version}".encode()).hexdigest()[:24]
    return f"{key}-{re.sub(r'[^A-Za-z0-9._-]', '_', about.url.rpartition('/')[2])[-80:]}"


def _accounts(folder: Path) -> FileLock:
    """Held for a moment by who counts or removes copies."""
    return FileLock(folder / ".lock")


def _held(path: Path, kind: int) -> int | None:
    """A descriptor of an existing file with a lock on it; None where there is no such file, or somebody else's lock."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:  # else it was removed in between
            return file
    except BlockingIOError:
        pass
    os.close(file)
    return None


def _begun(about: RemoteObject, path: Path, limit: int) -> int | None:
    """A descriptor of a part that is as large as the slide, with the exclusive lock; None where another writes it, or
    copies in use leave no room.
    """
    part = path.with_name(path.name + PART)
    with _accounts(path.parent):
        if path.exists():
            return None
        left_over = _held(part, fcntl.LOCK_EX)
        if left_over is None and part.exists():
            return None
        if left_over is not None:
            part.unlink()
            os.close(left_over)
        if not _make_room(path.parent, about.size, limit):
            return None
        return _sized(part, about.size)


def _sized(part: Path, size: int) -> int:
    """A descriptor of a new part with the exclusive lock: what has the name counts for all that it is going to take."""
    new = part.with_name(NEW)
    file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.ftruncate(file, size)
    new.rename(part)
    return file


def _written(about: RemoteObject, path: Path, file: int) -> int:
    """The copy, complete under its name; the descriptor that holds its shared lock."""
    part = path.with_name(path.name + PART)
    try:
        started = time.monotonic()
        _download(about, file)
        if remote_object(about.url).version != about.version:
            raise UnreachableError(about.url, "changed while it was copied; run again")
        os.fsync(file)
        with _accounts(path.parent):
            part.rename(path)
            fcntl.flock(file, fcntl.LOCK_SH)
    except BaseException:
        part.unlink(missing_ok=True)
        os.close(file)
        raise
    seconds = time.monotonic() - started
    log.info("%s: copied %.1f MB in %.1f s", about.url, about.size / 1e6, seconds)
    return file


def _download(about: RemoteObject, file: int) -> None:
    source = open_remote(about)
    if not about.in_parts or not source.seekable():
        asked(about.url, lambda: _streamed(about, file))
        return
    for start in range(0, about.size, CHUNK):
        end = min(start + CHUNK, about.size)

        def request(start: int = start, end: int = end) -> bytes:
            source.seek(start)
            return _whole(bytes(source.read(end - start)), end - start)

        os.pwrite(file, asked(about.url, request), start)


def _streamed(about: RemoteObject, file: int) -> None:
    """From a server that sends whole files only."""
    at = 0
    with open_remote(about) as source:
        while data := source.read(CHUNK):
            os.pwrite(file, data, at)
            at += len(data)
    if at != about.size:
        raise ConnectionError(f"{about.size} bytes were to come, {at} came")


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ConnectionError(f"{size} bytes were asked for, {len(data)} came")
    return data


def _copies(folder: Path) -> list[tuple[float, int, Path]]:
    """(last use, bytes, path) of copies and parts, the longest unused first."""
    found = []
    for path in folder.iterdir():
        if not path.name.startswith("."):
            about = path.stat()
            found.append((about.st_mtime, about.st_size, path))
    return sorted(found)


def _make_room(folder: Path, needed: int, limit: int) -> bool:
    """Remove what nobody uses, the longest unused first, until there is room for `needed` bytes more; whether there is."""
    (folder / NEW).unlink(missing_ok=True)
    copies = _copies(folder)
    used = sum(size for _, size, _ in copies)
    for _, size, path in copies:
        if used + needed <= limit:
            break
        lock = _held(path, fcntl.LOCK_EX)
        if lock is not None:
            path.unlink()
            os.close(lock)
            used -= size
    return used + needed <= limit
