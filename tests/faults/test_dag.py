"""A sample of `make faults` on the whole DAG, and faults of which one is enough. Each from a finished run."""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.dag import Disturbed, compare, on_small_disk
from tests.faults.test_extraction import can_mount

pytestmark = pytest.mark.slow


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Disturbed:
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    (tmp_path / "run" / "kills").mkdir()
    return Disturbed(tmp_path / "run")


@pytest.fixture
def expected(run: Disturbed) -> dict[str, bytes]:
    """Results of an undisturbed run."""
    return run.whole()


@pytest.mark.parametrize("stage", ["statistics", *(pytest.param(s, marks=pytest.mark.faults) for s in ("split", "evaluate"))])
def test_a_stage_that_is_killed_is_tried_again(run: Disturbed, expected: dict[str, bytes], stage: str) -> None:
    run.kill(stage, random.Random(stage).uniform(0.3, 0.9))
    counts = run.snakemake("--retries", "1", "--forcerun", stage)
    assert run.killed() == {stage: 1} and counts[stage] == 2
    run.snakemake()
    compare(run.whole(), expected)


def flip(path: Path) -> None:
    """The byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


EVERYTHING = ("tiles", "features", "all")
"""Targets: what is in the way of the report only is not made anew where the report is there."""
FEATURES, TILES = "features/tiny/s3", "tiles/default/s3"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (f"{FEATURES}.zarr/features/c/0/0", flip),
        pytest.param(f"{FEATURES}.zarr/features/c/0/0", Path.unlink, marks=pytest.mark.faults),
        pytest.param(f"{FEATURES}.json", cut, marks=pytest.mark.faults),
        pytest.param(f"{TILES}.zarr/coords/c/0/0", cut, marks=pytest.mark.faults),
        pytest.param(f"{TILES}.json", flip, marks=pytest.mark.faults),
    ],
)
def test_damaged_stores_are_found_and_made_anew(
    run: Disturbed, expected: dict[str, bytes], name: str, damage: Callable[[Path], None]
) -> None:
    damage(run.folder / "results" / name)
    verify = ["wsi-mil", "verify", "results", "--discard"]
    done = subprocess.run(verify, cwd=run.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "s3" in done.stdout and "deleted" in done.stdout, done.stdout + done.stderr
    run.snakemake(*EVERYTHING)
    compare(run.whole(), expected)


@pytest.mark.faults
@pytest.mark.parametrize(("name", "damage"), [("model.safetensors", cut), ("model.safetensors", flip), ("config.json", cut)])
def test_a_damaged_checkpoint_is_named_and_trained_again(
    run: Disturbed, expected: dict[str, bytes], name: str, damage: Callable[[Path], None]
) -> None:
    damage(run.results(f"models/tumour/tiny/abmil/fold-1/{name}"))
    run.snakemake("--retries", "0", "--forcerun", "predict", expected=1)
    said = (run.folder / "logs" / "predict" / "tiny" / "abmil.log").read_text()
    assert f"models/tumour/tiny/abmil/fold-1/{name}" in said and "again" in said and "Traceback" not in said, said
    run.snakemake("--forcerun", "train")
    run.snakemake()
    compare(run.whole(), expected)


@pytest.mark.faults
def test_damaged_scores_are_named_and_made_anew(run: Disturbed, expected: dict[str, bytes]) -> None:
    flip(run.results("scores/tumour/tiny/abmil/s3.zarr/attention/c/0"))
    run.snakemake("--retries", "0", "--forcerun", "heatmap", expected=1)
    said = (run.folder / "logs/heatmap/tumour/tiny/abmil/s3.log").read_text()
    assert (
        "error: results/scores/tumour/tiny/abmil/s3.zarr: array 'attention' cannot be read" in said and "Traceback" not in said
    ), said
    run.snakemake("--forcerun", "explain")
    run.snakemake()
    compare(run.whole(), expected)


@pytest.mark.system
def test_a_slide_that_changes_between_tile_and_extract_is_tiled_again(run: Disturbed, expected: dict[str, bytes]) -> None:
    slide, kept = run.sheet.parent / "s2.svs", run.sheet.parent / "kept"
    shutil.copy2(slide, kept)
    shutil.rmtree(run.results("features"))
    run.before("extract", f"cp '{run.sheet.parent / 's4.svs'}' '{slide}'")
    run.snakemake("--retries", "0", *EVERYTHING, expected=1)
    said = (run.folder / "logs" / "extract" / "tiny" / "s2.log").read_text()
    assert "its bytes changed since it was tiled" in said and "Traceback" not in said, said
    run.snakemake(*EVERYTHING)
    assert run.whole() != expected  # of the other slide
    shutil.copy2(kept, slide)
    os.utime(slide)
    run.snakemake(*EVERYTHING)
    compare(run.whole(), expected)


@pytest.mark.faults
def test_a_slide_that_vanishes_in_the_middle_is_named_and_the_rest_waits_for_it(
    run: Disturbed, expected: dict[str, bytes]
) -> None:
    slide, kept = run.sheet.parent / "s2.svs", run.sheet.parent / "kept"
    shutil.copy2(slide, kept)
    shutil.rmtree(run.results("features"))
    run.before("extract", f"rm -f '{slide}'")
    run.snakemake("--retries", "0", *EVERYTHING, expected=1)
    assert "s2.svs: no such file" in (run.folder / "logs" / "extract" / "tiny" / "s2.log").read_text()
    assert len(list(run.results("features/tiny").glob("*.json"))) == 9  # of the others
    run.snakemake("--retries", "0", *EVERYTHING, expected=1)  # still named, until it is back or its row is gone
    assert "s2.svs: no such file" in (run.folder / "logs" / "extract" / "tiny" / "s2.log").read_text()
    shutil.copy2(kept, slide)
    run.snakemake(*EVERYTHING)
    compare(run.whole(), expected)


@pytest.mark.faults
def test_without_memory_a_job_is_tried_again(run: Disturbed, expected: dict[str, bytes]) -> None:
    run.before("split", "ulimit -v 300000")
    counts = run.snakemake("--retries", "1", "--forcerun", "split")
    assert counts["split"] == 2
    run.snakemake()
    compare(run.whole(), expected)


@pytest.mark.faults
def test_a_clock_set_back_is_said_and_nothing_wrong_is_kept(run: Disturbed, expected: dict[str, bytes]) -> None:
    """Half of the results are of tomorrow, the rest is made today: Snakemake refuses what would be older than its inputs."""
    tomorrow = time.time() + 86_400
    for stage in ("tiles", "features", "models", "jobs"):
        for path in run.results(stage).rglob("*"):
            os.utime(path, (tomorrow, tomorrow))
    shutil.rmtree(run.results("heatmaps"))
    run.results("report/index.html").unlink()
    run.snakemake("--retries", "0", expected=1)
    assert "clock skew" in run.output and not run.results("report/index.html").exists()
    for path in run.folder.joinpath("results").rglob("*"):
        os.utime(path)
    run.snakemake()
    compare(run.whole(), expected)


@pytest.mark.faults
def test_two_runs_on_one_results_folder_end_with_the_results_of_one(
    run: Disturbed, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """From two working folders, so that Snakemake's own lock does not keep them apart."""
    other = Disturbed(tmp_path / "other")
    shutil.copytree(run.folder, other.folder, symlinks=True, ignore=shutil.ignore_patterns("results"))
    (other.folder / "results").symlink_to(run.folder / "results")
    for stage in ("features", "heatmaps", "report"):
        shutil.rmtree(run.results(stage))
    both = [one.popen("--retries", "3", *EVERYTHING) for one in (run, other)]
    said = [process.communicate(timeout=3600)[0] for process in both]
    assert 0 in [process.returncode for process in both], said
    run.snakemake(*EVERYTHING)
    compare(run.whole(), expected)


@pytest.fixture
def mounts(tmp_path: Path) -> None:
    if not can_mount(tmp_path / "tried"):
        pytest.skip("a disk can be mounted by root only")


@pytest.mark.faults
def test_read_only_results_are_said(run: Disturbed, expected: dict[str, bytes], mounts: None) -> None:
    with on_small_disk(run, n_bytes=10**9) as disk:
        run.results("report/index.html").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        code = run.popen("--retries", "0")
        said = code.communicate(timeout=3600)[0]
        assert code.returncode != 0 and "ead-only" in said + (run.folder / "logs" / "report.log").read_text()
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        run.snakemake()
        compare(run.whole(), expected)
