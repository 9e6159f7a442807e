"""The interface between the pipeline and the kind of task that models learn.

A `Task` implements everything that depends on the kind: how a label of the cohort sheet is read, what folds are
stratified by, how many outputs a model has and what they mean, which epoch is kept, what a prediction is, how
performance is measured, and which output is explained. All other modules work with the texts and numbers that it returns.
How a kind is presented in the report is defined by its counterpart there, `wsi_mil.report.task_report`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from wsi_mil.records import Predicted, SlidePrediction, Threshold

if TYPE_CHECKING:
    from torch import Tensor

STAMP_KEY = "task"
"""Key of a task's entry in checkpoints, metrics and receipts."""

Labels = NDArray[Any]
"""Encoded labels `(n, …)`, as `Task.encode` returns them."""


def probability_text(value: float) -> str:
    """Return a probability or a threshold as tables have it: nine significant digits, so that 0.99999998 is not written as 1.

    Comparisons and curves are computed from the tables; rounding would make ties of a model's most certain predictions.
    """
    return f"{value:.9g}"


@dataclass(frozen=True)
class Truth:
    """Encoded labels of some bags, and whose bags they are.

    Attributes:
        labels: `(n, …)` encoded labels.
        patients: patient of each bag.
    """

    labels: Labels
    patients: tuple[str, ...]

    @classmethod
    def of(cls, labels: Labels | Sequence[Any], patients: Sequence[str] | None = None) -> "Truth":
        """Return the truth of bags; without `patients`, each bag is from another one."""
        own = tuple(map(str, range(len(labels)))) if patients is None else tuple(patients)
        return cls(np.asarray(labels), own)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Outcomes:
    """Ground truth and predictions of some bags, row by row.

    Attributes:
        truth: `(n, …)` encoded labels.
        outputs: float64 `(n, n_columns)` as `Task.outputs` returns them; for classes, probabilities.
        predicted: `(n, …)` predicted labels; of a task that predicts none, `(n, 0)`.
    """

    truth: Labels
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
    figure_name: ClassVar[str]
    """Name of `selection_figure` in the training curve and the model card."""
    figure_label: ClassVar[str]
    """Its name in messages."""
    chance: ClassVar[float] = 0.5
    """Its value at chance."""
    is_of_patient: ClassVar[bool] = False
    """Whether a label is the patient's, so that all its slides must have the same, and figures are of patients."""
    is_judged_on_training: ClassVar[bool] = False
    """Whether `calibrated` needs what the trained model says about its training bags."""
    is_independent: ClassVar[bool] = False
    """Whether each output is true or false of a slide by itself, whatever the others are."""
    can_be_recalibrated: ClassVar[bool] = False
    """Whether outputs are probabilities of classes of which one is true, so that they can be fitted again (`recalibration`)."""
    loss_shows_confidence: ClassVar[bool] = True
    """Whether the loss also changes with the size of the weights, however the bags are ranked, as a classifier's does.

    Then the figure chooses the epoch unless settings say otherwise, and the setting `min_improvement` holds.
    """

    # --- the sheet

    @property
    @abstractmethod
    def label_values(self) -> tuple[str, ...]:
        """All values that a label can have; () if they cannot be listed."""

    @abstractmethod
    def label_fault(self, text: str) -> str:
        """Return the fault of a label, or "" if it is valid."""

    @abstractmethod
    def encode(self, labels: Sequence[str]) -> Labels:
        """Return the numbers that stand for labels in losses and figures, `(n, …)`."""

    # --- folds

    @property
    @abstractmethod
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of patients that each part of a fold needs one of, for example "class 'tumour'"."""

    @abstractmethod
    def groups_of(self, labels: Iterable[str]) -> frozenset[int]:
        """Return the indices of the groups that a patient is in, from the labels of its slides."""

    @abstractmethod
    def strata(self, labels: Mapping[str, Sequence[str]], *, least: int) -> dict[str, int]:
        """Return the stratum of each patient, by which folds are stratified.

        Args:
            labels: labels of each patient's slides.
            least: number of patients that a stratum needs; smaller ones are merged where the kind of task allows it.
        """

    @abstractmethod
    def missing(self, labels: Collection[str]) -> str:
        """Return the end of a sentence that names what is missing from the labels of a part of a fold, or ""."""

    @abstractmethod
    def in_order(self, labels: Collection[str]) -> tuple[str, ...]:
        """Return distinct labels in order of precedence: folds are stratified by the last label of a patient."""

    def unit_outcomes(self, outcomes: Outcomes, patients: Sequence[str]) -> tuple[Outcomes, tuple[str, ...]]:
        """Return outcomes of bags as outcomes of what figures are of, bags or patients, and the patient of each row."""
        return outcomes, tuple(patients)

    # --- training

    def fitted(self, truth: Truth) -> Self:
        """Return the task with the constants that it takes from the training part of a fold, and from nothing else."""
        return self

    def with_fitted(self, other: "Task") -> Self:
        """Return this task with the fitted constants of another one, which a model was trained with."""
        return self

    def resolved(self, truth: Truth) -> Self:
        """Return the task with the constants that figures need and that no model depends on, from the labels of a cohort."""
        return self

    @property
    def is_learned_at_once(self) -> bool:
        """Whether the loss is of all training bags together, so that an epoch is one update."""
        return False

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Number of outputs of a model."""

    @abstractmethod
    def outputs(self, logits: "Tensor") -> NDArray[np.float64]:
        """Return a model's logits `(n, n_outputs)` as values of predictions `(n, n_columns)`; for classes, probabilities."""

    def learned(self, labels: Labels) -> Labels:
        """Return what a loss compares the outputs of a model with, `(n, …)`, from encoded labels."""
        return labels

    def loss_weights(self, labels: Labels, *, balanced: bool) -> NDArray[np.float32]:
        """Return the weights of classes in the loss, from the labels of the training bags; none if there are no classes."""
        return np.empty(0, np.float32)

    def bag_weights(self, patients: Sequence[str]) -> NDArray[np.float64]:
        """Return the weight of each bag in the loss; their mean is 1. The bags of a patient share the weight of one."""
        if not self.is_of_patient:
            return np.ones(len(patients))
        _, patient_of, counts = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
        return np.asarray(len(patients) / len(counts) / counts[patient_of])

    @abstractmethod
    def validation_loss(self, logits: "Tensor", truth: Truth, weights: NDArray[np.float32]) -> float:
        """Return the mean loss of bags, from a model's logits for them."""

    @abstractmethod
    def selection_figure(self, outputs: NDArray[np.float64], truth: Truth) -> float:
        """Return the figure that can select the epoch, higher is better; NaN if undefined. For classes, AUROC."""

    @abstractmethod
    def rarest(self, truth: Truth) -> int:
        """Return how many bags there are of what is rarest; if they are too few, the bags cannot select an epoch."""

    def calibrated(self, outputs: NDArray[np.float64], truth: Truth) -> Self:
        """Return the task with the constants that it takes from a trained model's outputs for its training bags."""
        return self

    @abstractmethod
    def threshold(self, outputs: NDArray[np.float64], truth: Truth) -> Threshold:
        """Return the decision threshold, from validation bags; None if the task has none."""

    @abstractmethod
    def validation_figures(self, outputs: NDArray[np.float64], truth: Truth, threshold: Threshold) -> dict[str, float]:
        """Return figures of the validation bags for the model card."""

    # --- predictions

    @abstractmethod
    def predicted(self, outputs: NDArray[np.float64], threshold: Threshold) -> Predicted:
        """Return what a bag is predicted as, from its outputs `(n_columns,)`."""

    def prediction(
        self, folds: tuple[int, ...], outputs: NDArray[np.float64], thresholds: Sequence[Threshold]
    ) -> SlidePrediction:
        """Combine the predictions of several folds for one bag: the mean of outputs and of thresholds, and what they predict.

        Args:
            folds: numbers of the folds.
            outputs: `(n_folds, n_columns)`.
            thresholds: threshold of each fold's model.
        """
        mean, threshold = outputs.mean(axis=0), mean_threshold(thresholds)
        return SlidePrediction(
            folds=folds,
            outputs=tuple(float(value) for value in mean),
            threshold=threshold,
            predicted=self.predicted(mean, threshold),
            outputs_of_fold=tuple(tuple(float(value) for value in row) for row in outputs),
            predicted_of_fold=tuple(self.predicted(row, own) for row, own in zip(outputs, thresholds, strict=True)),
        )

    @property
    @abstractmethod
    def prediction_columns(self) -> tuple[str, ...]:
        """Columns of `predictions.csv` that only this kind of task has."""

    @abstractmethod
    def prediction_cells(self, prediction: SlidePrediction, label: str) -> tuple[str, ...]:
        """Return the cells of `prediction_columns`; `label` is "" where it is not known."""

    @abstractmethod
    def read_outcomes(self, rows: Sequence[Mapping[str, str]]) -> Outcomes:
        """Return the outcomes of labelled rows of `predictions.csv`."""

    @abstractmethod
    def point_figures(self, outcomes: Outcomes) -> dict[str, float]:
        """Return all figures of some rows (see `unit_outcomes`), the main one first; NaN if undefined."""

    def arranged(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Return figures as they are written to a file."""
        return dict(figures)

    @abstractmethod
    def summary(self, outcomes: Outcomes) -> dict[str, object]:
        """Return counts and curves of some rows, which have no interval, as values for JSON."""

    # --- explanations

    @property
    def explainable(self) -> tuple[str, ...]:
        """Names of the outputs that can be explained, in their order."""
        return (self.output_name(0),)

    @abstractmethod
    def explained(self, prediction: SlidePrediction) -> tuple[int, ...]:
        """Return the indices of the outputs that are explained for a slide, the most important first; at least one."""

    @abstractmethod
    def explained_value(self, prediction: SlidePrediction, output: int) -> float:
        """Return the value of an explained output as deletion and insertion curves show it: a probability where there is one."""

    @abstractmethod
    def output_name(self, output: int) -> str:
        """Return the name of an explained output: class, label, or what the number is."""

    def quantity(self, output: int) -> str:
        """Return the quantity of an output that is explained, in words, as part of a sentence."""
        return f"the log odds of {self.output_name(output)}"

    @abstractmethod
    def is_predicted(self, prediction: SlidePrediction, output: int) -> bool:
        """Return whether a slide is predicted as `output`."""

    @abstractmethod
    def threshold_of(self, threshold: Threshold, output: int) -> float | None:
        """Return the smallest value at which a model with `threshold` predicts `output`, or None."""

    @abstractmethod
    def prediction_stamp(self, prediction: SlidePrediction) -> dict[str, object]:
        """Return the entries about a slide's prediction in a receipt of scores."""

    def label_words(self, label: str) -> str:
        """Return a label as pictures show it."""
        return label

    @abstractmethod
    def lacks_evidence(self, label: str, healthy: Collection[str] = ()) -> bool:
        """Return whether a slide with this label has no evidence anywhere; `healthy`: classes that are said to have none."""

    def is_known(self, label: str, output: int) -> bool:
        """Return whether a label says what is true of an explained output."""
        return True

    def is_of(self, label: str, output: int) -> bool:
        """Return whether `output` is true of a slide with this label, so that what is annotated is evidence of it."""
        return True

    @abstractmethod
    def title_parts(self, receipt: Mapping[str, Any], output: int) -> list[str]:
        """Return the parts of a heatmap's title about the prediction, from the receipt of its scores for `output`."""

    @abstractmethod
    def explained_in(self, receipt: Mapping[str, Any], output: int) -> tuple[float | None, bool]:
        """Return what scores for `output` are weighted by, and whether the slide is predicted as it, from their receipt.

        The weight is the probability of the class or label; None where there is none.
        """

    # --- files

    def stamp(self) -> dict[str, object]:
        """Return the entry `task` of checkpoints, metrics and receipts; `task_of_stamp` reads it."""
        return {STAMP_KEY: {"kind": self.kind, **self.settings()}}

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """Return what the task is made from again by `of_settings`, as values for JSON; constants under `fitted`."""

    @classmethod
    @abstractmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the task that has these `settings`."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the name of the task for messages."""


def mean_by_patient(values: NDArray[Any], patients: Sequence[str]) -> NDArray[Any]:
    """Return the mean of the rows `(n, …)` of each patient, patients in the order of their names."""
    names, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) == len(values):
        return values[np.argsort(patient_of)]
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, patient_of, values)
    counts = np.bincount(patient_of)
    return np.asarray(sums / counts.reshape(-1, *[1] * (values.ndim - 1)))


def mean_threshold(thresholds: Sequence[Threshold]) -> Threshold:
    """Return the mean of the thresholds of several folds, number by number; None if no fold has one."""
    given = [threshold for threshold in thresholds if threshold is not None]
    if not given:
        return None
    mean = np.mean(given, axis=0)
    return float(mean) if mean.ndim == 0 else tuple(float(value) for value in mean)


def one_number(threshold: Threshold) -> float | None:
    """Return the threshold of a task that has one at most."""
    if isinstance(threshold, tuple):
        raise TypeError(f"expected one threshold, got {threshold}")
    return threshold


def one_index(predicted: Predicted) -> int:
    """Return what is predicted by a task that predicts one of several."""
    if not isinstance(predicted, int):
        raise TypeError(f"expected one index, got {predicted}")
    return predicted


def finite_cell(text: str) -> float | None:
    """Return the number in a cell, or None if it is none or not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
