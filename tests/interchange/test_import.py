import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.conftest import tissue_image, write_aperio
from tests.interchange.files import grid, numbers, write_clam, write_pt, write_stamp, write_trident
from tests.malicious import Malicious
from tests.test_extract import SETTINGS, MeanColour
from tests.test_store import tree
from wsi_mil.config import Encoder
from wsi_mil.errors import FeatureFileError
from wsi_mil.extract import extract_slide
from wsi_mil.interchange import FeatureSource, ImportOptions, ImportResult, import_slide
from wsi_mil.receipts import read_receipt
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.store import read_bag, read_grid, read_thumbnail
from wsi_mil.tile import tile_slide
from wsi_mil.verify import verify

COORDS = grid(4, 3, 512, left=1024, top=512)
FEATURES = numbers(12)
CLAM = {"patch_size": 256, "patch_level": 1, "downsample": (2.0, 2.0), "level_dim": (2000, 1500), "name": "s"}


def imported(
    path: Path, given: ImportOptions | None = None, *, coords: Path | None = None, row: SlideRow | None = None, **more
) -> ImportResult:
    source = FeatureSource(row or SlideRow("s", NO_PATH), path, coords)
    return import_slide(source, path.parent / "results", "e", given or ImportOptions(), **more)


def receipts(folder: Path) -> tuple[dict, dict]:
    """Of the tiles and of the features."""
    return read_receipt(folder / "results/tiles/e/s.json"), read_receipt(folder / "results/features/e/s.json")


def refused(path: Path, given: ImportOptions | None = None, **more) -> str:
    with pytest.raises(FeatureFileError) as caught:
        imported(path, given, **more)
    assert not (path.parent / "results").exists(), "nothing is written"
    assert str(caught.value).startswith(str(more.get("coords") or path))
    return str(caught.value)


def test_clam_with_attributes(tmp_path: Path) -> None:
    done = imported(write_clam(tmp_path / "s.h5", COORDS, FEATURES, **CLAM), ImportOptions(mpp=0.5))
    assert (done.layout, done.n_tiles, done.dim, done.rounded) == ("clam", 12, 6, 0)
    bag = read_bag(tmp_path / "results/features/e/s.json")
    assert np.array_equal(bag.coords, COORDS) and np.array_equal(bag.features, FEATURES.astype(np.float16))
    tiles, features = receipts(tmp_path)
    assert tiles["tile_px_level0"] == [512, 512] and tiles["dimensions"] == [4000, 3000]
    assert features["mpp"] == 0.5 and features["tile_px"] == 256 and features["slide_mpp"] == [0.25, 0.25]
    (warning,) = tiles["warnings"]
    assert "derived from its tiles: 0.25 µm per pixel" in warning


