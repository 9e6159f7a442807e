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
from wsi_mil.records import SlidePrediction
from wsi_mil.tasks.base import Outcomes, ShownPrediction, Task

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

    def encode(self, label: str) -> int:
        return self.names.index(label)

    @property
    def strata(self) -> Sequence[int]:
        return range(len(self.names))

    def stratum(self, labels: Iterable[str]) -> int:
        """Return the last class among the labels."""
        return max(self.encode(label) for label in labels)

    def stratum_name(self, stratum: int) -> str:
        return f"class {self.names[stratum]!r}"

    def missing(self, labels: Collection[str]) -> str:
        missing = [repr(name) for name in self.names if name not in labels]
        return f"slide of class {', '.join(missing)}; every class is needed there" if missing else ""

    def in_order(self, labels: Collection[str]) -> tuple[str, ...]:
        return tuple(sorted(labels, key=self.encode))

    @property
    def n_outputs(self) -> int:
        return len(self.names)

    def outputs(self, logits: "Tensor") -> NDArray[np.float64]:
        return np.asarray(logits.double().softmax(dim=1).cpu().numpy())

    def loss_weights(self, labels: Sequence[int], *, balanced: bool) -> NDArray[np.float32]:
        """Return `n / (n_classes · n_c)` for each class, so that classes have equal weight and the mean over bags is 1."""
        if not balanced:
            return np.ones(self.n_outputs, np.float32)
        counts = np.bincount(labels, minlength=self.n_outputs)
        return np.asarray(len(labels) / (self.n_outputs * np.maximum(counts, 1)), np.float32)

    def validation_loss(self, outputs: NDArray[np.float64], truth: NDArray[np.int64], weights: NDArray[np.float32]) -> float:
        """Return the mean log loss, each bag weighted by its class."""
        prob_of_truth = np.clip(outputs[np.arange(len(truth)), truth], MIN_PROB, 1)
        return float((-np.log(prob_of_truth) * weights[truth]).mean())

    def selection_figure(self, outputs: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
        return auroc(truth, outputs)

    def rarest(self, labels: Sequence[int]) -> int:
        return min(list(labels).count(index) for index in self.strata)

    def threshold(self, outputs: NDArray[np.float64], truth: NDArray[np.int64]) -> float | None:
        """Return the threshold on the positive class's probability with the largest Youden index; None for more classes."""
        return youden_threshold(truth == 1, outputs[:, 1]) if self.is_binary else None

    def validation_figures(
        self, outputs: NDArray[np.float64], truth: NDArray[np.int64], threshold: float | None
    ) -> dict[str, float]:
        predicted = np.array([predicted_class(probs, threshold) for probs in outputs])
        return accuracies(truth, predicted, self.n_outputs)

    def prediction(
        self, folds: tuple[int, ...], outputs: NDArray[np.float64], thresholds: Sequence[float | None]
    ) -> SlidePrediction:
        """Return the mean of probabilities and of thresholds over folds, and the class they predict."""
        probs = outputs.mean(axis=0)
        given = [threshold for threshold in thresholds if threshold is not None]
        threshold = float(np.mean(given)) if given else None
        return SlidePrediction(
            folds=folds,
            probs=tuple(float(p) for p in probs),
            threshold=threshold,
            predicted=predicted_class(probs, threshold),
            probs_of_fold=tuple(tuple(float(p) for p in row) for row in outputs),
            predicted_of_fold=tuple(predicted_class(row, own) for row, own in zip(outputs, thresholds, strict=True)),
        )

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        return (*(f"{PROB_PREFIX}{name}" for name in self.names), "threshold", "predicted")

    def prediction_cells(self, prediction: SlidePrediction) -> tuple[str, ...]:
        threshold = "" if prediction.threshold is None else f"{prediction.threshold:.6f}"
        return (*(f"{p:.6f}" for p in prediction.probs), threshold, self.names[prediction.predicted])

    def read_outcomes(self, rows: Sequence[Mapping[str, str]]) -> Outcomes:
        probs = np.array([[float(row[f"{PROB_PREFIX}{name}"]) for name in self.names] for row in rows], np.float64)
        return Outcomes(
            np.array([self.encode(row["label"]) for row in rows], np.int64),
            probs.reshape(len(rows), self.n_outputs),
            np.array([self.encode(row["predicted"]) for row in rows], np.int64),
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

    def explained(self, prediction: SlidePrediction) -> int:
        """Return the positive one of two classes; with more classes, the predicted one."""
        return 1 if self.is_binary else prediction.predicted

    def is_predicted(self, prediction: SlidePrediction, output: int) -> bool:
        return prediction.predicted == output

    def threshold_of(self, threshold: float | None, output: int) -> float | None:
        """Return the threshold for the positive class, None for others."""
        return threshold if output == 1 else None

    def prediction_stamp(self, prediction: SlidePrediction) -> dict[str, object]:
        return {
            "probs": [round(p, 6) for p in prediction.probs],
            "threshold": None if prediction.threshold is None else round(prediction.threshold, 6),
            "predicted": prediction.predicted,
        }

    def lacks_evidence(self, label: str) -> bool:
        """Return whether the label is the negative one of two classes; with more, none is known to be the healthy one."""
        return self.is_binary and label != self.names[-1]

    def may_show_evidence(self, label: str, output: int | None) -> bool:
        """Return whether the scores are for the label's class, or there are two classes, of which one has evidence."""
        return self.is_binary or output == self.encode(label)

    def title_parts(self, receipt: Mapping[str, Any]) -> list[str]:
        output, threshold = receipt["output"], receipt["threshold"]
        parts = [f"predicted: {self.names[receipt['predicted']]}", f"P({self.names[output]}) = {receipt['probs'][output]:.3f}"]
        return parts + ([] if threshold is None else [f"threshold {threshold:.3f}"])

    def explained_in(self, receipt: Mapping[str, Any]) -> tuple[float, bool, str]:
        output = receipt["output"]
        return float(receipt["probs"][output]), receipt["predicted"] == output, self.names[output]

    def stamp(self) -> dict[str, object]:
        return {"classes": list(self.names)}

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
    return ShownPrediction(_finite(probs.get(of, "")), of, _finite(row.get("threshold", "")), predicted)


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
