"""The tiles with the highest scores over all slides, and their page in the report."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.heatmap_files import Made
from tests.targets import NAME
from tests.test_report import PROBS, lines, page, write_model, write_tiled
from tests.view.made import BLUE, MARKER, TILE, Results, grid_coords, hot_at
from wsi_mil.cohort import SlideStatus
from wsi_mil.config import Config, parse_settings
from wsi_mil.heatmaps.cohort_tiles import highest_tiles
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import InstanceScores, SlideRow, Status
from wsi_mil.report.base_images import BaseImages
from wsi_mil.report.cohort import Cohort
from wsi_mil.report.tiles_page import write_tile_pages
from wsi_mil.store import write_scores

COORDS = np.array([(64 * i, 192) for i in range(5)])
THREE = {"task": {"kind": "classes", "classes": ["normal", "luad", "lusc"]}, "probs": [0.2, 0.5, 0.3], "threshold": None}


def scored(folder: Path, slide_id: str, scores: dict[str, list[float]], *, outputs: dict[str, int], **changes: object) -> Path:
    """A receipt of `explain` of five tiles in a row; all methods but attention can be compared."""
    receipt = folder / f"{slide_id}.json"
    arrays = [InstanceScores(name, np.array(values, np.float32), "", "log_odds", True) for name, values in scores.items()]
    write_scores(store_path(receipt), COORDS, arrays, {})
    content = Made(COORDS, np.zeros(5), slide_id=slide_id).scores_receipt() | THREE
    entry = content["methods"]["evidence"] | {"kind": "log odds"}
    methods = {name: {**entry, "output": outputs[name], "comparable": not name.startswith("attention")} for name in scores}
    write_receipt(receipt, {**content, "tile_px_level0": [64, 32], "methods": methods, **changes})
    return receipt


def test_the_highest_tiles_of_each_output_come_from_all_slides_that_the_models_had_not_seen(tmp_path: Path) -> None:
    luad, lusc = {"evidence": 1, "evidence@lusc": 2, "attention": 1}, {"evidence": 2, "evidence@luad": 1}
    a = scored(tmp_path, "a", {"attention": [9] * 5, "evidence": [1, 5, 3, 0, 0], "evidence@lusc": [0, 0, 0, 0, 7]}, outputs=luad)
    b = scored(tmp_path, "b", {"evidence": [0, 8, 0, 0, 0], "evidence@luad": [4, 0, np.nan, 6, 0]}, outputs=lusc, role=None)
    seen = [scored(tmp_path, role, {"evidence": [99] * 5}, outputs=luad, role=role) for role in ("train", "val")]
    first, second = highest_tiles([b, *seen, a], n=3)
    assert (first.output, first.method, first.n_slides, second.output) == ("luad", "evidence", 2, "lusc")
    assert [(t.slide_id, t.name, t.index, t.score) for t in first.tiles] == [
        ("b", "evidence@luad", 3, 6.0),
        ("a", "evidence", 1, 5.0),
        ("b", "evidence@luad", 0, 4.0),
    ]
    assert (first.tiles[1].corner, first.tiles[1].centre) == ((64, 192), (96.0, 208.0))
    assert [(t.slide_id, t.score) for t in second.tiles] == [("b", 8.0), ("a", 7.0), ("a", 0.0)]


def test_of_equal_scores_the_upper_left_tile_of_the_first_slide_is_first(tmp_path: Path) -> None:
    receipts = [scored(tmp_path, name, {"evidence": [2, 2, 2, 2, 2]}, outputs={"evidence": 1}) for name in ("b", "a")]
    (found,) = highest_tiles(receipts, n=7)
    assert [(t.slide_id, t.index) for t in found.tiles] == [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 0), ("b", 1)]


def test_methods_that_cannot_be_compared_or_show_nothing_are_not_used(tmp_path: Path) -> None:
    outputs = {"attention": 1, "probability": 1, "evidence": 1}
    a = scored(tmp_path, "a", {"attention": [1] * 5, "probability": [0, 0.5, 0, 0, 0]}, outputs=outputs)
    (found,) = highest_tiles([a])
    assert (found.method, found.tiles[0].index, len(found.tiles)) == ("probability", 1, 5)
    content = read_receipt(a)
    content["methods"]["probability"]["reason"] = "nothing"
    write_receipt(a, content)
    assert highest_tiles([a]) == []


def tiles_page(folder: Path) -> str:
    return (folder / "report" / f"{NAME}.tiles.html").read_text()


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two slides with a blue tile that has the highest evidence; the file of the second is gone."""
    results = Results(tmp_path_factory.mktemp("marked"))
    for slide_id, value in (("here", 5.0), ("gone", 4.0)):
        made = replace(results.add_marked(slide_id, scored=False), method="evidence")
        receipt = results.write_scores(replace(made, values=hot_at(grid_coords(), MARKER, value)), {})
        results.change(receipt, {"evidence": {"comparable": True}})
        write_receipt(receipt, {**read_receipt(receipt), "tile_px_level0": [TILE, TILE]})
    (results.folder / "gone.svs").unlink()
    return results


