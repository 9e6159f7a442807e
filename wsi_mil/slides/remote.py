"""Slides on a server: what is known of one before it is read, and its bytes. The only importer of fsspec.

Every request is made again a few times. What then remains is told apart: a slide that is not there or not given (a fault of
the data), and a server that does not answer (a fault of the machine, which must never look like a damaged slide).
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

Answer = TypeVar("Answer")

BLOCK = 256 << 10
"""Bytes that are asked for at once, at least: about a dozen JPEG tiles, which lie beside each other."""

KEPT_BLOCKS = 256
"""Blocks that are kept: two rows of tiles of a wide slide are 20 MB."""

PAUSE_S = 0.25
"""Before the second attempt; twice as long before each further one."""

NOT_THERE, NOT_GIVEN, NO_LOGIN, CHANGED = (404, 410), (403,), (401,), (412,)
"""Answers of HTTP."""

BAD_LOGIN = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "NoCredentialsError",
    "PartialCredentialsError",
}
"""Codes of S3 and errors of its client that are about the credentials, not about one slide."""

MEND = "correct the sheet's `path` column, or bring the slide there"
MEND_LOGIN = "credentials come from the environment (AWS_…) or from fsspec's configuration, see docs/remote.md"


@dataclass(frozen=True)
class RemoteObject:
    """A file on a server.

    Attributes:
        size: bytes.
        version: changes with its content: size and ETag; where there is no ETag, the time of its last change.
        in_parts: whether the server sends parts of it, as far as it says.
        tag: strong ETag, by which a web server tells whether it is still the same; "" where it has none.
    """

    url: str
    size: int
    version: str
    in_parts: bool
    tag: str = ""


def remote_settings() -> Remote:
    """How servers are asked: by the environment, else by default."""
    text = os.environ.get(REMOTE_VARIABLE, "")
    return Remote.model_validate_json(text) if text else Remote()


def remote_object(url: str) -> RemoteObject:
    """Ask what lies at an address.

    Raises:
        SlideAccessError: nothing, or it is not given.
        UnreachableError: the server answers that it cannot; SilentServerError: it does not answer.
        MissingFileError: a package is missing that speaks to it.
        SlideFormatError: the address holds a password, or the server does not say a size.
    """
    fault = secret_fault(url)
    if fault:
        raise SlideFormatError(without_secrets(url), fault)
    try:
        info = asked(url, lambda: _file_system(url).info(url, **({"refresh": True} if url.startswith("s3:") else {})))
    except SlideAccessError:
        if url.startswith("s3:"):
            asked(url, lambda: _file_system(url).cat_file(url, start=0, end=1))  # HEAD has no body that could say why
        raise
    if info.get("size") is None or info.get("type", "file") != "file":
        raise SlideFormatError(url, f"is no file of which the server says the size; {MEND}")
    tag = str(info.get("ETag") or info.get("Last-Modified") or info.get("LastModified") or info.get("created") or "")
    version, strong = f"{info['size']} {tag}".replace('"', "").strip(), tag if tag.startswith('"') else ""
    return RemoteObject(url, int(info["size"]), version, info.get("partial") is not False, strong)


def asked(url: str, work: Callable[[], Answer]) -> Answer:
    """What a request answers, made again where the network is at fault. Raises as `remote_object`."""
    attempts = remote_settings().attempts
    for attempt in range(attempts):
        try:
            return work()
        except ImportError as error:
            mend = f"pip install 'wsi_mil[remote]', or {MEND}"
            raise MissingFileError(url, f"needs a package ({_line(error)}); {mend}") from error
        except (WsiMilError, MemoryError):
            raise
        except Exception as error:  # each file system of fsspec has errors of its own
            fault, is_worth_it = _fault(url, error)
            if not is_worth_it or attempt == attempts - 1:
                raise fault from error
            log.warning("%s; once more", fault)
            time.sleep(PAUSE_S * 2**attempt)
    raise AssertionError("there is one attempt at least")


def open_remote(about: RemoteObject) -> Any:
    """Fsspec's file, from which each `read` is one request. A web server is told to answer only if it is still the same, where
    it gave a tag; s3fs does so by itself.
    """
    headers = {"headers": {"If-Match": about.tag}} if about.tag and about.url.startswith("http") else {}
    return asked(about.url, lambda: _file_system(about.url).open(about.url, "rb", cache_type="none", **headers))


class RemoteFile(io.RawIOBase):
    """A file on a server that can be read anywhere, block by block. Safe in threads.

    Attributes:
        about: what it was when it was opened.
        name: for tifffile.
        fault: why it cannot be read any more, or None: a decoder's error that comes after is no fault of the slide's data.
        received: bytes that came.
    """

    def __init__(self, url: str):
        """Raises as `remote_object`."""
        super().__init__()
        self.about = remote_object(url)
        self.name = url.rpartition("/")[2]
        self.fault: WsiMilError | None = None
        self.received = 0
        self._at = 0
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        if not self.about.in_parts:
            raise SlideFormatError(url, "its server sends whole files only; set remote.staging to scratch")
        self._handle = open_remote(self.about)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.about.size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        with self._lock:
            data = self._part(self._at, min(self._at + len(buffer), self.about.size))
            self._at += len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and self.received:
            share = self.received / max(1, self.about.size)
            log.info("%s: read in place, %.1f MB (%.0f %% of it)", self.name, self.received / 1e6, 100 * share)
        super().close()

    def refuse_faults(self) -> None:
        """Raise the fault of the network, if there was one."""
        if self.fault is not None:
            raise self.fault

    def _part(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        first, last = start // BLOCK, (end - 1) // BLOCK
        found = {n: self._blocks[n] for n in range(first, last + 1) if n in self._blocks}
        for run in _runs(n for n in range(first, last + 1) if n not in found):
            found |= self._fetched(run)
        for n, block in found.items():
            self._blocks[n] = block
            self._blocks.move_to_end(n)
        while len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return b"".join(found[n] for n in range(first, last + 1))[start - first * BLOCK : end - first * BLOCK]

    def _fetched(self, run: range) -> dict[int, bytes]:
        """Blocks that lie side by side, in one request."""
        start, end = run.start * BLOCK, min(run.stop * BLOCK, self.about.size)
        self.fault = None
        try:
            data = asked(self.about.url, lambda: self._request(start, end))
        except SlideAccessError as error:  # a lasting status is for slides that were never there
            self.fault = UnreachableError(self.about.url, f"could be opened, but not be read to its end ({error})")
            raise self.fault from error
        except WsiMilError as error:
            self.fault = error
            raise
        self.received += len(data)
        return {n: data[(n - run.start) * BLOCK : (n - run.start + 1) * BLOCK] for n in run}

    def _request(self, start: int, end: int) -> bytes:
        self._handle.seek(start)
        data = bytes(self._handle.read(end - start))
        if len(data) != end - start:
            raise ConnectionError(f"{end - start} bytes were asked for, {len(data)} came")
        return data


def _runs(numbers: Iterator[int]) -> Iterator[range]:
    """Numbers in ascending order as ranges without gaps."""
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
        fs.retries = 1  # `asked` counts attempts
    return fs


def _options(protocol: str) -> dict[str, Any]:
    """Time limits, beside what fsspec's configuration says."""
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
    """What an error means, and whether another attempt could help."""
    chain = list(_chain(error))
    status = next((found for found in map(_status, chain) if found), _status_without_answer(chain))
    codes = {type(e).__name__ for e in chain} | {_s3_code(e) for e in chain}
    words = without_secrets(_line(chain[-1]))
    if codes & BAD_LOGIN or status in NO_LOGIN:
        return SilentServerError(url, f"is not given to these credentials ({words}); {MEND_LOGIN}"), False
    if status in NOT_THERE:
        return SlideAccessError(url, f"cannot be reached: its server does not have it ({status}); {MEND}"), False
    if status in NOT_GIVEN:
        return SlideAccessError(url, f"cannot be reached: its server does not give it ({status}); {MEND}, or its rights"), False
    if status in CHANGED or "FileExpired" in codes:
        return UnreachableError(url, "changed while it was read; run again"), False
    if isinstance(chain[-1], ValueError) and "rotocol not known" in words:
        return MissingFileError(url, f"cannot be reached ({words}); {MEND}"), False
    what = f"answers {status}" if status else f"does not answer ({words})"
    kind = UnreachableError if status else SilentServerError
    return kind(url, f"cannot be reached: its server {what}; check it and the network, or {MEND}"), True


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _status(error: BaseException) -> int:
    """The answer of HTTP that an error of aiohttp's or botocore's tells of, or 0."""
    status = getattr(error, "status", None)
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else 0


def _s3_code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _status_without_answer(chain: list[BaseException]) -> int:
    """What the file system's own error means where there is nothing behind it."""
    kinds: dict[type[BaseException], int] = {FileNotFoundError: 404, PermissionError: 403}
    return kinds.get(type(chain[-1]), 0)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
