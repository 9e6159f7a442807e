"""Pages of the kinds of targets: their words, with figures counted by hand."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.statistics.conftest import drawn_slides, write_features
from tests.test_report import overview, write_explanations, write_tiled
from tests.test_report_overview import Table
from wsi_mil.cohort import SlideStatus, write_status
from wsi_mil.cohort.splits import Splits, write_splits
from wsi_mil.config import Config, Statistics, parse_settings
from wsi_mil.figures import cohort_figures
from wsi_mil.files import write_table
from wsi_mil.metrics import r2
from wsi_mil.receipts import write_receipt
from wsi_mil.records import Role, SlideRow, Status
from wsi_mil.report import write_report
from wsi_mil.report.comparison import compare_models
from wsi_mil.report.registry import report_of
from wsi_mil.statistics import write_statistics
from wsi_mil.survival import harrell_c
from wsi_mil.tasks import Multilabel, Regression, Survival, Task

TIMES = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0]
EVENTS = [1, 1, 0, 1, 1, 0, 1, 0]
RISKS = [2.0, 1.5, 0.5, 1.0, -0.5, -1.0, 0.25, -2.0]
"""Of the slides s0 to s7, each a patient of its own; s8 has no label."""
VALUES, PREDICTED = [1.0, 2.0, 4.0, 7.0, 11.0, 16.0, 22.0, 29.0], [2.0, 2.0, 5.0, 5.0, 12.0, 14.0, 23.0, 28.0]
MARKERS = ["1 0", "1 0", "1 ?", "1 1", "0 1", "0 1", "0 0", "0 0"]
ER, HER2 = [0.9, 0.8, 0.7, 0.2, 0.6, 0.3, 0.1, 0.2], [0.1, 0.2, 0.9, 0.8, 0.7, 0.6, 0.3, 0.4]


@dataclass(frozen=True)
class Question:
    """A target with its task, the labels of the slides, and what is predicted, in the columns of its kind."""

    settings: dict[str, object]
    task: Task
    labels: list[str]
    cells: list[dict[str, object]]


QUESTIONS = {
    "relapse": Question(
        {"kind": "survival", "time": "months", "event": "died", "horizons": [10]},
        Survival(horizons=(10.0,)),
        [f"{time} {event}" for time, event in zip(TIMES, EVENTS, strict=True)],
        [
            {"risk": risk, "cutoff": 0.375, "predicted": "high" if risk >= 0.375 else "low", "survival_10": 0.5 - risk / 8}
            for risk in [*RISKS, 0.0]
        ],
    ),
    "tmb": Question(
        {"kind": "regression", "column": "tmb"},
        Regression(name="tmb"),
        [*map(str, VALUES)],
        [{"value": v} for v in [*PREDICTED, 3]],
    ),
    "markers": Question(
        {"kind": "multilabel", "columns": ["er", "her2"]},
        Multilabel(("er", "her2")),
        MARKERS,
        [
            {
                **{"prob_er": er, "threshold_er": 0.5, "predicted_er": int(er >= 0.5)},
                **{"prob_her2": her2, "threshold_her2": 0.5, "predicted_her2": int(her2 >= 0.5)},
            }
            for er, her2 in zip([*ER, 0.9], [*HER2, 0.9], strict=True)
        ],
    ),
}


def table_of(question: Question) -> list[dict[str, str]]:
    """Predictions of two folds."""
    labels = [*question.labels, ""]
    return [
        {"slide_id": f"s{i}", "patient_id": f"p{i}", "label": labels[i], "fold": str(i % 2), "role": "test"}
        | {name: str(value) for name, value in cells.items()}
        | {"bag": f"s{i}", "protocol": "held_out"}
        for i, cells in enumerate(question.cells)
    ]


def figures_of(question: Question, table: list[dict[str, str]]) -> dict[str, object]:
    labelled = [row for row in table if row["label"]]
    outcomes = question.task.read_outcomes(labelled)
    parts = {k: outcomes.rows(np.arange(k, len(labelled), 2)) for k in (0, 1)}
    figures = cohort_figures(question.task, outcomes, [row["patient_id"] for row in labelled], parts, draws=200)
    return {"protocol": "held_out", "n_slides": len(labelled), **figures}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The overview and the page of each target, by file name."""
    folder = tmp_path_factory.mktemp("kinds")
    labels = {f"s{i}": {name: q.labels[i] for name, q in QUESTIONS.items()} for i in range(8)}
    rows = [SlideRow(f"s{i}", Path("gone.svs"), "", f"p{i}", labels=labels.get(f"s{i}", {})) for i in range(9)]
    for row in rows:
        write_tiled(folder, row.slide_id)
    write_status(folder / "cohort_status.csv", [SlideStatus(row.slide_id, Status.OK, "", "", {"enc": 9}) for row in rows])
    write_features(folder / "features/enc", drawn_slides(len(rows)))
    receipt = folder / "statistics/enc.json"
    write_statistics([row.slide_id for row in rows], folder / "features/enc", Statistics(), receipt, threads=1)
    for name, question in QUESTIONS.items():
        table = table_of(question)
        write_table(folder / "predictions" / name / "enc/a.csv", list(table[0]), [line.values() for line in table])
        write_receipt(folder / "metrics" / name / "enc/a.json", figures_of(question, table))
        roles = tuple({f"s{i}": Role.TEST if i % 2 == fold else Role.TRAIN for i in range(8)} for fold in (0, 1))
        own = {slide_id: of_slide[name] for slide_id, of_slide in labels.items()}
        write_splits(folder / "splits" / f"{name}.csv", Splits({s: f"p{s[1:]}" for s in own}, own, roles))
    content = {"cohort": "cohort.csv", "results": folder, "encoders": {"enc": {}}, "models": {"a": {"model": "abmil"}}}
    targets = {name: question.settings for name, question in QUESTIONS.items()}
    config = parse_settings(Config, {**content, "targets": targets, "explain": {"methods": []}})
    write_explanations(folder, "enc/a")
    write_report(rows, config, folder / "report")
    return {"index": overview(folder), **{name: (folder / "report" / f"{name}.html").read_text() for name in QUESTIONS}}


