"""The real DAG on labels that say nothing, beside labels that do: everything that is shown of the first says so."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dag import Run
from tests.interchange.test_imported_cohort import ENCODERS, MODELS, Cohort, write_slide
from wsi_mil.heatmaps.text import WARNING_COLOUR
from wsi_mil.receipts import read_receipt
from wsi_mil.view import Catalogue
from wsi_mil.view.pages import slide_json
from wsi_mil.view.slide_images import SlideImage
from wsi_mil.view.tiles import TilesCache, tiles_page

pytestmark = [pytest.mark.slow, pytest.mark.system]

N_SLIDES = 16
NOT_INTERPRETED = "not to be interpreted: the model is no better than chance (AUROC"
KIND = {"kind": "classes", "classes": ["normal", "tumour"]}
METHODS = ("attention", "evidence", "sparse_inversion")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, command: Path) -> Run:
    """A finished run of two targets: labels, and labels permuted so that half of each class have the other."""
    run = Cohort(tmp_path_factory.mktemp("permuted"), command)
    run.sheet.parent.mkdir()
    rows = []
    for number in range(N_SLIDES):
        label = ("normal", "tumour")[number % 2]
        write_slide(run.folder / f"files/s{number}.h5", number, is_positive=label == "tumour")
        rows.append({"slide_id": f"s{number}", "label": label, "permuted": ("normal", "tumour")[number // 2 % 2]})
    run.write_rows(rows)
    targets = {name: {**KIND, "column": column} for name, column in (("tumour", "label"), ("permuted", "permuted"))}
    explain = {"methods": list(METHODS), "curve_points": 5}
    run.config(encoders=ENCODERS, models=MODELS, targets=targets, slides_per_job="auto", explain=explain)
    run.bring()
    run.snakemake()
    return run


def shown(run: Run, target: str, suffix: str) -> list[Path]:
    folder = run.results(f"heatmaps/{target}/uni/abmil")
    return [folder / f"s{n}" / f"{method}{suffix}" for n in range(N_SLIDES) for method in METHODS]


def has_banner(picture: Path) -> bool:
    """Whether rows of a picture are in the colour of the banner from edge to edge."""
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    return bool((pixels[:, [0, -1]] == WARNING_COLOUR).all(axis=(1, 2)).any())


def test_a_model_of_permuted_labels_is_at_chance_and_the_other_is_not(run: Run) -> None:
    found = {target: read_receipt(run.results(f"trust/{target}/uni/abmil.json")) for target in ("tumour", "permuted")}
    assert found["tumour"]["model"]["is_better"] is True and found["permuted"]["model"]["is_better"] is False
    for target, content in found.items():
        metrics = read_receipt(run.results(f"metrics/{target}/uni/abmil.json"))
        assert content["model"]["value"] == pytest.approx(metrics["auroc"], abs=1e-4), "of the same slides"
        assert set(METHODS) <= set(content["methods"])
    evidence = found["tumour"]["methods"]["evidence"]
    assert evidence["symmetric_gain"] > 0.5 and evidence["n_patients"] == 2 and evidence["beats_random"] is None, (
        "too few to tell"
    )


def test_every_picture_of_it_has_the_banner_and_no_picture_of_the_other(run: Run) -> None:
    for suffix in (".png", ".tiles.png"):
        assert all(has_banner(picture) for picture in shown(run, "permuted", suffix))
        assert not any(has_banner(picture) for picture in shown(run, "tumour", suffix))


def test_every_geojson_of_it_says_so(run: Run) -> None:
    for file in shown(run, "permuted", ".geojson"):
        content = json.loads(file.read_text())
        assert content["wsi_mil"]["trust"].startswith(NOT_INTERPRETED)
        assert all(f["properties"]["metadata"]["trust"].startswith(NOT_INTERPRETED) for f in content["features"])
    shown_by_slide = (
        r"^too few validation slides to tell .*; faithful: removing the hottest [\d.]+ % of tiles turns the prediction; at random"
    )
    said = [json.loads(file.read_text())["wsi_mil"]["trust"] for file in shown(run, "tumour", ".geojson")]
    assert not any("not to be interpreted" in text for text in said)
    assert any(re.search(shown_by_slide, t) for t in said)


def test_the_report_says_so_below_every_heatmap_and_at_the_top(run: Run) -> None:
    page = run.results("report/permuted.html").read_text()
    assert page.count(f'<span class="trust warned">{NOT_INTERPRETED}') == len(METHODS) * N_SLIDES
    assert "Do not interpret its heatmaps." in page and "Permuted weights</th>" in page
    assert "Do not interpret its heatmaps." in run.results("report/index.html").read_text()
    assert f'<p class="trust warned">{NOT_INTERPRETED}' in run.results("report/permuted.tiles.html").read_text()
    assert NOT_INTERPRETED not in run.results("report/tumour.tiles.html").read_text()
    other = run.results("report/tumour.html").read_text()
    assert NOT_INTERPRETED not in other and 'class="trust"' in other


def test_the_viewers_page_of_tiles_says_so(run: Run) -> None:
    catalogue = Catalogue(run.folder / "results")
    pages = {t: tiles_page(catalogue, t, catalogue.entry(t, "uni", "abmil"), TilesCache()) for t in ("tumour", "permuted")}
    assert f'<p class="note warned">{NOT_INTERPRETED}' in pages["permuted"] and NOT_INTERPRETED not in pages["tumour"]


def test_the_viewer_says_so_for_every_method(run: Run) -> None:
    catalogue = Catalogue(run.folder / "results")
    for number in range(N_SLIDES):
        slide = slide_json(catalogue, f"s{number}", SlideImage(None, "", 0, None, ""))
        by_target = {entry["target"]: entry for entry in slide["entries"]}
        assert all(m["is_warning"] and m["trust"].startswith(NOT_INTERPRETED) for m in by_target["permuted"]["methods"])
        assert by_target["permuted"]["notes"][0].startswith(NOT_INTERPRETED)
        assert not any(m["is_warning"] for m in by_target["tumour"]["methods"])


def test_the_table_of_the_evaluation_says_where_predictions_turn(run: Run) -> None:
    with run.results("explanations/tumour/uni/abmil.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert any(row["turn"] and float(row["turn"]) < float(row["random_turn"] or 1) for row in rows)
