from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr

from tests.interchange.files import grid, numbers, write_clam, write_stamp, write_trident
from tests.test_extract import SETTINGS, MeanColour
from wsi_mil.config import Encoder
from wsi_mil.errors import FeatureFileError
from wsi_mil.extract import extract_slide
from wsi_mil.interchange import LAYOUTS, ExportResult, FeatureSource, ImportOptions, export_features, import_slide, read_file
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.store import read_bag
from wsi_mil.tile import tile_slide

SAME = ("encoder", "weights_hash", "mpp", "tile_px", "tile_px_level0", "slide_mpp", "coords_digest", "dim", "n_tiles")
FILE = {"clam": "h5_files/s.h5", "trident": "s.h5", "stamp": "s.h5", "pt": "s.pt"}


def exported(results: Path, layout: str, out: Path, entry: str = "mean") -> Path:
    (done,) = export_features(results / "features" / entry, layout, out)
    assert not done.reason and done.files[0] == out / FILE[layout]
    return done.files[0]


def brought_back(path: Path, results: Path, entry: str = "back", **given: float) -> dict:
    import_slide(FeatureSource(SlideRow("s", NO_PATH), path), results, entry, ImportOptions(**given))
    return read_receipt(results / "features" / entry / "s.json")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_round_trip_of_ours_loses_nothing(results: Path, tmp_path: Path, layout: str) -> None:
    valid = zarr.open_group(results / "features/mean/s.zarr")["valid"]
    valid[5] = False
    before = read_bag(results / "features/mean/s.json")
    file = exported(results, layout, tmp_path / "out")
    said = brought_back(file, results)
    after = read_bag(results / "features/back/s.json")
    assert len(after.coords) == valid.shape[0] - 1 > 50
    assert after.features.tobytes() == before.features.tobytes() and after.coords.tobytes() == before.coords.tobytes()
    first = {**read_receipt(results / "features/mean/s.json"), "coords_digest": said["coords_digest"]}
    first["n_tiles"] -= 1
    assert {key: said[key] for key in SAME} == {key: first[key] for key in SAME}
    tiles = [read_receipt(results / "tiles" / name / "s.json") for name in ("default", "back")]
    assert tiles[0]["dimensions"] == tiles[1]["dimensions"] and tiles[0]["mpp"] == tiles[1]["mpp"]
    assert tiles[1]["imported"]["stride"] == pytest.approx((39.42, 39.42)) and tiles[1]["imported"]["extent"][0] == pytest.approx(
        58.4
    )
    assert tiles[1]["settings"]["tiling"] == pytest.approx({"tile_px": 40, "mpp": 0.73, "overlap": 13})
    assert (
        exported(results, layout, tmp_path / "again", "back").read_bytes()
        == exported(results, layout, tmp_path / "b", "back").read_bytes()
    )
    again = read_file(tmp_path / "again" / FILE[layout])[1]
    first_file = read_file(file)[1]
    assert np.array_equal(again.features, first_file.features) and again.metadata_json() == first_file.metadata_json()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_axes_of_different_scale_are_kept(tmp_path: Path, layout: str) -> None:
    said = {"patch_size_level0": 512}
    write_trident(tmp_path / "s.h5", grid(4, 3, 512), numbers(12), **said)
    results = tmp_path / "results"
    brought_back(tmp_path / "s.h5", results, "first")
    for receipt in (results / "tiles/first/s.json", results / "features/first/s.json"):
        about = read_receipt(receipt)
        write_receipt(receipt, {**about, "slide_mpp": [0.25, 0.2468], "mpp": [0.25, 0.2468] if "imported" in about else 0.5})
    store = zarr.open_group(results / "features/first/s.zarr")
    store.attrs["slide_mpp"] = [0.25, 0.2468]
    back = brought_back(exported(results, layout, tmp_path / "out", "first"), results)
    assert back["slide_mpp"] == [0.25, 0.2468]
    assert np.array_equal(read_bag(results / "features/back/s.json").coords, grid(4, 3, 512))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_our_coords_come_back_with_any_resolution_in_the_sheet(results: Path, tmp_path: Path, layout: str) -> None:
    file = exported(results, layout, tmp_path / "out")
    import_slide(FeatureSource(SlideRow("s", NO_PATH, mpp=0.25), file), results, "back", ImportOptions())
    bags = [read_bag(results / f"features/{entry}/s.json").coords for entry in ("mean", "back")]
    assert np.array_equal(*bags) and read_receipt(results / "tiles/back/s.json")["mpp"] == [0.25, 0.25]


