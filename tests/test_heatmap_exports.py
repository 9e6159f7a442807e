import csv
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from shapely.geometry import shape

from tests.conftest import tissue_image, write_aperio
from tests.heatmap_files import OME, Made, csv_hottest, features, geojson_hottest, ome_hottest, write_scn
from wsi_mil.config import Heatmap, TileSettings, Tiling, Tissue
from wsi_mil.errors import StoreError, StoreMismatchError
from wsi_mil.geometry import Mpp
from wsi_mil.heatmaps import draw_heatmap, draw_heatmaps
from wsi_mil.heatmaps.raster import ome_tiff
from wsi_mil.heatmaps.slide_scores import read_scores_by_method, trusted
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import InstanceScores, SlideRow
from wsi_mil.slides import open_slide
from wsi_mil.store import read_grid, write_scores
from wsi_mil.tasks import Multilabel
from wsi_mil.tile import tile_slide
from wsi_mil.tile.grid import tile_grid
from wsi_mil.tissue import TissueMask
from wsi_mil.trust import Trust
from wsi_mil.trust.verdicts import Verdict

LOPSIDED = np.array([[x, y] for y in range(0, 448, 64) for x in range(0, 640, 64)])
SUFFIXES = (".png", ".geojson", ".ome.tif", ".csv", ".tiles.png")


def made(hot: int | tuple[int, ...] = 17, **changes: object) -> Made:
    """70 tiles of a slide of 640 × 448; evidence 3 in the hot ones, -1 elsewhere."""
    values = np.full(70, -1.0, np.float32)
    values[list(hot) if isinstance(hot, tuple) else hot] = 3.0
    return Made(LOPSIDED, values, **changes)


def exported(slide: Made, folder: Path, path: Path = Path("gone.svs"), **settings: object) -> Path:
    image = folder / "h" / "evidence.png"
    draw_heatmap(SlideRow("s", path, "tumour"), *slide.write(folder), "evidence", Heatmap(**settings), image)
    return image


def scored_by_darkness(slide: Path, settings: TileSettings, folder: Path) -> tuple[Path, Path]:
    """Receipts of a slide tiled by `tile`, whose tiles are scored by their darkness."""
    tiles, scores = folder / "tiles" / "s.json", folder / "scores" / "s.json"
    tile_slide(SlideRow("s", slide), settings, tiles)
    tiled, grid = read_receipt(tiles), read_grid(store_path(tiles))
    side = settings.tiling.tile_px
    with open_slide(slide) as opened:
        looks = [opened.read_region((int(x), int(y)), (side, side), settings.tiling.mpp).mean() for x, y in grid.coords]
    values = (1 - np.array(looks, np.float32) / 255).astype(np.float32)
    write_scores(store_path(scores), grid.coords, [InstanceScores("evidence", values, "", "log_odds", True)], {})
    receipt = Made(grid.coords, values).scores_receipt()
    write_receipt(scores, {**receipt, "tiles": {key: tiled[key] for key in ("coords_digest", "slide_hash")}})
    return scores, tiles


@pytest.mark.parametrize(
    ("tiling", "corner", "side"),
    [
        (Tiling(tile_px=32, mpp=0.5), (416, 96), 32),
        (Tiling(tile_px=32, mpp=0.5, overlap=12), (420, 80), 32),  # stride 20
        (Tiling(tile_px=40, mpp=0.73), (409, 175), 58),  # stride 58.4: 7 × 58.4 = 408.8, 3 × 58.4 = 175.2
        (Tiling(tile_px=40, mpp=0.73, overlap=13), (434, 197), 58),  # stride 39.42: 11 × 39.42 = 433.6, 5 × 39.42 = 197.1
    ],
)
def test_the_one_tile_that_looks_different_is_the_hottest_point_of_every_export(
    tmp_path: Path, tiling: Tiling, corner: tuple[int, int], side: int
) -> None:
    x, y = corner
    image = tissue_image(640, 448)
    image[y : y + side, x : x + side] = 0
    slide = write_aperio(tmp_path / "a.svs", image)
    receipts = scored_by_darkness(slide, TileSettings(tiling=tiling, tissue=Tissue(mpp=2.0, min_area_um2=500)), tmp_path)
    picture = tmp_path / "h" / "evidence.png"
    draw_heatmap(SlideRow("s", slide, "tumour"), *receipts, "evidence", Heatmap(scale="minmax", hot=0.99), picture)
    assert csv_hottest(picture) == corner and ome_hottest(picture, (0.5, 0.5)) == corner
    assert geojson_hottest(picture) == (x, y, x + side, y + side)
    (region,) = features(picture, "annotation")
    assert shape(region["geometry"]).bounds == pytest.approx((x, y, x + side, y + side), abs=1)


