"""Regression: one number for each slide, learned on a standardised scale and predicted in the unit of its column."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import RegressionLoss, Transform
from wsi_mil.metrics import mae, pearson, r2, rmse, spearman
from wsi_mil.records import SlidePrediction, Threshold
from wsi_mil.tasks.base import Labels, Outcomes, ShownPrediction, Task, Truth, finite_cell
from wsi_mil.tasks.strata import quantile_strata

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]

MOST_STRATA = 5
"""Folds are stratified by fifths of the values, by fewer parts in small cohorts."""
SHARE_MARGIN = 0.005
"""Shares nearer to 0 or 1 are moved here by `transform: logit`, which has no value at 0 and 1."""
LARGEST = 700.0
"""Transformed values are cut off here: the exponential of larger ones is no number."""


@dataclass(frozen=True)
class Regression(Task):
    """A number of each slide.

    Attributes:
        transform: of values, before they are standardised.
        loss: of standardised values.
        name: what the values are, for colour bars and titles.
        mean: of the transformed values of the training part.
        sd: their standard deviation.
    """

    transform: Transform = "none"
    loss: RegressionLoss = "squared"
    name: str = field(default="value", compare=False)
    mean: float = field(default=0.0, compare=False)
    sd: float = field(default=1.0, compare=False)

    kind: ClassVar[str] = "regression"
    figure_name: ClassVar[str] = "r2"
    figure_label: ClassVar[str] = "R²"
    chance: ClassVar[float] = 0.0
    loss_shows_confidence: ClassVar[bool] = False

    @property
    def label_values(self) -> tuple[str, ...]:
        return ()

    def label_fault(self, text: str) -> str:
        return f"label {text!r} is not a number" if finite_cell(text) is None else ""

    def encode(self, labels: Sequence[str]) -> Array:
        """Return float64 `(n,)`, in the unit of the column."""
        return np.array([float(text) for text in labels], np.float64)

    @property
    def groups(self) -> tuple[str, ...]:
        return ("the target",)

    def groups_of(self, labels: Iterable[str]) -> frozenset[int]:
        return frozenset([0])

    def strata(self, labels: Mapping[str, Sequence[str]], *, least: int) -> dict[str, int]:
        """Return the part of the cohort's values that the largest value of each patient is in, parts of equal size."""
        patients = sorted(labels)
        values = np.array([self.encode(labels[patient]).max() for patient in patients])
        return dict(zip(patients, quantile_strata(values, least, MOST_STRATA).tolist(), strict=True))

    def missing(self, labels: Collection[str]) -> str:
        return "" if labels else "slide with a value; some are needed there"

    def in_order(self, labels: Collection[str]) -> tuple[str, ...]:
        return tuple(sorted(labels, key=float))

    def transformed(self, values: Array) -> Array:
        """Return values of the column, transformed but not standardised."""
        if self.transform == "log1p":
            return np.asarray(np.log1p(values))
        if self.transform == "logit":
            shares = np.clip(values, SHARE_MARGIN, 1 - SHARE_MARGIN)
            return np.asarray(np.log(shares) - np.log1p(-shares))
        return values

    def in_unit(self, transformed: Array) -> Array:
        """Return transformed values in the unit of the column; the inverse of `transformed`."""
        bounded = np.clip(transformed, -LARGEST, LARGEST)
        if self.transform == "log1p":
            return np.asarray(np.expm1(bounded))
        return np.asarray(1 / (1 + np.exp(-bounded))) if self.transform == "logit" else transformed

    def fitted(self, truth: Truth) -> "Regression":
        """Return the task with mean and standard deviation of the training part; of equal values the latter is taken as 1."""
        values = self.transformed(truth.labels)
        return replace(self, mean=float(values.mean()), sd=float(values.std()) or 1.0)

    def with_fitted(self, other: Task) -> "Regression":
        assert isinstance(other, Regression)
        return replace(self, mean=other.mean, sd=other.sd)

    def learned(self, labels: Labels) -> Array:
        """Return standardised values `(n,)`."""
        return (self.transformed(labels) - self.mean) / self.sd

    @property
    def n_outputs(self) -> int:
        return 1

    def outputs(self, logits: "Tensor") -> Array:
        """Return `(n, 2)`: the value in the unit of the column, and standardised."""
        standardised = logits.double().cpu().numpy()[:, 0]
        return np.stack([self.in_unit(self.mean + self.sd * standardised), standardised], axis=1)

    def validation_loss(self, logits: "Tensor", truth: Truth, weights: NDArray[np.float32]) -> float:
        """Return the mean loss of standardised values."""
        distance = np.abs(logits.double().cpu().numpy()[:, 0] - self.learned(truth.labels))
        if self.loss == "squared":
            return float((distance**2).mean())
        if self.loss == "absolute":
            return float(distance.mean())
        return float(np.where(distance < 1, distance**2 / 2, distance - 0.5).mean())

    def selection_figure(self, outputs: Array, truth: Truth) -> float:
        """Return R² of the standardised values."""
        return r2(self.learned(truth.labels), outputs[:, 1])

    def rarest(self, truth: Truth) -> int:
        """Return half the number of bags: as many as there are below, and above, the median."""
        return len(truth) // 2

    def threshold(self, outputs: Array, truth: Truth) -> None:
        return None

    def validation_figures(self, outputs: Array, truth: Truth, threshold: Threshold) -> dict[str, float]:
        """Return the mean absolute error in the unit of the column."""
        return {"mae": mae(truth.labels, outputs[:, 0])}

    def predicted(self, outputs: Array, threshold: Threshold) -> None:
        return None

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        return ("value",)

    def prediction_cells(self, prediction: SlidePrediction, label: str) -> tuple[str, ...]:
        return (f"{prediction.outputs[0]:.6g}",)

    def read_outcomes(self, rows: Sequence[Mapping[str, str]]) -> Outcomes:
        """Return outcomes whose outputs `(n, 1)` are values in the unit of the column."""
        values = np.array([[float(row["value"])] for row in rows], np.float64).reshape(-1, 1)
        return Outcomes(self.encode([row["label"] for row in rows]), values, np.empty((len(rows), 0), np.int64))

    def point_figures(self, outcomes: Outcomes) -> dict[str, float]:
        """Return figures of the values in the unit of the column."""
        truth, predicted = outcomes.truth, outcomes.outputs[:, 0]
        return {figure.__name__: figure(truth, predicted) for figure in (r2, mae, rmse, pearson, spearman)}

    def summary(self, outcomes: Outcomes) -> dict[str, object]:
        """Return the quartiles of the true values."""
        quartiles = np.quantile(outcomes.truth, [0, 0.25, 0.5, 0.75, 1]).tolist() if len(outcomes) else []
        return {"quartiles": quartiles}

    def explained(self, prediction: SlidePrediction) -> tuple[int, ...]:
        return (0,)

    def explained_value(self, prediction: SlidePrediction, output: int) -> float:
        """Return the standardised value."""
        return prediction.outputs[1]

    def output_name(self, output: int) -> str:
        return self.name

    def quantity(self, output: int) -> str:
        return f"{self.name}, standardised"

    def is_predicted(self, prediction: SlidePrediction, output: int) -> bool:
        """Return True: a number is always predicted."""
        return True

    def threshold_of(self, threshold: Threshold, output: int) -> None:
        return None

    def prediction_stamp(self, prediction: SlidePrediction) -> dict[str, object]:
        return {"value": float(f"{prediction.outputs[0]:.6g}"), "standardised": round(prediction.outputs[1], 6)}

    def label_words(self, label: str) -> str:
        return f"{float(label):.4g}".replace("-", "−")

    def lacks_evidence(self, label: str, healthy: Collection[str] = ()) -> bool:
        return False

    def title_parts(self, receipt: Mapping[str, Any], output: int) -> list[str]:
        return [f"{self.name}: {receipt['value']:.4g}".replace("-", "−")]

    def explained_in(self, receipt: Mapping[str, Any], output: int) -> tuple[None, bool]:
        return None, True

    def settings(self) -> dict[str, object]:
        fitted = {"mean": self.mean, "sd": self.sd}
        return {"transform": self.transform, "loss": self.loss, "name": self.name, "fitted": fitted}

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "Regression":
        return cls(settings["transform"], settings["loss"], settings["name"], **settings["fitted"])

    def __str__(self) -> str:
        return f"regression (transform {self.transform}, loss {self.loss})"


def shown_value(row: Mapping[str, str]) -> ShownPrediction:
    """Return a row of `predictions.csv` for display."""
    return ShownPrediction(finite_cell(row["value"]), "", None, row["value"])
