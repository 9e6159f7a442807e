import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import openslide
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from wsi_mil.demo import create_demo_cohort
from wsi_mil.demo.cohort import cohort_plan, write_aperio, write_truth
from wsi_mil.demo.outlines import rings_mask
from wsi_mil.demo.synthesis import GLASS, SyntheticSlide, Texture, synthetic_slide
from wsi_mil.errors import MissingFileError

TILE_PX = 224
CELL_PX = 8


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, texture_slide: Path) -> Path:
    """Folder of the cohort of four slides with seed 0."""
    folder = tmp_path_factory.mktemp("demo")
    assert create_demo_cohort(folder, n_slides=4, seed=0) == folder / "cohort.csv"
    return folder


@pytest.fixture(scope="module")
def rows(out: Path) -> list[dict[str, str]]:
    with (out / "cohort.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def small_slide(texture: Texture) -> SyntheticSlide:
    """A positive slide of 1900x1400."""
    return synthetic_slide(texture, (1900, 1400), has_lesion=True, rng=np.random.default_rng(3))


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory, small_slide: SyntheticSlide) -> Path:
    """The same, written."""
    path = tmp_path_factory.mktemp("aperio") / "slide.svs"
    write_aperio(path, small_slide.image)
    return path


def read_level0(path: Path) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


def read_rings(path: Path) -> tuple[np.ndarray, ...]:
    features = json.loads(path.read_text())["features"]
    return tuple(np.array(feature["geometry"]["coordinates"][0]) for feature in features)


def whole_tissue(image: np.ndarray) -> np.ndarray:
    """Bool [height, width]: not glass, narrow gaps filled, the edge left off."""
    cells = image[::CELL_PX, ::CELL_PX].min(axis=2) < 225
    cells = ndimage.binary_erosion(ndimage.binary_closing(cells, iterations=4), iterations=2)
    height, width = image.shape[:2]
    return np.repeat(np.repeat(cells, CELL_PX, axis=0), CELL_PX, axis=1)[:height, :width]


