"""Heatmaps of every kind of task: titles, colour bars, one picture for each label, and one scale for all of them."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from tests.heatmap_files import Made
from wsi_mil.config import Heatmap
from wsi_mil.heatmaps.cohort_scale import read_cohort_scale, write_cohort_scale
from wsi_mil.heatmaps.current import draw_stale, drawn, outputs, receipt_of, remove_others
from wsi_mil.heatmaps.slide_scores import read_slide_scores
from wsi_mil.heatmaps.stage import title
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import InstanceScores, SlideRow
from wsi_mil.store import write_scores
from wsi_mil.tasks import Multilabel, Regression, Survival, Task

COORDS = np.array([(x * 256, y * 256) for y in range(2) for x in range(5)], np.int64)
VALUES = np.linspace(-1.5, 3.0, 10)


@dataclass(frozen=True)
class Kind:
    """A task, what a receipt says of a prediction, a label, and the words that pictures have for them."""

    task: Task
    prediction: dict
    label: str
    title: str
    evidence: str
    contribution: str
    attention: str
    outputs: dict = field(default_factory=lambda: {"": 0})


KINDS = {
    "multilabel": Kind(
        Multilabel(("er", "HER2/neu")),
        {"probs": [0.9, 0.7], "threshold": [0.4, 0.5], "predicted": [1, 1]},
        "1 ?",
        "label: er positive · er: positive · P = 0.900 · threshold 0.400",
        "log odds of er × P(er)",
        "contribution to the log odds of er × P(er)",
        "attention / even share × P(er)",
        {"": 0, "@HER2~2Fneu": 1},
    ),
    "regression": Kind(
        Regression("log1p", name="tmb"),
        {"value": 12.3456, "standardised": 0.8},
        "7.25",
        "label: 7.25 · tmb: 12.35",
        "tmb, standardised",
        "contribution to tmb, standardised",
        "attention / even share",
    ),
    "survival": Kind(
        Survival("cox"),
        {"risk": -0.4321, "cutoff": -0.1, "predicted": 0},
        "34.5 0",
        "label: censored at 34.5 · log hazard ratio −0.43 · low risk (cut-off −0.10)",
        "log hazard ratio against the cohort's mean",
        "contribution to the log hazard ratio against the cohort's mean",
        "attention / even share",
    ),
}


def write(folder: Path, kind: Kind, *, unit: str = "log_odds", slide_id: str = "s", values: np.ndarray = VALUES) -> tuple:
    """Receipts of `explain`, with scores of each output, and of `tile`."""
    files = Made(COORDS, values, (1280, 512), slide_id=slide_id, unit=unit, method="evidence")
    scores, tiles = files.write(folder)
    content = read_receipt(scores)
    entry = content["methods"].pop("evidence")
    content = {key: value for key, value in content.items() if key not in ("probs", "threshold", "predicted", "task")}
    content |= {**kind.task.stamp(), **kind.prediction, "output": kind.outputs[""]}
    content["methods"] = {f"evidence{suffix}": {**entry, "output": output} for suffix, output in kind.outputs.items()}
    made = [
        InstanceScores(name, np.float32(values + own["output"]), "", unit, True, True) for name, own in content["methods"].items()
    ]
    write_scores(store_path(scores), COORDS, made, {})
    write_receipt(scores, content)
    return scores, tiles


def row(kind: Kind, slide_id: str = "s") -> SlideRow:
    return SlideRow(slide_id, Path("none.svs"), kind.label)


@pytest.mark.parametrize("name", KINDS)
def test_titles_say_label_and_prediction_in_the_words_of_the_kind(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    receipt = read_receipt(write(tmp_path, kind)[0])
    assert title(row(kind), receipt, "evidence") == f"s · evidence · {kind.title}"
    hidden = {**receipt, "methods": {"evidence": {**receipt["methods"]["evidence"], "output": None}}, "role": "train"}
    unlabelled = replace(row(kind), label="")
    assert title(unlabelled, hidden, "evidence") == "s · evidence · no label · TRAINING SLIDE"


@pytest.mark.parametrize("name", KINDS)
def test_colour_bars_name_the_quantity_and_scores_are_weighted_only_where_there_is_a_probability(
    tmp_path: Path, name: str
) -> None:
    kind = KINDS[name]
    for unit, expected in (("log_odds", kind.evidence), ("contribution", kind.contribution), ("share", kind.attention)):
        scores, tiles = write(tmp_path / unit, kind, unit=unit, values=np.abs(VALUES) + 0.1)
        shown = read_slide_scores(row(kind), scores, tiles, "evidence", scale="auto", ranges={}).display
        assert shown.label.split("\n") == [expected, "scale auto: range of this slide"] and shown.ceiling == 1
        factor = (10 if unit == "share" else 1) * kind.prediction.get("probs", [1])[0]
        assert shown.values == pytest.approx((np.abs(VALUES) + 0.1) * factor, rel=1e-5)
    raw = read_slide_scores(row(kind), *write(tmp_path, kind), "evidence", scale="raw", ranges={}).display
    assert raw.label.split("\n")[0] == kind.evidence.split(" ×")[0]


def test_each_label_has_its_pictures_which_are_in_the_record_and_removed_with_the_label(tmp_path: Path) -> None:
    kind, folder = KINDS["multilabel"], tmp_path / "h" / "s"
    scores, tiles = write(tmp_path, kind)
    settings = Heatmap(gallery=0)
    assert draw_stale(row(kind), scores, tiles, ["evidence"], settings, folder)
    names = ["evidence", "evidence@HER2~2Fneu"]
    receipts = drawn(scores, ["evidence"], folder)
    assert receipts == [receipt_of(folder, name) for name in names]
    assert {file.name for r in receipts for file in outputs(r, settings)} | {f"{name}.json" for name in names} == {
        file.name for file in folder.iterdir()
    }
    further = read_receipt(scores)
    assert title(row(kind), further, names[1]) == (
        "s · evidence · label: er positive · HER2/neu: positive · P = 0.700 · threshold 0.500"
    )
    assert not draw_stale(row(kind), scores, tiles, ["evidence"], settings, folder)
    write(tmp_path, replace(kind, outputs={"": 0}))
    draw_stale(row(kind), scores, tiles, ["evidence"], settings, folder)
    remove_others(folder, drawn(scores, ["evidence"], folder), scores)
    assert {file.name.partition(".")[0] for file in folder.iterdir()} == {"evidence"}


def test_the_labels_of_a_method_have_one_range_over_the_cohort(tmp_path: Path) -> None:
    kind = KINDS["multilabel"]
    scores, tiles = write(tmp_path, kind)
    write(tmp_path, replace(kind, outputs={"": 0}), slide_id="t", values=VALUES * 2)
    write_cohort_scale([row(kind), row(kind, "t")], tmp_path / "scores", tmp_path / "scale.json")
    ranges = read_cohort_scale(tmp_path / "scale.json")
    pooled = np.concatenate([VALUES, VALUES * 2, VALUES + 1])
    weights = np.repeat([0.9, 0.9, 0.7], 10)
    top = np.percentile(np.where(pooled > 0, pooled * weights, pooled), 99.5)
    assert ranges == {"evidence": pytest.approx((0.0, top), rel=1e-5)}
    for name in ("evidence", "evidence@HER2~2Fneu"):
        shown = read_slide_scores(row(kind), scores, tiles, name, scale="cohort", ranges=ranges).display
        assert (shown.low, shown.high) == pytest.approx((0.0, top), rel=1e-5)


def test_values_and_risks_have_a_range_over_the_cohort_without_a_probability(tmp_path: Path) -> None:
    kind = KINDS["survival"]
    write(tmp_path, kind)
    write_cohort_scale([row(kind)], tmp_path / "scores", tmp_path / "scale.json")
    assert read_cohort_scale(tmp_path / "scale.json")["evidence"] == pytest.approx((0.0, np.percentile(VALUES, 99.5)), rel=1e-5)
