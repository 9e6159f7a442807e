"""What the report says and draws of a kind of task: the counterpart of `wsi_mil.tasks`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wsi_mil.tasks import Task

Row = Mapping[str, str]
"""A row of a predictions table."""
Metrics = Mapping[str, Any]
"""What `predict` wrote about one model."""


class Kind(ABC):
    """Words, figures and plots of one task; a `unit` is what one prediction is made for, slide or patient."""

    task: Task
    figures: ClassVar[Mapping[str, str]]
    """Columns of the table of figures: key in the metrics, title. The first is the main one, by which models are ranked."""
    chance: ClassVar[float]
    """The main figure of a model that has learned nothing."""
    cards: ClassVar[str]
    """Template of the plots of one model, `m`."""

    @property
    def main_figure(self) -> str:
        """Key of the main figure in the metrics."""
        return next(iter(self.figures))

    @property
    def main_title(self) -> str:
        """What the main figure is called."""
        return self.figures[self.main_figure]

    def compared_figures(self, rows: Sequence[Row], draws: Iterable[NDArray[np.int64]]) -> tuple[float, NDArray[np.float64]]:
        """Return the main figure of labelled rows, and that of each draw of them."""
        outcomes = self.task.read_outcomes(rows)
        return self.of_outcomes(outcomes), np.array([self.of_outcomes(outcomes.rows(index)) for index in draws])

    @abstractmethod
    def of_outcomes(self, outcomes: Any) -> float:
        """Return the main figure of some outcomes."""

    @property
    @abstractmethod
    def label_order(self) -> tuple[str, ...]:
        """Labels in the order in which legends and tables have them."""

    @property
    @abstractmethod
    def evidence_of(self) -> str:
        """What annotations outline, in a word."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """What is learned, under the page's title."""

    @property
    @abstractmethod
    def goal(self) -> str:
        """What models learned, after "models learned to"."""

    @abstractmethod
    def label_counts(self, labels: Sequence[str]) -> list[str]:
        """Return how many slides have which label, as the parts of a list."""

    @abstractmethod
    def outcome(self, metrics: Metrics) -> str:
        """Return how well a model predicted, after the name of the model."""

    @abstractmethod
    def discrimination(self, metrics: Metrics, unit: str) -> list[str]:
        """Return sentences about what the main figure means."""

    @abstractmethod
    def is_wrong(self, prediction: Row, label: str) -> bool:
        """Return whether a slide with this label (or "") is predicted wrongly."""

    @abstractmethod
    def short(self, prediction: Row) -> tuple[str, str]:
        """Return a prediction for the cell of a table: what is predicted, and the number beside it."""

    @abstractmethod
    def numbers(self, prediction: Row) -> str:
        """Return the numbers behind a prediction, as a part of a sentence."""

    @abstractmethod
    def curve(self, rows: Sequence[Row]) -> str:
        """Return the points of the main plot in SVG's unit square, y downwards; "" where there is none."""

    @abstractmethod
    def figures_note(self, optimistic: str) -> str:
        """Return what has to be known about thresholds and averages; `optimistic` is put where thresholds come from."""

    @property
    @abstractmethod
    def curves_note(self) -> str:
        """What the plots of the cards show."""

    @property
    @abstractmethod
    def annotations_note(self) -> str:
        """Which slides the figures of heatmaps count."""
