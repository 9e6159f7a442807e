"""Texts and plots of several labels in the report."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wsi_mil.metrics import auroc
from wsi_mil.report.classes import ClassesReport
from wsi_mil.report.curves import roc_polyline
from wsi_mil.report.scatter import PALETTE
from wsi_mil.report.task_report import Metrics, TaskReport, interval_text
from wsi_mil.tasks import Outcomes, Task
from wsi_mil.tasks.shown import NEGATIVE, POSITIVE, Row
from wsi_mil.wording import listed

MAX_CURVES = len(PALETTE)
"""Upper limit on ROC curves in one plot; of more labels, the table has the figures."""


@dataclass(frozen=True)
class LabelCurve:
    """ROC curve of one label: its name, colour, and points."""

    name: str
    colour: str
    points: str


class MultilabelReport(TaskReport):
    """Texts, figures and plots of several labels, each positive or negative by itself."""

    figures: ClassVar[Mapping[str, str]] = ClassesReport.figures
    label_figures: ClassVar[Mapping[str, str]] = {
        "auroc": "AUROC",
        "auprc": "AUPRC",
        "sensitivity": "Sensitivity",
        "specificity": "Specificity",
        "f1": "F1",
    }
    """Columns of the table of labels."""
    chance: ClassVar[float] = 0.5
    cards: ClassVar[str] = "multilabel_cards.html"
    has_wide_cards: ClassVar[bool] = True
    has_thresholds: ClassVar[bool] = True
    can_be_wrong: ClassVar[bool] = True

    def __init__(self, task: Task) -> None:
        self.task = task
        columns = (column for column in task.prediction_columns if column.startswith("prob_"))
        self.names = tuple(column.removeprefix("prob_") for column in columns)

    def main_value(self, outcomes: Outcomes) -> float:
        """Return the mean AUROC over labels; NaN if one has no positive or no negative slide."""
        areas = []
        for truth, positive in zip(outcomes.truth.T, outcomes.outputs.T, strict=True):
            known = ~np.isnan(truth)
            probs = np.stack([1 - positive, positive], axis=1)[known]
            areas.append(auroc(truth[known].astype(np.int64), probs))
        return float(np.mean(areas))

    @property
    def annotated(self) -> str:
        return "lesions"

    @property
    def headline(self) -> str:
        return f"labels {', '.join(self.names)}"

    @property
    def goal(self) -> str:
        return f"tell for each of {len(self.names)} labels whether a slide is positive"

    @property
    def training_labels(self) -> str:
        return "the labels of each slide"

    def label_counts(self, labels: Sequence[str]) -> list[str]:
        """Return for each label how many slides are positive, of those of which it is known."""
        columns = list(zip(*(label.split() for label in labels if label), strict=True)) or [()] * len(self.names)
        counts = zip(self.names, columns, strict=True)
        return [
            f"“{name}” positive in {cells.count(POSITIVE)} of {cells.count(POSITIVE) + cells.count(NEGATIVE)}"
            for name, cells in counts
        ]

    def contradict(self, labels: Collection[str]) -> bool:
        """Return whether one is positive of a label for which another one is negative."""
        return any({POSITIVE, NEGATIVE} <= set(cells) for cells in zip(*(label.split() for label in labels), strict=True))

    def label_groups(self, labels: Collection[str]) -> dict[str, str]:
        """Return the combination of labels of each slide, those with fewer positive ones first."""
        return {label: self.label_text(label) for label in sorted(labels, key=lambda text: (text.count(POSITIVE), text))}

    def outcome(self, metrics: Metrics) -> str:
        known = {name: metrics["n_of_label"][name]["positive"] + metrics["n_of_label"][name]["negative"] for name in self.names}
        right = {name: metrics["of_label"][name]["accuracy"] * n for name, n in known.items() if n}
        parts = [f"“{name}” for {n_right:.0f} of {known[name]}" for name, n_right in right.items()]
        return f"was right about {listed(parts)}"

    def discrimination(self, metrics: Metrics, unit: str) -> list[str]:
        value = metrics.get("auroc")
        if value is None:
            return []
        interval = interval_text(metrics["auroc_ci95"], unit)
        mean = f"Its AUROC, averaged over labels, is {value:.3f} (0.5 is chance, 1 is perfect{interval})"
        areas = {name: metrics["of_label"][name]["auroc"] for name in self.names}
        areas = {name: area for name, area in areas.items() if area is not None}
        if len(areas) < 2:
            return [f"{mean}."]
        best, poorest = max(areas, key=lambda name: areas[name]), min(areas, key=lambda name: areas[name])
        return [f"{mean}: highest for “{best}” ({areas[best]:.3f}), lowest for “{poorest}” ({areas[poorest]:.3f})."]

    def plots(self, metrics: Metrics, rows: Sequence[Row]) -> list[LabelCurve]:
        """Return the ROC curve of each label that has both positive and negative slides."""
        outcomes = self.task.read_outcomes(rows)
        curves = []
        for index, name in enumerate(self.names[:MAX_CURVES]):
            known = ~np.isnan(outcomes.truth[:, index])
            points = roc_polyline(outcomes.truth[known, index] == 1, outcomes.outputs[known, index])
            curves.append(LabelCurve(name, PALETTE[index], points))
        return [curve for curve in curves if curve.points]

    def figures_of_labels(self, metrics: Metrics) -> dict[str, str]:
        """Return the columns of the table of labels that the metrics have."""
        first: Mapping[str, Any] = next(iter(metrics["of_label"].values()), {})
        return {name: title for name, title in self.label_figures.items() if name in first}

    def figures_note(self, optimistic: str) -> str:
        return (
            "All figures are means over labels; slides of which a label is not known do not count for it. Each label has its own"
            f" threshold, selected on each fold's validation slides{optimistic}. Brier score and calibration error (ECE) are best"
            " at 0."
        )

    @property
    def curves_note(self) -> str:
        shown = f" (the first {MAX_CURVES} labels)" if len(self.names) > MAX_CURVES else ""
        return f"One ROC curve per label{shown}. In small type: 95 % confidence intervals from bootstrap draws of patients."

    def short(self, prediction: Row) -> tuple[str, str]:
        positive = [name for name in self.names if prediction[f"predicted_{name}"] == POSITIVE]
        return ", ".join(positive) or "none positive", ""

    def numbers(self, prediction: Row) -> str:
        return ", ".join(
            f"P({name}) = {float(prediction[f'prob_{name}']):.3f} (threshold {float(prediction[f'threshold_{name}']):.3f})"
            for name in self.names
        )

    def n_shown(self, prediction: Row) -> int:
        """Return the number of labels that are predicted positive, at least one."""
        return max(1, sum(prediction[f"predicted_{name}"] == POSITIVE for name in self.names))

    @property
    def annotations_note(self) -> str:
        return "Annotated slides are evaluated; annotations are taken to show the label that is explained."

    @property
    def curves_of(self) -> str:
        return "the predicted probability of the label shown, averaged over slides predicted positive for it"

    def not_predicted_note(self, *, is_cohort_scale: bool) -> str:
        hot = "no tile is drawn hot, and " if is_cohort_scale else ""
        return (
            "Shown are the labels that are predicted positive, or the most probable one if none is; on a slide that is predicted"
            f" negative for the label shown, {hot}sparse inversion shows nothing."
        )
