import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from tests.conftest import tissue_image, write_aperio
from tests.slides.test_slides import damage_tile
from tests.tile.test_supplied import write_classes
from wsi_mil.cli import app
from wsi_mil.config import SlideFile, TileSettings, Tiling, Tissue
from wsi_mil.geometry import Mpp
from wsi_mil.inspection import Accuracy, inspect_slide
from wsi_mil.receipts import read_receipt
from wsi_mil.records import SlideRow, Status
from wsi_mil.tile import tile_slide
from wsi_mil.tile.supplied import SuppliedFiles

WHOLE = TileSettings(tiling=Tiling(tile_px=64), tissue=Tissue(method="none"))


def write_tiff(path: Path, image: np.ndarray, **about: object) -> Path:
    tifffile.imwrite(path, image, tile=(128, 128), photometric="rgb", **about)
    return path


def test_a_slide_is_described_in_px_and_mm(slide: Path) -> None:
    found = inspect_slide(slide, {"default": TileSettings()})
    assert (found.reader, found.vendor, found.compression) == ("jpeg_tiff", "aperio", "JPEG ycbcr")
    assert found.dimensions == (640, 448) and found.size_mm == (0.32, 0.224)
    assert [(x.dimensions, x.downsample, x.mpp) for x in found.levels] == [
        ((640, 448), 1.0, Mpp(0.5, 0.5)),
        ((160, 112), 4.0, Mpp(2.0, 2.0)),
    ]
    assert (found.objective_power, found.bounds, found.notes) == (20.0, None, ())


def test_a_slide_whose_pixels_are_no_squares_is_measured_by_either_side(tmp_path: Path) -> None:
    per_cm = {"resolution": (20_000, 40_000), "resolutionunit": "CENTIMETER", "compression": "zlib"}
    path = write_tiff(tmp_path / "a.tif", tissue_image(640, 448), **per_cm)
    found = inspect_slide(path, {"t": WHOLE})
    assert found.mpp == Mpp(0.5, 0.25) and found.size_mm == (0.32, 0.112)
    assert found.compression == "ADOBE_DEFLATE"
    assert found.tilings["t"].n_tiles == 10 * 3  # a tile is 64 × 128 px of level 0


@pytest.mark.parametrize("tissue", [Tissue(min_area_um2=500), Tissue(method="glass_distance", mpp=10), Tissue(method="none")])
def test_as_many_tiles_are_expected_as_tile_lays(tmp_path: Path, tissue: Tissue) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(1600, 1120))
    tilings = {
        "large": TileSettings(tissue=tissue, tiling=Tiling(tile_px=128)),
        "small": TileSettings(tissue=tissue, tiling=Tiling(tile_px=32, overlap=8, max_tiles=400)),
    }
    found = inspect_slide(path, tilings)
    for name, settings in tilings.items():
        tile_slide(SlideRow("a", path), settings, tmp_path / f"{name}.json")
        about, expected = read_receipt(tmp_path / f"{name}.json"), found.tilings[name]
        assert expected.accuracy is Accuracy.EXACT
        assert (expected.status, expected.n_tiles) == (about["status"], about["n_tiles"]) and expected.n_tiles > 20
        assert list(expected.warnings) == about["warnings"] and found.tissue_share == about["tissue_share"]


def test_with_a_finer_mask_the_number_is_an_estimate(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(1600, 1120))
    settings = TileSettings(tissue=Tissue(mpp=2.0), tiling=Tiling(tile_px=64))
    expected = inspect_slide(path, {"t": settings}).tilings["t"]
    tile_slide(SlideRow("a", path), settings, tmp_path / "a.json")
    assert expected.accuracy is Accuracy.ESTIMATE
    assert expected.n_tiles == pytest.approx(read_receipt(tmp_path / "a.json")["n_tiles"], rel=0.1)


def test_a_slide_without_a_pyramid_is_not_read_for_an_estimate(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_mil.inspection.MAX_OVERVIEW_PX", 160 * 112 - 1)
    found = inspect_slide(slide, {"t": TileSettings(tiling=Tiling(tile_px=64))})
    expected = found.tilings["t"]
    assert (expected.accuracy, expected.n_tiles, found.tissue_share) == (Accuracy.AT_MOST, 10 * 7, None)
    assert "no coarse level" in expected.warnings[0]


def test_tiles_that_cannot_be_read_are_a_warning(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "a.svs", tissue_image(3000, 1280), levels=(1,))
    damage_tile(path, 0)
    expected = inspect_slide(path, {"t": WHOLE.model_copy(update={"tiling": Tiling(tile_px=640)})}).tilings["t"]
    assert (expected.status, expected.n_tiles) == (Status.OK, 8)
    assert expected.warnings[-1] == "1 of 5 sampled tiles cannot be read"


@pytest.mark.parametrize(("policy", "status"), [("fail", Status.FAILED), ("skip", Status.SKIPPED)])
def test_a_slide_without_mpp_shows_the_rest(tmp_path: Path, policy: str, status: Status) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue_image(640, 448))
    found = inspect_slide(path, {"t": TileSettings(slide=SlideFile(on_missing_mpp=policy))})
    assert (found.mpp, found.size_mm, found.tissue_share, found.levels[0].mpp) == (None, None, None, None)
    assert found.dimensions == (640, 448) and "`mpp` column" in found.reason
    assert (found.tilings["t"].status, found.tilings["t"].n_tiles) == (status, None)
    assert inspect_slide(path, {"t": WHOLE}, mpp=0.5).tilings["t"].n_tiles == 10 * 7


