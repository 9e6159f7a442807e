"""A web server and an S3 interface on this machine."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import tissue_image, write_aperio
from tests.servers import Files, file_server
from wsi_mil.config import REMOTE_VARIABLE


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    (tmp_path / "served").mkdir()
    with file_server(tmp_path / "served") as found:
        yield found


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Sets how servers are asked; a second attempt by default, copies below `tmp_path`."""

    def configure(**settings: object) -> None:
        values = {"attempts": 2, "timeout_s": 5, "scratch": str(tmp_path / "scratch"), **settings}
        monkeypatch.setenv(REMOTE_VARIABLE, json.dumps(values))

    configure()
    return configure


@pytest.fixture
def served_slide(files: Files) -> Path:
    """Aperio, 640×448 at 0.5 µm, on the web server."""
    return write_aperio(files.folder / "slide.svs", tissue_image(640, 448))


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Aperio, 3600×2600: several megabytes."""
    return write_aperio(tmp_path_factory.mktemp("large") / "a.svs", tissue_image(3600, 2600)).read_bytes()


@pytest.fixture
def large_slide(files: Files, large: bytes) -> Path:
    """On the web server."""
    (files.folder / "large.svs").write_bytes(large)
    return files.folder / "large.svs"


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of an S3 interface."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str, bytes], str]]:
    """Puts an object into a bucket of its own; gives its address."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-word")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    fs.mkdir("slides")

    def put(name: str, content: bytes) -> str:
        fs.pipe(f"slides/{name}", content)
        return f"s3://slides/{name}"

    yield put
    fs.rm("slides", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()
