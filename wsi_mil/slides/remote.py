"""Metadata and bytes of slides on a server. The only importer of fsspec.

Every request is retried a few times. A slide that is missing or forbidden is a fault of the data; a server that does not
answer is a fault of the machine and must never look like a damaged slide.
"""

import io
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import fsspec
from fsspec.config import conf

from wsi_mil.addresses import secret_fault, without_secrets
from wsi_mil.config import REMOTE_VARIABLE, Remote
from wsi_mil.errors import (
    MissingFileError,
    SilentServerError,
    SlideAccessError,
    SlideFormatError,
    UnreachableError,
    WsiMilError,
)

log = logging.getLogger(__name__)

Response = TypeVar("Response")

BLOCK = 256 << 10
"""Smallest number of bytes per request: about a dozen neighbouring JPEG tiles."""

CACHED_BLOCKS = 256
"""Largest number of cached blocks: two rows of tiles of a wide slide are 20 MB."""

PAUSE_S = 0.25
"""Pause before the second attempt; it doubles before each further one."""

GONE_STATUS, FORBIDDEN_STATUS, UNAUTHORISED_STATUS, CHANGED_STATUS = (404, 410), (403,), (401,), (412,)
"""HTTP status codes."""

CREDENTIAL_ERRORS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "NoCredentialsError",
    "PartialCredentialsError",
}
"""S3 error codes and client errors that concern the credentials, not one slide."""

HINT = "correct the sheet's `path` column, or upload the slide"
HINT_LOGIN = "credentials come from the environment (AWS_…) or from fsspec's configuration, see docs/remote.md"


@dataclass(frozen=True)
class RemoteObject:
    """File on a server.

    Attributes:
        size: size in bytes.
        version: size and ETag, or the time of the last change if there is no ETag; changes with the content.
        sends_ranges: whether the server supports range requests, as far as it declares.
        tag: strong ETag, with which a web server checks that the file is unchanged; "" if there is none.
    """

    url: str
    size: int
    version: str
    sends_ranges: bool
    tag: str = ""


def remote_settings() -> Remote:
    """Return the settings for servers: those of the environment, else the defaults."""
    text = os.environ.get(REMOTE_VARIABLE, "")
    return Remote.model_validate_json(text) if text else Remote()


def remote_object(url: str) -> RemoteObject:
    """Ask a server for the size and version of a URL.

    Raises:
        SlideAccessError: the server does not have the file, or denies access.
        UnreachableError: the server answers with an error; SilentServerError: it does not answer.
        MissingFileError: a package for this protocol is not installed.
        SlideFormatError: the URL holds a password, or the server does not report a size.
    """
    fault = secret_fault(url)
    if fault:
        raise SlideFormatError(without_secrets(url), fault)
    try:
        info = request_with_retries(
            url, lambda: _file_system(url).info(url, **({"refresh": True} if url.startswith("s3:") else {}))
        )
    except SlideAccessError:
        if url.startswith("s3:"):
            request_with_retries(url, lambda: _file_system(url).cat_file(url, start=0, end=1))  # HEAD has no body with the reason
        raise
    if info.get("size") is None or info.get("type", "file") != "file":
        raise SlideFormatError(url, f"must be a file whose size the server reports; {HINT}")
    tag = str(info.get("ETag") or info.get("Last-Modified") or info.get("LastModified") or info.get("created") or "")
    version = f"{info['size']} {tag}".replace('"', "").strip()
    strong_tag = tag if tag.startswith('"') else ""
    return RemoteObject(url, int(info["size"]), version, info.get("partial") is not False, strong_tag)


def request_with_retries(url: str, work: Callable[[], Response]) -> Response:
    """Return the response of a request, retried after network faults. Raises as `remote_object`."""
    attempts = remote_settings().attempts
    for attempt in range(attempts):
        try:
            return work()
        except ImportError as error:
            hint = f"pip install 'wsi_mil[remote]', or {HINT}"
            raise MissingFileError(url, f"needs a package ({_line(error)}); {hint}") from error
        except (WsiMilError, MemoryError):
            raise
        except Exception as error:  # each file system of fsspec has errors of its own
            fault, is_worth_it = _fault(url, error)
            if not is_worth_it or attempt == attempts - 1:
                raise fault from error
            log.warning("%s; trying again", fault)
            time.sleep(PAUSE_S * 2**attempt)
    raise AssertionError("remote.attempts is at least 1")


def open_remote(remote: RemoteObject) -> Any:
    """Open fsspec's file, whose every `read` is one request.

    A web server that gave an ETag is asked to answer only if the file is unchanged; s3fs does so by itself.
    """
    headers = {"headers": {"If-Match": remote.tag}} if remote.tag and remote.url.startswith("http") else {}
    return request_with_retries(remote.url, lambda: _file_system(remote.url).open(remote.url, "rb", cache_type="none", **headers))


