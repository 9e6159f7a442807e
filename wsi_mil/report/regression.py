"""Texts and plots of regression in the report."""

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import numpy as np

from wsi_mil.metrics import r2
from wsi_mil.report.agreement import AgreementPlot, agreement_plot
from wsi_mil.report.task_report import Metrics, TaskReport, decimals, interval_text
from wsi_mil.tasks import Outcomes, Regression
from wsi_mil.tasks.shown import Row
from wsi_mil.wording import digits

IN_UNIT = ("mae", "rmse")
"""Figures in the unit of the values."""


class RegressionReport(TaskReport):
    """Texts, figures and plots of a number per slide."""

    figures: ClassVar[Mapping[str, str]] = {
        "r2": "R²",
        "mae": "Mean absolute error",
        "rmse": "Root mean squared error",
        "pearson": "Pearson's r",
        "spearman": "Spearman's ρ",
    }
    chance: ClassVar[float] = 0.0
    cards: ClassVar[str] = "regression_cards.html"
    answer: ClassVar[str] = "value"

    def __init__(self, task: Regression) -> None:
        self.task = task
        self.name = task.name

    def main_value(self, outcomes: Outcomes) -> float:
        return r2(outcomes.truth, outcomes.outputs[:, 0])

    def figure_text(self, name: str, value: float | None) -> str:
        return digits(value) if name in IN_UNIT else decimals(value)

    @property
    def annotated(self) -> str:
        return "lesions"

    @property
    def headline(self) -> str:
        return f"a number per slide, {self.name}"

    @property
    def goal(self) -> str:
        return "predict the value of a slide"

    def labelled(self, metrics: Metrics, unit: str) -> str:
        n = metrics["n_bags"]
        return f"{n:,} {unit} with a known value" if n == 1 else f"{n:,} {unit}s with known values"

    def label_counts(self, labels: Sequence[str]) -> list[str]:
        values = np.array([float(label) for label in labels if label])
        if not len(values):
            return []
        low, median, high = (digits(float(v)) for v in np.quantile(values, [0, 0.5, 1]))
        return [f"{len(values):,} with a value, from {low} to {high} (median {median})"]

    def label_groups(self, labels: Collection[str]) -> dict[str, str]:
        """Return the quarter of each value, between the quartiles of the distinct values."""
        ordered = sorted(labels, key=float)
        values = np.array([float(label) for label in ordered])
        if not len(values):
            return {}
        first, second, third = (digits(float(q)) for q in np.quantile(values, [0.25, 0.5, 0.75]))
        names = (f"up to {first}", f"{first} to {second}", f"{second} to {third}", f"above {third}")
        quarter_of = np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values)
        return {label: names[quarter] for label, quarter in zip(ordered, quarter_of, strict=True)}

    def outcome(self, metrics: Metrics) -> str:
        error, root = digits(metrics["mae"]), digits(metrics["rmse"])
        return f"predicted values that are off by {error} on average (root mean squared error {root})"

    def discrimination(self, metrics: Metrics, unit: str) -> list[str]:
        value = metrics.get("r2")
        if value is None:
            return []
        about = (
            f"R² {decimals(value)}; 0 is as good as predicting the mean for all, 1 is perfect"
            f"{interval_text(metrics['r2_ci95'], unit)}"
        )
        explained = f"It explains {100 * value:.1f} % of the variance of the true values ({about})."
        sentences = [explained if value > 0 else f"Predicting the mean for all {unit}s would be no worse ({about})."]
        if metrics["pearson"] is not None:
            both = f"{decimals(metrics['pearson'])} (Pearson), their ranks with {decimals(metrics['spearman'])} (Spearman)"
            sentences.append(f"Predicted and true values correlate with {both}.")
        return sentences

    def plots(self, metrics: Metrics, rows: Sequence[Row]) -> AgreementPlot | None:
        outcomes = self.task.read_outcomes(rows)
        return agreement_plot(outcomes.truth, outcomes.outputs[:, 0], [row["bag"] for row in rows])

    def figures_note(self, optimistic: str) -> str:
        return (
            "Values and errors are in the unit of the sheet. R² is the share of the variance of the true values that is"
            " explained: 0 if predicting their mean for all would be as good, below 0 if it would be better. Spearman's ρ is the"
            " correlation of ranks."
        )

    @property
    def curves_note(self) -> str:
        return "Dots on the dashed line of identity are predicted exactly; above it, predictions are too high."

    def short(self, prediction: Row) -> tuple[str, str]:
        return digits(float(prediction["value"])), ""

    def numbers(self, prediction: Row) -> str:
        truth = f", true value {self.label_text(prediction['label'])}" if prediction["label"] else ""
        return f"value {digits(float(prediction['value']))}{truth}"

    @property
    def annotations_note(self) -> str:
        return "Annotated slides are evaluated."

    @property
    def curves_of(self) -> str:
        return "the predicted value, in standard deviations of the training values, averaged over slides"
