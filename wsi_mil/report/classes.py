"""Texts and plots of classification in the report."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from wsi_mil.metrics import auroc
from wsi_mil.report.curves import Dot, reliability_dots, roc_polyline
from wsi_mil.report.task_report import Metrics, TaskReport, interval_text
from wsi_mil.tasks import Classes, Outcomes
from wsi_mil.tasks.shown import Row
from wsi_mil.wording import listed


@dataclass(frozen=True)
class ClassesPlots:
    """Plots of one model.

    Attributes:
        roc: points of the ROC curve; "" if there is none.
        reliability: dots of the reliability curve.
    """

    roc: str
    reliability: list[Dot]


class ClassesReport(TaskReport):
    """Texts, figures and plots of classification."""

    figures: ClassVar[Mapping[str, str]] = {
        "auroc": "AUROC",
        "auprc": "AUPRC",
        "balanced_accuracy": "Balanced accuracy",
        "accuracy": "Accuracy",
        "f1": "F1",
        "sensitivity": "Sensitivity",
        "specificity": "Specificity",
        "brier": "Brier score",
        "ece": "Calibration error",
    }
    chance: ClassVar[float] = 0.5
    cards: ClassVar[str] = "classes_cards.html"
    has_thresholds: ClassVar[bool] = True
    can_be_wrong: ClassVar[bool] = True

    def __init__(self, task: Classes) -> None:
        self.task = task
        self.names = task.names

    def main_value(self, outcomes: Outcomes) -> float:
        return auroc(outcomes.truth, outcomes.outputs)

    @property
    def _is_binary(self) -> bool:
        return len(self.names) == 2

    @property
    def annotated(self) -> str:
        return self.names[-1] if self._is_binary else "lesions"

    @property
    def headline(self) -> str:
        positive = f" (positive: {self.names[-1]})" if self._is_binary else ""
        return f"classes {', '.join(self.names)}{positive}"

    @property
    def goal(self) -> str:
        return "distinguish the classes"

    def label_counts(self, labels: Sequence[str]) -> list[str]:
        return [f"{labels.count(name)} labelled “{name}”" for name in self.names]

    def label_groups(self, labels: Collection[str]) -> dict[str, str]:
        return {name: name for name in self.names if name in labels}

    def outcome(self, metrics: Metrics) -> str:
        matrix = metrics["confusion_matrix"]
        parts = [f"{matrix[i][i]} of {sum(matrix[i])} “{name}”" for i, name in enumerate(self.names) if sum(matrix[i])]
        return f"classified {sum(row[i] for i, row in enumerate(matrix))} correctly: {listed(parts)}"

    def discrimination(self, metrics: Metrics, unit: str) -> list[str]:
        value = metrics.get("auroc")
        if value is None:
            return []
        interval = interval_text(metrics["auroc_ci95"], unit)
        if not self._is_binary:
            return [f"Its AUROC, averaged over classes, is {value:.3f} (0.5 is chance, 1 is perfect{interval})."]
        negative, positive = self.names
        return [
            f"Given a random “{positive}” {unit} and a random “{negative}” {unit}, it ranks the “{positive}” {unit} higher in"
            f" {100 * value:.1f} % of cases (AUROC {value:.3f}; 0.5 is chance{interval})."
        ]

    def short(self, prediction: Row) -> tuple[str, str]:
        name = prediction["predicted"]
        return name, f"{float(prediction[f'prob_{name}']):.2f}"

    def numbers(self, prediction: Row) -> str:
        probs = ", ".join(f"P({name}) = {float(prediction[f'prob_{name}']):.3f}" for name in self.names)
        return probs + (f"; threshold {float(prediction['threshold']):.3f}" if prediction["threshold"] else "")

    def plots(self, metrics: Metrics, rows: Sequence[Row]) -> ClassesPlots:
        """Return the plots; the ROC curve only of two classes that both have a slide."""
        outcomes = self.task.read_outcomes(rows)
        roc = roc_polyline(outcomes.truth == 1, outcomes.outputs[:, 1]) if self._is_binary else ""
        return ClassesPlots(roc, reliability_dots(metrics.get("reliability", [])))

    def figures_note(self, optimistic: str) -> str:
        if self._is_binary:
            thresholds = f"Thresholds are selected on each fold's validation slides{optimistic}."
        else:
            thresholds = (
                "AUROC and AUPRC are means over classes, each against all others. F1 and balanced accuracy are means over"
                " classes."
            )
        return (
            f"{thresholds} Brier score and calibration error (ECE) are best at 0. In small samples, ECE is always above 0"
            " and its interval is biased upwards."
        )

    @property
    def curves_note(self) -> str:
        curve = (
            f"predicted probability of {self.names[-1]} and its observed frequency"
            if self._is_binary
            else "probability of the predicted class and how often it is correct"
        )
        return f"Reliability: {curve}, in ten bins of equal width; larger dots stand for more slides."

    @property
    def annotations_note(self) -> str:
        if not self._is_binary:
            return "Annotated slides are evaluated; if a class other than the slide's is shown, its lesions count as missed."
        negative, positive = self.names
        return (
            f"Annotated slides labelled {positive} are evaluated, and for pooled figures and false positives also slides labelled"
            f" {negative}, whose tiles are all negative."
        )

    @property
    def curves_of(self) -> str:
        return "the predicted probability, averaged over slides predicted as the class shown"

    def not_predicted_note(self, *, is_cohort_scale: bool) -> str:
        hot = "no tile is drawn hot, and " if is_cohort_scale else ""
        return f"On a slide that is not predicted as the class shown, {hot}sparse inversion shows nothing."
