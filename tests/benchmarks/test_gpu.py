"""`make gpu` without a GPU: its limits, its record, and what becomes of a part that fails, hangs or runs out of memory."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_parts import checks, extraction, training
from benchmarks.gpu_parts.device import driver_version, find, is_out_of_memory, most_free, peak_gb, torch_device
from benchmarks.gpu_parts.report import Record, row_of
from benchmarks.gpu_parts.rows import measure_all
from benchmarks.gpu_parts.training import MODELS
from tests.gpu.stand_in import CUDA, stand_in
from wsi_mil.records import Bag

MACHINE = {"date": "2026-01-02 03:04", "name": "H0", "driver": "1.2", "torch": "2.6", "cuda": "12", "python": "3.11"}
MACHINE |= {"cores": 3, "float32_products": "highest"}
STEP = {"step_ms": 20.0, "low_ms": 19.0, "high_ms": 22.5, "peak_gb": 1.5, "reserved_gb": 1.75, "weights": 657026}
ROW = """print('{"row": {"test": "a", "result": "passed"}}', flush=True)"""


def test_all_parts_together_take_at_most_twelve_minutes() -> None:
    assert sum(gpu.SECONDS.values()) + gpu.PROBE_SECONDS <= 12 * 60


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_one_sentence_says_so_and_all_is_well(tmp_path: Path) -> None:
    command = [sys.executable, str(gpu.ROOT / "benchmarks" / "gpu.py"), "--out", str(tmp_path / "o.json")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    said = f"make gpu: torch {torch.__version__} sees no CUDA device here, so nothing was measured.\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr
    assert not list(tmp_path.iterdir())


def run(code: str, record: Record, monkeypatch: pytest.MonkeyPatch, limit: float) -> None:
    """Run a part that is this code."""
    monkeypatch.setattr(gpu, "command_of", lambda *_: [sys.executable, "-c", code])
    monkeypatch.setitem(gpu.SECONDS, "tests", limit)
    gpu.run_part("tests", record, device="cpu", is_tiny=True)


def test_a_part_that_hangs_ends_with_its_children_and_its_rows_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])"
    record = Record(tmp_path / "o.json", MACHINE)
    start = time.monotonic()
    run(f"{child}; {ROW}; print('child', p.pid, flush=True); time.sleep(99)", record, monkeypatch, 6)
    part = json.loads((tmp_path / "o.json").read_text())["parts"]["tests"]
    assert (part["status"], part["rows"]) == ("timed out", [{"test": "a", "result": "passed"}])
    assert time.monotonic() - start < 60
    assert is_over(part["last_lines"][-1].split()[1])


def is_over(pid: str) -> bool:
    """Whether a process ends within ten seconds; one that has ended may stay as a zombie."""
    for _ in range(100):
        done = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True)
        if done.stdout.strip()[:1] in ("", "Z"):
            return True
        time.sleep(0.1)
    return False


def test_a_part_that_fails_is_reported_with_its_last_lines_and_one_that_passes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(tmp_path / "o.json", MACHINE)
    run(f"{ROW}; raise SystemExit('no kernel image')", record, monkeypatch, 60)
    assert record.parts["tests"].last_lines == ["no kernel image"] and record.bad_parts == ["tests"]
    assert "tests: failed" in record.markdown() and "no kernel image" in record.markdown()
    run(ROW, record, monkeypatch, 60)
    assert record.bad_parts == [] and "Last lines" not in record.markdown()
    assert record.figures() == {"device": "H0", "bad_parts": [], "tests_passed": 1}


def test_rows_of_what_cannot_be_measured_say_why_and_only_a_failure_counts(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(error: Exception):
        def measure() -> dict:
            raise error

        return measure

    cases = [({"n": 1}, fails(torch.OutOfMemoryError("CUDA out of memory"))), ({"n": 2}, lambda: {"x": 5})]
    assert measure_all(cases, 60)
    assert not measure_all([({"n": 3}, fails(ValueError("odd"))), *cases[1:]], 60)
    assert measure_all(cases, 0)
    rows = [row_of(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["n"], row["result"]) for row in rows] == [
        (1, "out of memory"),
        (2, "measured"),
        (3, "failed: ValueError: odd"),
        (2, "measured"),
        (1, "not measured: the part's time was over"),
        (2, "not measured: the part's time was over"),
    ]
    assert rows[1]["x"] == 5


def test_the_tables_compare_a_step_with_abmil_and_with_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"model": "ABMIL", "precision": "float32", "result": "measured", **STEP},
        {"model": "TransMIL", "precision": "float32", "result": "measured", **STEP, "step_ms": 50.0},
        {"model": "MHIM over TransMIL", "precision": "float32", "result": "out of memory"},
    ]
    record = Record(tmp_path / "o.json", MACHINE)
    code = "; ".join(f"print({json.dumps({'row': row})!r})" for row in rows)
    monkeypatch.setattr(gpu, "command_of", lambda *_: [sys.executable, "-c", code])
    gpu.run_part("training", record, device="cpu", is_tiny=True)
    lines = record.markdown().splitlines()
    assert "| TransMIL | float32 | 657,026 (2.67M) | 50.0 (19.0 to 22.5) | 2.50 (3.27) | 1.5 | 1.75 | 10.6 |  |" in lines
    assert "| MHIM over TransMIL | float32 | – (2.67M) | – | – (2.52) | – | – | 5.5 | out of memory |" in lines
    assert record.figures()["TransMIL_float32_step_ms"] == 50.0


def test_the_models_are_those_of_the_papers_table() -> None:
    assert list(MODELS) == ["ABMIL", "CLAM-MB", "DTFD", "TransMIL", "MHIM over ABMIL", "MHIM over TransMIL"]


def test_a_line_that_is_no_row_is_none() -> None:
    assert row_of("torch says hello") is None and row_of('{"row" broken') is None and row_of('{"row": {"a": 1}}') == {"a": 1}


def test_the_device_with_the_most_free_memory_is_taken_the_first_of_several() -> None:
    assert most_free([3, 9, 9]) == 1 and most_free([5]) == 0


def test_the_drivers_version_is_known_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    file = tmp_path / "version"
    assert driver_version(file) == "not known"
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12\n")
    assert driver_version(file) == "570.86.15"


def test_a_cpu_has_a_peak_of_memory_too() -> None:
    in_tensors, reserved = peak_gb(torch_device("cpu"))
    assert 0.05 < in_tensors == reserved


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_want_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_files_with_tests_for_a_gpu_are_found_by_their_mark() -> None:
    found = {Path(file).relative_to(gpu.ROOT / "tests").as_posix() for file in checks.test_files()}
    assert found >= {"gpu/test_device.py", "gpu/test_learning.py", "test_devices.py", "encoders/test_loop.py"}
    assert "test_metrics.py" not in found


@pytest.mark.slow
@pytest.mark.system
def test_every_test_for_a_gpu_that_can_passes_on_a_cpu() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_parts.checks", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=gpu.ROOT)
    rows = [row for row in map(row_of, done.stdout.splitlines()) if row]
    assert done.returncode == 0 and sum(row["result"] == "passed" for row in rows) >= 30, done.stdout[-3000:]


def test_the_gpu_with_the_most_free_memory_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in(monkeypatch):
        found = find()
    assert (found["device"], found["name"], found["free_gib"], found["memory_gib"]) == ("cuda:1", "Stand-in", 61.0, 80.0)
    assert (found["capability"], found["dtype"]) == ("9.0", "bfloat16")


def test_a_gpu_that_cannot_compute_is_a_fault_not_an_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(number: int) -> tuple[int, int]:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nmore")

    with stand_in(monkeypatch):
        monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
        assert find() == {"fault": "the CUDA device cannot be used: CUDA error: all CUDA-capable devices are busy or unavailable"}


def test_training_steps_are_measured_on_the_gpu_and_its_memory_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    features = np.random.default_rng(0).random((9, 1024), np.float32).astype(np.float16)
    with stand_in(monkeypatch):
        bench = training.Bench(Bag("s", features, np.zeros((9, 2), np.int64)), CUDA, training.TINY, 0)
        cases = [case for case in bench.cases() if "TransMIL" not in case[0]["model"]]
        assert measure_all(cases, 60)
    rows = [row for row in map(row_of, capsys.readouterr().out.splitlines()) if row]
    assert [row["result"] for row in rows] == ["measured"] * 4
    assert {(row["peak_gb"], row["reserved_gb"]) for row in rows} == {(3.0, 4.0)}


@pytest.mark.slow
@pytest.mark.system
def test_extraction_is_measured_on_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = replace(extraction.TINY, encoders={"ViT": "test_vit"}, mpps=(0.5,))
    with stand_in(monkeypatch):
        bench = extraction.Bench(size, tmp_path, CUDA)
        ((identity, measure),) = bench.cases()
        row = measure()
    assert (identity["dtype"], row["peak_gb"]) == ("bfloat16", 4.0) and row["gpu_vs_encoder"] > 0 and row["tiles"] >= 32
