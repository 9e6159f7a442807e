from pathlib import Path

import pytest

import benchmarks.papers.runs

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def shared(name: str) -> Path:
    """A folder of published data, or the test is skipped."""
    if not (DATA / name).is_dir():
        pytest.skip(f"the published data {name!r} is not at hand ({DATA / name})")
    return DATA / name


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trained models of a test lie in its own folder."""
    monkeypatch.setattr(benchmarks.papers.runs, "KEPT", tmp_path / "kept")
    return tmp_path / "kept"
