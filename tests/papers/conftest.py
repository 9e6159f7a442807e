from pathlib import Path

import pytest

import benchmarks.papers.runs

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def shared(name: str) -> Path:
    """Return a folder of published data; skip the test if it is missing."""
    if not (DATA / name).is_dir():
        pytest.skip(f"the published data {name!r} is not available ({DATA / name})")
    return DATA / name


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep trained models of a test in its own folder."""
    monkeypatch.setattr(benchmarks.papers.runs, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"
