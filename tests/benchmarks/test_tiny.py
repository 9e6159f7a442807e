"""Every benchmark runs to its last line at its smallest size, and that line is JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"
BENCHMARKS = sorted(path.stem for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8"))
"""Found by listing, so that a new one cannot be forgotten; modules without a main program are parts of others."""
OF_RESULTS = {
    "demo": ("--tiny", "--results", "results"),
    "explanations": ("results",),
    "resources": ("results",),
    "sparse_inversion_sweep": ("--tiny", "c.yaml"),
}
"""Benchmarks of a finished run, with their arguments in its folder; the others take `--tiny` and make what they need."""
MORE = {"gpu": ("--device", "cpu", "--out", "gpu.json")}
OF_MANY_JOBS = ("targets",)
"""Benchmarks that run a whole DAG again and again, here by the fast `wsi-mil`."""
NEED_MORE: dict[str, str] = {}
"""Benchmarks that cannot run here, with the reason: those that need a network or a paper's data. `benchmarks/papers` has tests
of its own."""
pytestmark = [pytest.mark.slow, pytest.mark.system]


def last_line(name: str, *args: str, folder: Path, programs: Path | None = None) -> object:
    """Run a benchmark on one thread in a folder, with `programs` first on the path; return what its last line says."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *args]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "WSI_MIL_DEVICE": "cpu"}
    if programs is not None:
        environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in (*OF_RESULTS, *NEED_MORE)])
def test_a_benchmark_runs_at_its_smallest_size_to_a_last_line_of_json(name: str, command: Path, tmp_path: Path) -> None:
    programs = command.parent if name in OF_MANY_JOBS else None
    figures = last_line(name, "--tiny", *MORE.get(name, ()), folder=tmp_path, programs=programs)
    assert isinstance(figures, dict) and figures


@pytest.mark.parametrize("name", OF_RESULTS)
def test_a_benchmark_of_a_finished_run_ends_in_a_line_of_json(name: str, finished: Path) -> None:
    figures = last_line(name, *OF_RESULTS[name], folder=finished)
    assert isinstance(figures, dict) and figures


def test_the_lists_name_benchmarks_that_exist() -> None:
    assert {*OF_RESULTS, *MORE, *OF_MANY_JOBS, *NEED_MORE} <= set(BENCHMARKS)