def tile_means(values: np.ndarray) -> np.ndarray:
    """(n_tiles, n_channels) of an array [height, width, channel]."""
    rows, columns = (side // TILE_PX for side in values.shape[:2])
    tiles = values[: rows * TILE_PX, : columns * TILE_PX].reshape(rows, TILE_PX, columns, TILE_PX, -1)
    return np.asarray(tiles.mean(axis=(1, 3)).reshape(rows * columns, -1))


def colour_auroc(colours: np.ndarray, labels: np.ndarray) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")).fit(colours, labels)
    return float(roc_auc_score(labels, model.predict_proba(colours)[:, 1]))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("n_slides", [2, 3, 4, 8, 24, 25])
def test_half_of_the_slides_have_a_lesion(n_slides: int) -> None:
    assert sum(planned.has_lesion for planned in cohort_plan(n_slides, seed=0)) == n_slides // 2


@pytest.mark.parametrize("n_slides", [2, 8, 24, 25, 40])
def test_there_are_three_quarters_as_many_patients_as_slides(n_slides: int) -> None:
    plan = cohort_plan(n_slides, seed=1)
    n_patients = len({planned.patient_id for planned in plan})
    assert 0.75 * n_slides <= n_patients <= n_slides
    assert n_slides < 8 or n_patients < n_slides


def test_a_patient_has_one_label_and_one_stain() -> None:
    plan = cohort_plan(40, seed=2)
    assert len({planned.patient_id for planned in plan}) == len(
        {(planned.patient_id, planned.has_lesion, planned.stain) for planned in plan}
    )


def test_names_and_order_do_not_reveal_the_label() -> None:
    plan = cohort_plan(24, seed=0)
    labels = [planned.has_lesion for planned in plan]
    assert [planned.slide_id for planned in plan] == sorted(planned.slide_id for planned in plan)
    assert sum(a != b for a, b in pairwise(labels)) >= 6
    assert labels != [planned.has_lesion for planned in cohort_plan(24, seed=1)]


def test_a_cohort_of_one_slide_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        cohort_plan(1, seed=0)


@pytest.mark.system
def test_the_same_seed_gives_the_same_bytes_also_in_several_processes(out: Path, tmp_path: Path) -> None:
    create_demo_cohort(tmp_path, n_slides=4, seed=0, processes=2)
    assert files(tmp_path) == files(out)


def test_another_seed_gives_other_slides_and_replaces_existing_files(out: Path, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "demo_01.svs").write_bytes(b"old")
    (tmp_path / "cohort.csv").write_text("old")
    sheet = create_demo_cohort(tmp_path, n_slides=2, seed=1)
    assert sheet.read_text().count("\n") == 4
    new = files(tmp_path)
    assert new["slides/demo_01.svs"] != files(out)["slides/demo_01.svs"]
    assert len(new["slides/demo_01.svs"]) > 1_000_000


def test_the_sheet_lists_every_file_and_no_more(out: Path, rows: list[dict[str, str]]) -> None:
    assert list(rows[0]) == ["slide_id", "path", "patient_id", "label", "annotation"]
    listed = {row["path"] for row in rows} | {f"truth/{row['slide_id']}.geojson" for row in rows[:-1]}
    assert set(files(out)) == listed | {"cohort.csv"}


def test_the_last_row_is_the_real_slide_without_label(out: Path, rows: list[dict[str, str]], texture_slide: Path) -> None:
    row = rows[-1]
    assert row["slide_id"] == "CMU-1-Small-Region"
    assert row["label"] == row["annotation"] == ""
    assert row["patient_id"] not in {other["patient_id"] for other in rows[:-1]}
    assert (out / row["path"]).read_bytes() == texture_slide.read_bytes()


def test_positive_slides_have_an_annotation_and_normal_slides_an_empty_truth(out: Path, rows: list[dict[str, str]]) -> None:
    assert {row["label"] for row in rows[:-1]} == {"tumour", "normal"}
    for row in rows[:-1]:
        rings = read_rings(out / "truth" / f"{row['slide_id']}.geojson")
        assert bool(rings) == (row["label"] == "tumour")
        assert row["annotation"] == (f"truth/{row['slide_id']}.geojson" if rings else "")


def test_slides_are_aperio_pyramids_of_half_a_micrometre(out: Path, rows: list[dict[str, str]]) -> None:
    for row in rows[:-1]:
        with openslide.OpenSlide(out / row["path"]) as slide:
            width, height = slide.dimensions
            assert slide.properties[openslide.PROPERTY_NAME_VENDOR] == "aperio"
            assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == 0.5
            assert slide.properties[openslide.PROPERTY_NAME_OBJECTIVE_POWER] == "20"
            assert slide.level_dimensions == tuple((width // d, height // d) for d in (1, 4, 16))
            assert "thumbnail" in slide.associated_images
        assert 4000 <= width <= 6000 and 4000 <= height <= 6000
        assert width != height


@pytest.mark.parametrize(("level", "downsample"), [(1, 4), (2, 16)])
def test_levels_are_means_of_squares(small_file: Path, level: int, downsample: int) -> None:
    full = read_level0(small_file).astype(float)
    height, width = (side // downsample for side in full.shape[:2])
    squares = full[: height * downsample, : width * downsample].reshape(height, downsample, width, downsample, 3)
    with openslide.OpenSlide(small_file) as slide:
        assert slide.level_dimensions[level] == (width, height)
        small = np.asarray(slide.read_region((0, 0), level, (width, height)).convert("RGB"))
    assert np.abs(small - squares.mean(axis=(1, 3))).mean() < 5


def test_colours_survive_the_file(small_slide: SyntheticSlide, small_file: Path) -> None:
    pixels = read_level0(small_file)
    assert pixels.shape == small_slide.image.shape
    assert np.abs(pixels.mean(axis=(0, 1)) - small_slide.image.mean(axis=(0, 1))).max() < 1


def test_nothing_bleeds_in_from_the_margin_of_the_last_tiles(small_file: Path) -> None:
    pixels = read_level0(small_file)
    border = np.concatenate([pixels[-16:].reshape(-1, 3), pixels[:, -16:].reshape(-1, 3)])
    assert np.abs(border.astype(int) - GLASS).max() <= 6


def test_a_lesion_keeps_the_colour_of_the_normal_tissue_in_the_file(small_slide: SyntheticSlide, small_file: Path) -> None:
    pixels = read_level0(small_file)
    lesion = rings_mask((1900, 1400), small_slide.lesions)
    normal = ndimage.binary_erosion(small_slide.tissue_mask, iterations=10) & ~lesion
    assert np.abs(pixels[lesion].mean(axis=0) - pixels[normal].mean(axis=0)).max() < 3


def test_polygons_are_closed_lie_in_the_tissue_and_cover_2_to_12_percent_of_it(out: Path, rows: list[dict[str, str]]) -> None:
    for row in (row for row in rows if row["label"] == "tumour"):
        image, rings = read_level0(out / row["path"]), read_rings(out / row["annotation"])
        height, width = image.shape[:2]
        lesion, tissue = rings_mask((width, height), rings), whole_tissue(image)
        assert all((ring[0] == ring[-1]).all() for ring in rings)
        assert all((ring >= 0).all() and (ring < (width, height)).all() for ring in rings)
        assert tissue[lesion].mean() > 0.99
        assert 0.02 <= np.count_nonzero(lesion) / np.count_nonzero(tissue) <= 0.12


def test_polygons_mark_the_coarser_tissue(out: Path, rows: list[dict[str, str]]) -> None:
    for row in (row for row in rows if row["label"] == "tumour"):
        image, rings = read_level0(out / row["path"]), read_rings(out / row["annotation"])
        lesion = rings_mask((image.shape[1], image.shape[0]), rings)
        detail = np.abs(ndimage.laplace(image[..., 1].astype(np.float32)))
        normal = whole_tissue(image) & ~lesion
        assert detail[lesion].mean() < 0.75 * detail[normal].mean()


def test_mean_colour_does_not_reveal_lesion_tiles(out: Path, rows: list[dict[str, str]]) -> None:
    colours, labels = [], []
    for row in (row for row in rows if row["label"]):
        image, rings = (
            read_level0(out / row["path"]),
            read_rings(out / "truth" / f"{row['slide_id']}.geojson"),
        )
        lesion = tile_means(rings_mask((image.shape[1], image.shape[0]), rings))[:, 0]
        used = (tile_means(whole_tissue(image))[:, 0] > 0.9) & ((lesion == 0) | (lesion > 0.5))
        colours.append(tile_means(image)[used])
        labels.append(lesion[used] > 0.5)
    assert np.concatenate(labels).sum() > 15
    assert colour_auroc(np.concatenate(colours), np.concatenate(labels)) < 0.7


def test_with_another_texture_the_cohort_lacks_the_real_slide(out: Path, rows: list[dict[str, str]], tmp_path: Path) -> None:
    sheet = create_demo_cohort(tmp_path, n_slides=2, texture=out / rows[0]["path"])
    assert "CMU" not in sheet.read_text()
    assert sorted(path.name for path in (tmp_path / "slides").iterdir()) == ["demo_01.svs", "demo_02.svs"]


def test_a_missing_texture_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere"):
        create_demo_cohort(tmp_path / "out", n_slides=2, texture=tmp_path / "nowhere.svs")
    assert not (tmp_path / "out").exists()


def test_truth_is_geojson_with_x_before_y(tmp_path: Path) -> None:
    write_truth(tmp_path / "a.geojson", (np.array([[900.5, 10.25], [950.0, 10.25], [950.0, 70.0]]),))
    collection = json.loads((tmp_path / "a.geojson").read_text())
    feature = collection["features"][0]
    assert collection["type"] == "FeatureCollection"
    assert feature["properties"]["classification"]["name"] == "tumour"
    assert feature["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[900.5, 10.25], [950.0, 10.25], [950.0, 70.0], [900.5, 10.25]]],
    }
