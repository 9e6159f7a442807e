"""A sample of `make faults`."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.extraction import Extraction, fill_disk, kills, shards_done, tree
from wsi_mil.receipts import store_path
from wsi_mil.store import bytes_on_disk

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def extraction(tmp_path_factory: pytest.TempPathFactory) -> Extraction:
    return Extraction(tmp_path_factory.mktemp("extraction"), side=2400)


@pytest.fixture(scope="module")
def whole(extraction: Extraction) -> Path:
    """The receipt of an undisturbed run."""
    receipt = extraction.slide.parent / "whole" / "big.json"
    extraction.finish(receipt)
    assert shards_done(store_path(receipt)) == 3
    return receipt


def test_killed_at_two_moments_and_run_again_the_store_is_that_of_an_undisturbed_run(
    extraction: Extraction, whole: Path, tmp_path: Path
) -> None:
    assert kills(extraction, whole, tmp_path, 2, random.Random(3))["kills"] >= 2


def can_mount(folder: Path) -> bool:
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def test_a_full_disk_is_said_and_the_rest_is_done_once_there_is_room(extraction: Extraction, whole: Path, tmp_path: Path) -> None:
    if not can_mount(tmp_path / "tried"):
        pytest.skip("a small disk can be mounted by root only")
    assert fill_disk(extraction, whole, tmp_path / "disk", int(0.7 * bytes_on_disk(store_path(whole)))) in (1, 2)


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def test_a_second_process_on_the_same_slide_waits_for_the_first(extraction: Extraction, whole: Path, tmp_path: Path) -> None:
    """The first one stands still until the second has come to the store."""
    first = extraction.start(tmp_path / "f" / "big.json")
    while shards_done(store_path(tmp_path / "f" / "big.json")) == 0 and first.poll() is None:
        time.sleep(0.05)
    stopped = family(first.pid)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    second, said = extraction.start(tmp_path / "f" / "big.json"), ""
    try:
        while "is writing it; waiting" not in said:
            line = second.stderr.readline()
            assert line, said
            said += line
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    said, first_said = second.communicate(timeout=3600)[1], first.communicate(timeout=600)[1]
    assert first.returncode == second.returncode == 0
    assert "tiles are encoded already" in said and "tiles in" in first_said
    assert tree(tmp_path / "f") == tree(whole.parent)
