"""Finer heatmaps of chosen slides: what runs for them, and what they are."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dag import Run
from tests.test_workflow_jobs import times
from wsi_mil.receipts import read_receipt
from wsi_mil.store import read_scores

ALONE = {"fine-tile": 1, "fine-extract": 1, "fine-explain": 1, "fine-heatmap": 1, "report": 1}
"""Calls for one chosen slide, one encoder and one model."""

pytestmark = [pytest.mark.slow, pytest.mark.system]


@pytest.fixture
def run(finished: Path, command: Path, tmp_path: Path) -> Run:
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    return Run(tmp_path / "run", command)


def choose(run: Run, *slides: str, **heatmap: object) -> None:
    run.config(heatmap={**heatmap, "fine": {"slides": list(slides), "steps": 2}})


def test_a_chosen_slide_runs_nothing_else_and_a_second_run_does_nothing(run: Run) -> None:
    kinds = ("tiles", "features", "models", "scores", "predictions", "heatmaps/tumour/tiny/abmil/*/attention.png")
    before = {kind: times(run, kind if "*" in kind else f"{kind}/**/*") for kind in kinds}
    choose(run, "s1")
    assert run.snakemake() == ALONE
    assert {kind: times(run, kind if "*" in kind else f"{kind}/**/*") for kind in kinds} == before
    folder = run.results("heatmaps/tumour/tiny/abmil/s1")
    made = {file.name for file in folder.glob("*fine*")}
    assert made == {f"attention.fine{suffix}" for suffix in (".png", ".geojson", ".ome.tif", ".csv", ".json")}
    assert run.snakemake() == {}
    choose(run, "s1", "s2")
    assert run.snakemake() == ALONE
    assert "attention, fine" in run.report()
