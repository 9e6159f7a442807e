"""The interface between the pipeline and the kind of question that models learn to answer.

What depends on the kind is asked of a `Task`: how a label of the sheet is read, what folds are stratified by, how many
outputs a model has and what they mean, which epoch is kept, what a prediction says, how good it is, and which number is
explained. All other modules work on the texts and numbers that come back. What a kind looks like in the report is its
counterpart there, `wsi_mil.report.task_report`.
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
        outputs: float64 `(n, n_outputs)`; of classes their probabilities.
        predicted: `(n,)` what is decided, encoded as labels are.
    """

    truth: NDArray[np.int64]
    outputs: NDArray[np.float64]
    predicted: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.truth)

    def rows(self, index: NDArray[np.int64]) -> "Outcomes":
        """Return the outcomes of some rows, which may stand more than once."""
        return Outcomes(self.truth[index], self.outputs[index], self.predicted[index])


@dataclass(frozen=True)
class ShownPrediction:
    """What pages show of a slide's prediction.

    Attributes:
        value: of classes the probability of the class shown; None where there is none.
        of: what the value is of: the name of a class, or "".
        threshold: from which value on the slide is predicted as `of`; None where there is none.
        predicted: what the slide is predicted as, or "".
    """

    value: float | None
    of: str
    threshold: float | None
    predicted: str


class Task(ABC):
    """What a model learns of a slide from its label. Labels are cells of the sheet that are not empty."""

    kind: ClassVar[str]
    """Name of the kind."""

    # --- the sheet

    @property
    @abstractmethod
    def label_values(self) -> tuple[str, ...]:
        """All values that a label can have; () where they are not a list."""

    @abstractmethod
    def label_fault(self, text: str) -> str:
        """Return what is wrong with a label, or ""."""

    @abstractmethod
    def encode(self, label: str) -> int:
        """Return a label as the number that losses and figures take."""

    # --- folds

    @property
    @abstractmethod
    def strata(self) -> Sequence[int]:
        """Strata of which every part of a fold needs a slide."""

    @abstractmethod
    def stratum(self, labels: Iterable[str]) -> int:
        """Return the stratum of a patient from the labels of its slides."""

    @abstractmethod
    def stratum_name(self, stratum: int) -> str:
        """Return a stratum as messages name it: class 'tumour'."""

    @abstractmethod
    def missing(self, labels: Collection[str]) -> str:
        """Return which strata a part with these labels lacks, as the end of a sentence, or ""."""

    @abstractmethod
    def in_order(self, labels: Collection[str]) -> tuple[str, ...]:
        """Return distinct labels in the order in which a later one outweighs those before when folds are drawn."""

    # --- training

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Outputs of a model."""

    @abstractmethod
    def outputs(self, logits: "Tensor") -> NDArray[np.float64]:
        """Return what raw outputs `(n, n_outputs)` of a model mean, float64 of the same shape; of classes probabilities."""

    @abstractmethod
    def loss_weights(self, labels: Sequence[int], *, balanced: bool) -> NDArray[np.float32]:
        """Return the weights that the loss takes, from the encoded labels of the training bags."""

    @abstractmethod
    def validation_loss(self, outputs: NDArray[np.float64], truth: NDArray[np.int64], weights: NDArray[np.float32]) -> float:
        """Return the mean loss of bags by their `outputs`."""

    @abstractmethod
    def selection_figure(self, outputs: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
        """Return the figure that can choose the epoch, the higher the better; NaN where undefined. Of classes AUROC."""

    @abstractmethod
    def rarest(self, labels: Sequence[int]) -> int:
        """Return how many bags the rarest stratum has: with too few, no epoch is chosen by them."""

    @abstractmethod
    def threshold(self, outputs: NDArray[np.float64], truth: NDArray[np.int64]) -> float | None:
        """Return the threshold of decisions, from validation bags; None where decisions need none."""

    @abstractmethod
    def validation_figures(
        self, outputs: NDArray[np.float64], truth: NDArray[np.int64], threshold: float | None
    ) -> dict[str, float]:
        """Return figures of the validation bags beside their loss, for the model's card."""

    # --- predictions

    @abstractmethod
    def prediction(
        self, folds: tuple[int, ...], outputs: NDArray[np.float64], thresholds: Sequence[float | None]
    ) -> SlidePrediction:
        """Combine what the models of some folds predict for one bag.

        Args:
            folds: their numbers.
            outputs: `(n_folds, n_outputs)`.
            thresholds: of each.
        """

    @property
    @abstractmethod
    def prediction_columns(self) -> tuple[str, ...]:
        """Columns of `predictions.csv` that the kind has for itself."""

    @abstractmethod
    def prediction_cells(self, prediction: SlidePrediction) -> tuple[str, ...]:
        """Return the cells of `prediction_columns`."""

    @abstractmethod
    def read_outcomes(self, rows: Sequence[Mapping[str, str]]) -> Outcomes:
        """Return the outcomes of labelled rows of `predictions.csv`."""

    @abstractmethod
    def point_figures(self, outcomes: Outcomes) -> dict[str, float]:
        """Return every figure of some bags; NaN where it is not defined. The first is the main one."""

    @abstractmethod
    def summary(self, outcomes: Outcomes) -> dict[str, object]:
        """Return counts and curves of some bags that have no interval, ready for JSON."""

    # --- explanations

    @abstractmethod
    def explained(self, prediction: SlidePrediction) -> int:
        """Return the index of the output whose evidence is shown for a slide."""

    @abstractmethod
    def is_predicted(self, prediction: SlidePrediction, target: int) -> bool:
        """Return whether a slide is predicted as `target`, so that there is evidence to look for."""

    @abstractmethod
    def threshold_of(self, threshold: float | None, target: int) -> float | None:
        """Return from which output on a model with `threshold` predicts `target`; None where that is no threshold."""

    @abstractmethod
    def prediction_stamp(self, prediction: SlidePrediction) -> dict[str, object]:
        """Return what a receipt of scores says of the slide's prediction."""

    @abstractmethod
    def lacks_evidence(self, label: str) -> bool:
        """Return whether a slide with this label holds no evidence anywhere, whatever is annotated on it."""

    @abstractmethod
    def may_show_evidence(self, label: str, target: int | None) -> bool:
        """Return whether scores for `target` can be compared with the annotations of a slide with this label."""

    @abstractmethod
    def title_parts(self, receipt: Mapping[str, Any]) -> list[str]:
        """Return what the title of a heatmap says of the prediction, from the receipt of its scores."""

    @abstractmethod
    def explained_in(self, receipt: Mapping[str, Any]) -> tuple[float, bool, str]:
        """Return what a receipt of scores says of what is explained: probability, whether it is predicted, name."""

    # --- files

    @abstractmethod
    def stamp(self) -> dict[str, object]:
        """Return what checkpoints, metrics and receipts say of the task; `task_of_stamp` reads it."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the task as messages name it."""