@pytest.mark.parametrize("layout", ["clam", "trident", "stamp"])
def test_a_round_trip_of_theirs_loses_nothing_that_float16_holds(tmp_path: Path, layout: str) -> None:
    coords, features = grid(4, 3, 512, left=1024, top=512), numbers(12)
    path = tmp_path / "s.h5"
    if layout == "stamp":
        write_stamp(path, coords * 0.5, features)
    elif layout == "trident":
        write_trident(path, coords, features)
    else:
        write_clam(path, coords, features, patch_size=512, patch_level=0)
    brought_back(path, tmp_path / "results", slide_mpp=0.5, mpp=256 / 224, tile_px=224)
    name = "feats" if layout == "stamp" else "features"
    with h5py.File(path) as theirs, h5py.File(exported(tmp_path / "results", layout, tmp_path / "out", "back")) as ours:
        for array in (name, "coords"):
            assert np.array_equal(theirs[array], ours[array])
        assert ours[name].dtype == theirs[name].dtype
        attributes = [dict(file.attrs if layout == "stamp" else file["coords"].attrs) for file in (theirs, ours)]
        kept = {
            "stamp": ["unit", "tile_size_um", "tile_size_px", "extractor", "feat_type"],
            "clam": ["patch_size", "patch_level"],
        }
        for key in kept.get(layout, ["patch_size_level0", "overlap", "name"]):
            assert attributes[0][key] == attributes[1][key]


def test_exported_files_have_what_other_tools_read(results: Path, tmp_path: Path) -> None:
    bag = read_bag(results / "features/mean/s.json")
    with h5py.File(exported(results, "clam", tmp_path / "clam")) as file:
        assert file["features"].dtype == np.float32 and np.array_equal(file["coords"], bag.coords)
        assert file["coords"].attrs["patch_size"] == 58 and tuple(file["coords"].attrs["level_dim"]) == (640, 448)
    tensor = torch.load(tmp_path / "clam/pt_files/s.pt", weights_only=True)
    assert tensor.dtype == torch.float32 and np.array_equal(tensor.numpy(), bag.features)
    with h5py.File(exported(results, "trident", tmp_path / "trident")) as file:
        about = dict(file["coords"].attrs)
        assert (about["patch_size"], about["patch_size_level0"], about["overlap"]) == (40, 58, 13)
        assert about["target_magnification"] == pytest.approx(10 / 0.73)
        assert (about["level0_width"], about["level0_height"]) == (640, 448)
    with h5py.File(exported(results, "stamp", tmp_path / "stamp")) as file:
        assert np.allclose(file["coords"], bag.coords * 0.5) and file["coords"].dtype == np.float32
        assert file["feats"].dtype == np.float16 and file.attrs["tile_size_um"] == pytest.approx(29.2)
    content = torch.load(exported(results, "pt", tmp_path / "pt"), weights_only=True)
    assert np.array_equal(content["features"].numpy(), bag.features) and np.array_equal(content["coords"].numpy(), bag.coords)


def outcome(results: Path, out: Path, *slides: str) -> dict[str, ExportResult]:
    return {done.slide_id: done for done in export_features(results / "features/mean", "trident", out, slides)}


def test_slides_that_are_not_finished_are_left_out_with_the_reason(results: Path, tmp_path: Path) -> None:
    features = results / "features/mean"
    write_receipt(features / "glass.json", {"slide_id": "glass", "status": "empty", "reason": "no tissue found", "warnings": []})
    (features / "half.zarr").mkdir()
    found = outcome(results, tmp_path / "out")
    assert not found["s"].reason and found["s"].n_tiles > 50
    assert (found["glass"].reason, found["glass"].is_fault) == ("empty: no tissue found", False)
    assert "its store has no receipt, so it is not finished" in found["half"].reason and found["half"].is_fault
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["s.h5"], "nothing half-written"
    assert set(outcome(results, tmp_path / "o", "s", "nobody")) == {"nobody", "s"}
    with pytest.raises(FeatureFileError, match="has no features"):
        outcome(tmp_path / "nowhere", tmp_path / "out")


def test_a_store_that_is_being_written_again_is_not_exported(results: Path, tmp_path: Path) -> None:
    receipt = results / "features/mean/s.json"
    tiles = tmp_path / "other/s.json"
    tile_slide(SlideRow("s", tmp_path / "s.svs"), SETTINGS, tiles)
    before = receipt.read_bytes()
    extract_slide(tiles, SlideRow("s", tmp_path / "s.svs"), Encoder(), receipt, dtype="float32", encoder=MeanColour, threads=1)
    receipt.write_bytes(before)
    assert "its store and receipt differ, so it is not finished" in outcome(results, tmp_path / "out")["s"].reason
    zarr.open_group(store_path(receipt)).attrs["shards_done"] = 0
    assert "not all shards are written" in outcome(results, tmp_path / "out")["s"].reason
