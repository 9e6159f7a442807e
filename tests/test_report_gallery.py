import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from tests.targets import NAME, block_of
from tests.test_report import REPORT, write_scored, write_tiled
from wsi_mil.annotations import feature_collection
from wsi_mil.config import Config, parse_settings
from wsi_mil.heatmaps.scale_bar import ScaleBar
from wsi_mil.receipts import file_hash, read_receipt, store_path, write_receipt
from wsi_mil.records import SlideRow, TileGrid
from wsi_mil.report.base_images import SIDES_PX, BaseImages
from wsi_mil.report.gallery import STEPS, SlideGallery, galleries, models_that_fit
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.pictures import largest_url
from wsi_mil.report.registry import report_of
from wsi_mil.store import write_grid
from wsi_mil.tasks import Multilabel

WIDTH, HEIGHT = 4096, 2048
TRUTH = (3584, 1536, 4096, 2048)


def model(encoder: str = "e0", name: str = "a") -> ModelPage:
    return ModelPage(NAME, encoder, name, {}, {}, {}, None)


def config_of(results: Path, *, encoders: int = 1, models: int = 1, **changes: object) -> Config:
    content = {"cohort": "c.csv", "targets": block_of("n", "p"), "results": results, "explain": {"methods": ["attention"]}}
    content["encoders"] = {f"e{k}": {"tiling": f"t{k}"} for k in range(encoders)}
    content["tilings"] = {f"t{k}": {} for k in range(encoders)}
    content["models"] = {"abcdefgh"[k]: {"model": "abmil"} for k in range(models)}
    return parse_settings(Config, {**content, **changes})


def write_slide(
    results: Path, slide_id: str, *, thumbnail: np.ndarray | None = None, tiling: str = "t0", **about: object
) -> None:
    """What tile leaves of a slide that is red in its left half and blue in its right one."""
    receipt = write_tiled(results, slide_id, tiling=tiling, **about)
    if thumbnail is None:
        thumbnail = np.full((512, 1024, 3), (200, 0, 0), np.uint8)
        thumbnail[:, 512:] = (0, 0, 200)
    grid = TileGrid(np.array([(0, 0)]), np.ones(1, np.float32), 512, (512, 512))
    write_grid(store_path(receipt), grid, thumbnail, {})


def shown(folder: Path, slide_id: str, values: list[float], *, reason: str = "", **row: object) -> SlideGallery:
    write_slide(folder, slide_id)
    write_scored(folder / "scores/tumour/e0/a" / f"{slide_id}.json", slide_id, {"attention": values}, reason=reason)
    rows = [SlideRow(slide_id, Path("gone.svs"), "p", slide_id, **row)]
    return galleries(rows, [model()], BaseImages(config_of(folder), 1), REPORT)[slide_id]


