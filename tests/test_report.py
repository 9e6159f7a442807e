import json
from pathlib import Path

import numpy as np
import pytest

from tests.heatmap_files import Made
from tests.statistics.conftest import drawn_slides, write_features
from tests.targets import NAME, block_of
from wsi_mil.cohort import SlideStatus, write_status
from wsi_mil.cohort.splits import Splits, write_splits
from wsi_mil.config import Config, Statistics, parse_settings
from wsi_mil.figures import cohort_figures
from wsi_mil.files import write_table
from wsi_mil.metrics import auroc
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import InstanceScores, Role, SlideRow, Status
from wsi_mil.report import write_report
from wsi_mil.report.comparison import compare_models, evaluated_rows, least_p_holm
from wsi_mil.report.registry import report_of
from wsi_mil.report.templating import installed_versions
from wsi_mil.statistics import write_statistics
from wsi_mil.store import write_scores
from wsi_mil.tasks import Classes
from wsi_mil.tasks.shown import Row

CLASSES = ("normal", "tumour")
TASK = Classes(CLASSES)
REPORT = report_of(TASK)
TRUTH = [0, 0, 0, 0, 0, 1, 1, 1]
"""Of the slides s0 to s7, each a patient of its own; s8 has no label."""
COORDS, VALUES = [(0, 0), (512, 0), (3584, 1536)], [0.0, 1.0, 4.0]
"""Corners (x, y) of three tiles of a slide of 4096 × 2048, and their scores."""
PROBS = [0.1, 0.2, 0.3, 0.35, 0.6, 0.4, 0.7, 0.9, 0.5]


def lines(probs: list[float], *, bags: dict[str, str] | None = None, protocol: str = "held_out") -> list[dict[str, str]]:
    """A predictions table of two folds, threshold 0.5."""
    found = []
    for number, p in enumerate(probs):
        label = CLASSES[TRUTH[number]] if number < len(TRUTH) else ""
        line = {"slide_id": f"s{number}", "patient_id": f"p{number}", "label": label, "fold": str(number % 2), "role": "test"}
        line |= {"prob_normal": f"{1 - p:.6f}", "prob_tumour": f"{p:.6f}", "threshold": "0.5", "predicted": CLASSES[p >= 0.5]}
        found.append({**line, "protocol": protocol, "bag": (bags or {}).get(f"s{number}", f"s{number}")})
    return found


def figures_of(rows: list[Row]) -> dict[str, object]:
    outcomes = TASK.read_outcomes(rows)
    parts = {k: outcomes.rows(np.arange(k, len(rows), 2)) for k in (0, 1)}
    return cohort_figures(TASK, outcomes, [row["patient_id"] for row in rows], parts, draws=200)


def write_model(results: Path, name: str, table: list[dict[str, str]], *, methods: tuple[str, ...] = ("attention",)) -> None:
    """What predict, explain and heatmap leave of one model."""
    write_table(results / "predictions" / NAME / f"{name}.csv", list(table[0]), [row.values() for row in table])
    rows = evaluated_rows(table)
    figures = figures_of(rows) if rows else {}
    about = {"protocol": table[0]["protocol"], "n_slides": len(rows)}
    write_receipt(results / "metrics" / NAME / f"{name}.json", {**about, **figures})
    write_explanations(results, name)
    for row in table:
        write_scored(
            results / "scores" / NAME / name / f"{row['slide_id']}.json", row["slide_id"], dict.fromkeys(methods, VALUES)
        )


def write_scored(receipt: Path, slide_id: str, values: dict[str, list[float]], *, reason: str = "") -> None:
    """What explain leaves of a slide: log odds of tiles of 512 px at `COORDS`."""
    made = Made(np.array(COORDS), np.zeros(len(COORDS)), slide_id=slide_id, reason=reason)
    found = [InstanceScores(name, np.array(v, np.float32), reason, "log_odds", False, True, 0.0) for name, v in values.items()]
    write_scores(store_path(receipt), made.coords, found, {})
    content = made.scores_receipt()
    write_receipt(receipt, {**content, "methods": dict.fromkeys(values, content["methods"][made.method])})


def write_explanations(results: Path, name: str, **changes: object) -> None:
    """What evaluate leaves of a model without an annotation and without curves."""
    nothing = {
        "methods": {"attention": {"n_curves": 0, "comparable": True}},
        "n_with_truth": 0,
        "differences": [],
        "notes": {},
        "threshold_notes": [],
    }
    write_receipt(results / "explanations" / NAME / f"{name}.json", {**nothing, **changes})


