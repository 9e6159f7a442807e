"""Tables of tiles for other tools, opened with the libraries that these tools are made on."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr

from tests.interchange.files import grid, numbers, write_trident
from tests.interchange.test_commands import called
from tests.test_cli import is_light
from wsi_mil.cohort.splits import Splits, write_splits
from wsi_mil.config import further_name
from wsi_mil.errors import ConfigError
from wsi_mil.interchange import ExportResult, FeatureSource, ImportOptions, TableOptions, export_tables, import_slide
from wsi_mil.interchange.spatial_packages import spatialdata
from wsi_mil.receipts import read_receipt, write_receipt
from wsi_mil.records import NO_PATH, InstanceScores, Role, SlideRow
from wsi_mil.store import read_attributes, read_bag, read_grid, write_scores
from wsi_mil.tasks import Classes, Regression, Task

TASK = Classes(("normal", "in situ", "IN SITU", "invasive (≥ 2 mm)"))
NUMBERS = np.arange(2000, dtype=np.float32)


def write_slide_scores(results: Path, slide_id: str = "s", entry: str = "mean", **changes: Any) -> Path:
    """Scores of a slide's tiles as `explain` writes them; the last method has none. Returns the folder of the model."""
    bag, folder = read_bag(results / f"features/{entry}/{slide_id}.json"), results / f"scores/grade/{entry}/m"
    names = ["attention", "evidence", *(further_name("evidence", name) for name in TASK.names[2:])]
    values = [NUMBERS[: len(bag.coords)] + 0.25 * i for i in range(len(names))]
    values.append(np.full(len(bag.coords), np.nan, np.float32))
    scores = [InstanceScores(n, v, f"what {n} is", "share", False) for n, v in zip([*names, "direction"], values, strict=True)]
    write_scores(folder / f"{slide_id}.zarr", changes.pop("coords", bag.coords), scores, {"slide_id": slide_id})
    reasons = {"direction": "no result for this slide"}
    methods = {s.method: {"kind": s.kind, "unit": s.unit, "reason": reasons.get(s.method, "")} for s in scores}
    slide_hash = read_attributes(results / f"features/{entry}/{slide_id}.zarr")["slide_hash"]
    said = {"role": "test", "tiles": {"slide_hash": slide_hash}, "methods": methods, "output": 1, **TASK.stamp(), **changes}
    write_receipt(folder / f"{slide_id}.json", said)
    return folder


def imported(results: Path, slide_id: str, *, n_columns: int = 4, seed: int = 0, **said: object) -> None:
    """Another slide with six features a tile, of another encoder than `mean`."""
    path = write_trident(
        results.parent / f"{slide_id}.h5", grid(n_columns, 3, 512, left=1024), numbers(n_columns * 3, seed), **said
    )
    import_slide(FeatureSource(SlideRow(slide_id, NO_PATH), path), results, "uni", ImportOptions(slide_mpp=0.25))


def exported(
    results: Path, layout: str, entry: str = "mean", *slides: str, **options: Any
) -> tuple[Path, dict[str, ExportResult]]:
    out = results.parent / f"out-{layout}"
    done = list(export_tables(results / "features" / entry, layout, out, TableOptions(**options), slides))
    return out, {outcome.slide_id: outcome for outcome in done}


def spoil_a_tile(results: Path) -> None:
    zarr.open_group(results / "features/mean/s.zarr")["valid"][5] = False


