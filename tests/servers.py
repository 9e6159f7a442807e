"""A local web server for slides, which can simulate failures."""

import hashlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


@dataclass
class Files:
    """A web server that sends files of a folder, or byte ranges of them, as object stores do.

    Attributes:
        folder: folder of the files.
        answers: by name, HTTP status codes of the next responses; the last one is repeated. 200 sends the file, 0 nothing.
        has_ranges: whether byte ranges are sent.
        has_tags: whether ETags are sent.
        delay_s: seconds before each file or range, to simulate latency.
        silence_s: seconds without a response for status 0.
        sent: bytes of files that were sent, by name.
        requests: number of requests, by name and method.
        url: address of the server.
    """

    folder: Path
    answers: dict[str, list[int]] = field(default_factory=dict)
    has_ranges: bool = True
    has_tags: bool = True
    delay_s: float = 0.0
    silence_s: float = 1.5
    sent: Counter = field(default_factory=Counter)
    requests: Counter = field(default_factory=Counter)
    url: str = ""

    def answer(self, name: str) -> int:
        """Return the status code of the next response for a file."""
        planned = self.answers.get(name, [200])
        return planned.pop(0) if len(planned) > 1 else planned[0]


@lru_cache(8)
def _content(path: Path, mtime_ns: int) -> tuple[bytes, str]:
    """Return content and ETag of a file."""
    content = path.read_bytes()
    return content, f'"{hashlib.md5(content).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    files: Files

    def do_GET(self) -> None:
        status, content, headers = self._answer()
        if status:
            self._head(status, content, headers)
            self.wfile.write(content)
            self.files.sent[self._name()] += len(content) * (status in (200, 206))

    def do_HEAD(self) -> None:
        status, content, headers = self._answer()
        if status:
            self._head(status, content, headers)

    def _name(self) -> str:
        return unquote(self.path).lstrip("/")

    def _head(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _answer(self) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers of the response."""
        name, files = self._name(), self.files
        files.requests[name, self.command] += 1
        status, path = files.answer(name), files.folder / name
        if status == 0:
            time.sleep(files.silence_s)
        elif status == 200 and path.is_file():
            return self._part(path)
        return (404 if status == 200 else status), b"no", {}

    def _part(self, path: Path) -> tuple[int, bytes, dict[str, str]]:
        content, tag = _content(path, path.stat().st_mtime_ns)
        time.sleep(self.files.delay_s)
        if self.headers.get("If-Match", tag) != tag:
            return 412, b"changed", {}
        headers = {"Last-Modified": self.date_time_string(int(path.stat().st_mtime))}
        headers |= {"ETag": tag} if self.files.has_tags else {}
        if not self.files.has_ranges or "Range" not in self.headers:
            return 200, content, {**headers, "Accept-Ranges": "bytes" if self.files.has_ranges else "none"}
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        start, stop = int(first), min(int(last or len(content) - 1) + 1, len(content))
        return 206, content[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # with the default of 5, some of many simultaneous clients wait for seconds


@contextmanager
def file_server(folder: Path) -> Iterator[Files]:
    """Start a web server for the files of a folder."""
    files = Files(folder)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"files": files}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    files.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])
