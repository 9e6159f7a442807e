import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_geojson
from wsi_mil.config import Heatmap
from wsi_mil.errors import ConfigError
from wsi_mil.geometry import Mpp
from wsi_mil.heatmaps import draw_heatmap
from wsi_mil.heatmaps.overlay import OUTLINE_COLOUR
from wsi_mil.heatmaps.scale_bar import ScaleBar, bar_length_um, scale_bar
from wsi_mil.heatmaps.stage import title
from wsi_mil.receipts import store_path, write_receipt
from wsi_mil.records import InstanceScores, SlideRow, TileGrid
from wsi_mil.store import write_grid, write_scores
from wsi_mil.tasks import Classes

DIMENSIONS = (640, 448)
COORDS = np.array([[x, y] for y in range(0, 448, 64) for x in range(0, 640, 64)])
HOT = 17
"""Row 1, column 7: (448, 64)."""


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Path]:
    return write_scored(tmp_path)


def write_scored(tmp_path: Path) -> tuple[Path, Path]:
    """Receipts of scores and tiles of a white slide with one hot tile by attention; sparse inversion shows nothing."""
    grid = TileGrid(COORDS, np.ones(70, np.float32), 64, (64, 64))
    thumbnail = np.full((224, 320, 3), 255, np.uint8)
    write_grid(tmp_path / "t" / "s.zarr", grid, thumbnail, {"dimensions": list(DIMENSIONS)})
    tiled = {"slide_id": "s", "coords_digest": "a", "slide_hash": "b", "dimensions": DIMENSIONS, "mpp": [0.5, 0.5]}
    tiled |= {"tile_px_level0": [64, 64], "reader": "openslide", "bounds": None}
    write_receipt(tmp_path / "t" / "s.json", {**tiled, "settings": {"tiling": {"mpp": 0.5, "tile_px": 64, "overlap": 0}}})
    attention = np.full(70, 0.5 / 69, np.float32)
    attention[HOT] = 0.5
    nothing = np.full(70, np.nan, np.float32)
    scores = [
        InstanceScores("attention", attention, kind="", unit="share", comparable=False),
        InstanceScores("sparse_inversion", nothing, kind="", unit="", comparable=False, reason="predicted negative"),
    ]
    receipt = tmp_path / "s" / "s.json"
    write_scores(store_path(receipt), COORDS, scores, {})
    names = ("unit", "kind", "reason", "zero", "comparable")
    methods = {
        s.method: {**{name: getattr(s, name) for name in names}, "comparable_weighed": s.comparable_weighted, "output": 1}
        for s in scores
    }
    about = {
        "slide_id": "s",
        "tiles": {"coords_digest": "a", "slide_hash": "b"},
        "probs": [0.1, 0.9],
        "threshold": 0.5,
        "predicted": 1,
        "output": 1,
        **Classes(("normal", "tumour")).stamp(),
    }
    about |= {
        "protocol": "held_out",
        "bag_instances": 70,
        "role": "test",
        "tile_px_level0": [64, 64],
        "slide_mpp": [0.5, 0.5],
        "methods": methods,
    }
    write_receipt(receipt, about)
    return receipt, tmp_path / "t" / "s.json"


def drawn(scored: tuple[Path, Path], tmp_path: Path, method: str = "attention", **settings: object) -> np.ndarray:
    row = SlideRow("s", Path("gone.svs"), label="tumour", annotation=write_geojson(tmp_path / "a.geojson", (448, 64, 512, 128)))
    draw_heatmap(row, *scored, method, Heatmap(**settings), tmp_path / f"{method}.png")
    with Image.open(tmp_path / f"{method}.png") as image:
        return np.asarray(image.convert("RGB")).astype(int)


def panels(picture: np.ndarray) -> tuple[float, float, float]:
    """Left edge of the right panel, its top, and its scale, from the annotation outline, whose position is known."""
    rows, columns = np.nonzero(np.abs(picture - np.array(OUTLINE_COLOUR)).sum(axis=2) < 30)
    right = columns[columns > picture.shape[1] * 0.45]
    scale = (right.max() - right.min()) / 64
    return right.min() - 448 * scale, rows.min() - 64 * scale, scale


