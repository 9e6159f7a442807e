"""Classification into mutually exclusive classes: one label per slide; of two classes the last is the positive one."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import nearest
from wsi_mil.metrics import (
    accuracies,
    auprc,
    auroc,
    brier,
    confusion,
    expected_calibration_error,
    predicted_class,
    reliability_curve,
    youden_threshold,
)
from wsi_mil.records import SlidePrediction, Threshold
from wsi_mil.tasks.base import (
    Labels,
    Outcomes,
    ShownPrediction,
    Task,
    Truth,
    finite_cell,
    one_index,
    one_number,
    probability_text,
)

if TYPE_CHECKING:
    from torch import Tensor

MIN_PROB = 1e-12
"""Smaller probabilities are clipped to this value in the log loss."""
PROB_PREFIX = "prob_"
"""Prefix of columns with probabilities."""


@dataclass(frozen=True)
class Classes(Task):
    """Classification of slides.

    Attributes:
        names: class names; their order is the order of the outputs.
    """

    names: tuple[str, ...]

    kind: ClassVar[str] = "classes"
    figure_name: ClassVar[str] = "auroc"
    figure_label: ClassVar[str] = "AUROC"
    can_be_recalibrated: ClassVar[bool] = True

    @classmethod
    def numbered(cls, n: int) -> "Classes":
        """Return `n` classes named by their index, for bags labelled with indices."""
        return cls(tuple(str(index) for index in range(n)))

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes, of which the last is the positive one."""
        return len(self.names) == 2

    @property
    def label_values(self) -> tuple[str, ...]:
        return self.names

    def label_fault(self, text: str) -> str:
        return "" if text in self.names else f"label {text!r} is not in classes{nearest(text, list(self.names))}"

    def encode(self, labels: Sequence[str]) -> NDArray[np.int64]:
        return np.array([self.names.index(label) for label in labels], np.int64)

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(f"class {name!r}" for name in self.names)

    def groups_of(self, labels: Iterable[str]) -> frozenset[int]:
        """Return the last class among the labels."""
        return frozenset([max(self.names.index(label) for label in labels)])

    def strata(self, labels: Mapping[str, Sequence[str]], *, least: int) -> dict[str, int]:
        """Return the last class of each patient; classes are never merged."""
        return {patient: index for patient, own in labels.items() for index in self.groups_of(own)}

    def missing(self, labels: Collection[str]) -> str:
        missing = [repr(name) for name in self.names if name not in labels]
        return f"slide of class {', '.join(missing)}; every class is needed there" if missing else ""

    def in_order(self, labels: Collection[str]) -> tuple[str, ...]:
        return tuple(sorted(labels, key=self.names.index))

    @property
    def n_outputs(self) -> int:
        return len(self.names)

    def outputs(self, logits: "Tensor") -> NDArray[np.float64]:
        return np.asarray(logits.double().softmax(dim=1).cpu().numpy())

    def loss_weights(self, labels: Labels, *, balanced: bool) -> NDArray[np.float32]:
        """Return `n / (n_classes · n_c)` for each class, so that classes have equal weight and the mean over bags is 1."""
        if not balanced:
            return np.ones(self.n_outputs, np.float32)
        counts = np.bincount(labels, minlength=self.n_outputs)
        return np.asarray(len(labels) / (self.n_outputs * np.maximum(counts, 1)), np.float32)

    def validation_loss(self, logits: "Tensor", truth: Truth, weights: NDArray[np.float32]) -> float:
        """Return the mean log loss, each bag weighted by its class."""
        prob_of_truth = np.clip(self.outputs(logits)[np.arange(len(truth)), truth.labels], MIN_PROB, 1)
        return float((-np.log(prob_of_truth) * weights[truth.labels]).mean())

    def selection_figure(self, outputs: NDArray[np.float64], truth: Truth) -> float:
        return auroc(truth.labels, outputs)

    def rarest(self, truth: Truth) -> int:
        """Return the number of bags of the rarest class."""
        return int(np.bincount(truth.labels, minlength=self.n_outputs).min())

    def threshold(self, outputs: NDArray[np.float64], truth: Truth) -> float | None:
        """Return the threshold on the positive class's probability with the largest Youden index; None for more classes."""
        return youden_threshold(truth.labels == 1, outputs[:, 1]) if self.is_binary else None

    def validation_figures(self, outputs: NDArray[np.float64], truth: Truth, threshold: Threshold) -> dict[str, float]:
        predicted = np.array([self.predicted(probs, threshold) for probs in outputs])
        return accuracies(truth.labels, predicted, self.n_outputs)

    def predicted(self, outputs: NDArray[np.float64], threshold: Threshold) -> int:
        return predicted_class(outputs, one_number(threshold))

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        return (*(f"{PROB_PREFIX}{name}" for name in self.names), "threshold", "predicted")

    def prediction_cells(self, prediction: SlidePrediction, label: str) -> tuple[str, ...]:
        threshold = one_number(prediction.threshold)
        text = "" if threshold is None else probability_text(threshold)
        return (*(probability_text(p) for p in prediction.outputs), text, self.names[one_index(prediction.predicted)])

    def read_outcomes(self, rows: Sequence[Mapping[str, str]]) -> Outcomes:
        probs = np.array([[float(row[f"{PROB_PREFIX}{name}"]) for name in self.names] for row in rows], np.float64)
        return Outcomes(
            self.encode([row["label"] for row in rows]),
            probs.reshape(len(rows), self.n_outputs),
            self.encode([row["predicted"] for row in rows]),
        )

    def point_figures(self, outcomes: Outcomes) -> dict[str, float]:
        truth, probs = outcomes.truth, outcomes.outputs
        return {
            "auroc": auroc(truth, probs),
            "auprc": auprc(truth, probs),
            **accuracies(truth, outcomes.predicted, self.n_outputs),
            "brier": brier(truth, probs),
            "ece": expected_calibration_error(truth, probs),
        }

    def summary(self, outcomes: Outcomes) -> dict[str, object]:
        """Return `n_of_class`, `reliability` and `confusion_matrix` (rows truth, columns predicted)."""
        curve = zip(*(values.tolist() for values in reliability_curve(outcomes.truth, outcomes.outputs)), strict=True)
        return {
            "n_of_class": {name: int((outcomes.truth == index).sum()) for index, name in enumerate(self.names)},
            "reliability": [{"predicted": mean, "observed": share, "count": count} for mean, share, count in curve],
            "confusion_matrix": confusion(outcomes.truth, outcomes.predicted, self.n_outputs).tolist(),
        }

    @property
    def explainable(self) -> tuple[str, ...]:
        return self.names

    def explained(self, prediction: SlidePrediction) -> tuple[int, ...]:
        """Return the positive one of two classes; with more classes, the predicted one."""
        return (1 if self.is_binary else one_index(prediction.predicted),)

    def explained_value(self, prediction: SlidePrediction, output: int) -> float:
        """Return the probability of the class."""
        return prediction.outputs[output]

    def output_name(self, output: int) -> str:
        return self.names[output]

    def is_predicted(self, prediction: SlidePrediction, output: int) -> bool:
        return prediction.predicted == output

    def threshold_of(self, threshold: Threshold, output: int) -> float | None:
        """Return the threshold for the positive class; of two classes, the other one's is what is left of 1."""
        number = one_number(threshold)
        return number if number is None or output == 1 else 1 - number

    def prediction_stamp(self, prediction: SlidePrediction) -> dict[str, object]:
        threshold = one_number(prediction.threshold)
        return {
            "probs": [round(p, 6) for p in prediction.outputs],
            "threshold": None if threshold is None else round(threshold, 6),
            "predicted": prediction.predicted,
        }

    def lacks_evidence(self, label: str, healthy: Collection[str] = ()) -> bool:
        """Return whether the label is the negative one of two classes, or one that is said to be healthy."""
        return label in healthy or (self.is_binary and label != self.names[-1])

    def is_of(self, label: str, output: int) -> bool:
        return label == self.names[output]

    def title_parts(self, receipt: Mapping[str, Any], output: int) -> list[str]:
        threshold = receipt["threshold"]
        parts = [f"predicted: {self.names[receipt['predicted']]}", f"P({self.names[output]}) = {receipt['probs'][output]:.3f}"]
        return parts + ([] if threshold is None else [f"threshold {threshold:.3f}"])

    def explained_in(self, receipt: Mapping[str, Any], output: int) -> tuple[float, bool]:
        return float(receipt["probs"][output]), receipt["predicted"] == output

    def settings(self) -> dict[str, object]:
        return {"classes": list(self.names)}

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "Classes":
        return cls(tuple(settings["classes"]))

    def __str__(self) -> str:
        return f"classes {list(self.names)}"


def shown_prediction(row: Mapping[str, str]) -> ShownPrediction:
    """Return a row of `predictions.csv` for display: the probability of the positive one of two classes, else the predicted.

    The names of the classes are read from the columns, so that rows of any run can be shown.
    """
    probs = {name.removeprefix(PROB_PREFIX): value for name, value in row.items() if name.startswith(PROB_PREFIX) and value}
    predicted = row.get("predicted", "")
    if not probs:
        return ShownPrediction(None, "", None, predicted)
    of = list(probs)[-1] if len(probs) == 2 else predicted
    return ShownPrediction(finite_cell(probs.get(of, "")), of, finite_cell(row.get("threshold", "")), predicted)