def test_tiles_are_observations_with_their_features_places_and_tissue(results: Path) -> None:
    spoil_a_tile(results)
    out, done = exported(results, "anndata")
    assert done["s"].files == (out / "s.h5ad",) and not done["s"].warnings
    table = anndata.read_h5ad(out / "s.h5ad")
    bag, tiles = read_bag(results / "features/mean/s.json"), read_grid(results / "tiles/default/s.zarr")
    assert len(table) == done["s"].n_tiles == len(tiles.coords) - 1 > 50 and table.obs_names.is_unique
    assert table.X.dtype == np.float32 and np.array_equal(table.X, bag.features.astype(np.float32))
    assert np.array_equal(table.obs[["x", "y"]], bag.coords)
    assert np.array_equal(table.obsm["spatial"], bag.coords + 29), "the middle of tiles of 58 pixels"
    assert np.array_equal(table.obs["tissue_fraction"], np.delete(tiles.tissue_fraction, 5)) and tiles.tissue_fraction.max() > 0.5
    about = table.uns["wsi_mil"]
    assert (about["mpp"], about["tile_px"], about["encoder"]) == (
        0.73,
        40,
        read_receipt(results / "features/mean/s.json")["encoder"],
    )
    of_slide = about["slides"].loc["s"]
    assert tuple(of_slide[["tile_width", "tile_height", "slide_width", "slide_height"]]) == (58, 58, 640, 448)
    assert tuple(of_slide[["slide_mpp_x", "slide_mpp_y"]]) == (0.5, 0.5)
    assert "level-0 pixels" in about["place"] and set(table.obs["slide_id"]) == {"s"}
    assert np.array_equal(anndata.read_h5ad(out / "s.h5ad", backed="r").X[7:9], table.X[7:9])


def test_the_thumbnail_lies_under_the_tiles_as_squidpy_draws_them(results: Path) -> None:
    """`uns["spatial"][library]` has the image, its pixels per unit of `obsm["spatial"]`, and the diameter of a spot."""
    out, _ = exported(results, "anndata")
    table = anndata.read_h5ad(out / "s.h5ad")
    (library,) = table.uns["spatial"]
    image, factors = table.uns["spatial"][library]["images"]["hires"], table.uns["spatial"][library]["scalefactors"]
    assert library == "s" and image.shape[2] == 3 and image.dtype == np.uint8
    assert factors["tissue_hires_scalef"] == pytest.approx(image.shape[1] / 640) == pytest.approx(image.shape[0] / 448, rel=0.01)
    half = factors["spot_diameter_fullres"] / 2
    assert error(image, table, half, factors) < 3, "the features are mean colours"
    table.obsm["spatial"] += (half, 0)
    assert error(image, table, half, factors) > 8, "corners in the place of middles"


def error(image: np.ndarray, table: Any, half: float, factors: dict[str, float]) -> float:
    """Largest difference of the mean colours of spots in the image from the first three features."""
    boxes = np.column_stack([table.obsm["spatial"] - half, table.obsm["spatial"] + half]) * factors["tissue_hires_scalef"]
    return largest_difference(image, boxes, table.X)


def largest_difference(image: np.ndarray, boxes: np.ndarray, features: np.ndarray) -> float:
    """Largest difference of mean colours within boxes (left, top, right, bottom) of an image from the first three features."""
    cut = [image[top:bottom, left:right].mean((0, 1)) for left, top, right, bottom in np.rint(boxes).astype(int)]
    return float(np.abs(np.array(cut) - features[:, :3]).max())


def test_a_slide_of_non_square_pixels_has_an_image_with_one_scale(results: Path) -> None:
    receipt = results / "tiles/default/s.json"
    said = read_receipt(receipt)
    write_receipt(receipt, {**said, "dimensions": [640, 896]})
    out, _ = exported(results, "anndata")
    image = anndata.read_h5ad(out / "s.h5ad").uns["spatial"]["s"]["images"]["hires"]
    assert image.shape[0] / image.shape[1] == pytest.approx(896 / 640, rel=0.01)


def test_patients_and_labels_of_every_target_are_those_of_the_splits(results: Path) -> None:
    for slide_id in ("a", "b"):
        imported(results, slide_id)
    (results / "splits").mkdir()
    write_splits(results / "splits/grade.csv", Splits({"b": "p 7"}, {"b": "high"}, ({"b": Role.TEST},)))
    write_splits(results / "splits/tmb.csv", Splits({"b": "p 7"}, {"b": "3.5"}, ({"b": Role.TRAIN},)))
    out, _ = exported(results, "anndata", "uni", together=True)
    tiles = anndata.read_h5ad(out / "cohort.h5ad").obs
    labelled = tiles[tiles["slide_id"] == "b"]
    assert len(labelled) == 12 and set(labelled["label_grade"]) == {"high"} and set(labelled["label_tmb"]) == {"3.5"}
    assert set(labelled["patient_id"]) == {"p 7"}
    assert tiles.loc[tiles["slide_id"] == "a", ["patient_id", "label_grade", "label_tmb"]].isna().all(axis=None)


