from pathlib import Path

import numpy as np
import pytest

import benchmarks.papers.runs as run_files
from benchmarks.papers import colon_nuclei
from benchmarks.papers.colon import read_colon
from benchmarks.papers.colon_nuclei import DRAWS, MODELS, SCALES, NucleiRun, features_of, runs
from benchmarks.papers.tables import page
from tests.papers.test_histology import write_nuclei
from tests.papers.test_tables import result
from wsi_mil.config import Encoder


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve images, half of them with epithelial nuclei, and an encoder that needs no weights; features go beside them."""
    for number in range(1, 13):
        own = [(30.0, 20.0), (12.0, 8.0)]
        write_nuclei(tmp_path / "colon", number, epithelial=own if number % 2 else [], others=[(5, 30), (50, 11), (20, 20)])
    encoder = Encoder(encoder="resnet18", weights="random")
    monkeypatch.setattr(colon_nuclei, "Encoder", lambda: encoder)
    monkeypatch.setattr(run_files, "CACHE", tmp_path / "runs")
    monkeypatch.setattr(colon_nuclei, "MODELS", {"gated_defaults": {"model": "abmil", "train": {"updates": 20}}})
    monkeypatch.setattr(colon_nuclei, "SPLIT", colon_nuclei.SPLIT.model_copy(update={"folds": 2}))
    return tmp_path


def test_patches_of_another_side_have_the_same_centres(tmp_path: Path) -> None:
    write_nuclei(tmp_path, 9, epithelial=[(50.2, 20.9)], others=[(2, 39)])
    (small,), (large,) = read_colon(tmp_path), read_colon(tmp_path, 81)
    assert large.patches.shape == (2, 81, 81, 3)
    assert (large.patches[:, 27:54, 27:54] == small.patches).all() and (small.coords - large.coords == 27).all()


def test_two_scales_stand_side_by_side_and_every_image_is_held_out_once(small: Path) -> None:
    run = NucleiRun("27-81", "gated_defaults", 0)
    figures = run.work(small)
    names = [name for fold in figures["folds"] for name in fold["images"]]
    assert sorted(names) == sorted(f"img{number}" for number in range(1, 13))
    assert all(image["label"] == int(name[3:]) % 2 for fold in figures["folds"] for name, image in fold["images"].items())
    one, two = features_of(small, 27), features_of(small, 81)
    assert [of.shape for of in one[:2]] == [(5, 512), (3, 512)] and not np.array_equal(one[0], two[0])


def test_there_is_a_run_for_each_draw_scale_and_model(tmp_path: Path) -> None:
    each = runs(tmp_path, fast=False)
    assert len({run.name for run in each}) == len(each) == DRAWS * len(SCALES) * len(MODELS)
    assert [run.seed for run in each[: len(SCALES) * len(MODELS)]] == [0] * len(SCALES) * len(MODELS)


def test_the_table_has_a_row_for_each_choice_of_scales() -> None:
    images = {"a": {"label": 1, "prob": 0.9}, "b": {"label": 0, "prob": 0.2}, "c": {"label": 1, "prob": 0.4}}
    results = {"colon_nuclei/27-81/gated_defaults/draw-0": result(0, folds=[{"images": images}])}
    lines = page("{{table: colon_nuclei}}", results).splitlines()
    both = next(line for line in lines if "27 + 81 px" in line and "Gated" in line)
    assert ".667/1.000/.500/.667/1.000 (1 of 5 draws)" in both
    assert sum("not yet run" in line for line in lines) == len(SCALES) * len(MODELS) - 1