@pytest.mark.parametrize(
    ("mpp", "overlap", "corner"),
    [
        ((0.25, 0.25), 0, (99456, 59136)),  # 222 × 448, 132 × 448
        ((0.25, 0.25), 56, (99456, 59472)),  # stride 336: 296 × 336, 177 × 336
        ((0.2533, 0.2533), 56, (99487, 59360)),  # stride 331.6226: 300 × and 179 × it, 99486.8 and 59360.4
        ((0.2533, 0.4), 0, (99487, 59640)),  # strides 442.163 and 280: 225 × 442.163 = 99486.8, 213 × 280
    ],
)
def test_in_the_bottom_right_corner_of_a_large_slide_nothing_has_drifted(
    tmp_path: Path, mpp: tuple[float, float], overlap: int, corner: tuple[int, int]
) -> None:
    dimensions, tiling = (100_000, 60_000), Tiling(tile_px=224, mpp=0.5, overlap=overlap)
    mask = np.zeros((60, 100), bool)
    mask[50:, 80:] = True
    coords = tile_grid(dimensions, TissueMask.whole(mask), tiling, Mpp(*mpp)).coords
    values = np.zeros(len(coords), np.float32)
    values[-1] = 2.0
    slide = Made(coords, values, dimensions, tile_px=224, overlap=overlap, mpp=mpp)
    image = exported(slide, tmp_path, gallery=0)
    box = slide.box
    assert corner[0] + 2 * box[0] > 100_000 and corner[1] + 2 * box[1] > 60_000
    assert csv_hottest(image) == corner and ome_hottest(image, mpp) == corner
    assert geojson_hottest(image) == (*corner, corner[0] + box[0], corner[1] + box[1])


@pytest.mark.parametrize(("origin", "shift"), [("bounds", (192, 1024)), ("slide", (0, 0))])
def test_on_a_slide_with_bounds_qupaths_files_count_from_their_corner_and_the_others_from_level_0(
    tmp_path: Path, origin: str, shift: tuple[int, int]
) -> None:
    image = tissue_image(640, 448)
    image[128:160, 416:448] = 0  # at level 0 (416 + 192, 128 + 1024) = (608, 1152) = (19, 36) tiles of 32
    slide = write_scn(tmp_path / "a.scn", image, corner=(192, 1024), dimensions=(1600, 2080))
    settings = TileSettings(tiling=Tiling(tile_px=32, mpp=0.5), tissue=Tissue(mpp=2.0, min_area_um2=500))
    scores, tiles = scored_by_darkness(slide, settings, tmp_path)
    assert read_receipt(tiles)["bounds"] == [192, 1024, 640, 448]
    picture = tmp_path / "h" / "evidence.png"
    draw_heatmap(SlideRow("s", slide), scores, tiles, "evidence", Heatmap(scale="minmax", hot=0.99, origin=origin), picture)
    assert csv_hottest(picture) == ome_hottest(picture, (0.5, 0.5)) == (608, 1152)
    x, y = 608 - shift[0], 1152 - shift[1]
    assert geojson_hottest(picture) == (x, y, x + 32, y + 32)
    (region,) = features(picture, "annotation")
    assert shape(region["geometry"]).bounds == (x, y, x + 32, y + 32)
    outline = json.loads(tiles.with_suffix(".geojson").read_text())["features"][0]["geometry"]
    assert shape(outline).bounds == pytest.approx((256, 45, 608, 358), abs=8)


