"""Size-limited cache of remote slides on the node's own disk.

All jobs of a node share a copy, and it is kept for the next stage until its space is needed. Readers of a copy hold a shared
lock of the operating system on it, a process that writes or removes it the exclusive lock. So no copy in use is removed, and
the copies of a killed job are free at once.
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
from wsi_mil.slides.remote import RemoteObject, open_remote, remote_object, remote_settings, request_with_retries

log = logging.getLogger(__name__)

CHUNK = 8 << 20
"""Bytes per request."""

WAIT_S = 0.5
PATIENCE_S = 3600.0
"""Longest wait for space that copies in use take; then the job fails, and the workflow retries it."""

PART = ".part"

NAMELESS = ".new"
"""Partial file before its space is reserved, created under the accounting lock; an existing one is left over."""


class LocalCopy:
    """Local copy of a remote slide that is not removed while this is open."""

    def __init__(self, remote: RemoteObject, path: Path, lock: int):
        """Store the copy; `lock` is the file descriptor that holds its lock."""
        self.remote = remote
        self.path = path
        self._lock = lock

    @property
    def url(self) -> str:
        """Return the URL of the original."""
        return self.remote.url

    def close(self) -> None:
        """Release the lock, so that the copy may be removed."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    __del__ = close


def is_read_in_place(path: Path | str) -> bool:
    """Return whether a slide is on a server and no local copy of it is made."""
    return isinstance(path, str) and remote_settings().staging == "none"


def scratch_folder() -> Path:
    """Return the folder of the copies, readable by the user alone, since slides are patient data.

    Raises:
        ConfigError: the folder is a link, or belongs to another user (its name is predictable).
    """
    base = remote_settings().scratch or Path(tempfile.gettempdir())
    folder = base / f"wsi_mil-slides-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ConfigError([f"remote.scratch: {folder} is a link, or another user's; name another folder, or have it removed"])
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def local_copy(url: str, *, patience_s: float = PATIENCE_S) -> LocalCopy:
    """Return a local copy of a URL, downloaded now or before.

    Raises:
        ConfigError: the file is larger than `remote.scratch_gb`, or the folder cannot be used.
        UnreachableError: the server does not answer, or other jobs' slides filled the folder for too long.
        OSError: the disk is full.
        SlideAccessError, SlideFormatError, MissingFileError: as `remote_object`.
    """
    remote = remote_object(url)
    limit = int(remote_settings().scratch_gb * 1e9)
    if remote.size > limit:
        raise ConfigError([f"remote.scratch_gb: {url} alone has {remote.size / 1e9:.3g} GB, the limit is {limit / 1e9:.3g}"])
    path = scratch_folder() / _file_name(remote)
    start = time.monotonic()
    while True:
        shared = _lock_file(path, fcntl.LOCK_SH)
        if shared is not None:
            os.utime(path)
            return LocalCopy(remote, path, shared)
        lock = _claim_part(remote, path, limit)
        if lock is not None:
            return LocalCopy(remote, path, _complete_copy(remote, path, lock))
        if time.monotonic() - start > patience_s:
            raise UnreachableError(url, f"cannot be copied: other jobs' slides fill {path.parent}; raise remote.scratch_gb")
        time.sleep(WAIT_S)


def remove_copies() -> int:
    """Remove all copies that are not in use, and return the number of bytes freed."""
    folder = scratch_folder()
    with _accounting_lock(folder):
        before = sum(size for _, size, _ in _copies(folder))
        _make_room(folder, 0, 0)
        return before - sum(size for _, size, _ in _copies(folder))


def _file_name(remote: RemoteObject) -> str:
    """File name of the copy by URL and version; keeps the slide's ending, which readers go by."""
    key = hashlib.sha256(f"{remote.url} {remote.version}".encode()).hexdigest()[:24]
    return f"{key}-{re.sub(r'[^A-Za-z0-9._-]', '_', remote.url.rpartition('/')[2])[-80:]}"