def write_tiled(results: Path, slide_id: str, *, tiling: str = "default", **changes: object) -> Path:
    """What tile leaves of a slide, without the picture beside it."""
    about = {"slide_id": slide_id, "status": "ok", "reason": "", "warnings": [], "tissue_share": 0.25, "n_tiles": 9}
    about |= {"dimensions": [4096, 2048], "bounds": None, "mpp": [0.5, 0.5], "tile_px_level0": [512, 512], "reader": "auto"}
    about |= {"settings": {"tiling": {"mpp": 0.5, "tile_px": 512, "overlap": 0}}, "coords_digest": "a", "slide_hash": "b"}
    receipt = results / "tiles" / tiling / f"{slide_id}.json"
    write_receipt(receipt, {**about, **changes})
    return receipt


def page(
    folder: Path,
    models: list[str],
    *,
    methods: tuple[str, ...] = ("attention",),
    pool: str = "",
    baseline: str = "",
    with_covariates: str = "",
) -> str:
    """The page of a target with models of the encoder `enc` whose results lie in `folder`; of them `pool` has no attention."""
    others = {pool: "embedding_pool", baseline: "mean_linear"}
    kinds: dict[str, dict[str, object]] = {name: {"model": others.get(name, "abmil")} for name in models}
    kinds |= {name: {**kinds[name], "covariates": True} for name in kinds if name == with_covariates}
    content = {"cohort": "cohort.csv", "targets": block_of(*CLASSES), "results": folder, "encoders": {"enc": {}}, "models": kinds}
    config = parse_settings(Config, {**content, "explain": {"methods": methods}})
    labels = [CLASSES[c] for c in TRUTH] + [""]
    rows = [
        SlideRow(f"s{i}", Path("gone.svs"), label, f"p{i}", labels={NAME: label} if label else {})
        for i, label in enumerate(labels)
    ]
    for row in rows:
        if not (folder / "tiles" / "default" / f"{row.slide_id}.json").exists():
            write_tiled(folder, row.slide_id)
    tiled = [read_receipt(folder / "tiles" / "default" / f"{row.slide_id}.json") for row in rows]
    statuses = [SlideStatus(t["slide_id"], Status(t["status"]), t["reason"], "", {"enc": 9}) for t in tiled]
    write_status(folder / "cohort_status.csv", statuses)
    write_features(folder / "features" / "enc", drawn_slides(len(rows)))
    write_statistics(
        [row.slide_id for row in rows], folder / "features/enc", Statistics(), folder / "statistics/enc.json", threads=1
    )
    labelled = {row.slide_id: row.label for row in rows if row.label}
    roles = tuple({s: Role.TEST if int(s[1:]) % 2 == fold else Role.TRAIN for s in labelled} for fold in (0, 1))
    write_splits(
        folder / "splits/tumour.csv", Splits({row.slide_id: row.patient_id for row in rows if row.label}, labelled, roles)
    )
    write_report(rows, config, folder / "report")
    return (folder / "report" / f"{NAME}.html").read_text()


def overview(folder: Path) -> str:
    """The overview that `page` wrote."""
    return (folder / "report" / "index.html").read_text()


def test_a_model_does_not_differ_from_its_copy() -> None:
    (pair,) = compare_models({"one": lines(PROBS), "copy": lines(PROBS)}, REPORT, draws=200)
    assert (pair.difference.value, pair.difference.ci95, pair.difference.p, pair.p_holm) == (0, (0, 0), 1, 1)
    assert pair.n == 8 and not pair.is_significant


def test_models_are_compared_on_the_slides_that_both_predicted() -> None:
    others = [line for line in lines([1 - p for p in PROBS]) if line["slide_id"] not in ("s0", "s7")]
    others[0]["role"] = "train"
    (pair,) = compare_models({"one": lines(PROBS), "other": others}, REPORT, draws=200)
    truth, positive = np.array(TRUTH[2:7]), np.array(PROBS[2:7])
    area = auroc(truth, np.stack([1 - positive, positive], axis=1))
    assert pair.n == 5 and pair.difference.value == pytest.approx(area - (1 - area)) and area == pytest.approx(5 / 6)


