"""A heatmap is drawn again only if something has changed that it shows."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_geojson
from tests.heatmap_files import Made
from wsi_mil.config import Heatmap, Truth
from wsi_mil.errors import StoreError
from wsi_mil.heatmaps.current import draw_stale, outputs, receipt_of, remove_others
from wsi_mil.receipts import read_receipt, write_receipt
from wsi_mil.records import SlideRow

ROW = SlideRow("s", Path("none.svs"), "tumour")


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Folder with the heatmap of a slide with three tiles by one method."""
    Made(np.array([[0, 0], [64, 0], [0, 64]]), np.array([-1.0, 0.5, 2.0])).write(tmp_path)
    draw(tmp_path)
    return tmp_path


def draw(folder: Path, row: SlideRow = ROW, settings: Heatmap = Heatmap(gallery=2), truth: Truth = Truth()) -> None:
    receipts = folder / "scores" / "s.json", folder / "tiles" / "s.json"
    draw_stale(row, *receipts, ["evidence"], settings, folder / "h" / "s", truth=truth)


def when(folder: Path) -> int:
    return (folder / "h" / "s" / "evidence.png").stat().st_mtime_ns


def test_a_heatmap_that_is_current_is_not_drawn_again(drawn: Path) -> None:
    first = when(drawn)
    draw(drawn)
    draw(drawn, SlideRow("s", Path("moved.svs"), "tumour"))
    draw(drawn, truth=Truth(overlap=0.1))
    assert when(drawn) == first
    assert read_receipt(receipt_of(drawn / "h" / "s", "evidence"))["method"] == "evidence"


def test_a_heatmap_without_its_slide_is_drawn_again_when_the_slide_is_back_and_not_when_it_goes(drawn: Path) -> None:
    first, slide = when(drawn), drawn / "back.svs"
    slide.write_bytes(b"")
    draw(drawn, SlideRow("s", slide, "tumour"))
    second = when(drawn)
    slide.unlink()
    draw(drawn, SlideRow("s", slide, "tumour"))
    assert first != second == when(drawn)


def test_pictures_by_other_methods_can_be_removed(drawn: Path) -> None:
    folder = drawn / "h" / "s"
    remove_others(folder, [receipt_of(folder, "evidence")], drawn / "scores" / "s.json")
    assert (folder / "evidence.png").exists()
    remove_others(folder, [receipt_of(folder, "attention")], drawn / "scores" / "s.json")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".geojson", ".ome.tif", ".csv", ".tiles.png"])
def test_a_deleted_file_is_made_again(drawn: Path, suffix: str) -> None:
    (file,) = [f for f in outputs(receipt_of(drawn / "h" / "s", "evidence"), Heatmap()) if f.name == f"evidence{suffix}"]
    file.unlink()
    draw(drawn)
    assert file.exists()


def test_without_a_gallery_none_is_missed(drawn: Path) -> None:
    draw(drawn, settings=Heatmap(gallery=0))
    first = when(drawn)
    draw(drawn, settings=Heatmap(gallery=0))
    assert when(drawn) == first and not (drawn / "h" / "s" / "evidence.tiles.png").exists()


@pytest.mark.parametrize("what", ["settings", "label", "annotation", "edited annotation", "scores", "tiles", "truth"])
def test_whatever_the_picture_shows_draws_it_again(drawn: Path, what: str) -> None:
    outline = write_geojson(drawn / "a.geojson", (0, 0, 64, 64))
    row, settings, truth = ROW, Heatmap(gallery=2), Truth()
    if what in ("edited annotation", "truth"):
        row = SlideRow("s", Path("none.svs"), "tumour", annotation=outline)
        draw(drawn, row)
    first = when(drawn)
    if what == "settings":
        settings = Heatmap(gallery=2, colormap="magma")
    elif what == "label":
        row = SlideRow("s", Path("none.svs"), "")
    elif what == "annotation":
        row = SlideRow("s", Path("none.svs"), "tumour", annotation=outline)
    elif what == "edited annotation":
        write_geojson(outline, (0, 0, 64, 128))
    elif what == "truth":
        truth = Truth(origin="slide")
    else:
        receipt = drawn / what / "s.json"
        write_receipt(receipt, {**read_receipt(receipt), "changed": 1})
    draw(drawn, row, settings, truth)
    assert when(drawn) != first


def test_a_method_without_scores_leaves_the_other_as_it_is(drawn: Path) -> None:
    receipt = receipt_of(drawn / "h" / "s", "evidence")
    first = receipt.read_bytes()
    with pytest.raises(StoreError, match="has no scores of method 'attention'"):
        draw_stale(ROW, drawn / "scores" / "s.json", drawn / "tiles" / "s.json", ["attention"], Heatmap(), drawn / "h" / "s")
    assert receipt.read_bytes() == first
