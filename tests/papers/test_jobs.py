import json
from pathlib import Path

import pytest

from benchmarks.papers.jobs import Selection, execute_all


def numbers(results: Path) -> dict[str, int]:
    return {path.stem: json.loads(path.read_text())["figures"]["number"] for path in results.rglob("*.json")}


def test_runs_are_done_once_each_in_several_processes_and_go_on_after_one_that_failed(tmp_path: Path) -> None:
    selection = Selection(["tests.papers.counting"], tmp_path, results=tmp_path / "results")
    (tmp_path / "broken-1").touch()
    with pytest.raises(OSError, match="run 1: the disk is full"):
        execute_all(selection, jobs=2)
    assert numbers(tmp_path / "results")["0"] == 0 and "1" not in numbers(tmp_path / "results")
    (tmp_path / "broken-1").unlink()
    assert execute_all(selection, jobs=2) in (1, 2, 3)
    assert numbers(tmp_path / "results") == {"0": 0, "1": 1, "2": 2, "3": 3}
    assert execute_all(selection, jobs=2) == 0