def _accounting_lock(folder: Path) -> FileLock:
    """Lock held while copies are counted or removed."""
    return FileLock(folder / ".lock")


def _lock_file(path: Path, kind: int) -> int | None:
    """Descriptor of an existing file with a lock on it; None if the file does not exist or is locked by others."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:  # 0: it was removed in the meantime
            return file
    except BlockingIOError:
        pass
    os.close(file)
    return None


def _claim_part(remote: RemoteObject, path: Path, limit: int) -> int | None:
    """Descriptor of a partial file as large as the slide, with the exclusive lock; None if another job writes it, or copies
    in use leave no space.
    """
    part = path.with_name(path.name + PART)
    with _accounting_lock(path.parent):
        if path.exists():
            return None
        left_over = _lock_file(part, fcntl.LOCK_EX)
        if left_over is None and part.exists():
            return None
        if left_over is not None:
            part.unlink()
            os.close(left_over)
        if not _make_room(path.parent, remote.size, limit):
            return None
        return _create_part(part, remote.size)


def _create_part(part: Path, size: int) -> int:
    """Descriptor of a new partial file with the exclusive lock; its full size is reserved before it gets its name."""
    new = part.with_name(NAMELESS)
    file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.ftruncate(file, size)
    new.rename(part)
    return file


def _complete_copy(remote: RemoteObject, path: Path, file: int) -> int:
    """Download the copy and give it its name; return the descriptor that holds its shared lock."""
    part = path.with_name(path.name + PART)
    try:
        started = time.monotonic()
        _download(remote, file)
        if remote_object(remote.url).version != remote.version:
            raise UnreachableError(remote.url, "changed while it was copied; run again")
        os.fsync(file)
        with _accounting_lock(path.parent):
            part.rename(path)
            fcntl.flock(file, fcntl.LOCK_SH)
    except BaseException:
        part.unlink(missing_ok=True)
        os.close(file)
        raise
    seconds = time.monotonic() - started
    log.info("%s: copied %.1f MB in %.1f s", remote.url, remote.size / 1e6, seconds)
    return file


def _download(remote: RemoteObject, file: int) -> None:
    source = open_remote(remote)
    if not remote.sends_ranges or not source.seekable():
        request_with_retries(remote.url, lambda: _download_whole(remote, file))
        return
    for start in range(0, remote.size, CHUNK):
        end = min(start + CHUNK, remote.size)

        def request(start: int = start, end: int = end) -> bytes:
            source.seek(start)
            return _require_size(bytes(source.read(end - start)), end - start)

        os.pwrite(file, request_with_retries(remote.url, request), start)


def _download_whole(remote: RemoteObject, file: int) -> None:
    """Download from a server without range requests."""
    at = 0
    with open_remote(remote) as source:
        while data := source.read(CHUNK):
            os.pwrite(file, data, at)
            at += len(data)
    if at != remote.size:
        raise ConnectionError(f"expected {remote.size} bytes, received {at}")


def _require_size(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ConnectionError(f"expected {size} bytes, received {len(data)}")
    return data


def _copies(folder: Path) -> list[tuple[float, int, Path]]:
    """(last use, bytes, path) of copies and partial files, the least recently used first."""
    copies = []
    for path in folder.iterdir():
        if not path.name.startswith("."):
            status = path.stat()
            copies.append((status.st_mtime, status.st_size, path))
    return sorted(copies)


def _make_room(folder: Path, needed: int, limit: int) -> bool:
    """Remove unused copies, the least recently used first, until `needed` bytes are free; return whether they are."""
    (folder / NAMELESS).unlink(missing_ok=True)
    copies = _copies(folder)
    used = sum(size for _, size, _ in copies)
    for _, size, path in copies:
        if used + needed <= limit:
            break
        lock = _lock_file(path, fcntl.LOCK_EX)
        if lock is not None:
            path.unlink()
            os.close(lock)
            used -= size
    return used + needed <= limit