class RemoteFile(io.RawIOBase):
    """Seekable file on a server, read block by block. Thread-safe.

    Attributes:
        remote: the file's metadata when it was opened.
        name: file name, for tifffile.
        fault: network fault that ended reading, or None; a decoder's error after it is no fault of the slide's data.
        bytes_received: number of bytes received.
    """

    def __init__(self, url: str):
        """Open the URL. Raises as `remote_object`."""
        super().__init__()
        self.remote = remote_object(url)
        self.name = url.rpartition("/")[2]
        self.fault: WsiMilError | None = None
        self.bytes_received = 0
        self._at = 0
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        if not self.remote.sends_ranges:
            raise SlideFormatError(url, "its server sends whole files only; set remote.staging to scratch")
        self._handle = open_remote(self.remote)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.remote.size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        with self._lock:
            data = self._read_range(self._at, min(self._at + len(buffer), self.remote.size))
            self._at += len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and self.bytes_received:
            share = self.bytes_received / max(1, self.remote.size)
            log.info("%s: read in place, %.1f MB (%.0f %% of it)", self.name, self.bytes_received / 1e6, 100 * share)
        super().close()

    def raise_fault(self) -> None:
        """Raise the network fault, if there was one."""
        if self.fault is not None:
            raise self.fault

    def _read_range(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        first, last = start // BLOCK, (end - 1) // BLOCK
        blocks = {n: self._blocks[n] for n in range(first, last + 1) if n in self._blocks}
        for run in _runs(n for n in range(first, last + 1) if n not in blocks):
            blocks |= self._fetch_blocks(run)
        for n, block in blocks.items():
            self._blocks[n] = block
            self._blocks.move_to_end(n)
        while len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return b"".join(blocks[n] for n in range(first, last + 1))[start - first * BLOCK : end - first * BLOCK]

    def _fetch_blocks(self, run: range) -> dict[int, bytes]:
        """Fetch consecutive blocks in one request."""
        start, end = run.start * BLOCK, min(run.stop * BLOCK, self.remote.size)
        self.fault = None
        try:
            data = request_with_retries(self.remote.url, lambda: self._request(start, end))
        except SlideAccessError as error:  # "failed" is recorded only for slides that could never be opened
            self.fault = UnreachableError(self.remote.url, f"was opened, but could not be read to its end ({error})")
            raise self.fault from error
        except WsiMilError as error:
            self.fault = error
            raise
        self.bytes_received += len(data)
        return {n: data[(n - run.start) * BLOCK : (n - run.start + 1) * BLOCK] for n in run}

    def _request(self, start: int, end: int) -> bytes:
        self._handle.seek(start)
        data = bytes(self._handle.read(end - start))
        if len(data) != end - start:
            raise ConnectionError(f"expected {end - start} bytes, received {len(data)}")
        return data


def _runs(numbers: Iterator[int]) -> Iterator[range]:
    """Ascending numbers as ranges without gaps."""
    run = range(0)
    for n in numbers:
        if run and n != run.stop:
            yield run
        run = range(run.start if run and n == run.stop else n, n + 1)
    if run:
        yield run


def _file_system(url: str) -> Any:
    protocol = url.partition("://")[0]
    fs = fsspec.filesystem(protocol, **_options(protocol))
    if protocol == "s3":
        fs.retries = 1  # `request_with_retries` counts attempts
    return fs


def _options(protocol: str) -> dict[str, Any]:
    """Time limits, merged with fsspec's configuration."""
    seconds = remote_settings().timeout_s
    if protocol in ("http", "https"):
        import aiohttp  # an extra of the package

        own: dict[str, Any] = {
            key: value for name in ("http", "https") for key, value in conf.get(name, {}).get("client_kwargs", {}).items()
        }
        limits = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
        return {"client_kwargs": {"timeout": limits, **own}}
    if protocol == "s3":
        fixed = {"connect_timeout": seconds, "read_timeout": seconds, "retries": {"max_attempts": 1}}
        return {"config_kwargs": {**fixed, **conf.get("s3", {}).get("config_kwargs", {})}}
    return {}


def _fault(url: str, error: Exception) -> tuple[WsiMilError, bool]:
    """Error to raise for a failed request, and whether another attempt could help."""
    chain = list(_chain(error))
    status = next((code for code in map(_status, chain) if code), _status_without_answer(chain))
    codes = {type(e).__name__ for e in chain} | {_s3_code(e) for e in chain}
    words = without_secrets(_line(chain[-1]))
    if codes & CREDENTIAL_ERRORS or status in UNAUTHORISED_STATUS:
        return SilentServerError(url, f"is not accessible with these credentials ({words}); {HINT_LOGIN}"), False
    if status in GONE_STATUS:
        return SlideAccessError(url, f"cannot be reached: its server does not have it ({status}); {HINT}"), False
    if status in FORBIDDEN_STATUS:
        return SlideAccessError(
            url, f"cannot be reached: its server denies access ({status}); {HINT}, or change its permissions"
        ), False
    if status in CHANGED_STATUS or "FileExpired" in codes:
        return UnreachableError(url, "changed while it was read; run again"), False
    if isinstance(chain[-1], ValueError) and "rotocol not known" in words:
        return MissingFileError(url, f"cannot be reached ({words}); {HINT}"), False
    what = f"answers {status}" if status else f"does not answer ({words})"
    kind = UnreachableError if status else SilentServerError
    return kind(url, f"cannot be reached: its server {what}; check it and the network, or {HINT}"), True


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _status(error: BaseException) -> int:
    """HTTP status in an error of aiohttp or botocore, or 0."""
    status = getattr(error, "status", None)
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else 0


def _s3_code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _status_without_answer(chain: list[BaseException]) -> int:
    """HTTP status that the file system's own error stands for, or 0."""
    kinds: dict[type[BaseException], int] = {FileNotFoundError: 404, PermissionError: 403}
    return kinds.get(type(chain[-1]), 0)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