def test_bounds_that_start_at_0_change_nothing_and_a_receipt_without_them_is_refused(tmp_path: Path) -> None:
    files = []
    for number, bounds in enumerate([None, (0, 0, 640, 448)]):
        files.append(exported(made(bounds=bounds), tmp_path / str(number)).with_suffix(".geojson").read_text())
    slide = made()
    receipts = slide.write(tmp_path / "old")
    write_receipt(receipts[1], {key: value for key, value in slide.tile_receipt().items() if key != "bounds"})
    assert files[0] == files[1]
    with pytest.raises(StoreMismatchError, match=r"lacks the slide's bounds .* run `tile` again"):
        draw_heatmap(SlideRow("s", Path("gone.svs")), *receipts, "evidence", Heatmap(), tmp_path / "old" / "evidence.png")


def test_hot_regions_are_the_tiles_that_touch_along_their_edges(tmp_path: Path) -> None:
    slide = replace(made(hot=(17, 18, 27, 36)), mpp=(0.5, 0.25), tile_mpp=0.5)  # 64 wide, 128 high: other positions, same law
    slide.coords = LOPSIDED * (1, 2)
    slide.dimensions = (640, 896)
    slide.values[17] = 5.0
    first, second = features(exported(slide, tmp_path), "annotation")
    about = first["properties"]
    assert about["classification"]["name"] == "hot: evidence"
    # three tiles of 64 × 0.5 by 128 × 0.25 µm: (7, 1), (8, 1), (7, 2); the fourth, (6, 3), touches by a corner only
    assert about["measurements"] == {"area µm²": 3072.0, "max": 5.0, "mean": pytest.approx(11 / 3), "tiles": 3}
    assert shape(first["geometry"]).bounds == (448, 128, 576, 384) and shape(first["geometry"]).area == 3 * 64 * 128
    assert second["properties"]["measurements"]["tiles"] == 1 and shape(second["geometry"]).bounds == (384, 384, 448, 512)


def test_neighbours_with_rounded_positions_are_one_region(tmp_path: Path) -> None:
    coords = tile_grid(
        (3000, 2000), TissueMask.whole(np.ones((20, 30), bool)), Tiling(tile_px=37, mpp=0.5), Mpp(0.2533, 0.2533)
    ).coords
    slide = Made(coords, np.full(len(coords), 3.0, np.float32), (3000, 2000), tile_px=37, mpp=(0.2533, 0.2533))
    slide.values[0] = -1.0
    (region,) = features(exported(slide, tmp_path), "annotation")
    outline = shape(region["geometry"])
    stride = 37 * 0.5 / 0.2533
    assert outline.geom_type == "Polygon" and not outline.interiors
    assert region["properties"]["measurements"]["area µm²"] == pytest.approx((len(coords) - 1) * (37 * 0.5) ** 2, rel=1e-3)
    assert outline.bounds[2] == round(stride * np.floor(3000 / stride))


def test_a_slide_predicted_negative_has_no_hot_region_but_all_its_tiles(tmp_path: Path) -> None:
    image = exported(made(prob=0.02), tmp_path)
    assert not features(image, "annotation") and len(features(image, "tile")) == 70


def test_tiles_have_the_stored_and_the_shown_score(tmp_path: Path) -> None:
    image = exported(made(), tmp_path)
    hot = features(image, "tile")[17]["properties"]
    assert hot["measurements"] == {"evidence": 3.0, "shown": pytest.approx(2.7)}
    trust = hot["metadata"].pop("trust")
    assert trust.endswith("; not tested: the scores are of an earlier version; run `explain` again")
    assert hot["metadata"] == {
        "slide_id": "s",
        "method": "evidence",
        "output": "tumour",
        "role": "test",
        "protocol": "held_out",
    }
    with image.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["slide_id", "x", "y", "width", "height", "score", "shown", "role", "protocol", "output"]
    assert [(int(r["x"]), int(r["y"])) for r in rows] == [tuple(c) for c in LOPSIDED.tolist()]
    expected = {"slide_id": "s", "x": "448", "y": "64", "width": "64", "height": "64", "score": "3.0"}
    assert float(rows[17].pop("shown")) == pytest.approx(2.7)
    assert rows[17] == {**expected, "role": "test", "protocol": "held_out", "output": "tumour"}


