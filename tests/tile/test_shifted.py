"""Shifted tilings of a slide: the usual settings and tissue, and another grid."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tissue_image, write_aperio, write_geojson
from wsi_mil.config import TileSettings, Tiling, Tissue
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import SlideRow, Status
from wsi_mil.shifts import Shift, shifts
from wsi_mil.store import read_grid
from wsi_mil.tile.shifted import outputs, tile_shifted
from wsi_mil.tile.stage import tile_slide

SMALL = TileSettings(tiling=Tiling(tile_px=32, mpp=0.5), tissue=Tissue(mpp=2.0, min_area_um2=500, max_hole_um2=500))


def tiled(slide: Path, folder: Path, settings: TileSettings = SMALL, *, steps: int = 2, **row: object) -> dict[Shift, Path]:
    """Receipts of the shifted tilings of a slide, whose usual receipt is `folder`/a.json."""
    receipts = {shift: folder / shift.name / "a.json" for shift in shifts(steps)}
    tile_slide(SlideRow("a", slide, **row), settings, folder / "a.json")
    tile_shifted(SlideRow("a", slide, **row), folder / "a.json", receipts)
    return receipts


def test_shifted_tiles_lie_on_the_shifted_grid_and_have_as_much_tissue(slide: Path, tmp_path: Path) -> None:
    receipts = tiled(slide, tmp_path, steps=4)
    usual = read_grid(store_path(tmp_path / "a.json"))
    assert len(receipts) == 15
    for shift, receipt in receipts.items():
        grid, about = read_grid(store_path(receipt)), read_receipt(receipt)
        assert (grid.coords % 32 == (8 * shift.right, 8 * shift.down)).all()
        assert about["status"] == Status.OK and about["n_tiles"] == len(grid.coords) > 0.7 * len(usual.coords)
        assert grid.tissue_fraction.min() >= 0.5 and grid.tile_px_level0 == usual.tile_px_level0
        assert about["coords_digest"] != read_receipt(tmp_path / "a.json")["coords_digest"]


def test_the_usual_receipt_and_its_store_are_left_alone_and_a_second_call_does_nothing(slide: Path, tmp_path: Path) -> None:
    receipts = tiled(slide, tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    slide.unlink()
    tile_shifted(SlideRow("a", slide), tmp_path / "a.json", receipts)
    del before[slide]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == before


def test_settings_of_the_slide_hold_for_its_shifted_tiles(slide: Path, tmp_path: Path) -> None:
    """Tiles inside the annotation only, a random sample of at most seven."""
    annotation = write_geojson(tmp_path / "a.geojson", (300, 100, 460, 300))
    tiling = Tiling(tile_px=32, mpp=0.5, min_annotation=0.5, max_tiles=7)
    receipts = tiled(slide, tmp_path / "t", SMALL.model_copy(update={"tiling": tiling}), annotation=annotation)
    for receipt in receipts.values():
        centres = read_grid(store_path(receipt)).coords + 16
        assert len(centres) == 7 and ((centres >= (300, 100)) & (centres <= (460, 300))).all()


def test_a_slide_with_one_tile_has_none_on_a_shifted_grid(tmp_path: Path) -> None:
    slide = write_aperio(tmp_path / "one.svs", tissue_image(120, 100, seed=3))
    settings = SMALL.model_copy(update={"tiling": Tiling(tile_px=96, mpp=0.5, min_tissue=0.1)})
    receipts = tiled(slide, tmp_path / "t", settings)
    assert read_receipt(tmp_path / "t" / "a.json")["n_tiles"] == 1
    for receipt in receipts.values():
        about = read_receipt(receipt)
        assert (about["status"], about["n_tiles"]) == ("empty", 0) and "enough tissue" in about["reason"]
        assert outputs(receipt)[0].exists()


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_a_slide_that_changed_or_is_gone_has_no_shifted_tiles_with_a_reason_and_is_tried_again(
    slide: Path, tmp_path: Path, what: str
) -> None:
    content = slide.read_bytes()
    tile_slide(SlideRow("a", slide), SMALL, tmp_path / "a.json")
    if what == "gone":
        slide.unlink()
    else:
        write_aperio(slide, tissue_image(640, 448, seed=9))
    receipts = {shift: tmp_path / shift.name / "a.json" for shift in shifts(2)}
    tile_shifted(SlideRow("a", slide), tmp_path / "a.json", receipts)
    reasons = {read_receipt(receipt)["reason"] for receipt in receipts.values()}
    assert len(reasons) == 1 and ("run `tile` again" if what == "changed" else "no such file") in reasons.pop()
    assert not any(store_path(receipt).exists() or outputs(receipt) for receipt in receipts.values())
    slide.write_bytes(content)
    tile_shifted(SlideRow("a", slide), tmp_path / "a.json", receipts)
    assert {read_receipt(receipt)["status"] for receipt in receipts.values()} == {"ok"}


def test_tiles_of_a_slide_whose_sides_are_no_multiples_keep_inside(tmp_path: Path) -> None:
    slide = write_aperio(tmp_path / "odd.svs", tissue_image(333, 251, seed=5), mpp=0.3)
    for receipt in tiled(slide, tmp_path / "t", steps=3).values():
        grid = read_grid(store_path(receipt))
        assert (grid.coords + np.array(grid.tile_px_level0) <= (333, 251)).all() and (grid.coords >= 0).all()
