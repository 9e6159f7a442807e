import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.heatmap_files import Made
from tests.targets import NAME
from tests.view.made import CLASSES, DIMENSIONS, MARKER, TILE, Results, grid_coords, hot_at
from wsi_mil.errors import StoreError, UnknownNameError
from wsi_mil.heatmaps.colour_maps import colours
from wsi_mil.heatmaps.scale import weighted_range
from wsi_mil.rasterise import tile_raster
from wsi_mil.receipts import read_receipt, write_receipt
from wsi_mil.view.catalogue import Entry
from wsi_mil.view.deepzoom import Pyramid, View
from wsi_mil.view.layer import Layer, LayerCache

ENTRY = Entry(NAME, "enc", "abmil")
WHOLE = View((0, 0), (400, 280), 4)


def layer_of(made: Results, method: str = "attention", scale: str = "raw", slide_id: str = "s1") -> Layer:
    return LayerCache().layer(made.catalogue(), slide_id, ENTRY, method, scale)  # type: ignore[arg-type]


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_hot_tile_colours_exactly_its_box(made: Results) -> None:
    raster = layer_of(made).raster(WHOLE)
    rows, columns = np.nonzero(raster == 5.0)
    x, y = MARKER
    assert (columns.min(), columns.max() + 1) == (x / 4, (x + TILE) / 4)
    assert (rows.min(), rows.max() + 1) == (y / 4, (y + TILE) / 4)
    assert np.isnan(raster[272:]).all() and not np.isnan(raster[:272]).any()  # tiles end at y = 1088


def test_tiles_of_a_level_are_parts_of_one_image(made: Results) -> None:
    layer, pyramid = layer_of(made), Pyramid((1600, 1120))
    level = pyramid.max_level - 2
    left, right = (layer.raster(pyramid.view(level, x, 0)) for x in (0, 1))
    assert np.array_equal(np.hstack([left, right]), layer.raster(WHOLE)[:256], equal_nan=True)


def test_overlapping_and_odd_tiles_are_painted_as_the_heatmaps_are(tmp_path: Path) -> None:
    made = Results(tmp_path)
    rng = np.random.default_rng(0)
    slide = made.add_marked("s1", scored=False)
    slide.coords = rng.integers(0, 1000, (60, 2))
    slide.values = rng.normal(size=60).astype(np.float32)
    slide.values[7] = np.nan
    slide.mpp = (0.5, 0.4)  # footprints 64 × 80
    made.write_tiles(slide)
    made.write_scores(slide, {})
    expected = tile_raster(slide.values, slide.coords, box=(64, 80), dimensions=(1600, 1120), shape=(280, 400))
    assert np.allclose(layer_of(made).raster(WHOLE), expected, equal_nan=True, atol=1e-6)


def test_colours_and_opacity_are_those_of_the_heatmap(made: Results) -> None:
    picture = pixels(layer_of(made).picture(WHOLE, "magma", 0.0))
    hot, cold = (tuple(c) for c in colours(np.array([1.0, 0.0]), "magma"))
    x, y = MARKER[0] // 4 + 3, MARKER[1] // 4 + 3
    expected = np.array([(*hot, 255), (*cold, 64)])
    assert np.abs(picture[[y, 3], [x, 3]].astype(int) - expected).max() <= 1  # matplotlib rounds down, a picture rounds
    assert picture[275, 3, 3] == 0