def decoded(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/webp;base64,")))))


def test_a_layer_is_hot_where_the_tile_is_and_clear_where_none_is(tmp_path: Path) -> None:
    gallery = shown(tmp_path, "s", [0.0, 1.0, 4.0])
    (image,), (panel,) = gallery.base_images.values(), gallery.panels
    layer, slide = decoded(panel.url), decoded(image.url)
    height, width = layer.shape[:2]
    assert (width, height) == image.size == (900, 450) and slide.shape[:2] == (450, 900)
    tile = 512 * width // WIDTH
    hot = (slice(1536 * width // WIDTH + 2, None), slice(3584 * width // WIDTH + 2, None))
    yellow, violet = (253, 231, 37, 255), (68, 1, 84, 64)
    assert (layer[hot] == yellow).all(), "the greatest score, at the slide's lower right corner"
    assert (layer[2 : tile - 2, 2 : tile - 2] == violet).all(), "the least, at its upper left one"
    assert (layer[:, 2 * tile + 3 : 3584 * width // WIDTH - 3, 3] == 0).all()
    assert slide[225, 100, 0] > 150 > slide[225, 800, 0], "the slide the right way round"


def test_the_bar_and_the_numbers_are_the_slides(tmp_path: Path) -> None:
    gallery = shown(tmp_path, "s", [0.0, 1.0, 4.0])
    (image,), (panel,) = gallery.base_images.values(), gallery.panels
    assert panel.ends == ("0", "3.57") and panel.label.startswith("log odds of tumour × P(tumour)"), "0.9 + 0.99 × (3.6 − 0.9)"
    assert image.bar == ScaleBar(pytest.approx(500 / 2048), "500 µm") and image.outlines == "" and image.note == ""


def test_outlines_lie_in_the_frame_of_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "truth.geojson"
    path.write_text(feature_collection([shapely.box(*TRUTH)], [{"classification": {"name": "tumour"}}]))
    gallery = shown(tmp_path, "s", [0.0, 1.0, 4.0], annotation=path)
    (image,) = gallery.base_images.values()
    corners = {tuple(map(float, at.split(","))) for at in image.outlines.strip("Mz").split()}
    assert corners == {(787.5, 337.5), (900.0, 337.5), (900.0, 450.0), (787.5, 450.0)}


def test_nothing_to_show_says_why_and_draws_nothing(tmp_path: Path) -> None:
    gallery = shown(tmp_path, "s", [np.nan] * 3, reason="predicted <i>n</i>")
    (panel,) = gallery.panels
    assert (panel.url, panel.label, panel.reason) == ("", "", "predicted <i>n</i>")


def test_encoders_share_the_picture_of_a_slide_unless_theirs_is_another(tmp_path: Path) -> None:
    config = config_of(tmp_path, encoders=3)
    for k, about in enumerate(({}, {}, {"dimensions": [4096, 4096], "reader": "imported"})):
        write_slide(tmp_path, "s", tiling=f"t{k}", **about)
        write_scored(tmp_path / f"scores/tumour/e{k}/a/s.json", "s", {"attention": [0.0, 1.0, 4.0]})
    models = [model(f"e{k}") for k in range(3)]
    gallery = galleries([SlideRow("s", Path("gone.svs"))], models, BaseImages(config, 1), REPORT)["s"]
    assert [image.note for image in gallery.base_images.values()] == ["", "NO SLIDE FILE: TILES IN GREY"]
    names = [[panel.name for panel in gallery.panels_on(key)] for key in gallery.base_images]
    assert names == [["e0 · a", "e1 · a"], ["e2 · a"]]


def test_there_is_room_for_the_first_models_and_for_one_always(tmp_path: Path) -> None:
    models = [model(name=name) for name in "abcdefgh"]
    config = config_of(tmp_path, models=8)
    slides = [[f"s{i}" for i in range(n)] for n in (0, 100, 200, 300, 999, 5000)]
    assert [len(models_that_fit(models, ids, config, REPORT)) for ids in slides] == [8, 8, 5, 3, 1, 1]


def test_a_picture_becomes_smaller_until_it_fits() -> None:
    assert largest_url(lambda side: "x" * side, SIDES_PX, 450) == "x" * 420
    assert len(largest_url(lambda side: "x" * side, SIDES_PX, 7)) == SIDES_PX[-1], "the least there is"


def test_noise_is_held_to_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (512, 1024, 3)).astype(np.uint8)
    write_slide(tmp_path, "s", thumbnail=noise)
    write_scored(tmp_path / "scores/tumour/e0/a/s.json", "s", {"attention": [0.0, 1.0, 4.0]})
    rows = [SlideRow("s", Path("gone.svs"))]
    sizes = []
    for megabytes in (12.0, 0.06):
        monkeypatch.setattr("wsi_mil.report.base_images.BASE_IMAGES_MB", megabytes)
        (image,) = galleries(rows, [model()], BaseImages(config_of(tmp_path), 1), REPORT)["s"].base_images.values()
        sizes.append(decoded(image.url).shape[1])
        assert len(image.url) <= megabytes * 1e6
    assert sizes[0] == SIDES_PX[0] > sizes[1] >= SIDES_PX[-1]


def test_few_colours_are_as_many_as_are_told(tmp_path: Path) -> None:
    gallery = shown(tmp_path, "s", [0.0, 1.0, 4.0])
    layer = decoded(gallery.panels[0].url).reshape(-1, 4)
    assert len(np.unique(layer[layer[:, 3] > 0], axis=0)) == 3 <= STEPS


def test_each_label_of_a_slide_has_a_panel_named_by_it(tmp_path: Path) -> None:
    write_slide(tmp_path, "s")
    receipt = tmp_path / "scores/tumour/e0/a/s.json"
    write_scored(receipt, "s", {"attention": [0.0, 1.0, 4.0], "attention@er": [4.0, 1.0, 0.0], "evidence": [0.0, 1.0, 4.0]})
    content = read_receipt(receipt)
    stamp = {**Multilabel(("er", "her2")).stamp(), "probs": [0.6, 0.9], "threshold": [0.5, 0.5], "predicted": [1, 1], "output": 1}
    methods = {name: {**about, "output": 0 if "@" in name else 1} for name, about in content["methods"].items()}
    write_receipt(receipt, {**content, **stamp, "methods": methods})
    panels = galleries([SlideRow("s", Path("gone.svs"))], [model()], BaseImages(config_of(tmp_path), 1), REPORT)["s"].panels
    assert [panel.method for panel in panels] == ["attention for her2", "attention for er"], (
        "evidence is not in the configuration"
    )
    first, second = (decoded(panel.url) for panel in panels)
    assert first[-5, -5].tolist() != first[5, 5].tolist() and first[-5, -5].tolist() == second[5, 5].tolist()


def test_further_labels_take_their_share_of_the_page(tmp_path: Path) -> None:
    report = report_of(Multilabel(("er", "her2", "pr")))
    config = config_of(tmp_path, models=2)
    rows = {f"s{i}": {"predicted_er": "1", "predicted_her2": "1", "predicted_pr": "0"} for i in range(300)}
    models = [replace(model(name=name), predictions=rows) for name in "ab"]
    assert len(models_that_fit(models, list(rows), config, report)) == 1, "2 × 300 heatmaps each, and room for 1,000"
    none = {slide_id: dict.fromkeys(row, "0") for slide_id, row in rows.items()}
    assert len(models_that_fit([replace(m, predictions=none) for m in models], list(rows), config, report)) == 2


def test_a_chosen_slide_has_a_finer_panel_after_the_usual_one_if_they_belong_together(tmp_path: Path) -> None:
    write_slide(tmp_path, "s")
    usual, fine = (tmp_path / f"{folder}scores/tumour/e0/a/s.json" for folder in ("", "fine/"))
    write_scored(usual, "s", {"attention": [0.0, 1.0, 4.0]})
    write_scored(fine, "s", {"attention.fine": [4.0, 1.0, 0.0]})
    cells = {**read_receipt(tmp_path / "tiles/t0/s.json"), "cells": {"extent": [256, 256], "stride": [256, 256]}}
    write_receipt(tmp_path / "fine/cells/tumour/e0/a/s.json", {**cells, "tile_px_level0": [256, 256]})
    write_receipt(fine, {**read_receipt(fine), "usual": file_hash(usual)})
    chosen = {"heatmap": {"fine": {"slides": ["s"]}}}

    def titles(**changes: object) -> list[str]:
        rows = [SlideRow("s", Path("gone.svs"), "p", "s")]
        panels = galleries(rows, [model()], BaseImages(config_of(tmp_path, **changes), 1), REPORT)["s"].panels
        assert len({panel.base_image for panel in panels}) == 1 and all(panel.url for panel in panels)
        return [panel.method for panel in panels]

    assert titles(**chosen) == ["attention", "attention, fine"] and titles() == ["attention"]
    write_receipt(usual, {**read_receipt(usual), "probs": [0.3, 0.7]})
    assert titles(**chosen) == ["attention"], "the usual scores are others"