def test_the_overview_has_a_row_for_each_kind_in_the_order_of_the_configuration(pages: dict[str, str]) -> None:
    _, *rows = Table(pages["index"]).rows
    pairs = concordant_pairs()
    r_squared = r2(np.array(VALUES), np.array(PREDICTED))
    assert [(row[0], row[2], row[3]) for row in rows] == [
        ("relapsetime to an event", "Harrell's C", f"{pairs[0] / pairs[1]:.3f}"),
        ("tmba number per slide, tmb", "R²", f"{r_squared:.3f}"),
        ("markerslabels er, her2", "AUROC", f"{(13.5 / 16 + 1) / 2:.3f}"),
    ]
    assert [row[5:] for row in rows] == [["8", "8"]] * 3


def concordant_pairs() -> tuple[int, int]:
    """Pairs in the right order and all pairs, of which one is known to have had the event first."""
    pairs = [(i, j) for i in range(8) for j in range(8) if EVENTS[i] and TIMES[i] < TIMES[j]]
    return sum(RISKS[i] > RISKS[j] for i, j in pairs), len(pairs)


def test_the_label_of_every_slide_reads_as_its_kind(pages: dict[str, str]) -> None:
    table = Table(pages["index"].split('<table id="slides-table">')[1])
    cells = {row[0]: row[4:7] for row in table.rows[1:]}
    assert cells["s2"] == ["3, censored", "4", "er (her2 not known)"]
    assert cells["s6"] == ["21, event", "22", "none positive"] and cells["s8"] == ["–", "–", "–"]


def test_risk_groups_are_described_no_stronger_than_their_figures(pages: dict[str, str]) -> None:
    html = pages["relapse"]
    right, n = concordant_pairs()
    assert "5 of patients with the event and 3 of patients followed without it, and 1 without follow-up, which" in html
    assert (
        "Of 8 patients with follow-up that it was not trained on, the model enc · a assigned 4 to the higher-risk group" in html
    )
    assert "3 of 4 had it, median time 2; in the lower-risk group 2 of 4 had it, median time 21" in html
    assert f"it gives this one the higher risk in {100 * right / n:.1f} % of cases" in html
    assert "for training or early stopping." in html, "there is no threshold to select"
    assert re.search(r"<td class=\"n\">10</td><td class=\"n\">\d\.\d{3}</td>", html), "the AUC at the horizon"
    assert "log risk 2; cut-off 0.375; probability of no event 25 % until 10" in html


def test_errors_of_values_are_in_their_unit(pages: dict[str, str]) -> None:
    html = pages["tmb"]
    assert "8 with a value, from 1 to 29 (median 9), and 1 without a value, which is only predicted." in html
    assert "predicted values that are off by 1.12 on average (root mean squared error 1.27)" in html, "sum 9, squares 13, of 8"
    assert 'aria-label="Predicted against true values of enc · a"' in html and "wrong predictions only" not in html


def test_several_labels_have_their_own_figures_in_the_order_of_the_sheet(pages: dict[str, str]) -> None:
    html = pages["markers"]
    assert "“er” positive in 4 of 8 and “her2” positive in 3 of 7, and 1 without a label" in html
    assert "enc · a was right about “er” for 6 of 8 and “her2” for 7 of 7." in html
    assert html.index("<tr><td>er</td>") < html.index("<tr><td>her2</td>") and '<div class="cards wide">' in html
    assert "enc · a predicts a wrong label for 2 slides" in html


def test_the_slides_of_a_patient_are_compared_as_one() -> None:
    question = QUESTIONS["relapse"]
    table = [row for row in table_of(question) if row["label"]]
    table += [{**row, "slide_id": f"{row['slide_id']}b", "bag": f"{row['bag']}b"} for row in table[:3]]
    for row, risk in zip(table[-3:], (-3.0, -2.5, 3.5), strict=True):
        row["risk"] = str(risk)
    equal = [{**row, "risk": "0.0"} for row in table]
    (pair,) = compare_models({"own": table, "equal": equal}, report_of(question.task), draws=50)
    risks = np.array([(2.0 - 3.0) / 2, (1.5 - 2.5) / 2, (0.5 + 3.5) / 2, *RISKS[3:]])
    expected = harrell_c(np.array(TIMES), np.array(EVENTS) == 1, risks)
    assert pair.difference.value == pytest.approx(expected - 0.5)
