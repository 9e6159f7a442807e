import io
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tests.conftest import tissue_image, write_aperio, write_geojson
from tests.heatmap_files import Made
from wsi_mil.config import Heatmap
from wsi_mil.errors import StoreError
from wsi_mil.heatmaps import draw_heatmap, draw_heatmaps, gallery
from wsi_mil.heatmaps.colour_bar import LABEL_GAP_PX, MAX_TICKS, tick_labels, ticks
from wsi_mil.heatmaps.colour_maps import KEPT, colour_of
from wsi_mil.heatmaps.overlay import OUTLINE_COLOUR, Backdrop, Picture, coloured, draw, panel
from wsi_mil.heatmaps.scale import ScoreDisplay
from wsi_mil.heatmaps.scale_bar import ScaleBar
from wsi_mil.heatmaps.stage import SUFFIXES
from wsi_mil.heatmaps.text import text_width, wrapped
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import InstanceScores, SlideRow
from wsi_mil.slides import Slide, open_slide, slide_hash
from wsi_mil.store import write_scores

LOPSIDED = np.array([[x, y] for y in range(0, 448, 64) for x in range(0, 640, 64)])
PINK = (200, 180, 160)
BAR = ScaleBar(0.2, "500 µm")
RECTANGLE = np.array([(100, 60), (180, 60), (180, 240), (100, 240), (100, 60)], np.float64)
METHODS = ("evidence", "probability", "attention")


def pink(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), PINK, np.uint8)


def shown(raster: np.ndarray, image: np.ndarray, **changes: object) -> Picture:
    """A picture of scores on a colour bar from 0 to 4, without an annotation."""
    content = {"display": ScoreDisplay(raster, 0.0, 4.0, False, "log odds"), "title": "s1 · evidence", "reason": ""}
    return Picture(Backdrop(image, [], BAR), raster, **{**content, **changes})


