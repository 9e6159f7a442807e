"""The interface between the pipeline and the kind of task that models learn.

A `Task` implements everything that depends on the kind: how a label of the cohort sheet is read, what folds are
stratified by, how many outputs a model has and what they mean, which epoch is kept, what a prediction is, how
performance is measured, and which output is explained. All other modules work with the texts and numbers that it returns.
How a kind is presented in the report is defined by its counterpart there, `wsi_mil.report.task_report`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wsi_mil.records import SlidePrediction

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Outcomes:
    """Ground truth and predictions of some bags, row by row.

    Attributes:
        truth: `(n,)` encoded labels.
        outputs: float64 `(n, n_outputs)`; for classes, probabilities.
        predicted: `(n,)` predicted labels, encoded.
    """

    truth: NDArray[np.int64]
    outputs: NDArray[np.float64]
    predicted: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.truth)

    def rows(self, index: NDArray[np.int64]) -> "Outcomes":
        """Return the outcomes of some rows; a row may occur more than once."""
        return Outcomes(self.truth[index], self.outputs[index], self.predicted[index])


@dataclass(frozen=True)
class ShownPrediction:
    """Prediction of a slide as the report and the viewer show it.

    Attributes:
        value: for classes, the probability of the class `of`; None if there is none.
        of: name of the class that `value` belongs to, or "".
        threshold: smallest value at which the slide is predicted as `of`, or None.
        predicted: predicted label, or "".
    """

    value: float | None
    of: str
    threshold: float | None
    predicted: str


class Task(ABC):
    """Task that a model learns from the labels of slides. Labels are non-empty cells of the cohort sheet."""

    kind: ClassVar[str]
    """Name of the kind."""

    # --- the sheet

    @property
    @abstractmethod
    def label_values(self) -> tuple[str, ...]:
        """All values that a label can have; () if they cannot be listed."""

    @abstractmethod
    def label_fault(self, text: str) -> str:
        """Return the fault of a label, or "" if it is valid."""

    @abstractmethod
    def encode(self, label: str) -> int:
        """Return the number that stands for a label in losses and figures."""

    # --- folds

    @property
    @abstractmethod
    def strata(self) -> Sequence[int]:
        """Strata of which each part of a fold needs a slide."""

    @abstractmethod
    def stratum(self, labels: Iterable[str]) -> int:
        """Return the stratum of a patient from the labels of its slides."""

    @abstractmethod
    def stratum_name(self, stratum: int) -> str:
        """Return the name of a stratum for messages, for example "class 'tumour'"."""

    @abstractmethod
    def missing(self, labels: Collection[str]) -> str:
        """Return the end of a sentence that names the strata missing from these labels, or ""."""

    @abstractmethod
    def in_order(self, labels: Collection[str]) -> tuple[str, ...]:
        """Return distinct labels in order of precedence: folds are stratified by the last label of a patient."""

    # --- training

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Number of outputs of a model."""

    @abstractmethod
    def outputs(self, logits: "Tensor") -> NDArray[np.float64]:
        """Return a model's logits `(n, n_outputs)` as outputs, float64 of the same shape; for classes, probabilities."""

    @abstractmethod
    def loss_weights(self, labels: Sequence[int], *, balanced: bool) -> NDArray[np.float32]:
        """Return the weights of the loss, from the encoded labels of the training bags."""

    @abstractmethod
    def validation_loss(self, outputs: NDArray[np.float64], truth: NDArray[np.int64], weights: NDArray[np.float32]) -> float:
        """Return the mean loss of bags, from their `outputs`."""

    @abstractmethod
    def selection_figure(self, outputs: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
        """Return the figure that can select the epoch, higher is better; NaN if undefined. For classes, AUROC."""

    @abstractmethod
    def rarest(self, labels: Sequence[int]) -> int:
        """Return the number of bags in the rarest stratum; if it is too small, the bags cannot select an epoch."""

    @abstractmethod
    def threshold(self, outputs: NDArray[np.float64], truth: NDArray[np.int64]) -> float | None:
        """Return the decision threshold, from validation bags; None if the task has none."""

    @abstractmethod
    def validation_figures(
        self, outputs: NDArray[np.float64], truth: NDArray[np.int64], threshold: float | None
    ) -> dict[str, float]:
        """Return figures of the validation bags for the model card."""

    # --- predictions

    @abstractmethod
    def prediction(
        self, folds: tuple[int, ...], outputs: NDArray[np.float64], thresholds: Sequence[float | None]
    ) -> SlidePrediction:
        """Combine the predictions of several folds for one bag.

        Args:
            folds: numbers of the folds.
            outputs: `(n_folds, n_outputs)`.
            thresholds: threshold of each fold's model.
        """

    @property
    @abstractmethod
    def prediction_columns(self) -> tuple[str, ...]:
        """Columns of `predictions.csv` that only this kind of task has."""

    @abstractmethod
    def prediction_cells(self, prediction: SlidePrediction) -> tuple[str, ...]:
        """Return the cells of `prediction_columns`."""

    @abstractmethod
    def read_outcomes(self, rows: Sequence[Mapping[str, str]]) -> Outcomes:
        """Return the outcomes of labelled rows of `predictions.csv`."""

    @abstractmethod
    def point_figures(self, outcomes: Outcomes) -> dict[str, float]:
        """Return all figures of some bags, the main one first; NaN if undefined."""

    @abstractmethod
    def summary(self, outcomes: Outcomes) -> dict[str, object]:
        """Return counts and curves of some bags, which have no interval, as values for JSON."""

    # --- explanations

    @abstractmethod
    def explained(self, prediction: SlidePrediction) -> int:
        """Return the index of the output that is explained for a slide."""

    @abstractmethod
    def is_predicted(self, prediction: SlidePrediction, output: int) -> bool:
        """Return whether a slide is predicted as `output`."""

    @abstractmethod
    def threshold_of(self, threshold: float | None, output: int) -> float | None:
        """Return the smallest output at which a model with `threshold` predicts `output`, or None."""

    @abstractmethod
    def prediction_stamp(self, prediction: SlidePrediction) -> dict[str, object]:
        """Return the entries about a slide's prediction in a receipt of scores."""

    @abstractmethod
    def lacks_evidence(self, label: str) -> bool:
        """Return whether a slide with this label has no evidence anywhere, whatever its annotations."""

    @abstractmethod
    def may_show_evidence(self, label: str, output: int | None) -> bool:
        """Return whether scores for `output` can be compared with the annotations of a slide with this label."""

    @abstractmethod
    def title_parts(self, receipt: Mapping[str, Any]) -> list[str]:
        """Return the parts of a heatmap's title about the prediction, from the receipt of its scores."""

    @abstractmethod
    def explained_in(self, receipt: Mapping[str, Any]) -> tuple[float, bool, str]:
        """Return probability, whether it is predicted, and name of the explained output, from a receipt of scores."""

    # --- files

    @abstractmethod
    def stamp(self) -> dict[str, object]:
        """Return the entries about the task in checkpoints, metrics and receipts; `task_of_stamp` reads them."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the name of the task for messages."""
