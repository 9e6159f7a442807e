"""Texts and plots of the report that depend on the task: the counterpart of `wsi_mil.tasks`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wsi_mil.tasks import Task

Row = Mapping[str, str]
"""Row of a predictions table."""
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

    @property
    def main_figure(self) -> str:
        """Key of the main figure in the metrics."""
        return next(iter(self.figures))

    @property
    def main_title(self) -> str:
        """Title of the main figure."""
        return self.figures[self.main_figure]

    def compared_figures(self, rows: Sequence[Row], draws: Iterable[NDArray[np.int64]]) -> tuple[float, NDArray[np.float64]]:
        """Return the main figure of labelled rows, and that of each bootstrap draw of them."""
        outcomes = self.task.read_outcomes(rows)
        return self.main_value(outcomes), np.array([self.main_value(outcomes.rows(index)) for index in draws])

    @abstractmethod
    def main_value(self, outcomes: Any) -> float:
        """Return the main figure of some outcomes."""

    @property
    @abstractmethod
    def label_order(self) -> tuple[str, ...]:
        """Labels in the order of legends and tables."""

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

    @abstractmethod
    def label_counts(self, labels: Sequence[str]) -> list[str]:
        """Return the number of slides with each label, as items of a list."""

    @abstractmethod
    def outcome(self, metrics: Metrics) -> str:
        """Return how well a model predicted, to follow the name of the model."""

    @abstractmethod
    def discrimination(self, metrics: Metrics, unit: str) -> list[str]:
        """Return sentences that explain the value of the main figure."""

    @abstractmethod
    def is_wrong(self, prediction: Row, label: str) -> bool:
        """Return whether the prediction for a slide with this label (or "") is wrong."""

    @abstractmethod
    def short(self, prediction: Row) -> tuple[str, str]:
        """Return the prediction and its number, for the cell of a table."""

    @abstractmethod
    def numbers(self, prediction: Row) -> str:
        """Return the numbers of a prediction, as part of a sentence."""

    @abstractmethod
    def curve(self, rows: Sequence[Row]) -> str:
        """Return the points of the main plot in SVG's unit square, y downwards; "" without a plot."""

    @abstractmethod
    def figures_note(self, optimistic: str) -> str:
        """Return the explanation of thresholds and averages; `optimistic` is inserted where thresholds are explained."""

    @property
    @abstractmethod
    def curves_note(self) -> str:
        """Explanation of the plots."""

    @property
    @abstractmethod
    def annotations_note(self) -> str:
        """Explanation of which slides the evaluation of heatmaps counts."""