def decoded(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


def test_a_tile_has_the_colour_of_its_score_over_the_tissue_the_colder_the_more_transparent() -> None:
    """viridis has (253, 231, 37) at 1, (59, 82, 139) at a quarter, (68, 1, 84) at 0."""
    raster = np.full((300, 500), np.nan, np.float32)
    raster[:, :100], raster[:, 100:200], raster[:, 200:300] = 4.0, 1.0, 0.0
    picture = shown(raster, pink(300, 500))
    colours = coloured(picture, Heatmap(opacity=0.75))[150, [50, 150, 250, 400]].tolist()
    hot = [240, 218, 68]  # opacity 0.75: 0.25 · (200, 180, 160) + 0.75 · (253, 231, 37)
    quarter = [134, 134, 150]  # opacity 0.75 · (0.25 + 0.75 · √0.25) = 0.469
    cold = [175, 146, 146]  # opacity 0.75 · 0.25 = 0.1875
    assert colours == [hot, quarter, cold, list(PINK)]
    drawn = decoded(draw(picture, Heatmap(opacity=0.75)))
    rows, columns = np.nonzero((drawn == hot).all(axis=2))
    assert len(rows) == 300 * 100 and np.ptp(rows) == 299 and np.ptp(columns) == 99, "tiles have sharp edges"


def test_the_slide_is_drawn_pixel_for_pixel_on_the_left_and_under_the_scores() -> None:
    image = tissue_image(500, 300)
    drawn = decoded(draw(shown(np.full((300, 500), np.nan, np.float32), image), Heatmap()))
    left, right = 16, drawn.shape[1] - 16 - 500
    tops = [top for top in range(drawn.shape[0] - 300) if (drawn[top : top + 300, left : left + 500] == image).all()]
    assert len(tops) == 1 and (drawn[tops[0] : tops[0] + 300, right : right + 500] == image).all()


def test_the_outline_is_two_and_a_half_pixels_wide_along_the_annotation_and_over_the_scores() -> None:
    image = pink(300, 500)
    outlined = np.asarray(Backdrop(image, [RECTANGLE], BAR).outlined).astype(int)
    across = outlined[150, 96:105, 0].tolist()  # 200 outside, 0 in the outline; the edge is between columns 99 and 100
    assert across[:2] == across[-2:] == [200, 200] and across[3:5] == [0, 0]
    assert sum(200 - red for red in across) / 200 == pytest.approx(2.5, abs=0.1)
    is_outline = (np.abs(outlined - OUTLINE_COLOUR) < 3).all(axis=2)
    rows, columns = np.nonzero(is_outline)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (59, 240, 99, 180)
    picture = Picture(Backdrop(image, [RECTANGLE], BAR), np.full((300, 500), 4, np.float32), shown(image, image).display, "", "")
    drawn = decoded(draw(picture, Heatmap(opacity=1.0)))
    assert ((np.abs(drawn - OUTLINE_COLOUR) < 3).all(axis=2)).sum() == pytest.approx(2 * is_outline.sum(), rel=0.02)


def test_outlines_beyond_the_picture_or_within_a_pixel_are_no_error() -> None:
    rings = [RECTANGLE - 1000, RECTANGLE + np.array((350, 150)), np.full((4, 2), 30.2), RECTANGLE / 500 + 60]
    assert (np.asarray(Backdrop(pink(300, 500), rings, BAR).outlined) != PINK).any()
    assert (np.asarray(Backdrop(pink(300, 500), rings[:1], BAR).outlined) == PINK).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 768), (800, 600)),
        ((768, 1024), (800, 1067)),
        ((512, 1024), (640, 1280)),
        ((102, 1024), (240, 2409)),
        ((1, 9), (240, 2160)),
        ((1024, 3), (800, 2)),
        ((3, 1024), (9, 3072)),
    ],
)
def test_the_size_of_the_slide_in_a_picture(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert panel(pink(size[1], size[0])).shape == (expected[1], expected[0], 3)


@pytest.mark.parametrize("size", [(800, 80), (240, 2400), (800, 600), (9, 3072), (800, 2)])
@pytest.mark.parametrize("reason", ["", "a long reason " * 40])
def test_nothing_is_cut_off_however_narrow_the_slide_and_long_the_words(size: tuple[int, int], reason: str) -> None:
    """The border of a picture stays white."""
    raster = np.full(size[::-1], 1.0, np.float32)
    display = ScoreDisplay(raster, -123.456, -123.4559, False, "a long label, " * 20 + "\nscale auto: range of this slide")
    title = f"{'TCGA' * 15} · evidence · label: {'x' * 200} · EPOCH AND THRESHOLD CHOSEN ON THE TEST FOLD"
    drawn = decoded(draw(shown(raster, pink(*size[::-1]), display=display, title=title, reason=reason), Heatmap()))
    inside = drawn[12:-12, 12:-12]
    assert (drawn == 255).all(axis=2).sum() - (inside == 255).all(axis=2).sum() == drawn[..., 0].size - inside[..., 0].size


def test_longer_words_make_a_higher_picture_and_the_reason_replaces_the_colour_bar() -> None:
    raster = np.full((300, 500), 4.0, np.float32)
    plain = decoded(draw(shown(raster, pink(300, 500)), Heatmap()))
    with_title = decoded(draw(shown(raster, pink(300, 500), title="words " * 200), Heatmap()))
    without = decoded(draw(shown(raster, pink(300, 500), reason="predicted negative"), Heatmap()))
    assert with_title.shape[0] > plain.shape[0] + 50
    hottest = (plain == (253, 231, 37)).all(axis=2)
    assert hottest.any() and not (without == (253, 231, 37)).all(axis=2).any()
    middle = without[:, -16 - 250]
    assert (middle == 255).all(axis=1).sum() > (plain[:, -16 - 250] == 255).all(axis=1).sum() - 80


@pytest.mark.parametrize(
    ("low", "high", "is_log", "expected"),
    [
        (0.0, 1.0, False, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (-1.0, 3.0, False, ["−1", "−0.5", "0", "0.5", "1", "1.5", "2", "2.5", "3"]),
        (0.0, 2.3026, False, ["0", "0.5", "1", "1.5", "2"]),
        (1.0, 24.3, True, ["1", "2", "5", "10", "20"]),
        (1.0, 1000.0, True, ["1", "10", "100", "1000"]),
        (1.0, 1.5, True, ["1", "1.1", "1.2", "1.3", "1.4", "1.5"]),
        (0.0, 123456789.0, False, ["0", "5e+07", "1e+08"]),
    ],
)
def test_numbers_on_the_colour_bar_are_round(low: float, high: float, is_log: bool, expected: list[str]) -> None:
    assert [tick.text for tick in ticks(ScoreDisplay(np.zeros(1), low, high, is_log, ""), 480)] == expected


def test_numbers_stand_at_their_place_apart_from_each_other_and_within_the_bar() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        is_log = bool(rng.integers(2))
        low = 10 ** rng.uniform(-8, 8) * (1 if is_log else rng.choice([-1, 1]))
        high = low * 10 ** rng.uniform(0.01, 12) if is_log else low + abs(low) * 10 ** rng.uniform(-6, 6)
        display = ScoreDisplay(np.zeros(1), low, high, is_log, "", ceiling=rng.choice([0.4, 1.0]))
        width = int(rng.integers(480, 800))
        found = ticks(display, width)
        assert 1 <= len(found) <= MAX_TICKS, display
        values = [float(tick.text.replace("−", "-")) for tick in found]
        at = np.array([(np.log(v / low) / np.log(high / low)) if is_log else (v - low) / (high - low) for v in values])
        assert np.abs(at * (width - 1) - [tick.place for tick in found]).max() < 2, display
        assert len(set(values)) == len(values) and found[0].left >= 0 and found[-1].right <= width
        assert all(b.left - a.right >= LABEL_GAP_PX for a, b in pairwise(found)), display


def test_neighbouring_numbers_never_look_the_same() -> None:
    assert tick_labels([-7.49995, -7.4999, -7.49985]) == ["−7.49995", "−7.4999", "−7.49985"]
    assert tick_labels([1000.0001, 1000.0002]) == ["1000.0001", "1000.0002"]
    assert tick_labels([-0.0, 1.0]) == ["0", "1"] and tick_labels([5.0]) == ["5"] and tick_labels([]) == []


@pytest.mark.parametrize("name", [*json.loads(KEPT.read_text()), "jet", "tab10", "viridis_r"])
def test_colours_are_those_of_matplotlib(name: str) -> None:
    """Kept maps were written from `np.rint(matplotlib.colormaps[name](np.arange(256))[:, :3] * 255)`."""
    positions = np.concatenate([[0.0, 1.0, 0.5, np.nextafter(0.5, 0)], np.random.default_rng(0).random(2000)])
    expected = matplotlib.colormaps[name](positions)[:, :3] * 255
    assert np.abs(colour_of(positions, name) - expected).max() <= 0.5 + 1e-9


def test_lines_fit_and_keep_every_word() -> None:
    rng = np.random.default_rng(0)
    text = " ".join("x" * n for n in rng.integers(1, 60, 80))
    for width in (100, 333, 1600):
        lines = wrapped(text, 16, width)
        assert max(text_width(line, 16) for line in lines) <= width
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrapped("one two", 16, 500) == ["one two"] and wrapped("one\ntwo", 16, 500) == ["one", "two"]
    assert wrapped("", 16, 500) == [] and wrapped(" \n ", 16, 500) == []


def test_characters_that_the_font_lacks_are_written_as_their_code() -> None:
    assert wrapped("病例-7 µ·×−→ éßŁ Ωж", 16, 800) == [r"\u75c5\u4f8b-7 µ·×−→ éßŁ Ωж"]


def written(folder: Path, slide: Path | None) -> tuple[SlideRow, Path, Path]:
    """Row and receipts of a slide scored by three methods, whose hottest tiles are partly the same."""
    made = Made(LOPSIDED, np.linspace(-1, 2, 70), slide_hash=slide_hash(slide) if slide else "b")
    scores, tiles = made.write(folder)
    values = made.values.astype(np.float32)
    probability = np.r_[0.99, 1 / (1 + np.exp(-values[1:]))]
    by_method = {"evidence": values, "probability": probability, "attention": np.full(70, np.nan)}
    units = {"evidence": "log_odds", "probability": "probability", "attention": ""}
    parts = [InstanceScores(method, v.astype(np.float32), "", units[method], False) for method, v in by_method.items()]
    write_scores(store_path(scores), LOPSIDED, parts, {})
    receipt = read_receipt(scores)
    methods = {m: {**receipt["methods"]["evidence"], "unit": units[m], "reason": "" if units[m] else "none"} for m in METHODS}
    write_receipt(scores, {**receipt, "methods": methods})
    annotation = write_geojson(folder / "a.geojson", (448, 64, 512, 128))
    return SlideRow("s", slide or Path("gone.svs"), label="tumour", annotation=annotation), scores, tiles


def test_all_methods_at_once_give_the_files_of_one_after_the_other_and_read_the_slide_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, scores, tiles = written(tmp_path, write_aperio(tmp_path / "a.svs", tissue_image(640, 448)))
    for method in METHODS:
        draw_heatmap(row, scores, tiles, method, Heatmap(gallery=5), tmp_path / "apart" / f"{method}.png")
    opened, read = [], []

    def counting_open(*args: object, **kwargs: object) -> Slide:
        opened.append(args)
        slide = open_slide(*args, **kwargs)
        read_region = slide.read_region
        slide.read_region = lambda corner, *rest: (read.append(corner), read_region(corner, *rest))[1]
        return slide

    monkeypatch.setattr(gallery, "open_slide", counting_open)
    draw_heatmaps(row, scores, tiles, METHODS, Heatmap(gallery=5), tmp_path / "together")
    assert len(opened) == 1 and len(read) == len(set(read)) == 11, "ten tiles of evidence; of probability the first goes up"
    names = {f"{method}{suffix}" for method in METHODS for suffix in SUFFIXES}
    assert names == {path.name for path in (tmp_path / "together").iterdir()}
    assert all((tmp_path / "together" / n).read_bytes() == (tmp_path / "apart" / n).read_bytes() for n in names)


def test_files_of_an_earlier_run_go_first_but_stay_if_a_method_has_no_scores(tmp_path: Path) -> None:
    row, scores, tiles = written(tmp_path, None)
    folder = tmp_path / "h"
    draw_heatmaps(row, scores, tiles, METHODS, Heatmap(), folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        StoreError, match="has no scores of method 'raw_attention' or 'saliency', only attention, evidence, probability"
    ):
        draw_heatmaps(row, scores, tiles, ["evidence", "raw_attention", "saliency"], Heatmap(), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    draw_heatmaps(row, scores, tiles, ["evidence"], Heatmap(gallery=0), folder)
    assert {path.name for path in folder.iterdir()} == before.keys() - {"evidence.tiles.png"}


def test_geojson_is_written_as_json_does_whatever_the_name_of_the_slide(tmp_path: Path) -> None:
    slide_id = 'p1 50% "it\'s" ü \\ %d'
    values = np.concatenate([[1e-7, 0.1, -3.5e10, np.nan], np.linspace(-1, 1, 66)])
    image = tmp_path / "e.png"
    scores, tiles = Made(LOPSIDED + np.array((3, 0)), values).write(tmp_path)
    for path in (scores, tiles):
        write_receipt(path, {**read_receipt(path), "slide_id": slide_id})
    draw_heatmap(SlideRow(slide_id, Path("gone.svs")), scores, tiles, "evidence", Heatmap(gallery=0, hot=0.3), image)
    text = image.with_suffix(".geojson").read_text()
    content = json.loads(text)
    assert json.dumps(content) == text.rstrip("\n") and len([f for f in content["features"] if "type" in f]) > 69
    tile = next(f for f in content["features"] if f["properties"]["objectType"] == "tile")
    assert tile["properties"]["metadata"]["slide_id"] == slide_id and tile["properties"]["measurements"]["evidence"] == 1e-7
    assert tile["geometry"]["coordinates"] == [[[3, 0], [67, 0], [67, 64], [3, 64], [3, 0]]]


def test_drawing_imports_neither_matplotlib_nor_other_libraries_that_it_does_not_need(tmp_path: Path) -> None:
    written(tmp_path, write_aperio(tmp_path / "a.svs", tissue_image(640, 448)))
    program = """
import sys, wsi_mil.cli
from pathlib import Path
from wsi_mil.config import Heatmap
from wsi_mil.heatmaps import draw_heatmaps
from wsi_mil.records import SlideRow
row = SlideRow("s", Path("a.svs"), label="tumour", annotation=Path("a.geojson"))
draw_heatmaps(row, Path("scores/s.json"), Path("tiles/s.json"), ["evidence", "attention"], Heatmap(), Path("h"))
print(*sys.modules.keys() & {"matplotlib", "skimage", "torch", "scipy", "sklearn", "dask"})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "" and (tmp_path / "h" / "evidence.tiles.png").exists()
