"""Texts and plots of the report that depend on the task: the counterpart of `wsi_mil.tasks`."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wsi_mil.figures import mean_of_defined
from wsi_mil.metrics import patient_draws
from wsi_mil.tasks import Task
from wsi_mil.tasks.shown import Row, is_wrong, label_text

Metrics = Mapping[str, Any]
"""Metrics of one model, written by `predict`."""


class TaskReport(ABC):
    """Texts, figures and plots of one task; a `unit` is what one prediction is for, slide or patient."""

    task: Task
    figures: ClassVar[Mapping[str, str]]
    """Columns of the table of figures: key in the metrics, title. The first is the main one, by which models are ranked."""
    chance: ClassVar[float]
    """Main figure of a model at chance."""
    cards: ClassVar[str]
    """Template of the plots of one model, `m`."""
    has_wide_cards: ClassVar[bool] = False
    """Whether they need the whole width of the page."""
    answer: ClassVar[str] = "label"
    """What is known of a slide, in one word: label, value, event."""
    has_thresholds: ClassVar[bool] = False
    """Whether thresholds are selected together with the epoch."""
    can_be_wrong: ClassVar[bool] = False
    """Whether a prediction is either right or wrong."""

    @property
    def main_figure(self) -> str:
        """Key of the main figure in the metrics."""
        return next(iter(self.figures))

    @property
    def main_title(self) -> str:
        """Title of the main figure."""
        return self.figures[self.main_figure]

    @property
    def selected(self) -> str:
        """What is selected on validation slides."""
        return "epoch and threshold" if self.has_thresholds else "epoch"

    def figure_text(self, name: str, value: float | None) -> str:
        """Return a figure to three decimals, or a dash if it is missing."""
        return decimals(value)

    def mean_title(self, group: str) -> str:
        """Return the title of the mean of the main figure over the groups of a column, or of the figure itself with ""."""
        return f"mean {self.main_title} over {group}s" if group else self.main_title

    def compared_figures(
        self, rows: Sequence[Row], *, draws: int, groups: Sequence[str] = ()
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the main figure of labelled rows, and that of each bootstrap draw of their patients `(draws,)`.

        Given the group of each row, both are the mean over the groups that have a figure, and patients are drawn within their
        group, as in `wsi_mil.figures.group_figures`.
        """
        of_group: dict[str, list[Row]] = {}
        for row, group in zip(rows, groups or [""] * len(rows), strict=True):
            of_group.setdefault(group, []).append(row)
        parts = [self._figures_of(of_group[group], draws, seed) for seed, group in enumerate(sorted(of_group))]
        defined = [(value, drawn) for value, drawn in parts if value == value]
        if not defined:
            return float("nan"), np.full(draws, np.nan)
        return float(np.mean([value for value, _ in defined])), mean_of_defined([drawn for _, drawn in defined])

    def _figures_of(self, rows: Sequence[Row], draws: int, seed: int) -> tuple[float, NDArray[np.float64]]:
        """Main figure of rows of one group, and that of each bootstrap draw of their patients."""
        outcomes, patients = self.task.unit_outcomes(self.task.read_outcomes(rows), [row["patient_id"] for row in rows])
        drawn = [self.main_value(outcomes.rows(index)) for index in patient_draws(patients, draws=draws, seed=seed)]
        return self.main_value(outcomes), np.array(drawn)

    @abstractmethod
    def main_value(self, outcomes: Any) -> float:
        """Return the main figure of some outcomes."""

    # --- the cohort

    @property
    @abstractmethod
    def annotated(self) -> str:
        """Name of the annotated regions."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """Line under the title of the page."""

    @property
    @abstractmethod
    def goal(self) -> str:
        """Goal of the models, to follow "models were trained to"."""

    @property
    def training_labels(self) -> str:
        """What models were trained with, to follow "with"."""
        return f"one {self.answer} per slide"

    @property
    def unknown(self) -> str:
        """Text in place of a label that is not known."""
        return f"no {self.answer}"

    @property
    def lacking(self) -> str:
        """What slides are without of which the label is not known."""
        return f"without a {self.answer}"

    def labelled(self, metrics: Metrics, unit: str) -> str:
        """Return the number of bags that figures are computed from, with its noun."""
        n = metrics["n_bags"]
        return f"{n:,} labelled {unit}{'s' if n != 1 else ''}"

    @abstractmethod
    def label_counts(self, labels: Sequence[str]) -> list[str]:
        """Return the number of slides with each label, as items of a list."""

    def label_text(self, label: str) -> str:
        """Return a label as readers know it."""
        return label_text(self.task, label)

    def contradict(self, labels: Collection[str]) -> bool:
        """Return whether labels of the same slide cannot all be right."""
        return len(set(labels)) > 1

    @abstractmethod
    def label_groups(self, labels: Collection[str]) -> dict[str, str]:
        """Return the group of each distinct label, in the order of legends; batch effects are compared with these groups."""

    # --- figures

    @abstractmethod
    def outcome(self, metrics: Metrics) -> str:
        """Return how well a model predicted, to follow the name of the model."""

    @abstractmethod
    def discrimination(self, metrics: Metrics, unit: str) -> list[str]:
        """Return sentences that explain the value of the main figure."""

    @abstractmethod
    def plots(self, metrics: Metrics, rows: Sequence[Row]) -> Any:
        """Return the plots of one model for `cards`, from its metrics and the rows that they are computed from."""

    @abstractmethod
    def figures_note(self, optimistic: str) -> str:
        """Return the explanation of thresholds and averages; `optimistic` is inserted where thresholds are explained."""

    @property
    @abstractmethod
    def curves_note(self) -> str:
        """Explanation of the plots."""

    # --- predictions

    def is_wrong(self, prediction: Row, label: str) -> bool:
        """Return whether the prediction for a slide with this label (or "") is wrong."""
        return is_wrong(self.task, prediction, label)

    @abstractmethod
    def short(self, prediction: Row) -> tuple[str, str]:
        """Return the prediction and its number, for the cell of a table."""

    @abstractmethod
    def numbers(self, prediction: Row) -> str:
        """Return the numbers of a prediction, as part of a sentence."""

    # --- heatmaps

    def n_shown(self, prediction: Row) -> int:
        """Return the number of outputs that heatmaps of a slide with this prediction explain."""
        return 1

    @property
    @abstractmethod
    def annotations_note(self) -> str:
        """Explanation of which slides the evaluation of heatmaps counts."""

    @property
    @abstractmethod
    def curves_of(self) -> str:
        """What deletion and insertion curves follow, and over which slides gains are averaged, to follow "curves of"."""

    def not_predicted_note(self, *, is_cohort_scale: bool) -> str:
        """Return what is shown on slides that are not predicted as the output explained, "" if there are none."""
        return ""


def decimals(value: float | None) -> str:
    """Return a figure to three decimals, or a dash if it is missing."""
    return "–" if value is None or value != value else f"{value:z.3f}".replace("-", "−")


def interval_text(ends: Sequence[float | None], unit: str) -> str:
    """Return the confidence interval, to follow a figure in brackets.

    If all bootstrap draws are equal, it is uninformative and not given.
    """
    low, high = ends
    if low is None or high is None:
        return ""
    if low == high:
        return f"; too few {unit}s to estimate an interval"
    return f"; 95 % confidence interval {decimals(low)} to {decimals(high)}"
