"""Finer heatmaps of chosen slides: what runs for them, and what they are."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.dag import Run
from tests.test_workflow_jobs import times
from wsi_mil.metrics import auroc
from wsi_mil.rasterise import tile_raster
from wsi_mil.receipts import read_receipt
from wsi_mil.store import read_scores

ALONE = {"fine-tile": 1, "fine-extract": 1, "fine-explain": 1, "fine-heatmap": 1, "report": 1}
"""Calls for one chosen slide, one encoder and one model."""

SUFFIXES = (".png", ".geojson", ".ome.tif", ".csv", ".json")

pytestmark = [pytest.mark.slow, pytest.mark.system]


@pytest.fixture
def run(finished: Path, command: Path, tmp_path: Path) -> Run:
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    return Run(tmp_path / "run", command)


def choose(run: Run, *slides: str, **heatmap: object) -> None:
    run.config(heatmap={**heatmap, "fine": {"slides": list(slides), "steps": 2}})


def test_a_chosen_slide_runs_nothing_else_and_a_second_run_does_nothing(run: Run) -> None:
    kinds = ("tiles/**/*", "features/**/*", "models/**/*", "scores/**/*", "predictions/**/*", "heatmaps/**/attention.png")
    before = {kind: times(run, kind) for kind in kinds}
    choose(run, "s1")
    assert run.snakemake() == ALONE
    assert {kind: times(run, kind) for kind in kinds} == before and all(before.values())
    assert fine_files(run, "s1") == {f"attention.fine{suffix}" for suffix in SUFFIXES}
    assert run.snakemake() == {}
    choose(run, "s1", "s2")
    assert run.snakemake() == ALONE, "the other slide's"
    assert "attention, fine" in run.report()
    run.results("heatmaps/tumour/tiny/abmil/s1/attention.fine.png").unlink()
    assert run.snakemake() == {"fine-heatmap": 1, "report": 1}
    assert fine_files(run, "s1") == {f"attention.fine{suffix}" for suffix in SUFFIXES}


def fine_files(run: Run, slide_id: str) -> set[str]:
    return {file.name for file in run.results(f"heatmaps/tumour/tiny/abmil/{slide_id}").glob("*fine*")}


def test_what_changes_usual_heatmaps_changes_finer_ones_and_none_of_earlier_models_is_left(run: Run) -> None:
    choose(run, "s1")
    run.snakemake()
    choose(run, "s1", colormap="magma")
    assert run.snakemake() == {"heatmap": 8, "fine-heatmap": 1, "report": 1}
    assert fine_files(run, "s1") == {f"attention.fine{suffix}" for suffix in SUFFIXES}
    run.config(heatmap={"colormap": "magma", "fine": {"slides": ["s1"]}}, explain={"methods": ["attention", "evidence"]})
    counts = run.snakemake()
    assert (counts["fine-tile"], counts["fine-extract"], counts["fine-explain"], counts["fine-heatmap"]) == (0, 0, 1, 1)
    assert fine_files(run, "s1") == {f"{method}.fine{suffix}" for method in ("attention", "evidence") for suffix in SUFFIXES}
    run.config(heatmap={"colormap": "magma"}, explain={"methods": ["attention", "evidence"]})
    assert run.snakemake() == {"report": 1}, "pictures stay as long as the usual ones, which they were made with"
    assert fine_files(run, "s1") and "attention, fine" not in run.report()
    run.config(heatmap={"colormap": "magma"}, explain={"methods": ["attention"], "curve_points": 3})
    run.snakemake()
    assert not fine_files(run, "s1")


def test_lost_and_forced_results_are_made_again(run: Run) -> None:
    choose(run, "s1")
    run.snakemake()
    picture = run.results("heatmaps/tumour/tiny/abmil/s1/attention.fine.png").read_bytes()
    shutil.rmtree(run.results("fine/scores/tumour/tiny/abmil/s1.zarr"))
    counts = run.snakemake()
    assert counts["fine-explain"] == 1 and set(counts) <= {"fine-explain", "fine-heatmap", "report"}
    shutil.rmtree(run.results("fine"))
    counts = run.snakemake()
    assert all(counts[stage] == 1 for stage in ALONE) and not {"tile", "extract", "explain", "train"} & set(counts)
    for rule in ("fine_tile", "heatmap"):
        before = times(run, "heatmaps/tumour/tiny/abmil/s1/*fine*")
        counts = run.snakemake("--forcerun", rule)
        assert counts["fine-heatmap"] == 1 and not {"tile", "extract", "explain", "train"} & set(counts)
        assert set(times(run, "heatmaps/tumour/tiny/abmil/s1/*fine*")) == set(before)
    assert run.results("heatmaps/tumour/tiny/abmil/s1/attention.fine.png").read_bytes() == picture
    assert run.snakemake() == {}


def test_a_slide_that_cannot_be_used_is_left_out_and_one_that_does_not_exist_is_a_fault(run: Run) -> None:
    choose(run, "glass", "s3", "text")
    assert run.snakemake() == ALONE
    assert not run.results("fine/1-0-of-2/tiles/default/glass.json").exists()
    choose(run, "s33", "glas")
    assert run.snakemake(expected=2) == {}
    assert "heatmap.fine.slides: the sheet has no slide 's33'; did you mean 's3'?" in run.output
    assert "heatmap.fine.slides: the sheet has no slide 'glas'; did you mean 'glass'?" in run.output


def test_patients_bags_have_the_shifted_tiles_of_the_slide_and_the_usual_ones_of_the_others(run: Run) -> None:
    run.add("s8", "tumour", patient_id="p1")
    run.config(bag="patient", heatmap={"fine": {"slides": ["s1"]}})
    run.snakemake()
    usual = read_receipt(run.results("scores/tumour/tiny/abmil/s1.json"))
    fine = read_receipt(run.results("fine/scores/tumour/tiny/abmil/s1.json"))
    assert usual["bag_instances"] == fine["bag_instances"] > usual["n_instances"] and fine["fine"]["tilings"] == 4
    share = read_scores(run.results("fine/scores/tumour/tiny/abmil/s1.zarr"), "attention.fine")[1]
    own = read_scores(run.results("scores/tumour/tiny/abmil/s1.zarr"), "attention")[1]
    assert share.mean() == pytest.approx(own.mean(), rel=0.1) and own.sum() < 0.9


def test_a_lesion_off_the_grid_is_found_better_than_by_the_usual_heatmap(run: Run) -> None:
    """A lesion of 150 px at (300, 100), tiles of 96 px: AUROC of the pixels on tissue, of every slide with a lesion."""
    train = {"epochs": 60, "lr": 0.002, "select": "last", "instance_dropout": 0.0}
    model = {"model": "abmil", "embed_dim": 16, "attention_dim": 8, "train": train}
    slides = ["s1", "s3", "s5", "s7"]
    run.config(models={"abmil": model}, explain={"methods": ["evidence"]}, heatmap={"fine": {"slides": slides, "steps": 3}})
    run.snakemake()
    usual, fine = ([pixel_auroc(run, slide, name) for slide in slides] for name in ("evidence", "evidence.fine"))
    assert np.mean(fine) > np.mean(usual) and np.mean(fine) > 0.9


def pixel_auroc(run: Run, slide_id: str, name: str) -> float:
    """AUROC of the scores of pixels on tiles of the usual tiling, for the lesion."""
    path = f"scores/tumour/tiny/abmil/{slide_id}.zarr"
    usual = read_scores(run.results(path), "evidence")
    coords, values = read_scores(run.results(f"fine/{path}"), name) if "fine" in name else usual
    side = 32 if "fine" in name else 96
    rasters = [
        tile_raster(scores, corners, box=(box, box), dimensions=(640, 448), shape=(448, 640))
        for scores, corners, box in ((values, coords, side), (usual[1], usual[0], 96))
    ]
    truth = np.zeros((448, 640), np.int64)
    truth[100:250, 300:450] = 1
    seen = np.isfinite(rasters[1]) & np.isfinite(rasters[0])
    probs = rasters[0][seen].astype(np.float64)
    return auroc(truth[seen], np.stack([-probs, probs], axis=1))