def test_the_raster_has_each_tiles_own_score_and_its_position(tmp_path: Path) -> None:
    slide = made(overlap=0, bounds=(64, 64, 512, 320))
    slide.values[:] = np.arange(70)
    slide.values[3] = np.nan
    image = exported(slide, tmp_path)
    with tifffile.TiffFile(image.with_suffix(".ome.tif")) as tif:
        raster, page = tif.series[0].asarray(), tif.pages[0]
        assert page.is_tiled and page.dtype == np.float32 and page.compression.name == "ADOBE_DEFLATE"
        assert 'PositionX="0.0"' in tif.ome_metadata and 'PhysicalSizeX="32.0"' in tif.ome_metadata
    expected = np.arange(70, dtype=np.float32).reshape(7, 10)
    expected[0, 3] = np.nan
    assert np.array_equal(raster, expected, equal_nan=True)


def test_each_channel_of_the_raster_has_the_trust_line_of_its_own_output(tmp_path: Path) -> None:
    scores, tiles = made().write(tmp_path)
    row = SlideRow("s", Path("gone.svs"), "tumour")
    (found,) = read_scores_by_method(row, scores, tiles, ["evidence"], scale="quantile", ranges={}).values()
    about = Multilabel(("er", "her2")).stamp() | {"probs": [0.9, 0.8], "predicted": [1, 1], "threshold": [0.5, 0.5]}
    entry = found.metadata
    receipt = {**found.receipt, **about, "methods": {"evidence": {**entry, "output": 0}, "evidence@her2": {**entry, "output": 1}}}
    good = Verdict("AUROC", 0.93, (0.81, 1.0), 0.5, "held-out", 40, True)
    trust = Trust(good, {"er": good, "her2": replace(good, value=0.5, is_better=False)}, {"evidence": True}, is_known=True)
    both = {
        name: replace(found, method=name, metadata=own, receipt=receipt, stamp={**found.stamp, "output": output})
        for output, (name, own) in zip(("er", "her2"), receipt["methods"].items(), strict=True)
    }
    (tmp_path / "a.ome.tif").write_bytes(ome_tiff(list(reversed(trusted(both, trust).values()))))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        description = ElementTree.fromstring(tif.ome_metadata).find(f".//{OME}Description")
    exact = json.loads(description.text)
    assert exact["outputs"] == ["er", "her2"] and exact["trust"][0].startswith("not tested")
    assert exact["trust"][1].startswith("not to be interpreted: the model is no better than chance for her2")


def test_the_pyramid_halves_until_its_sides_are_256(tmp_path: Path) -> None:
    dimensions = (9_600, 1_000)
    coords = tile_grid(dimensions, TissueMask.whole(np.ones((10, 96), bool)), Tiling(tile_px=8, mpp=0.5), Mpp(0.5, 0.5)).coords
    slide = Made(coords, np.arange(len(coords), dtype=np.float32), dimensions, tile_px=8)
    with tifffile.TiffFile(exported(slide, tmp_path, gallery=0).with_suffix(".ome.tif")) as tif:
        levels = [level.asarray() for level in tif.series[0].levels]
    assert [level.shape for level in levels] == [(125, 1200), (63, 600), (32, 300), (16, 150)]
    assert levels[1][2, 5] == levels[0][4:6, 10:12].mean() and levels[1][62, 0] == levels[0][124, :2].mean()


def test_drawing_again_gives_the_same_bytes_and_leaves_nothing_of_an_earlier_run(tmp_path: Path) -> None:
    image = exported(made(), tmp_path)
    first = {suffix: image.with_suffix(suffix).read_bytes() for suffix in SUFFIXES}
    exported(made(), tmp_path)
    assert first == {suffix: image.with_suffix(suffix).read_bytes() for suffix in SUFFIXES}
    exported(made(), tmp_path, gallery=0)
    assert sorted(path.name for path in image.parent.iterdir()) == sorted(f"evidence{s}" for s in SUFFIXES if s != ".tiles.png")


