"""Crashes and hangs of real processes."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsi_mil.config import TileSettings, Tiling, Tissue
from wsi_mil.receipts import read_receipt, store_path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no child on other systems")

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from wsi_mil.runtime.crash_guard import enable_fork, reading, run_guarded

done = Path(sys.argv[1])

def tell(line):
    with done.open("a") as file:
        file.write(line + "\\n")

def times(line):
    return done.read_text().split("\\n").count(line) if done.exists() else 0

enable_fork()

def give_up(item, reason):
    tell(f"gave up {item}: {reason}")

for item in run_guarded(3, give_up, seconds=2):
    tell(f"began {item}")
    BODY
    tell(f"did {item}")
"""


def run(tmp_path: Path, body: str) -> tuple[int, list[str]]:
    """Exit status of a program that works on three items, and the lines of its log."""
    program = PROGRAM.replace("BODY", textwrap.indent(textwrap.dedent(body), "    ").strip())
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "log")], timeout=600, check=False)
    return done.returncode, (tmp_path / "log").read_text().split("\n")[:-1]


def test_items_that_work_are_done_once_and_the_childs_exit_code_is_passed_on(tmp_path: Path) -> None:
    whole = ["began 0", "did 0", "began 1", "did 1", "began 2", "did 2"]
    assert run(tmp_path, "pass") == (0, whole)
    (tmp_path / "log").unlink()
    assert run(tmp_path, "if item == 1: sys.exit(7)") == (7, ["began 0", "did 0", "began 1"])


def test_an_item_whose_read_crashes_is_retried_once_and_then_given_up(tmp_path: Path) -> None:
    code, log = run(tmp_path, "with reading():\n    if item == 1: os.kill(os.getpid(), signal.SIGSEGV)")
    twice = ["began 0", "did 0", "began 1"] * 2
    reason = "gave up 1: the process crashes while reading it (SIGSEGV)"
    assert code == 0 and log == [*twice, reason, "began 0", "did 0", "began 2", "did 2"]


def test_a_crash_that_does_not_recur_leaves_no_trace(tmp_path: Path) -> None:
    crash = "with reading():\n    if item == 1 and times('began 1') == 1: os.abort()"
    code, log = run(tmp_path, crash)
    assert code == 0 and not any(line.startswith("gave up") for line in log) and log[-1] == "did 2"


def test_a_hanging_read_is_given_up_but_slow_work_between_reads_is_not(tmp_path: Path) -> None:
    hang = "if item == 1: time.sleep(3.5)\nwith reading():\n    if item == 2: time.sleep(6000)"
    code, log = run(tmp_path, hang)
    assert code == 0 and log.count("did 1") == 3  # in each of three children
    assert [line for line in log if line.startswith("gave up")] == ["gave up 2: no data came from it for 2 s"]


@pytest.mark.parametrize(("name", "expected"), [("SIGKILL", 137), ("SIGTERM", 143), ("SIGSEGV", 139)])
def test_a_signal_from_outside_ends_the_command(name: str, expected: int, tmp_path: Path) -> None:
    """From outside, or a crash while nothing is read."""
    code, log = run(tmp_path, f"if item == 1: os.kill(os.getpid(), signal.{name})")
    assert code == expected and log == ["began 0", "did 0", "began 1"]


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    body = "tell(str(os.getpid())); time.sleep(6000)"
    program = PROGRAM.replace("BODY", body)
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "log")])
    while not (tmp_path / "log").exists() or len((tmp_path / "log").read_text().split()) < 3:
        assert parent.poll() is None
        time.sleep(0.02)
    child = int((tmp_path / "log").read_text().split()[2])
    parent.kill()
    parent.wait()
    for _ in range(3000):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.02)
    pytest.fail("the child outlived its parent by a minute")


def command(
    stage: str, folder: Path, *, slides: str = "a", again: str = "", **options: object
) -> subprocess.CompletedProcess[str]:
    """`wsi-mil tile` or `extract` of the slides a.png, b.png, …; `again` names a stage that Snakemake was told to force."""
    rows = [{"slide_id": slide, "path": str(folder / f"{slide}.png"), "mpp": 0.5} for slide in slides]
    values = [f"--row={json.dumps(row)}" for row in rows] + [f"--{n.replace('_', '-')}={value}" for n, value in options.items()]
    whole = [sys.executable, "-m", "wsi_mil", stage, *values]
    environment = {**os.environ, "WSI_MIL_AGAIN": again}
    return subprocess.run(whole, capture_output=True, text=True, timeout=900, check=False, env=environment)


def write_noise(path: Path, side: int) -> None:
    """A slide whose reading takes the longer, the larger it is."""
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(path, compress_level=1)


SETTINGS = TileSettings(tiling=Tiling(max_tiles=2), tissue=Tissue(method="none")).model_dump_json()


def test_a_forced_job_whose_decoder_hangs_records_that_slide_as_failed_and_does_the_others_once(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.png", 6000)
    write_noise(tmp_path / "b.png", 500)
    tiles, record = tmp_path / "tiles", tmp_path / "record.json"
    command("tile", tmp_path, slides="b", settings=SETTINGS, tiles=tiles)
    done = command("tile", tmp_path, slides="ba", again="tile", settings=SETTINGS, tiles=tiles, record=record, read_timeout_s=0.1)
    assert done.returncode == 0 and done.stderr.count("b: ok") == 1, done.stderr
    receipts = {slide: read_receipt(tiles / f"{slide}.json") for slide in "ab"}
    assert (receipts["a"]["status"], receipts["b"]["status"]) == ("failed", "ok")
    assert receipts["a"]["reason"] == f"{tmp_path / 'a.png'}: no data came from it for 0.1 s"
    assert record.exists() and not store_path(tiles / "a.json").exists()


def test_a_slide_whose_decoder_hangs_is_recorded_as_failed(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.png", 6000)
    tiles, features, path = tmp_path / "tiles" / "a.json", tmp_path / "features" / "a.json", tmp_path / "a.png"
    done = command("tile", tmp_path, settings=SETTINGS, tiles=tiles.parent)
    assert done.returncode == 0 and read_receipt(tiles)["status"] == "ok", done.stderr
    encoder = json.dumps({"encoder": "resnet18", "weights": "random"})
    folders = {"tiles": tiles.parent, "features": features.parent}
    done = command("extract", tmp_path, **folders, settings=encoder, device="cpu", read_timeout_s=0.1)
    reason = f"{path}: no data came from it for 0.1 s"
    assert done.returncode == 0 and "it is retried once" in done.stderr and "for the second time: it is given up" in done.stderr
    assert (read_receipt(features)["status"], read_receipt(features)["reason"]) == ("failed", reason)
