"""How labels and predictions of each kind read, in the report and in the viewer."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from wsi_mil.tasks.base import Task
from wsi_mil.tasks.classes import Classes
from wsi_mil.tasks.explained import all_explained
from wsi_mil.tasks.multilabel import Multilabel
from wsi_mil.tasks.registry import read_shown_prediction, task_of_stamp
from wsi_mil.tasks.regression import Regression
from wsi_mil.tasks.survival import Survival
from wsi_mil.wording import digits

Row = Mapping[str, str]
"""Row of a predictions table."""

PROB, PREDICTED = "prob_", "predicted_"
"""Prefixes of columns of predictions, before the name of a class or label."""

POSITIVE, NEGATIVE, UNKNOWN = "1", "0", "?"
"""Parts of a label of several: whether each is positive, or not known."""

NONE_POSITIVE = "none positive"
EVENT, CENSORED = "event", "censored"
"""How follow-up ended."""


@dataclass(frozen=True)
class PredictionText:
    """Prediction of a slide in words and one number.

    Attributes:
        predicted: what is predicted, or "".
        name: what the number is, for example "P(tumour)"; "" if there is none.
        value: the number.
        threshold: from which number on the slide is predicted as such, or None.
        is_share: whether the number is a probability.
    """

    predicted: str
    name: str
    value: float | None
    threshold: float | None
    is_share: bool

    @property
    def number(self) -> str:
        """The number as text, or ""."""
        if self.value is None:
            return ""
        return f"{self.value:.3f}" if self.is_share else digits(self.value)

    @property
    def limit(self) -> str:
        """The threshold as text, or ""."""
        if self.threshold is None:
            return ""
        return f"threshold {self.threshold:.3f}" if self.is_share else f"cut-off {digits(self.threshold)}"


def task_of_columns(columns: Collection[str]) -> Task | None:
    """Return the task of a predictions table with these columns; None if they are of no kind."""
    if "risk" in columns:
        return Survival()
    if "value" in columns:
        return Regression()
    labels = tuple(name.removeprefix(PREDICTED) for name in columns if name.startswith(PREDICTED))
    if labels:
        return Multilabel(labels)
    classes = tuple(name.removeprefix(PROB) for name in columns if name.startswith(PROB))
    return Classes(classes) if len(classes) > 1 else None


def truth_name(task: Task | None) -> str:
    """Return what is known of a slide, in a word or two."""
    if isinstance(task, Survival):
        return "follow-up"
    return "true value" if isinstance(task, Regression) else "label"


def label_text(task: Task | None, label: str) -> str:
    """Return a label, which is not empty, as readers know it; as it is if it is not of the task."""
    if task is None or task.label_fault(label):
        return label
    if isinstance(task, Regression):
        return digits(float(label))
    if isinstance(task, Survival):
        return f"{digits(float(label.split()[0]))}, {label_group(task, label)}"
    return _labels_text(task, label) if isinstance(task, Multilabel) else label


def label_group(task: Task | None, label: str) -> str:
    """Return the group by which slides with this label can be listed."""
    if task is None or task.label_fault(label):
        return label
    if isinstance(task, Regression):
        return "known"
    if isinstance(task, Survival):
        return EVENT if label.split()[1] == "1" else CENSORED
    return label_text(task, label)


def label_order(task: Task | None, label: str) -> str:
    """Return the text by which labels are sorted: a number, if labels are numbers or times."""
    return label.split()[0] if isinstance(task, Regression | Survival) and label else label_text(task, label) if label else ""


def is_wrong(task: Task | None, prediction: Row, label: str) -> bool:
    """Return whether the prediction for a slide with this label (or "") is wrong; numbers and risks are neither."""
    if isinstance(task, Multilabel):
        pairs = zip(task.names, label.split(), strict=False)
        return any(cell != UNKNOWN and prediction.get(f"{PREDICTED}{name}", cell) != cell for name, cell in pairs)
    predicted = prediction.get("predicted", "")
    return bool(label and predicted) and can_be_wrong(task) and predicted != label


def can_be_wrong(task: Task | None) -> bool:
    """Return whether predictions are either right or wrong."""
    return not isinstance(task, Regression | Survival)


def prediction_text(row: Row) -> PredictionText:
    """Return a row of a predictions table for display; an empty row has neither text nor number."""
    shown, task = read_shown_prediction(row), task_of_columns(row)
    if isinstance(task, Survival):
        group = f"{shown.predicted} risk" if shown.predicted else ""
        return PredictionText(group, "log risk", shown.value, shown.threshold, is_share=False)
    if isinstance(task, Regression):
        return PredictionText("", "predicted value", shown.value, None, is_share=False)
    name = f"P({shown.of})" if shown.of else ""
    is_none = isinstance(task, Multilabel) and POSITIVE not in [row[f"{PREDICTED}{label}"] for label in task.names]
    return PredictionText(NONE_POSITIVE if is_none else shown.predicted, name, shown.value, shown.threshold, is_share=True)


def explained_label(receipt: Mapping[str, Any], method: str) -> str:
    """Return the class or label that scores of a method explain, from their receipt.

    "" where that goes without saying: of a number or a risk, and of the positive one of two classes where it is the only one.
    """
    output, task = receipt["methods"][method]["output"], task_of_stamp(receipt)
    if output is None or (len(task.explainable) == 1 and not isinstance(task, Multilabel)):
        return ""
    explained = {entry["output"] for entry in receipt["methods"].values()} - {None}
    return "" if explained == set(all_explained(task)) == {output} else task.output_name(output)


def _labels_text(task: Multilabel, label: str) -> str:
    """The positive labels, and those that are not known."""
    cells = list(zip(task.names, label.split(), strict=False))
    positive, unknown = (", ".join(name for name, cell in cells if cell == wanted) for wanted in (POSITIVE, UNKNOWN))
    return (positive or NONE_POSITIVE) + (f" ({unknown} not known)" if unknown else "")