def test_a_bag_of_several_slides_counts_once() -> None:
    bags = {"s5": "p", "s6": "p"}
    table = [line | {"patient_id": "p", "prob_tumour": "0.4"} if line["bag"] == "p" else line for line in lines(PROBS, bags=bags)]
    (pair,) = compare_models({"one": table, "other": table}, REPORT, draws=200)
    assert pair.n == len(evaluated_rows(table)) == 7
    (mixed,) = compare_models({"one": table, "slide by slide": lines(PROBS)}, REPORT, draws=200)
    assert mixed.n == 8, "if one model predicts slides separately, each is compared"


def test_models_without_a_slide_in_common_have_no_difference() -> None:
    (pair,) = compare_models({"one": lines(PROBS)[:4], "other": lines(PROBS)[4:]}, REPORT, draws=100)
    assert pair.n == 0 and np.isnan([pair.difference.value, pair.difference.p, pair.p_holm]).all()


def test_p_values_are_adjusted_for_the_number_of_pairs() -> None:
    shifted = {f"m{k}": lines([min(0.99, p + 0.07 * k * (i % 3)) for i, p in enumerate(PROBS)]) for k in range(4)}
    pairs = compare_models(shifted, REPORT, draws=200)
    assert [(p.first, p.second) for p in pairs[:3]] == [("m0", "m1"), ("m0", "m2"), ("m0", "m3")] and len(pairs) == 6
    assert all(p.p_holm >= p.difference.p for p in pairs) and min(p.p_holm for p in pairs) >= least_p_holm(6, 200)
    assert least_p_holm(66, 1000) == pytest.approx(0.132, abs=1e-3)


