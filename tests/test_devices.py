import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from wsi_mil.devices import create_device, describe, fast_dtype, find_device, make_deterministic, reading_threads
from wsi_mil.errors import WsiMilError

CPU = torch.device("cpu")


def test_a_dtype_that_is_named_is_taken() -> None:
    assert fast_dtype("float32", CPU) is torch.float32 and fast_dtype("bfloat16", CPU) is torch.bfloat16


def test_auto_is_one_of_the_two() -> None:
    assert fast_dtype("auto", CPU) in (torch.float32, torch.bfloat16)


def test_reading_leaves_a_cpu_to_the_encoder() -> None:
    assert [reading_threads(CPU, n) for n in (1, 2, 8)] == [1, 1, 2] and reading_threads(torch.device("cuda"), 8) == 8


def test_a_device_that_does_not_exist_is_named() -> None:
    with pytest.raises(WsiMilError, match="--device 'gpu': expected auto, cpu, cuda"):
        create_device("gpu")


def test_a_cpu_is_called_no_gpu() -> None:
    assert describe(CPU) == "no GPU: cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_named_with_its_memory() -> None:
    name = torch.cuda.get_device_name(0)
    assert describe(find_device("auto")).startswith(f"cuda:0: {name}, ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_refused() -> None:
    with pytest.raises(WsiMilError, match="sees no CUDA device here; use --device cpu"):
        create_device("cuda:0")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_auto_takes_the_gpu() -> None:
    assert create_device("auto").type == "cuda"


CLAIM = """
import sys, time
from wsi_mil.devices import claim
print(claim(sys.argv[1:]), flush=True)
assert claim(sys.argv[1:]) == claim(sys.argv[1:])
sys.stdin.read()
"""


@pytest.fixture
def claimant(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    """Starts a process that claims one of two GPUs, says which, and holds it until its input ends."""
    started: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", CLAIM, "GPU-a", "GPU-b"]
        how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, **how))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_jobs_at_once_never_meet_on_a_gpu(claimant: Callable[[], subprocess.Popen]) -> None:
    first, second = claimant(), claimant()
    taken = {process.stdout.readline().strip(): process for process in (first, second)}
    assert set(taken) == {"GPU-a", "GPU-b"}
    third = claimant()
    assert "other processes use GPU-a, GPU-b; waiting" in third.stderr.readline()
    taken["GPU-b"].kill()
    assert third.stdout.readline().strip() == "GPU-b" and taken["GPU-a"].poll() is None


def test_training_asks_for_the_same_sums_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        make_deterministic()
        assert torch.are_deterministic_algorithms_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.skipif(not hasattr(os, "setuid") or os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_name_claims_too() -> None:
    """As in a container that runs under the number of its caller."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        code = f"""
import os, tempfile
from wsi_mil.devices import claim
tempfile.tempdir = {folder!r}
for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
os.setuid(54321)
print(claim(["GPU-a"]))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "GPU-a\n"), done.stderr
