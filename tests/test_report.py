from pathlib import Path

import pytest

from tests.conftest import write_geojson
from tests.test_heatmaps import COORDS, HOT, write_scored
from wsi_mil.records import SlideRow
from wsi_mil.report.truth import slide_truths


def truths(tmp_path: Path, box: tuple[int, int, int, int]) -> dict[str, tuple[float, bool, int]]:
    receipt, _ = write_scored(tmp_path)
    row = SlideRow("s", Path("gone.svs"), label="tumour", annotation=write_geojson(tmp_path / "a.geojson", box))
    return {t.method: (t.auroc, t.shown, t.n_true) for t in slide_truths(row, receipt, overlap=0.5)}


def test_a_method_that_finds_the_one_true_tile_is_perfect_and_one_that_shows_nothing_is_chance(tmp_path: Path) -> None:
    x, y = COORDS[HOT].tolist()
    assert truths(tmp_path, (x, y, x + 64, y + 64)) == {"attention": (1.0, True, 1), "sparse_inversion": (0.5, False, 1)}


def test_a_truth_elsewhere_is_missed(tmp_path: Path) -> None:
    assert truths(tmp_path, (64, 192, 128, 256))["attention"][0] < 0.5


def test_a_tile_counts_from_half_of_it(tmp_path: Path) -> None:
    x, y = COORDS[HOT].tolist()
    assert truths(tmp_path, (x, y, x + 32, y + 64))["attention"] == (1.0, True, 1)
    assert truths(tmp_path, (x, y, x + 31, y + 64)) == {}


def test_without_truth_there_is_no_figure(tmp_path: Path) -> None:
    receipt, _ = write_scored(tmp_path)
    assert slide_truths(SlideRow("s", Path("x"), label="tumour"), receipt, overlap=0.5) == []


@pytest.mark.parametrize("text", ["no json", "[]"])
def test_a_broken_annotation_is_no_figure(tmp_path: Path, text: str) -> None:
    receipt, _ = write_scored(tmp_path)
    (tmp_path / "a.geojson").write_text(text)
    row = SlideRow("s", Path("x"), label="tumour", annotation=tmp_path / "a.geojson")
    assert slide_truths(row, receipt, overlap=0.5) == []