def test_the_hot_tile_is_where_the_truth_is_and_nowhere_else(scored, tmp_path: Path) -> None:
    picture = drawn(scored, tmp_path, colormap="inferno", opacity=1.0)
    left, top, scale = panels(picture)

    def colour(x: float, y: float) -> np.ndarray:
        return picture[round(top + y * scale), round(left + x * scale)]

    hot, others = colour(480, 96), [colour(x + 32, y + 32) for i, (x, y) in enumerate(COORDS) if i != HOT]
    assert hot[0] > 200 and hot[1] > 200, "inferno's hottest is yellow"
    assert all(abs(other - others[0]).max() < 12 for other in others) and abs(hot - others[0]).max() > 60


def test_another_colour_map_draws_another_picture(scored, tmp_path: Path) -> None:
    first = drawn(scored, tmp_path, colormap="viridis")
    assert (first != drawn(scored, tmp_path, colormap="inferno")).any()
    with pytest.raises(ConfigError, match=r"heatmap\.colormap: matplotlib has no colour map 'hott'; did you mean 'hot'"):
        drawn(scored, tmp_path, colormap="hott")


def test_drawing_twice_gives_the_same_bytes(scored, tmp_path: Path) -> None:
    drawn(scored, tmp_path)
    first = (tmp_path / "attention.png").read_bytes()
    drawn(scored, tmp_path)
    assert (tmp_path / "attention.png").read_bytes() == first


def test_a_picture_is_written_even_if_there_is_nothing_to_show(scored, tmp_path: Path) -> None:
    picture = drawn(scored, tmp_path, "sparse_inversion")
    with_scores = drawn(scored, tmp_path)
    saturation = np.ptp(picture, axis=2)
    assert picture.shape[0] > 300 and saturation.mean() < np.ptp(with_scores, axis=2).mean()
    assert json.loads((tmp_path / "sparse_inversion.geojson").read_text())["features"] == []


def test_tiles_for_qupath_are_in_level_0_pixels(scored, tmp_path: Path) -> None:
    drawn(scored, tmp_path)
    content = json.loads((tmp_path / "attention.geojson").read_text())["features"]
    features = [f for f in content if f["properties"]["objectType"] == "tile"]
    hottest = max(features, key=lambda f: f["properties"]["measurements"]["attention"])
    corners = np.array(hottest["geometry"]["coordinates"][0])
    assert len(features) == 70
    assert corners.min(axis=0).tolist() == [448, 64] and corners.max(axis=0).tolist() == [512, 128]


@pytest.mark.parametrize(("width_um", "bar"), [(320, 50), (2000, 500), (2500, 500), (50_000, 10_000), (81, 20)])
def test_scale_bars_are_round_and_fit(width_um: float, bar: float) -> None:
    assert bar_length_um(width_um) == bar


def test_the_scale_bar_counts_um_along_the_width_of_the_slide() -> None:
    """40,000 × 0.25 µm are 10 mm, whatever the height and the mpp along it."""
    assert scale_bar((40_000, 600), Mpp(0.25, 0.5)) == ScaleBar(0.2, "2 mm")
    assert scale_bar((640, 448), Mpp(0.5, 0.5)) == ScaleBar(50 / 320, "50 µm")


def test_without_the_store_of_tiles_the_image_is_plain_and_the_title_says_so(scored, tmp_path: Path) -> None:
    with_thumbnail = drawn(scored, tmp_path)
    shutil.rmtree(store_path(scored[1]))
    without = drawn(scored, tmp_path, colormap="inferno", opacity=1.0)
    left, top, scale = panels(without)
    assert without[round(top + 96 * scale), round(left + 480 * scale), 0] > 200, "the hot tile is where it was"
    line = slice(0, round(top) - 20)
    assert (without[line].min(axis=2) < 128).sum() > 1.1 * (with_thumbnail[line].min(axis=2) < 128).sum(), "a longer title"


def test_the_title_shows_a_probability_just_above_its_threshold_with_enough_digits() -> None:
    receipt = {
        **Classes(("normal", "tumour")).stamp(),
        "output": 1,
        "predicted": 1,
        "probs": [0.4986, 0.5014],
        "threshold": 0.4991,
        "methods": {"attention": {"output": 1}},
    }
    text = title(SlideRow("s1", Path("s1.svs"), label="tumour"), {**receipt, "role": "test", "protocol": "held_out"}, "attention")
    assert text == "s1 · attention · label: tumour · predicted: tumour · P(tumour) = 0.501 · threshold 0.499"