def test_scores_are_columns_whose_names_every_tool_allows(results: Path) -> None:
    folder = write_slide_scores(results)
    out, done = exported(results, "anndata", scores=folder)
    table = anndata.read_h5ad(out / "s.h5ad")
    names = ["attention.in_situ", "evidence.in_situ", "evidence.IN_SITU_2", "evidence.invasive____2_mm_"]
    for i, name in enumerate(names):
        assert np.array_equal(table.obs[name], NUMBERS[: len(table)] + np.float32(0.25 * i))
    assert table.obs["direction.in_situ"].isna().all()
    assert done["s"].warnings == ("direction.in_situ: no values (no result for this slide)",)
    about = table.uns["wsi_mil"]["scores"]
    assert list(about.loc[names, "output"]) == ["in situ", "in situ", *TASK.names[2:]] and set(about["unit"]) == {"share"}
    assert list(about.loc[names, "method"]) == ["attention", *["evidence"] * 3]
    assert tuple(table.uns["wsi_mil"]["slides"].loc["s", ["role", "explained"]]) == ("test", "in situ")


def test_columns_of_slides_that_are_explained_for_other_classes_are_never_mixed(results: Path) -> None:
    for slide_id in ("a", "b"):
        imported(results, slide_id)
    folder = write_slide_scores(results, "a", "uni", output=0)
    write_slide_scores(results, "b", "uni")
    out, _ = exported(results, "anndata", "uni", together=True, scores=folder)
    tiles = anndata.read_h5ad(out / "cohort.h5ad").obs
    filled = tiles.groupby("slide_id", observed=True)[["evidence.normal", "evidence.in_situ"]].count()
    assert filled.to_numpy().tolist() == [[12, 0], [0, 12]]


@pytest.mark.parametrize("task", [Classes(("normal", "tumour")), Regression()])
def test_columns_are_named_by_the_method_where_all_slides_are_explained_for_the_same(results: Path, task: Task) -> None:
    folder = write_slide_scores(results, output=1 if isinstance(task, Classes) else 0, **task.stamp())
    out, _ = exported(results, "anndata", scores=folder)
    table = anndata.read_h5ad(out / "s.h5ad")
    assert {"attention", "evidence", "direction"} < set(table.obs)
    assert table.uns["wsi_mil"]["scores"].loc["evidence", "output"] == ("tumour" if isinstance(task, Classes) else "value")


def test_a_training_slide_has_no_scores_and_the_reason_is_given(results: Path) -> None:
    folder = write_slide_scores(results)
    content = read_receipt(folder / "s.json")
    del content["output"]
    write_receipt(folder / "s.json", {**content, "role": "train"})
    out, done = exported(results, "anndata", scores=folder)
    table = anndata.read_h5ad(out / "s.h5ad")
    assert not [name for name in table.obs if name.startswith(("attention", "evidence"))]
    assert done["s"].warnings == ("direction: no values (no result for this slide)",)
    assert table.uns["wsi_mil"]["slides"].loc["s", "role"] == "train"


def test_slides_follow_each_other_in_one_table_when_asked(results: Path) -> None:
    for seed, slide_id in enumerate(("b", "a")):
        imported(results, slide_id, n_columns=4 + seed, seed=seed)
    folder = write_slide_scores(results, "a", "uni")
    write_slide_scores(results, "b", "uni")
    out, done = exported(results, "anndata", "uni", together=True, scores=folder)
    assert {outcome.files for outcome in done.values()} == {(out / "cohort.h5ad",)} and len(list(out.iterdir())) == 1
    table = anndata.read_h5ad(out / "cohort.h5ad")
    bags = [read_bag(results / f"features/uni/{slide_id}.json") for slide_id in ("a", "b")]
    assert list(table.obs["slide_id"]) == ["a"] * 15 + ["b"] * 12 and table.obs_names.is_unique
    assert np.array_equal(table.X, np.concatenate([bag.features for bag in bags]))
    assert np.array_equal(table.obsm["spatial"], np.concatenate([bag.coords for bag in bags]) + 256)
    assert list(table.obs["attention.in_situ"]) == [*range(15), *range(12)]
    assert set(table.uns["spatial"]) == {"a", "b"} and list(table.uns["wsi_mil"]["slides"]["n_tiles"]) == [15, 12]