@pytest.mark.parametrize("n", [12, 5000])
def test_imported_stores_are_sound(tmp_path: Path, n: int) -> None:
    coords = grid(n // 4, 4, 512)
    about = {**CLAM, "level_dim": (256 * (n // 4), 1024)}
    imported(write_clam(tmp_path / "s.h5", coords, numbers(n), **about), ImportOptions(mpp=0.5))
    assert [(one.verdict, one.faults) for one in verify(tmp_path / "results")] == [("sound", ())] * 2


def test_clam_without_attributes_takes_them_from_the_patches(tmp_path: Path) -> None:
    path = write_clam(tmp_path / "s.h5", COORDS, FEATURES)
    assert refused(path) == (
        f"{path}: lacks the side of a tile in level-0 pixels (--tile-px-level0), the µm per pixel of the tiles (--mpp);"
        " give each as an option"
    )
    imported(path, ImportOptions(mpp=0.5), coords=write_clam(tmp_path / "patches/s.h5", COORDS, None, **CLAM))
    assert receipts(tmp_path)[0]["tile_px_level0"] == [512, 512]
    given = imported(path, ImportOptions(tile_px_level0=500, mpp=0.5, slide_mpp=0.256))
    assert given.is_new and receipts(tmp_path)[1]["tile_px"] == 256, "500 · 0.256 / 0.5"


def test_trident(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "s.h5", COORDS, FEATURES[None], level0_width=5000, level0_height=4000, overlap=64)
    assert imported(path).layout == "trident"
    tiles, features = receipts(tmp_path)
    assert (features["encoder"], features["mpp"], features["tile_px"], features["dim"]) == ("uni_v1", 0.5, 256, 6)
    assert tiles["dimensions"] == [5000, 4000] and tiles["settings"]["tiling"]["overlap"] == 64
    assert tiles["imported"]["stride"] == [384, 384] and tiles["imported"]["extent"] == [512, 512]


def test_the_scale_of_a_model_is_the_one_that_is_meant_and_that_of_the_tiles_is_their_own(tmp_path: Path) -> None:
    imported(write_trident(tmp_path / "s.h5", COORDS, FEATURES), ImportOptions(slide_mpp=0.2528))
    tiles, features = receipts(tmp_path)
    assert features["mpp"] == 0.5, "so that slides of two scanners can be trained on together"
    assert tiles["settings"]["tiling"]["mpp"] == pytest.approx(0.5056) and tiles["mpp"] == [0.2528, 0.2528]
    assert tiles["mpp_source"] == "--slide-mpp"


def test_coords_given_beside_others_must_be_the_same(tmp_path: Path) -> None:
    path = write_clam(tmp_path / "s.h5", COORDS, FEATURES)
    other = write_clam(tmp_path / "patches/s.h5", COORDS[::-1], None, **CLAM)
    assert "its coords differ from those of" in refused(path, ImportOptions(mpp=0.5), coords=other)
    assert "has coords and no features; give it as --coords" in refused(write_clam(tmp_path / "c.h5", COORDS, None, **CLAM))


def test_stamp_needs_the_slides_resolution(tmp_path: Path) -> None:
    um = np.array([(256.0 * i, 256.0 * j) for i, j in ((2, 1), (3, 1), (2, 5))])
    path = write_stamp(tmp_path / "s.h5", um, FEATURES[:3])
    assert "has coords in µm: give the slide's µm per pixel as --slide-mpp" in refused(path)
    imported(path, row=SlideRow("s", NO_PATH, mpp=0.2468))
    tiles, features = receipts(tmp_path)
    assert read_bag(tmp_path / "results/features/e/s.json").coords.tolist() == [[2075, 1037], [3112, 1037], [2075, 5186]]
    assert tiles["tile_px_level0"] == [1037, 1037] and tiles["mpp_source"] == "sheet"
    assert features["mpp"] == 256 / 224 and features["encoder"] == "ctranspath"


@pytest.mark.parametrize(("step", "first"), [(224, 448), (256, 512)])
def test_old_stamp_files_name_no_unit(tmp_path: Path, step: int, first: int) -> None:
    coords = np.array([(first, step), (first + step, step), (first, 3 * step)])
    path = write_stamp(tmp_path / "s.h5", coords, FEATURES[:3], unit=None, tile_size_um=None, tile_size_px=None, feat_type=None)
    imported(path, ImportOptions(slide_mpp=0.5))
    assert read_bag(tmp_path / "results/features/e/s.json").coords.tolist() == [[1024, 512], [1536, 512], [1024, 1536]]
    assert receipts(tmp_path)[0]["tile_px_level0"] == [512, 512]


def test_stamp_coords_in_another_unit_are_rejected(tmp_path: Path) -> None:
    path = write_stamp(tmp_path / "s.h5", COORDS[:3] * 2, FEATURES[:3], unit=None)
    assert "coords must have unit 'um', but have none (in old files tiles are 256 or 224 apart, here 1024)" in refused(
        path, ImportOptions(slide_mpp=0.5)
    )


def test_features_of_whole_slides_are_rejected(tmp_path: Path) -> None:
    path = write_stamp(tmp_path / "s.h5", COORDS[:1], FEATURES[:1], feat_type="slide")
    assert "expected features of tiles, found those of a slide" in refused(path)
    assert "features has shape (6,), expected (tiles, numbers)" in refused(write_trident(tmp_path / "t.h5", COORDS, FEATURES[0]))


def test_a_tensor_alone_needs_coords(tmp_path: Path) -> None:
    path = write_pt(tmp_path / "s.pt", torch.from_numpy(FEATURES))
    assert "has features without coords, so their place on the slide is unknown; give" in refused(path)
    coords = write_trident(tmp_path / "patches/s_patches.h5", COORDS, FEATURES)
    assert imported(path, coords=coords).layout == "pt"
    assert np.array_equal(read_bag(tmp_path / "results/features/e/s.json").coords, COORDS)


def test_coords_are_read_from_a_dictionary_of_tensors(tmp_path: Path) -> None:
    content = {"feats": torch.from_numpy(FEATURES).bfloat16(), "coords": torch.from_numpy(COORDS), "patch_size_level0": 512}
    imported(write_pt(tmp_path / "s.pt", content), ImportOptions(mpp=0.5, tile_px=256))
    expected = torch.from_numpy(FEATURES).bfloat16().float().numpy().astype(np.float16)
    assert np.array_equal(read_bag(tmp_path / "results/features/e/s.json").features, expected)


@pytest.mark.parametrize("content", [torch.nn.Parameter(torch.from_numpy(FEATURES)), torch.tensor(FEATURES, requires_grad=True)])
def test_a_tensor_that_was_saved_with_its_gradient_is_one(tmp_path: Path, content: torch.Tensor) -> None:
    imported(write_pt(tmp_path / "s.pt", content), coords=write_trident(tmp_path / "patches/s.h5", COORDS, FEATURES))
    assert np.array_equal(read_bag(tmp_path / "results/features/e/s.json").features, FEATURES.astype(np.float16))


def test_a_file_that_would_run_code_is_rejected(tmp_path: Path) -> None:
    path = write_pt(tmp_path / "s.pt", {"features": torch.from_numpy(FEATURES), "x": Malicious(tmp_path / "harm")})
    assert "has objects other than tensors and plain values, and loading them could run code" in refused(path)
    assert not (tmp_path / "harm").exists()


def test_an_hdf5_file_without_coords_is_rejected(tmp_path: Path) -> None:
    path = write_clam(tmp_path / "s.h5", COORDS, FEATURES)
    with h5py.File(path, "a") as file:
        del file["coords"]
    assert "has features without coords" in refused(path)


@pytest.mark.parametrize(
    ("value", "what"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (1e5, "beyond the ±65,504 of float16 (100000)"), (-7e4, "beyond")],
)
def test_a_feature_that_is_no_number_names_slide_and_tile(tmp_path: Path, value: float, what: str) -> None:
    features = FEATURES.copy()
    features[7, 2] = features[9, 0] = value
    found = refused(write_trident(tmp_path / "s.h5", COORDS, features))
    assert f"slide s: features of tile 7 at (2048, 1024) are {what}" in found and "and of 1 more tiles" in found


def test_contradictory_files_are_rejected(tmp_path: Path) -> None:
    assert "features of 11 tiles, but coords of 12" in refused(write_trident(tmp_path / "a.h5", COORDS, FEATURES[:11]))
    outside = write_trident(tmp_path / "b.h5", COORDS, FEATURES, level0_width=2048, level0_height=9999)
    assert "6 of 12 tiles lie outside the slide (2048 × 9999), the first at (2048, 512)" in refused(outside)
    assert "coords must be whole level-0 pixels, but have fractions" in refused(
        write_trident(tmp_path / "c.h5", COORDS / 3, FEATURES)
    )
    assert "expected floating-point numbers" in refused(write_trident(tmp_path / "d.h5", COORDS, FEATURES.astype(np.int32)))
    slide = write_aperio(tmp_path / "other.svs", tissue_image(640, 448))
    sized = write_trident(tmp_path / "e.h5", COORDS, FEATURES, level0_width=5000, level0_height=4000)
    assert "is of a slide of 5000 × 4000 pixels, but the sheet's slide has 640 × 448" in refused(sized, row=SlideRow("s", slide))


def test_a_file_without_features_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("no HDF5")
    (tmp_path / "a.pt").write_text("no tensor")
    assert "is no readable HDF5 file" in refused(tmp_path / "a.h5")
    assert re.search(r"objects other than tensors|is no readable \.pt file", refused(tmp_path / "a.pt"))
    assert "no such file" in refused(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["images"] = FEATURES
    assert "has no features: expected 'feats' (STAMP) or 'features' (CLAM, TRIDENT), found images" in refused(tmp_path / "c.h5")
    path = write_trident(tmp_path / "d.h5", COORDS, FEATURES)
    assert "no features of layout stamp" in refused(path, layout="stamp")
    assert "has attributes that do not follow the layout" in refused(
        write_trident(tmp_path / "e.h5", COORDS, FEATURES, patch_size="x")
    )


def test_a_layout_that_is_named_is_taken(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "s.h5", COORDS, FEATURES, downsample=1.0)
    assert imported(path, ImportOptions(mpp=0.5), layout="clam").layout == "clam"
    assert receipts(tmp_path)[0]["tile_px_level0"] == [256, 256], "CLAM's patch_size, at its level"


def test_the_same_content_is_not_written_again_and_other_content_is(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "s.h5", COORDS, FEATURES)
    assert imported(path).is_new
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "results").rglob("*") if p.is_file()}
    content = tree(tmp_path / "results")
    write_trident(path, COORDS, FEATURES.astype(np.float64), savetodir="/elsewhere")
    with h5py.File(path, "a") as file:
        file["more"] = COORDS
    write_trident(path, COORDS, FEATURES, savetodir="/elsewhere")
    assert not imported(path).is_new
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "results").rglob("*") if p.is_file()}
    write_trident(path, COORDS, FEATURES[::-1])
    assert imported(path).is_new and tree(tmp_path / "results") != content
    write_trident(path, COORDS, FEATURES)
    assert imported(path).is_new and tree(tmp_path / "results") == content


def test_a_store_that_lost_its_receipt_is_finished(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "s.h5", COORDS, FEATURES)
    imported(path)
    content = tree(tmp_path / "results")
    (tmp_path / "results/features/e/s.json").unlink()
    assert imported(path).is_new and tree(tmp_path / "results") == content


@pytest.mark.parametrize("lost", [("tiles/e",), ("tiles/e", "features/e/s.json"), ("features/e",)])
def test_results_computed_here_are_never_overwritten(tmp_path: Path, lost: tuple[str, ...]) -> None:
    """By a slip in the entry's name: features, those that are not finished yet, and tiles of a tiling of this name."""
    slide, results = write_aperio(tmp_path / "s.svs", tissue_image(640, 448)), tmp_path / "results"
    tile_slide(SlideRow("s", slide), SETTINGS, results / "tiles/e/s.json")
    how = {"dtype": "float32", "encoder": MeanColour, "threads": 1}
    extract_slide(results / "tiles/e/s.json", SlideRow("s", slide), Encoder(), results / "features/e/s.json", **how)
    for gone in (results / name for name in lost):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    before = tree(results)
    with pytest.raises(FeatureFileError, match=r"was computed by a run in this results folder.* choose another name"):
        imported(write_trident(tmp_path / "s.h5", COORDS, FEATURES))
    assert tree(results) == before


def test_rounding_to_float16_is_reported(tmp_path: Path) -> None:
    features = FEATURES.copy()
    features[3, 1] = 1 + 2**-12  # halfway between 1 and its neighbour at 2⁻¹⁰ lies 2⁻¹¹: it becomes 1
    done = imported(write_trident(tmp_path / "s.h5", COORDS, features))
    assert done.rounded == pytest.approx(2**-12, rel=1e-3)


def test_many_shards_are_written_whole(tmp_path: Path) -> None:
    coords, features = grid(100, 50, 512), numbers(5000)
    imported(write_trident(tmp_path / "s.h5", coords, features))
    bag = read_bag(tmp_path / "results/features/e/s.json")
    assert np.array_equal(bag.features, features.astype(np.float16)) and np.array_equal(bag.coords, coords)


def test_an_empty_file_is_an_empty_slide(tmp_path: Path) -> None:
    imported(write_trident(tmp_path / "s.h5", COORDS[:0], FEATURES[:0]))
    assert [r["status"] for r in receipts(tmp_path)] == ["empty", "empty"]
    assert "has no tiles" in receipts(tmp_path)[1]["reason"]


def test_the_ground_is_the_slide_where_there_is_one(tmp_path: Path) -> None:
    slide = write_aperio(tmp_path / "slide.svs", tissue_image(640, 448))
    coords = grid(4, 3, 64, left=256, top=64)
    said = {"patch_size": 64, "patch_size_level0": 64, "level0_magnification": 20}
    imported(write_trident(tmp_path / "s.h5", coords, FEATURES, **said), row=SlideRow("s", slide))
    tiles, features = receipts(tmp_path)
    picture = read_thumbnail(tmp_path / "results/tiles/e/s.zarr")
    assert tiles["reader"] == "jpeg_tiff" and tiles["dimensions"] == [640, 448] and tiles["mpp_source"].startswith("openslide")
    assert features["slide_hash"] == tiles["slide_hash"] and picture.std() > 10
    assert len(read_grid(tmp_path / "results/tiles/e/s.zarr").coords) == 12
    outline = json.loads((tmp_path / "results/tiles/e/s.geojson").read_text())
    assert outline["features"][0]["geometry"]["type"] == "Polygon"
    assert tiles["tissue_area_um2"] == 4 * 3 * 32 * 32 and tiles["tissue_share"] == 12 * 64 * 64 / (640 * 448)


def test_a_plain_ground_shows_where_tiles_lie(tmp_path: Path) -> None:
    imported(write_trident(tmp_path / "s.h5", COORDS, FEATURES), row=SlideRow("s", tmp_path / "gone.svs"))
    picture = read_thumbnail(tmp_path / "results/tiles/e/s.zarr")
    assert picture.shape == (683, 1024, 3) and receipts(tmp_path)[0]["dimensions"] == [3072, 2048]
    assert picture[160, 330, 0] > picture[180, 350, 0], "left of and below (1024, 512) at a third of the size"
    assert any("drawn on a plain background" in text and "gone.svs" in text for text in receipts(tmp_path)[0]["warnings"])