def write_page(results: Results, readable: range) -> str:
    targets = {NAME: {"kind": "classes", "classes": ["normal", "tumour"]}}
    content = {"cohort": "c.csv", "targets": targets, "results": results.results, "encoders": {"enc": {}}}
    config = parse_settings(Config, {**content, "models": {"abmil": {"model": "abmil"}}, "explain": {"methods": ["evidence"]}})
    rows = [SlideRow(name, results.folder / f"{name}.svs", "tumour", name, labels={NAME: "tumour"}) for name in ("gone", "here")]
    statuses = {row.slide_id: SlideStatus(row.slide_id, Status.OK, "", "", {"enc": 425}) for row in rows}
    cohort = Cohort(config, rows, statuses, [], [], [], BaseImages(config, 2))
    write_tile_pages(cohort, results.folder / "report", readable)
    return tiles_page(results.folder)


def test_tiles_are_on_the_page_with_their_pixels_and_lead_to_slide_and_heatmap(marked: Results) -> None:
    html = write_page(marked, range(100))
    figures = re.findall(r"<figure>.*?</figure>", html)
    assert len(figures) == 20
    first = next(figure for figure in figures if "tile of here" in figure)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", first)[1]))))
    assert np.abs(np.median(pixels, axis=(0, 1)) - BLUE).max() < 20
    assert f"({MARKER[0]}, {MARKER[1]})" in first and 'href="tumour.html#slide-here"' in first
    assert 'href="../heatmaps/tumour/enc/abmil/here/evidence.png"' in first
    gone = [figure for figure in figures if "gone" in figure]
    assert gone and all("the slide file is gone" in figure and "data:" not in figure for figure in gone)


def test_slides_that_may_not_be_read_are_left_out(marked: Results) -> None:
    html = write_page(marked, range(1))
    assert "no pixels: the file could not be read" in html and "data:image" not in html


def test_a_model_that_was_chosen_on_these_slides_is_named(marked: Results) -> None:
    receipt = marked.results / "scores" / NAME / "enc/abmil/here.json"
    before = read_receipt(receipt)
    assert "never saw its patient" in write_page(marked, range(0))
    write_receipt(receipt, {**before, "role": "test", "protocol": "as_published"})
    html = write_page(marked, range(0))
    write_receipt(receipt, before)
    assert "epoch and threshold of enc · abmil were chosen on these slides" in html and "never saw" not in html


def test_without_scores_that_can_be_compared_the_page_says_so(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/m", lines(PROBS))
    write_tiled(tmp_path, "s0")
    assert '<a href="tumour.tiles.html">Highest tiles</a>' in page(tmp_path, ["m"])
    assert "No held-out or new slide has scores of this model that can be compared between slides." in tiles_page(tmp_path)