def test_slides_that_do_not_fit_or_lack_scores_are_named_and_the_others_exported(results: Path) -> None:
    for slide_id in ("a", "b", "c", "d"):
        imported(results, slide_id)
    imported(results, "e", target_magnification=10)
    for slide_id in ("a", "b", "e"):
        folder = write_slide_scores(results, slide_id, "uni")
    write_slide_scores(results, "c", "uni", coords=read_bag(results / "features/uni/c.json").coords + 512)
    (results / "features/uni/d.json").unlink()
    out, done = exported(results, "anndata", "uni", "a", "b", "c", "d", "e", "f", together=True, scores=folder)
    assert set(anndata.read_h5ad(out / "cohort.h5ad").obs["slide_id"]) == {"a", "b"}
    assert (
        "scores of other tiles" in done["c"].reason and "has no receipt" in done["d"].reason and "no features" in done["f"].reason
    )
    assert "expected features as of a (encoder uni_v1, 6 features, 256 px at 0.5 µm), found" in done["e"].reason
    assert all(done[slide_id].is_fault for slide_id in "cdef")
    (folder / "b.json").unlink()
    _, done = exported(results, "anndata", "uni", "a", "b", scores=folder)
    assert not done["a"].reason and "has no scores of the slide; run `explain`" in done["b"].reason and done["b"].is_fault
    with pytest.raises(ConfigError, match=r"--scores .*: expected the folder of a model, .* found no scores"):
        exported(results, "anndata", "uni", scores=results)


@pytest.mark.parametrize("layout", ["anndata", "spatialdata"])
def test_nothing_half_written_stays_when_a_store_is_damaged(results: Path, layout: str) -> None:
    (results / "features/mean/s.zarr/features/c/0/0").write_bytes(b"short")
    out, done = exported(results, layout)
    assert done["s"].is_fault and "is damaged" in done["s"].reason and not list(out.glob("*")) and not list(out.glob(".*.part"))


