import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

TEMPLATE, PLACE = "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", "/{repo_id}/resolve/{revision}/{filename}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A small hub on this machine: files by path, and repositories that it gives to nobody."""

    port: int
    files: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


class Answers(BaseHTTPRequestHandler):
    hub: Hub
    timeout = 60.0  # seconds that a connection may stay open and silent

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        self.hub.asked.append(f"{self.command} {self.path}")
        content = self.hub.files.get(self.path)
        gated = any(self.path.startswith(f"/{name}/") for name in self.hub.gated)
        self.send_response(403 if gated else 200 if content is not None else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "" if content is not None else "EntryNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{abs(hash(content)):x}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        return content or b""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Answers,), {})) as server:
        made = server.RequestHandlerClass.hub = Hub(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(TEMPLATE, f"http://127.0.0.1:{made.port}{PLACE}")
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def put_in_cache(hub_cache: Path, repository: str, file: str, content: bytes = b"", *, revision: str = "main") -> None:
    """A file as the Hub's client keeps it; a revision that is no branch is a commit."""
    folder = hub_cache / f"models--{repository.replace('/', '--')}"
    commit = COMMIT if revision == "main" else revision
    if revision == "main":
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs/main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
    (folder / "snapshots" / commit / file).write_bytes(content)