def test_the_threshold_hides_lower_scores(made: Results) -> None:
    alpha = pixels(layer_of(made).picture(WHOLE, "viridis", 0.5))[..., 3]
    assert (alpha > 0).sum() == (TILE // 4) ** 2
    assert (pixels(layer_of(made).picture(WHOLE, "viridis", 1.0))[..., 3] > 0).sum() == (TILE // 4) ** 2


def test_the_score_at_a_place_is_that_of_the_tile_under_it(made: Results) -> None:
    layer, (x, y) = layer_of(made), MARKER
    found = layer.at(x + 0.5, y + TILE - 1)
    assert found is not None and (found["value"], found["rank"], found["n"]) == (5.0, 1, 425)
    assert found["box"] == [x, y, x + TILE, y + TILE]
    beside = layer.at(x - 1, y)
    assert beside is not None and (beside["value"], beside["rank"]) == (0.0, 2)
    assert beside["below"] == pytest.approx(424 / 2 / 425)
    assert layer.at(x, 1100) is None and layer.at(-5, 5) is None


def test_the_best_tile_is_first_and_its_box_is_found_again(made: Results) -> None:
    layer = layer_of(made)
    best = layer.top(3, "viridis")[0]
    assert best["box"] == [*MARKER, MARKER[0] + TILE, MARKER[1] + TILE] and best["value"] == 5.0
    assert list(layer.box_of(best["index"])) == best["box"]
    with pytest.raises(UnknownNameError):
        layer.box_of(425)


def test_the_cohorts_range_is_made_from_labelled_slides(made: Results) -> None:
    coords = grid_coords()
    new = made.add_marked("new", label="", scored=False)
    new.values = hot_at(coords, MARKER, 99.0)
    made.write_scores(new, {})
    shown = layer_of(made, scale="cohort").scored.display
    pooled = np.tile(hot_at(coords, MARKER) * np.float32(0.9), 3)
    assert (shown.low, shown.high) == weighted_range(pooled, "log_odds")
    assert layer_of(made, scale="cohort", slide_id="new").scored.display.high == shown.high


def test_a_written_range_counts_for_the_models_whose_scores_it_is_of(made: Results) -> None:
    """The file stays behind when `heatmap.scale` is no longer cohort, and the models are trained again."""
    computed = layer_of(made, scale="cohort").scored.display.high
    for slide_id in ("s1", "s2", "s10"):
        receipt = made.results / "scores/tumour/enc/abmil" / f"{slide_id}.json"
        write_receipt(receipt, {**read_receipt(receipt), "models": "now"})
    written = made.catalogue().cohort_scale(Entry("tumour", "enc", "abmil"))
    for models, high in (("now", 80.0), ("earlier", computed)):
        write_receipt(written, {"models": [models], "methods": {"attention": {"low": 0.0, "high": 80.0}}})
        assert layer_of(made, scale="cohort").scored.display.high == high


def scored_again(made: Results, slide_id: str, values: dict[str, np.ndarray], **changes: object) -> None:
    """Scores of a slide by several names, the first of which is `attention`; those with a class in their name are for it."""
    about = Made(grid_coords(), values["attention"], DIMENSIONS, TILE, slide_id=slide_id, method="attention", prob=0.9)
    tiles = read_receipt(made.results / f"scores/tumour/enc/abmil/{slide_id}.json")["tiles"]
    others = {name: own for name, own in values.items() if name != "attention"}
    receipt = made.write_scores(about, others, tiles=tiles, **changes)
    made.change(receipt, {name: {"output": CLASSES.index(name.partition("@")[2] or "tumour")} for name in values})


def test_scores_of_other_models_are_not_in_the_cohorts_range(made: Results) -> None:
    ramp = np.arange(425, dtype=np.float32)
    for slide_id, factor, models in (("s1", 1, "now"), ("s2", 10, "earlier"), ("s10", 10, "earlier")):
        scored_again(made, slide_id, {"attention": factor * ramp}, models=models)
    own = layer_of(made, scale="cohort").scored.display
    assert (own.low, own.high) == weighted_range(ramp * np.float32(0.9), "log_odds")


def test_scores_for_a_further_class_have_the_range_of_all_slides(made: Results) -> None:
    ramp = np.arange(425, dtype=np.float32)
    scored_again(made, "s1", {"attention": 9 * ramp})
    scored_again(made, "s2", {"attention": ramp, "attention@normal": ramp})
    shown = [layer_of(made, name, scale="cohort", slide_id="s2").scored.display for name in ("attention", "attention@normal")]
    assert (shown[0].low, shown[0].high) == (shown[1].low, shown[1].high)
    assert shown[0].high > 425  # of s1, which has no scores for the other class


def test_the_cohorts_range_names_and_excludes_a_half_written_store(made: Results) -> None:
    (made.results / "scores/tumour/enc/abmil/s2.zarr/attention/c/0").unlink()
    layer = layer_of(made, scale="cohort")
    pooled = np.tile(hot_at(grid_coords(), MARKER) * np.float32(0.9), 2)
    assert (layer.scored.display.low, layer.scored.display.high) == weighted_range(pooled, "log_odds")
    assert layer.note == "computed without s2, whose scores cannot be read"
    assert layer_of(made, "evidence", scale="cohort").note == ""


def test_a_changed_store_is_read_again(made: Results) -> None:
    layers, catalogue = LayerCache(), made.catalogue()
    first = layers.layer(catalogue, "s1", ENTRY, "attention", "raw")
    assert layers.layer(catalogue, "s1", ENTRY, "attention", "raw") is first
    made.write_scores(made.add_marked("s1"), {})
    assert layers.layer(catalogue, "s1", ENTRY, "attention", "raw").version != first.version


@pytest.mark.parametrize("part", ["attention/c/0", "attention/zarr.json", "coords/c/0/0", "zarr.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_half_written_store_is_reported(made: Results, part: str, damage: str) -> None:
    file = made.results / "scores/tumour/enc/abmil/s1.zarr" / part
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=r"run (`explain`|its stage) again|has no array"):
        layer_of(made)


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", "3", '{"methods": {"attention": {}}}', '{"methods": {"attention": {}}, "tiles": 3}']
)
def test_a_damaged_receipt_is_reported(made: Results, text: str) -> None:
    (made.results / "scores/tumour/enc/abmil/s1.json").write_text(text)
    with pytest.raises(StoreError):
        layer_of(made)


def test_scores_of_missing_tiles_are_an_error(made: Results) -> None:
    (made.results / "tiles/default/s1.json").unlink()
    with pytest.raises(StoreError, match="run `explain` again"):
        layer_of(made)


def test_missing_names_are_unknown(made: Results) -> None:
    for slide_id, entry, method in (
        ("no", ENTRY, "attention"),
        ("s1", Entry(NAME, "enc", "no"), "attention"),
        ("s1", ENTRY, "no"),
    ):
        with pytest.raises(UnknownNameError):
            LayerCache().layer(made.catalogue(), slide_id, entry, method, "raw")
    assert CLASSES[1] in layer_of(made).scored.display.label


def test_a_finer_layer_is_hot_in_its_cell_and_gone_when_the_usual_scores_are_others(made: Results) -> None:
    slide = made.add_marked("s7")
    made.write_fine(slide)
    layer, half = layer_of(made, "attention.fine", slide_id="s7"), TILE // 2
    rows, columns = np.nonzero(layer.raster(WHOLE) == 9.0)
    x, y = MARKER[0] + half, MARKER[1] + half
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (x / 4, (x + half) / 4, y / 4, (y + half) / 4)
    assert layer.at(x + 1, y + 1)["box"] == [x, y, x + half, y + half] and layer.at(x - 1, y)["value"] == 0.0
    assert len(layer.tiles) == 4 * len(slide.coords)
    made.write_scores(slide, {}, predicted=0)
    with pytest.raises(UnknownNameError, match=r"attention\.fine"):
        layer_of(made, "attention.fine", slide_id="s7")
    assert layer_of(made, "attention", slide_id="s7").at(*MARKER)["value"] == 5.0


def test_a_finer_layer_has_the_cohorts_range_of_its_method(made: Results) -> None:
    made.write_fine(made.add_marked("s7"))
    usual, fine = (layer_of(made, name, "cohort", "s7").scored.display for name in ("attention", "attention.fine"))
    assert (usual.low, usual.high) == (fine.low, fine.high)