def test_the_page_shows_every_figure_of_every_model_the_best_first(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/poor", lines([1 - p for p in PROBS]))
    write_model(tmp_path, "enc/good", lines(PROBS))
    html = page(tmp_path, ["poor", "good"])
    figures = json.loads((tmp_path / "metrics/tumour/enc/good.json").read_text())
    low, high = figures["auprc_ci95"]
    assert f'{figures["auprc"]:.3f}<span class="small">{low:.3f}–{high:.3f}</span>' in html
    assert f"{figures['fold_mean']['brier']:.3f} ± {figures['fold_sd']['brier']:.3f}" in html
    assert html.index("<b>enc · good</b>") < html.index("<b>enc · poor</b>")
    assert html.count('aria-label="ROC curve of') == html.count('aria-label="Reliability curve of') == 2
    assert "<td>enc · good</td><td>enc · poor</td>" in html and "With 1 pair," in html


def test_the_confusion_matrix_has_the_truth_in_rows(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    html = page(tmp_path, ["a"])
    assert '<tr><th>normal</th><td class="n hit">4</td><td class="n">1</td></tr>' in html
    assert '<tr><th>tumour</th><td class="n">1</td><td class="n hit">2</td></tr>' in html


def test_optimistic_figures_are_announced_and_marked_wherever_the_model_is_named(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/honest", lines(PROBS))
    write_model(tmp_path, "enc/peeking", lines(PROBS, protocol="as_published"))
    html = page(tmp_path, ["honest", "peeking"])
    assert html.index('<div class="banner">') < html.index("<h1>")
    assert html.count("enc · peeking") == html.count("enc · peeking † as published") > 15
    assert "enc · honest †" not in html


def test_figures_of_held_out_slides_have_no_banner(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    metrics = tmp_path / "metrics/tumour/enc/a.json"
    unstamped = {key: value for key, value in json.loads(metrics.read_text()).items() if key != "protocol"}
    write_receipt(metrics, unstamped)
    html = page(tmp_path, ["a"])
    assert 'class="banner"' not in html and "†" not in html and "No two models" in html


def test_a_model_shows_the_methods_that_it_supports(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/two", lines(PROBS), methods=("attention", "sparse_inversion"))
    write_model(tmp_path, "enc/one", lines(PROBS), methods=("sparse_inversion",))
    html = page(tmp_path, ["two", "one"], methods=("attention", "sparse_inversion"), pool="one")
    captions = ["<b>attention</b> · enc · two", "<b>sparse inversion</b> · enc · two", "<b>sparse inversion</b> · enc · one"]
    assert [html.count(f"<figcaption>{caption}") for caption in captions] == [9, 9, 9]
    assert html.count('<img alt="" src="data:image/webp') == 27 and html.count('background-image: url("data:image/webp') == 9


def test_without_labels_the_page_shows_predictions_alone(tmp_path: Path) -> None:
    table = [line | {"label": ""} for line in lines(PROBS)]
    write_model(tmp_path, "enc/a", table)
    html = page(tmp_path, ["a"])
    assert "No labelled slide could be evaluated." in html and 'predicted <span class="">tumour</span>' in html
    assert "No labelled slide could be evaluated, so performance could not be measured; only predictions are shown." in html


def test_without_annotations_and_curves_heatmaps_are_not_evaluated(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    html = page(tmp_path, ["a"])
    assert "There are no annotated slides to evaluate heatmaps on" in html and "Deletion gain" not in html


def test_a_model_that_supports_no_method_needs_no_explanations(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    (tmp_path / "explanations" / NAME / "enc" / "a.json").unlink()
    html = page(tmp_path, ["a"], methods=())
    assert "There are no annotated slides to evaluate heatmaps on" in html


def test_without_annotations_curves_alone_compare_the_methods(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    gains = {
        "deletion_gain": 0.25,
        "deletion_gain_ci95": [0.125, 0.375],
        "insertion_gain": 0.5,
        "insertion_gain_ci95": [0.4, 0.6],
    }
    write_explanations(tmp_path, "enc/a", methods={"sparse_inversion": {"n_curves": 3, "comparable": False, **gains}})
    html = page(tmp_path, ["a"])
    assert "<td>sparse inversion ‡<" in html and '0.250<span class="small">0.125–0.375</span>' in html
    assert "Tile AUROC</th>" not in html and "oracle" not in html


def test_the_table_of_methods_marks_the_outputs_at_chance_and_no_others(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    gains = {
        f"{name}{end}": value
        for name in ("symmetric_gain", "deletion_gain", "insertion_gain")
        for end, value in (("", 0.25), ("_ci95", [0.125, 0.375]))
    }
    methods = {"attention": {"n_curves": 3, "comparable": True, **gains}}
    outputs = {name: {"methods": methods} for name in ("normal", "tumour")}
    write_explanations(tmp_path, "enc/a", methods=methods, outputs=outputs)
    good = {
        "figure": "AUROC",
        "value": 0.9,
        "ci95": [0.7, 1.0],
        "chance": 0.5,
        "on": "held-out",
        "n_slides": 9,
        "is_better": True,
    }
    trust = {"model": good, "outputs": {"normal": good, "tumour": {**good, "value": 0.52, "is_better": False}}}
    trust |= {"methods": {"attention": {"beats_random": True, "randomised": 0.1}}}
    write_receipt(tmp_path / "trust" / NAME / "enc/a.json", trust)
    html = page(tmp_path, ["a"])
    marked = 'attention for tumour<span class="small warn">not to be interpreted: the model is no better than chance for tumour ('
    assert marked in html and html.count('<span class="small warn">') == 1 and "<td>attention for normal</td>" in html


def test_localisation_figures_have_intervals_and_the_oracle_is_named(tmp_path: Path) -> None:
    write_model(tmp_path, "enc/a", lines(PROBS))
    names = ("tile_auroc", "tile_auprc", "pooled_auroc", "f1", "f1_oracle", "froc_mean")
    figures = {name: 0.5 + k / 16 for k, name in enumerate(names)} | {f"{name}_ci95": [0.25, 0.875] for name in names}
    figures |= {"froc": {"1": 0.25, "2": 0.5, "4": 0.75, "8": 1.0}, "n_positive_slides": 3, "n_lesions": 7, "n_not_shown": 1}
    less = {"first": "attention", "second": "evidence", "value": -0.125, "ci95": [-0.25, 0.0], "p": 0.01, "p_holm": 0.03}
    notes = {"s5": ["annotation: 2 of 14 polygons were invalid and were repaired"]}
    about = {
        "methods": {"attention": {"n_curves": 0, "comparable": True, **figures}},
        "n_with_truth": 8,
        "differences": [less],
        "notes": notes,
    }
    write_explanations(tmp_path, "enc/a", **about, threshold_notes=["attention: no threshold"])
    html = page(tmp_path, ["a"])
    assert all(f'{figures[name]:.3f}<span class="small">0.250–0.875</span>' in html for name in names)
    assert '<th class="n">F1, oracle</th>' in html and "best on the test tiles themselves" in html
    assert "0.25 0.50 0.75 1.00" in html and "nothing shown on 1" in html and '<td class="n">−0.125</td>' in html
    assert html.count("2 of 14 polygons were invalid and were repaired") == 1 and "attention: no threshold" in html
    assert "tile AUROC of attention 0.500 over 3 slides" in html


def test_versions_are_of_what_is_installed() -> None:
    found = installed_versions(("numpy", "no-such-package-at-all"))
    assert found == {"numpy": np.__version__}
