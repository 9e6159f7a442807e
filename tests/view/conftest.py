import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from tests.view.made import Results
from wsi_mil.view import Catalogue, create_app
from wsi_mil.view.serving import free_socket

HTML = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def first_made(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What `made` is a copy of."""
    return make_results(tmp_path_factory.mktemp("made"))


@pytest.fixture
def made(first_made: Results, tmp_path: Path) -> Results:
    """Three slides with scores, the last predicted wrongly; one that failed, with HTML in its reason."""
    shutil.copytree(first_made.folder, tmp_path, dirs_exist_ok=True)
    return Results(tmp_path, [dict(row) for row in first_made.rows])


def make_results(folder: Path) -> Results:
    results = Results(folder)
    results.add_marked("s1")
    results.add_marked("s2")
    results.add_marked("s10", label="normal")
    results.add_failed("bad", HTML)
    results.write_predictions({"s1": 0.9, "s2": 0.7, "s10": 0.8})
    results.write_status(dict.fromkeys(("s1", "s2", "s10"), ("ok", "")) | {"bad": ("failed", HTML)})
    return results


def asking(catalogue: Catalogue) -> TestClient:
    """What asks the application, without a server."""
    return TestClient(create_app(catalogue), base_url="http://localhost")


@pytest.fixture
def client(made: Results) -> Iterator[TestClient]:
    with asking(made.catalogue()) as client:
        yield client


@contextmanager
def serving(catalogue: Catalogue) -> Iterator[str]:
    """Address of a real server of the results, for as long as the context lasts."""
    with free_socket("127.0.0.1", 18700) as listening:
        server = uvicorn.Server(uvicorn.Config(create_app(catalogue), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def served(first_made: Results) -> Iterator[str]:
    """Address of a server of `first_made`."""
    with serving(first_made.catalogue()) as address:
        yield address