def test_json_is_one_object_of_plain_values(slide: Path) -> None:
    done = CliRunner().invoke(app, ["inspect", str(slide), "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["mpp"] == [0.5, 0.5] and found["size_mm"] == [0.32, 0.224]
    assert found["levels"][1] == {"dimensions": [160, 112], "downsample": 4.0, "mpp": [2.0, 2.0]}
    assert found["tilings"]["default"] == {"status": "ok", "n_tiles": 2, "accuracy": "exact", "reason": "", "warnings": []}


def test_a_slide_without_mpp_has_the_same_keys_and_exit_code_1(slide: Path, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue_image(640, 448), description="Patient name: Doe, Jane")
    done = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert done.exit_code == 1 and "Doe" not in done.stdout
    assert json.loads(done.stdout).keys() == inspect_slide(slide, {"t": WHOLE}).as_json().keys()


def test_the_table_fits_80_columns_and_shows_the_tilings_of_a_configuration(slide: Path, tmp_path: Path) -> None:
    text = "cohort: c.csv\ntargets: {t: {kind: classes, classes: [n, p]}}\nmodels: {m: {model: abmil}}\ntissue: {method: none}\n"
    (tmp_path / "c.yaml").write_text(text + "tilings: {small: {tile_px: 64}, large: {tile_px: 224}}\n")
    done = CliRunner().invoke(app, ["inspect", str(slide), "--configfile", str(tmp_path / "c.yaml")], env={"COLUMNS": "80"})
    rows = [line.rstrip() for line in done.stdout.splitlines()]
    assert done.exit_code == 0 and max(map(len, rows)) <= 80
    assert {"tiles, small  70", "tiles, large  4", "dimensions    640 × 448 px, 0.32 × 0.22 mm"} <= set(rows)


def test_a_url_is_inspected_in_place(slide: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/inspected/slide.svs", slide.read_bytes())
    found = inspect_slide("memory://inspected/slide.svs", {"t": WHOLE})
    assert (found.path, found.reader, found.tilings["t"].n_tiles) == ("memory://inspected/slide.svs", "tiffslide", 70)


def test_a_mask_and_excluded_regions_are_inspected_too(slide: Path, tmp_path: Path) -> None:
    labels = np.zeros((56, 80), np.uint8)
    labels[8:40, 16:48] = 1
    Image.fromarray(labels).save(tmp_path / "m.png")
    annotation = write_classes(tmp_path / "a.geojson", Fold=(128, 64, 256, 128))
    settings = WHOLE.model_copy(update={"tissue": Tissue(exclude_classes=("Fold",))})
    beside = SuppliedFiles(annotation, tmp_path / "m.png")
    found = inspect_slide(slide, {"t": settings}, supplied=beside)
    tile_slide(SlideRow("a", slide, annotation=annotation, mask=tmp_path / "m.png"), settings, tmp_path / "t.json")
    about = read_receipt(tmp_path / "t.json")
    assert found.cut_area_um2 == about["cut_area_um2"] == pytest.approx(128 * 64 / 4)
    assert found.tissue_share == about["tissue_share"] == pytest.approx((256 * 256 - 128 * 64) / (640 * 448))
    assert found.tilings["t"].n_tiles == about["n_tiles"] > 5
    (tmp_path / "c.yaml").write_text(
        "cohort: c.csv\ntargets: {t: {kind: classes, classes: [n, p]}}\nmodels: {m: {model: abmil}}\n"
        "tissue: {exclude_classes: [Fold]}\n"
    )
    options = ["--annotation", str(annotation), "--mask", str(tmp_path / "m.png"), "--configfile", str(tmp_path / "c.yaml")]
    done = CliRunner().invoke(app, ["inspect", str(slide), *options])
    assert "tissue          20.0% of the slide; 0.00 mm² cut out" in done.stdout