@pytest.mark.parametrize("name", ["coords_digest", "slide_hash"])
def test_scores_of_other_tiles_are_refused_with_both_named(tmp_path: Path, name: str) -> None:
    slide = made(tiles={name: "other"})
    with pytest.raises(
        StoreMismatchError, match=rf"s\.json: has scores of tiles with {name} \w, but .*s\.json has other; run `extract`"
    ):
        exported(slide, tmp_path)
    assert not (tmp_path / "h").exists()


def test_scores_of_another_slide_and_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreMismatchError, match="of slide 'other', expected 's'"):
        exported(made(tiles={"slide_id": "other"}), tmp_path)
    slide = made()
    scores, tiles = slide.write(tmp_path)
    write_receipt(scores, {key: value for key, value in slide.scores_receipt().items() if key != "tiles"})
    with pytest.raises(StoreMismatchError, match=r"earlier version\); run `explain` again"):
        draw_heatmap(SlideRow("s", Path("x")), scores, tiles, "evidence", Heatmap(), tmp_path / "a.png")


def test_a_method_that_was_not_scored_is_named_with_those_that_were(tmp_path: Path) -> None:
    receipts = made().write(tmp_path)
    with pytest.raises(StoreError, match="has no scores of method 'attention', only evidence"):
        draw_heatmap(SlideRow("s", Path("x")), *receipts, "attention", Heatmap(), tmp_path / "a.png")


@pytest.mark.parametrize("scale", ["auto", "raw", "minmax", "percentile"])
def test_a_slide_of_one_tile_and_one_of_equal_scores_are_drawn(tmp_path: Path, scale: str) -> None:
    for number, n in enumerate((1, 70)):
        slide = Made(LOPSIDED[-n:], np.full(n, 2.5, np.float32))
        image = exported(slide, tmp_path / str(number), scale=scale)
        assert image.stat().st_size > 1000 and len(features(image, "tile")) == n and not features(image, "annotation")
        assert csv_hottest(image) == tuple(LOPSIDED[-n].tolist())


def test_a_hot_region_ends_where_the_slide_does(tmp_path: Path) -> None:
    """Padded tiles reach beyond a slide of 640 × 448: the last column by 48, the last row by 72 pixels."""
    coords = np.array([[x, y] for y in range(0, 448, 172) for x in range(0, 640, 172)])
    slide = Made(coords, np.eye(len(coords), dtype=np.float32)[-1] * 3, tile_px=172)
    (region,) = features(exported(slide, tmp_path), "annotation")
    assert shape(region["geometry"]).bounds == (516, 344, 640, 448)
    assert region["properties"]["measurements"]["area µm²"] == 124 * 104 / 4


QUPATH_TYPES = {"annotation", "tile"}
QUPATH_KEYS = {"objectType", "classification", "measurements", "metadata"}
"""Of those that QuPath's reader knows (`PathObjectTypeAdapters` of QuPath 0.4 and later), the ones that we write."""


def differs_from_qupaths_form(content: dict) -> list[str]:
    """Deviations from the format of QuPath 0.4, in words."""
    found = [] if content["type"] == "FeatureCollection" and isinstance(content["features"], list) else ["no collection"]
    for feature in content["features"]:
        about, geometry = feature["properties"], shape(feature["geometry"])
        named = about.get("classification", {"name": "", "color": [0, 0, 0]})
        checks = {
            "feature": feature["type"] == "Feature" and set(feature) == {"type", "geometry", "properties"},
            "geometry": geometry.geom_type in ("Polygon", "MultiPolygon") and geometry.is_valid and not geometry.is_empty,
            "objectType": about["objectType"] in QUPATH_TYPES,
            "keys": set(about) <= QUPATH_KEYS,
            "classification": set(named) == {"name", "color"} and len(named["color"]) == 3 and max(named["color"]) < 256,
            "measurements": all(
                type(value) in (int, float) and np.isfinite(value) for value in about.get("measurements", {}).values()
            ),
            "metadata": all(isinstance(value, str) for value in about.get("metadata", {}).values()),
        }
        found += [f"{name}: {feature}" for name, holds in checks.items() if not holds]
    return found


