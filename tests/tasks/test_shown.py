import pytest

from wsi_mil.tasks import Classes, Multilabel, Regression, Survival, Task
from wsi_mil.tasks.shown import (
    PredictionText,
    explained_label,
    is_wrong,
    label_group,
    label_order,
    label_text,
    prediction_text,
    task_of_columns,
    truth_name,
)

CLASSES, LABELS = Classes(("normal", "tumour")), Multilabel(("er", "her2/neu"))
MARKERS = {"prob_er": "0.9", "threshold_er": "0.5", "predicted_er": "1"}
MARKERS |= {"prob_her2/neu": "0.2", "threshold_her2/neu": "0.3", "predicted_her2/neu": "0"}


@pytest.mark.parametrize(
    ("task", "label", "text", "group", "order"),
    [
        (CLASSES, "tumour", "tumour", "tumour", "tumour"),
        (LABELS, "1 0", "er", "er", "er"),
        (LABELS, "? 1", "her2/neu (er not known)", "her2/neu (er not known)", "her2/neu (er not known)"),
        (LABELS, "0 0", "none positive", "none positive", "none positive"),
        (Regression(), "1234.5", "1,234", "known", "1234.5"),
        (Regression(), "-0.25", "−0.25", "known", "-0.25"),
        (Survival(), "34.5 1", "34.5, event", "event", "34.5"),
        (Survival(), "9.0 0", "9, censored", "censored", "9.0"),
        (None, "34.5 1", "34.5 1", "34.5 1", "34.5 1"),
        (Survival(), "no time", "no time", "no time", "no"),
    ],
)
def test_a_label_reads_as_its_kind(task: Task | None, label: str, text: str, group: str, order: str) -> None:
    assert (label_text(task, label), label_group(task, label), label_order(task, label)) == (text, group, order)


def test_a_label_that_is_not_known_is_sorted_as_nothing() -> None:
    assert [label_order(task, "") for task in (CLASSES, LABELS, Regression(), Survival(), None)] == [""] * 5


def test_what_is_known_is_called_by_its_kind() -> None:
    names = [truth_name(task) for task in (CLASSES, LABELS, Regression(), Survival(), None)]
    assert names == ["label", "label", "true value", "follow-up", "label"]


@pytest.mark.parametrize(
    ("row", "expected", "number", "limit"),
    [
        (
            {"prob_normal": "0.1", "prob_tumour": "0.9", "threshold": "0.5", "predicted": "tumour"},
            PredictionText("tumour", "P(tumour)", 0.9, 0.5, True),
            "0.900",
            "threshold 0.500",
        ),
        (MARKERS, PredictionText("er", "P(er)", 0.9, 0.5, True), "0.900", "threshold 0.500"),
        (
            MARKERS | {"predicted_er": "0"},
            PredictionText("none positive", "P(er)", 0.9, 0.5, True),
            "0.900",
            "threshold 0.500",
        ),
        ({"value": "12.345"}, PredictionText("", "predicted value", 12.345, None, False), "12.3", ""),
        (
            {"risk": "-1.25", "cutoff": "0.5", "predicted": "low"},
            PredictionText("low risk", "log risk", -1.25, 0.5, False),
            "−1.25",
            "cut-off 0.5",
        ),
        ({}, PredictionText("", "", None, None, True), "", ""),
    ],
)
def test_a_prediction_reads_as_its_kind(row: dict[str, str], expected: PredictionText, number: str, limit: str) -> None:
    shown = prediction_text(row)
    assert (shown, shown.number, shown.limit) == (expected, number, limit)


def test_the_kind_is_known_from_the_columns_of_predictions() -> None:
    assert task_of_columns(MARKERS) == LABELS and task_of_columns(["slide_id", "prob_normal", "prob_tumour"]) == CLASSES
    assert [getattr(task_of_columns([name]), "kind", None) for name in ("value", "risk", "prob_one")] == [
        "regression",
        "survival",
        None,
    ]


def test_only_classes_and_known_labels_can_be_wrong() -> None:
    assert is_wrong(CLASSES, {"predicted": "tumour"}, "normal") and not is_wrong(CLASSES, {"predicted": "tumour"}, "")
    assert [is_wrong(LABELS, MARKERS, label) for label in ("1 0", "1 1", "1 ?", "0 ?", "")] == [False, True, False, True, False]
    assert not is_wrong(Survival(), {"predicted": "low"}, "3.0 1") and not is_wrong(Regression(), {"value": "3"}, "4.0")


def test_scores_of_several_labels_name_theirs() -> None:
    methods = {"attention": {"output": 1}, "attention@er": {"output": 0}, "shown": {"output": None}}
    receipt = {**LABELS.stamp(), "methods": methods, "output": 1}
    assert [explained_label(receipt, name) for name in methods] == ["her2/neu", "er", ""]


def test_scores_of_a_class_name_it_unless_they_are_of_the_positive_one_of_two_alone() -> None:
    alone, other, both = ({f"attention{i}": {"output": n} for i, n in enumerate(own)} for own in ((1,), (0,), (1, 0)))
    names = [[explained_label({**CLASSES.stamp(), "methods": own}, name) for name in own] for own in (alone, other, both)]
    assert names == [[""], ["normal"], ["tumour", "normal"]]
    three = Classes(("a", "b", "c")).stamp()
    assert explained_label({**three, "methods": alone}, "attention0") == "b"