def opened(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of its own dependencies
        return spatialdata().read_zarr(path)


def affine(element: Any, system: str) -> np.ndarray:
    found = spatialdata().transformations.get_transformation(element, to_coordinate_system=system)
    return found.to_affine_matrix(("x", "y"), ("x", "y"))


def test_spatialdata_has_the_tiles_as_squares_with_their_table(results: Path) -> None:
    spoil_a_tile(results)
    store = zarr.open_group(results / "features/mean/s.zarr")
    store.attrs["slide_mpp"] = [0.5, 0.25]
    folder = write_slide_scores(results)
    out, done = exported(results, "spatialdata", scores=folder)
    assert done["s"].files == (out / "s.zarr",)
    data, bag = opened(out / "s.zarr"), read_bag(results / "features/mean/s.json")
    assert np.array_equal(data["tiles"].geometry.bounds, np.column_stack([bag.coords, bag.coords + 58]))
    table = data["table"]
    assert table.X.dtype == np.float32 and np.array_equal(table.X, bag.features.astype(np.float32))
    joined = data["tiles"].loc[table.obs["tile"]].geometry.centroid
    assert np.allclose(np.column_stack([joined.x, joined.y]), table.obsm["spatial"])
    assert set(table.obs["region"]) == {"tiles"} and table.uns["spatialdata_attrs"]["instance_key"] == "tile"
    assert list(table.obs["evidence.IN_SITU_2"][:2]) == [0.5, 1.5]
    assert np.allclose(affine(data["tiles"], "global"), np.eye(3))
    assert np.allclose(affine(data["tiles"], "micrometres"), np.diag([0.5, 0.25, 1]))


def test_the_image_of_spatialdata_lies_under_the_squares_in_several_resolutions(results: Path) -> None:
    out, _ = exported(results, "spatialdata")
    data = opened(out / "s.zarr")
    levels = [np.asarray(level["image"]) for level in data["slide"].values()]
    assert len(levels) == 3 and levels[0].shape[0] == 3 and levels[1].shape[2] == levels[0].shape[2] // 2
    for system, mpp in (("global", 1.0), ("micrometres", 0.5)):
        corner = affine(data["slide"], system) @ (levels[0].shape[2], levels[0].shape[1], 1)
        assert np.allclose(corner[:2], (640 * mpp, 448 * mpp))
    scale = levels[0].shape[2] / 640
    squares = data["tiles"].geometry.bounds.to_numpy() * scale
    assert largest_difference(np.moveaxis(levels[0], 0, 2), squares, data["table"].X) < 3
    without, _ = exported(results, "spatialdata", image=False)
    assert list(opened(without / "s.zarr").images) == [], "a store of an earlier export is replaced"


def test_a_store_of_spatialdata_never_replaces_anything_else(results: Path, tmp_path: Path) -> None:
    features = results / "features/mean"
    before = sorted(features.rglob("*"))
    (done,) = export_tables(features, "spatialdata", features, TableOptions())
    assert done.is_fault and "exists and is no store of SpatialData" in done.reason and sorted(features.rglob("*")) == before


def test_imported_features_without_a_slide_are_exported_too(results: Path) -> None:
    imported(results, "a", n_columns=7)
    out, _ = exported(results, "spatialdata", "uni")
    data = opened(out / "a.zarr")
    assert np.array_equal(data["table"].X, read_bag(results / "features/uni/a.json").features)
    shutil.rmtree(results / "tiles")
    exported(results, "anndata", "uni")
    table = anndata.read_h5ad(results.parent / "out-anndata/a.h5ad")
    assert "tissue_fraction" not in table.obs and "hires" not in table.uns["spatial"]["a"]["images"]
    assert pd.isna(table.uns["wsi_mil"]["slides"].loc["a", "slide_width"])


def test_commands_name_options_that_do_not_fit_and_missing_packages(results: Path) -> None:
    command = ["export-features", "results/features/mean", "--out", "out", "--layout"]
    done = called(*command, "stamp", "--scores", "results/scores/grade/mean/m", "--together", cwd=results.parent)
    assert done.returncode == 2
    assert (
        "--scores: layout stamp has features only" in done.stderr
        and "--together: layout stamp has a file for each slide" in done.stderr
    )
    done = called(*command, "adata", cwd=results.parent)
    assert done.returncode == 2 and "did you mean 'anndata'" in done.stderr
    done = called("import-features", "x", "--encoder", "uni", "--layout", "anndata", cwd=results.parent)
    assert done.returncode == 2 and "--layout: no layout 'anndata'" in done.stderr
    for layout in ("anndata", "spatialdata"):
        done = called(*command, layout, cwd=results.parent, without=layout)
        assert done.returncode == 2 and not (results.parent / "out").exists()
        assert done.stderr == (
            f"error: --layout {layout} needs the package {layout}, which is not installed: pip install 'wsi_mil[spatial]'\n"
        )
    assert called(*command, "pt", cwd=results.parent, without="anndata").returncode == 0


def test_a_command_writes_tables_without_torch_and_says_what_is_missing(results: Path) -> None:
    write_slide_scores(results)
    command = ["export-features", "results", "--encoder", "mean", "--layout", "anndata", "--out", "out"]
    done = called(*command, "--scores", "results/scores/grade/mean/m", cwd=results.parent)
    assert done.returncode == 0 and done.stdout.endswith("tiles: out/s.h5ad\n")
    assert done.stderr == "warning: s: direction.in_situ: no values (no result for this slide)\n"
    assert is_light(*command, cwd=results.parent)
