from dataclasses import replace
from pathlib import Path

import pytest

from tests.targets import NAME, block_of
from tests.test_report import CLASSES, PROBS, REPORT, figures_of, lines
from wsi_mil.config import Config, parse_settings
from wsi_mil.receipts import write_receipt
from wsi_mil.report.comparison import evaluated_rows
from wsi_mil.report.curves import reliability_dots
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.templating import render
from wsi_mil.report.transfer import difference, transfer_limitations, transfers

EARLIER = {"sensitivity": 0.9, "sensitivity_ci95": [0.85, 0.95], "specificity": 0.6, "specificity_ci95": [0.4, 0.8]}


def config_of(folder: Path, **changes: object) -> Config:
    content = {"cohort": "c.csv", "targets": block_of(*CLASSES), "models": {"a": {"model": "abmil"}}, "encoders": {"enc": {}}}
    return parse_settings(Config, {**content, "trained": folder, **changes})


def model_of(**metrics: object) -> ModelPage:
    """A model whose slides are all new, at one threshold."""
    table = [{**line, "role": "", "fold": "mean"} for line in lines(PROBS)]
    rows = evaluated_rows(table)
    about = {"n_slides": len(rows), **figures_of(rows), **metrics}
    return ModelPage(NAME, "enc", "a", about, {row["slide_id"]: row for row in table}, {}, None)


def test_the_interval_of_a_difference_by_hand() -> None:
    """0.7 (0.6 to 0.9) minus 0.9 (0.85 to 0.94): -0.2 - √(0.1² + 0.04²) to -0.2 + √(0.2² + 0.05²)."""
    value, (low, high) = difference((0.9, (0.85, 0.94)), (0.7, (0.6, 0.9)))
    assert value == pytest.approx(-0.2)
    assert (low, high) == (pytest.approx(-0.2 - (0.01 + 0.0016) ** 0.5), pytest.approx(-0.2 + (0.04 + 0.0025) ** 0.5))


def test_figures_at_the_old_threshold_stand_beside_those_of_the_earlier_run(tmp_path: Path) -> None:
    write_receipt(tmp_path / f"metrics/{NAME}/enc/a.json", {"n_slides": 40, **EARLIER})
    (found,) = transfers([model_of(sensitivity=0.5, sensitivity_ci95=[0.3, 0.7])], REPORT, config_of(tmp_path))
    moves = {move.name: move for move in found.moves}
    assert moves["sensitivity"].has_moved and moves["sensitivity"].difference[0] == pytest.approx(-0.4)
    assert not moves["specificity"].has_moved, "0.6 (0.4 to 0.8) and 0.8 overlap"
    assert moves["auroc"].before is None and moves["auroc"].now is not None and moves["auroc"].difference is None
    assert found.sentence.startswith("At the threshold 0.500 of the earlier run, sensitivity went from 0.900 to 0.500 (−0.400, ")
    (limitation,) = transfer_limitations([found])
    assert "At the threshold of the earlier run, enc · a: sensitivity went from 0.900 to 0.500" in limitation.text


def test_a_perfect_figure_has_wilsons_interval_in_the_difference(tmp_path: Path) -> None:
    """3 of 3 are no less likely than 0.438, so that 0.9 (0.85 to 0.95) may have been higher or lower."""
    write_receipt(tmp_path / f"metrics/{NAME}/enc/a.json", {"n_slides": 40, **EARLIER, "auroc": 0.7, "auroc_ci95": [0.6, 0.8]})
    perfect = {f"{name}{key}": value for name in ("sensitivity", "auroc") for key, value in (("", 1.0), ("_ci95", [1.0, 1.0]))}
    (found,) = transfers([model_of(**perfect)], REPORT, config_of(tmp_path))
    moves = {move.name: move for move in found.moves}
    value, (low, high) = moves["sensitivity"].difference
    assert (value, low) == (pytest.approx(0.1), pytest.approx(0.1 - (0.5615**2 + 0.05**2) ** 0.5, abs=1e-3))
    assert high == pytest.approx(0.1 + 0.05) and not moves["sensitivity"].has_moved
    assert moves["auroc"].now == (1.0, (1.0, 1.0)) and moves["auroc"].difference is None


def test_an_earlier_run_without_figures_is_said(tmp_path: Path) -> None:
    (found,) = transfers([model_of()], REPORT, config_of(tmp_path))
    assert found.sentence == "The earlier run has no figures of held-out slides, so there is nothing to compare with."
    assert not transfer_limitations([found])


def test_slides_that_the_earlier_run_held_out_are_not_compared_with_themselves(tmp_path: Path) -> None:
    write_receipt(tmp_path / f"metrics/{NAME}/enc/a.json", {"n_slides": 40, **EARLIER})
    model = model_of(sensitivity=0.9, sensitivity_ci95=[0.8, 1.0])
    for slide in ("s1", "s6"):
        model.predictions[slide]["role"] = "test"
    new = {"n_slides": 6, "sensitivity": 0.5, "sensitivity_ci95": [0.3, 0.7], "reliability": []}
    (found,) = transfers([replace(model, metrics={**model.metrics, "of_new": new})], REPORT, config_of(tmp_path))
    (move,) = found.moves
    assert move.now == (0.5, (0.3, 0.7)) and move.difference[0] == pytest.approx(-0.4)
    assert found.known == (
        "2 labelled slides are of patients whom the earlier run held out, and who count in its figures already: left out of this"
        " comparison."
    )
    for row in model.predictions.values():
        row["role"] = "test"
    found = transfers([model], REPORT, config_of(tmp_path))
    html = render("transfer.html", transfers=found, task_report=REPORT, config=config_of(tmp_path))
    assert not found[0].moves and "<table" not in html and "no others are labelled, so there is nothing to compare." in html


def test_models_of_this_run_have_nothing_to_compare_with(tmp_path: Path) -> None:
    assert transfers([model_of()], REPORT, config_of(tmp_path, trained=None)) == []


def test_recalibrated_figures_and_their_reliability_are_shown_beside_the_raw_ones(tmp_path: Path) -> None:
    again = {"method": "platt", "n_fitted_patients": 31, "threshold": 0.4, "platt": [{"slope": -0.5, "intercept": 1.25}]}
    again |= {
        "n_bags": 8,
        "brier": 0.123,
        "brier_ci95": [0.1, 0.2],
        "reliability": [{"predicted": 0.4, "observed": 0.5, "count": 8}],
    }
    part = {"method": "platt", "column": "part", "value": "cal"}
    config = config_of(tmp_path, recalibrate=part)
    found = transfers([model_of(recalibrated=again)], REPORT, config)
    html = render("transfer.html", transfers=found, task_report=REPORT, config=config)
    assert "Here, recalibrated</th>" in html and '0.123<span class="small">0.100–0.200</span>' in html
    assert html.count('aria-label="Reliability here') == 2
    assert "Recalibrated by Platt scaling on 31 patients (part cal)" in html and "Slope −0.500, intercept 1.250" in html
    assert "a slope of Platt scaling is not above 0" in transfer_limitations(found)[0].text


def test_bins_of_the_reliability_curve_have_wilsons_interval() -> None:
    """2 of 8: (0.25 + 1.96²/16 ± 1.96 √(0.25 · 0.75/8 + 1.96²/256)) / (1 + 1.96²/8) = 0.071 to 0.591."""
    (dot,) = reliability_dots([{"predicted": 0.3, "observed": 0.25, "count": 8}])
    assert (1 - dot.low, 1 - dot.high) == (pytest.approx(0.0715, abs=1e-3), pytest.approx(0.5907, abs=1e-3))
