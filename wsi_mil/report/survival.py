"""Texts and plots of survival in the report. The event may be death, relapse or any other: it is called the event."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from wsi_mil.report.kaplan_meier import KaplanMeierPlot, kaplan_meier_plot, median_text
from wsi_mil.report.task_report import Metrics, TaskReport, interval_text
from wsi_mil.survival import harrell_c
from wsi_mil.tasks import Outcomes, Task
from wsi_mil.tasks.shown import CENSORED, EVENT, Row, label_group
from wsi_mil.wording import digits, listed

HORIZON_AUC, HORIZON_SURVIVAL = "auc_", "survival_"
"""Prefixes of figures and of columns of predictions that belong to a horizon; its time follows."""

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class HorizonFigure:
    """Time-dependent AUC at one horizon: the time, the figure, and its interval."""

    horizon: str
    value: float | None
    ci95: tuple[float | None, float | None]


@dataclass(frozen=True)
class SurvivalPlots:
    """Plots of one model: its risk groups, if they have patients, and the AUC at each horizon."""

    kaplan_meier: KaplanMeierPlot | None
    horizons: tuple[HorizonFigure, ...]


class SurvivalReport(TaskReport):
    """Texts, figures and plots of the time to an event."""

    figures: ClassVar[Mapping[str, str]] = {
        "c_harrell": "Harrell's C",
        "c_uno": "Uno's C",
        "integrated_brier": "Integrated Brier score",
    }
    chance: ClassVar[float] = 0.5
    cards: ClassVar[str] = "survival_cards.html"
    answer: ClassVar[str] = "event"

    def __init__(self, task: Task) -> None:
        self.task = task

    def main_value(self, outcomes: Outcomes) -> float:
        return harrell_c(outcomes.truth[:, 0], outcomes.truth[:, 1] == 1, outcomes.outputs[:, 0])

    @property
    def annotated(self) -> str:
        return "lesions"

    @property
    def headline(self) -> str:
        return "time to an event"

    @property
    def goal(self) -> str:
        return "predict which patients have the event earlier"

    @property
    def training_labels(self) -> str:
        return "the follow-up of each patient"

    @property
    def unknown(self) -> str:
        return "no follow-up"

    @property
    def lacking(self) -> str:
        return "without follow-up"

    def labelled(self, metrics: Metrics, unit: str) -> str:
        n = metrics["n_patients"]
        return f"{n:,} patient{'s' if n != 1 else ''} with follow-up"

    def label_counts(self, labels: Sequence[str]) -> list[str]:
        ended = [label_group(self.task, label) for label in labels if label]
        return [f"{ended.count(EVENT)} of patients with the event", f"{ended.count(CENSORED)} of patients followed without it"]

    def label_groups(self, labels: Collection[str]) -> dict[str, str]:
        """Return whether the event was observed."""
        return {
            label: label_group(self.task, label)
            for label in sorted(labels, key=lambda label: label_group(self.task, label), reverse=True)
        }

    def outcome(self, metrics: Metrics) -> str:
        groups = metrics["risk_groups"]
        if len(groups) < 2:
            return "did not divide the patients into two risk groups"
        high, low = ({**group, "text": _group_text(group)} for group in (groups["high"], groups["low"]))
        return (
            f"assigned {high['n']} to the higher-risk group, which {self._compared(metrics)}: {high['text']}; in the lower-risk"
            f" group {low['text']}"
        )

    @staticmethod
    def _compared(metrics: Metrics) -> str:
        """How the higher-risk group fared, no stronger than the figures."""
        ratio, p = metrics["hazard_ratio"], metrics["logrank_p"]
        if ratio is not None and ratio <= 1:
            return "did not have the event earlier"
        if p is None or p >= SIGNIFICANT:
            return "has not been shown to have the event earlier"
        return "had the event earlier" if ratio is not None else "had the event at other times"

    def discrimination(self, metrics: Metrics, unit: str) -> list[str]:
        value = metrics.get("c_harrell")
        if value is None:
            return []
        sentences = [
            "Of two patients of whom one is known to have had the event first, it gives this one the higher risk in"
            f" {100 * value:.1f} % of cases (Harrell's C {value:.3f}; 0.5 is chance"
            f"{interval_text(metrics['c_harrell_ci95'], 'patient')})."
        ]
        if metrics["hazard_ratio"] is not None:
            low, high = (digits(end) for end in metrics["hazard_ratio_ci95"])
            sentences.append(
                f"The hazard of the higher-risk group is {digits(metrics['hazard_ratio'])} times that of the lower-risk group"
                f" (95 % confidence interval {low} to {high}; log-rank test {p_text(metrics['logrank_p'])})."
            )
        return sentences

    def plots(self, metrics: Metrics, rows: Sequence[Row]) -> SurvivalPlots:
        names = [name for name in metrics if name.startswith(HORIZON_AUC) and not name.endswith("_ci95")]
        times = sorted((float(name.removeprefix(HORIZON_AUC)), name) for name in names)
        horizons = (HorizonFigure(digits(time), metrics[name], tuple(metrics[f"{name}_ci95"])) for time, name in times)
        return SurvivalPlots(kaplan_meier_plot(metrics.get("risk_groups", {})), tuple(horizons))

    def figures_note(self, optimistic: str) -> str:
        return (
            "All figures are of patients. C: share of comparable pairs of patients of whom the one with the higher risk had the"
            " event first; Uno's C is weighted for censoring. The integrated Brier score is the mean squared error of the"
            " predicted probability of no event, weighted for censoring, over the horizons; it is best at 0."
        )

    @property
    def curves_note(self) -> str:
        return (
            "Share of patients without the event (Kaplan-Meier) with 95 % confidence intervals; short vertical marks are"
            " patients whose follow-up ended without it. The cut-off between the groups is taken from the training part of each"
            " fold. Intervals of the hazard ratio are Wald's."
        )

    def short(self, prediction: Row) -> tuple[str, str]:
        return f"{prediction['predicted']} risk", f"{float(prediction['risk']):.2f}".replace("-", "−")

    def numbers(self, prediction: Row) -> str:
        risk, cutoff = (digits(float(prediction[name])) for name in ("risk", "cutoff"))
        known = [(float(k.removeprefix(HORIZON_SURVIVAL)), v) for k, v in prediction.items() if k.startswith(HORIZON_SURVIVAL)]
        shares = listed([f"{100 * float(value):.0f} % until {digits(time)}" for time, value in sorted(known) if value])
        no_event = f"; probability of no event {shares}" if shares else ""
        return f"log risk {risk}; cut-off {cutoff}{no_event}"

    @property
    def annotations_note(self) -> str:
        return "Annotated slides are evaluated; annotations are taken to show what raises the risk."

    @property
    def curves_of(self) -> str:
        return "the predicted log risk, averaged over slides"


def p_text(p: float | None) -> str:
    """Return a p-value as part of a sentence; small ones as a bound."""
    if p is None:
        return "not possible"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _group_text(group: Mapping[str, Any]) -> str:
    median = "median time not reached" if group["median"] is None else f"median time {median_text(group)}"
    return f"{group['n_events']} of {group['n']} had it, {median}"