def test_exports_have_the_format_that_qupath_reads(tmp_path: Path, slide: Path) -> None:
    receipts = scored_by_darkness(
        slide, TileSettings(tiling=Tiling(tile_px=32, mpp=0.5), tissue=Tissue(min_area_um2=1)), tmp_path
    )
    image = tmp_path / "h" / "evidence.png"
    draw_heatmap(SlideRow("s", slide, "tumour"), *receipts, "evidence", Heatmap(hot=0.1), image)
    heatmap = json.loads(image.with_suffix(".geojson").read_text())
    tissue = json.loads(receipts[1].with_suffix(".geojson").read_text())
    assert {f["properties"]["objectType"] for f in heatmap["features"]} == QUPATH_TYPES
    assert tissue["features"] and differs_from_qupaths_form(heatmap) == differs_from_qupaths_form(tissue) == []
    heatmap["features"][0]["properties"]["measurements"]["max"] = "4"
    assert differs_from_qupaths_form(heatmap)[0].startswith("measurements: ")


def outputs_of_three(folder: Path) -> tuple[Path, Path]:
    """Receipts of a slide predicted as luad with evidence 3 in tile 17; for lusc it is in tile 4, for normal in tile 60."""
    scores, tiles = made().write(folder)
    values = {"evidence": made().values, "evidence@lusc": made(4).values, "evidence@normal": made(60).values}
    arrays = [InstanceScores(name, value, "", "log_odds", True) for name, value in values.items()]
    write_scores(store_path(scores), LOPSIDED, arrays, {})
    receipt = read_receipt(scores)
    about = receipt["methods"]["evidence"]
    outputs = {"evidence": 1, "evidence@lusc": 2, "evidence@normal": 0}
    receipt |= {"task": {"kind": "classes", "classes": ["normal", "luad", "lusc"]}, "probs": [0.2, 0.7, 0.1], "threshold": None}
    write_receipt(scores, {**receipt, "methods": {name: {**about, "output": output} for name, output in outputs.items()}})
    return scores, tiles


def test_every_output_has_its_files_and_the_raster_of_a_method_has_a_channel_for_each(tmp_path: Path) -> None:
    receipts = outputs_of_three(tmp_path)
    names = ("evidence", "evidence@lusc", "evidence@normal")
    draw_heatmaps(SlideRow("s", Path("gone.svs"), "luad"), *receipts, names, Heatmap(), tmp_path / "h")
    images = {name: tmp_path / "h" / f"{name}.png" for name in names}
    with tifffile.TiffFile(images["evidence"].with_suffix(".ome.tif")) as tif:
        raster = tif.series[0].asarray()
        channels = ElementTree.fromstring(tif.ome_metadata).findall(f".//{OME}Channel")
    assert [channel.get("Name") for channel in channels] == ["normal", "luad", "lusc"]
    hottest = [np.unravel_index(np.nanargmax(channel), channel.shape) for channel in raster]
    assert hottest == [(6, 0), (1, 7), (0, 4)], "row and column of tiles 60, 17 and 4 of ten in a row"
    assert not list((tmp_path / "h").glob("*@*.ome.tif"))
    for name, output in zip(names, ("luad", "lusc", "normal"), strict=True):
        regions, tile = features(images[name], "annotation"), features(images[name], "tile")[0]
        assert tile["properties"]["metadata"]["output"] == output
        hot = {f"hot: evidence for {output}"} if output == "luad" else set()
        assert {region["properties"]["classification"]["name"] for region in regions} == hot, "not predicted: never hot"
        with images[name].with_suffix(".csv").open(newline="") as file:
            assert {row["output"] for row in csv.DictReader(file)} == {output}
