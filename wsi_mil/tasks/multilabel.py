"""Several labels, each positive or negative by itself; each may be unknown."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wsi_mil.metrics import accuracies, auprc, auroc, brier, expected_calibration_error, youden_threshold
from wsi_mil.records import Predicted, SlidePrediction, Threshold
from wsi_mil.tasks.base import Labels, Outcomes, ShownPrediction, Task, Truth, finite_cell, probability_text

if TYPE_CHECKING:
    from torch import Tensor

VALUES = {"0": 0.0, "1": 1.0, "?": np.nan}
"""What a label's character stands for."""
WORDS = ("negative", "positive")
OF_LABEL = "of_label"
"""Key of the figures of each label."""


@dataclass(frozen=True)
class Multilabel(Task):
    """Labels of slides, learned together.

    A label text has 1, 0 or ? (not known) for each label, separated by spaces: "1 0 ?".

    Attributes:
        names: names of the labels; their order is the order of the outputs.
    """

    names: tuple[str, ...]

    kind: ClassVar[str] = "multilabel"
    is_independent: ClassVar[bool] = True
    figure_name: ClassVar[str] = "auroc"
    figure_label: ClassVar[str] = "AUROC"

    @property
    def label_values(self) -> tuple[str, ...]:
        return ()

    def label_fault(self, text: str) -> str:
        values = text.split(" ")
        is_valid = len(values) == len(self.names) and set(values) <= set(VALUES) and set(values) != {"?"}
        return "" if is_valid else f"label {text!r} is not 1, 0 or ? for each of {', '.join(self.names)}"

    def encode(self, labels: Sequence[str]) -> NDArray[np.float64]:
        """Return float64 `(n, n_labels)`, NaN where a label is not known."""
        return np.array([[VALUES[value] for value in text.split(" ")] for text in labels]).reshape(-1, len(self.names))

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(f"label {name!r}, {word}," for name in self.names for word in WORDS)

    def groups_of(self, labels: Iterable[str]) -> frozenset[int]:
        """Return the known labels of a patient: positive if one of its slides is."""
        encoded = self.encode(list(labels))
        known = [(index, encoded[:, index]) for index in range(len(self.names))]
        return frozenset(2 * index + int((values == 1).any()) for index, values in known if not np.isnan(values).all())

    def strata(self, labels: Mapping[str, Sequence[str]], *, least: int) -> dict[str, int]:
        """Return for each patient the rarest group that it is in, of those that have `least` patients of their own then.

        So the rarest values are spread evenly over folds, as in the first step of iterative stratification (Sechidis et al.,
        ECML PKDD 2011); patients that are left over when rarer groups are taken out are not made a stratum of a few.
        """
        groups = {patient: self.groups_of(own) for patient, own in labels.items()}
        sizes = [sum(index in own for own in groups.values()) for index in range(2 * len(self.names))]
        ranked = sorted(range(len(sizes)), key=lambda index: (sizes[index], index))
        while True:
            strata = {patient: next((index for index in ranked if index in own), -1) for patient, own in groups.items()}
            small = [index for index in ranked if 0 < list(strata.values()).count(index) < least]
            if not small or len(ranked) == 1:
                return strata
            ranked.remove(small[0])

    def missing(self, labels: Collection[str]) -> str:
        found = frozenset[int]().union(*(self._values_in(text) for text in labels))
        absent = [name.rstrip(",") for index, name in enumerate(self.groups) if index not in found]
        return f"slide of {'; '.join(absent)}; every label needs both there" if absent else ""

    def in_order(self, labels: Collection[str]) -> tuple[str, ...]:
        return tuple(sorted(labels, key=lambda text: (text.count("1"), text)))

    @property
    def n_outputs(self) -> int:
        return len(self.names)

    def outputs(self, logits: "Tensor") -> NDArray[np.float64]:
        """Return probabilities `(n, n_labels)`."""
        return np.asarray(logits.double().sigmoid().cpu().numpy())

    def loss_weights(self, labels: Labels, *, balanced: bool) -> NDArray[np.float32]:
        """Return `(2, n_labels)`: `n_known / (2 · n_c)` of negative and positive, so that both count alike for each label."""
        if not balanced:
            return np.ones((2, self.n_outputs), np.float32)
        counts = np.stack([(labels == value).sum(axis=0) for value in (0, 1)])
        return np.asarray(counts.sum(axis=0) / (2 * np.maximum(counts, 1)), np.float32)

    def validation_loss(self, logits: "Tensor", truth: Truth, weights: NDArray[np.float32]) -> float:
        """Return the mean over bags and labels of the weighted log loss; labels that are not known add nothing."""
        signed = np.where(truth.labels == 1, -1, 1) * logits.double().cpu().numpy()
        losses = np.logaddexp(0, signed) * np.where(truth.labels == 1, weights[1], weights[0])
        return float(np.where(np.isnan(truth.labels), 0, losses).mean())

    def selection_figure(self, outputs: NDArray[np.float64], truth: Truth) -> float:
        """Return the mean AUROC of the labels that have both values."""
        figures = [self._figures(truth.labels, outputs, index, None).get("auroc", np.nan) for index in range(self.n_outputs)]
        defined = [figure for figure in figures if not np.isnan(figure)]
        return float(np.mean(defined)) if defined else float("nan")

    def rarest(self, truth: Truth) -> int:
        """Return the number of bags with the rarest known value of any label."""
        return int(min((truth.labels == value).sum(axis=0).min() for value in (0, 1)))

    def threshold(self, outputs: NDArray[np.float64], truth: Truth) -> tuple[float, ...]:
        """Return for each label the threshold with the largest Youden index; 0.5 where a value is missing."""
        known = ~np.isnan(truth.labels)
        each = [(truth.labels[rows, i] == 1, outputs[rows, i]) for i, rows in enumerate(known.T)]
        return tuple(youden_threshold(positive, probs) if len(probs) else 0.5 for positive, probs in each)

    def validation_figures(self, outputs: NDArray[np.float64], truth: Truth, threshold: Threshold) -> dict[str, float]:
        predicted = np.array([self.predicted(row, threshold) for row in outputs])
        each = [self._figures(truth.labels, outputs, index, predicted) for index in range(self.n_outputs)]
        return {name: float(np.mean([figures[name] for figures in each])) for name in ("accuracy", "balanced_accuracy", "f1")}

    def predicted(self, outputs: NDArray[np.float64], threshold: Threshold) -> tuple[int, ...]:
        """Return 1 for each label from its threshold on, else 0."""
        return tuple(int(p >= t) for p, t in zip(outputs, numbers(threshold), strict=True))

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        return tuple(f"{column}_{name}" for name in self.names for column in ("prob", "threshold", "predicted"))

    def prediction_cells(self, prediction: SlidePrediction, label: str) -> tuple[str, ...]:
        each = zip(prediction.outputs, numbers(prediction.threshold), indices(prediction.predicted), strict=True)
        return tuple(
            cell
            for p, threshold, predicted in each
            for cell in (probability_text(p), probability_text(threshold), str(predicted))
        )

    def read_outcomes(self, rows: Sequence[Mapping[str, str]]) -> Outcomes:
        probs = np.array([[float(row[f"prob_{name}"]) for name in self.names] for row in rows], np.float64)
        predicted = np.array([[int(row[f"predicted_{name}"]) for name in self.names] for row in rows], np.int64)
        shape = (len(rows), self.n_outputs)
        return Outcomes(self.encode([row["label"] for row in rows]), probs.reshape(shape), predicted.reshape(shape))

    def point_figures(self, outcomes: Outcomes) -> dict[str, float]:
        """Return the mean over labels of each figure, then each label's as `{label}/{figure}`."""
        each = [self._figures(outcomes.truth, outcomes.outputs, i, outcomes.predicted) for i in range(self.n_outputs)]
        means = {name: float(np.mean([figures[name] for figures in each])) for name in each[0]}
        of_label = zip(self.names, each, strict=True)
        return means | {f"{label}/{name}": value for label, figures in of_label for name, value in figures.items()}

    def arranged(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Return figures with those of labels in the entry `of_label`, wherever they are."""
        arranged: dict[str, Any] = {}
        for key, value in figures.items():
            label, slash, name = key.rpartition("/")
            place = arranged.setdefault(OF_LABEL, {}).setdefault(label, {}) if slash else arranged
            place[name] = self.arranged(value) if isinstance(value, Mapping) else value
        return arranged

    def summary(self, outcomes: Outcomes) -> dict[str, object]:
        """Return the numbers of rows of each label that are negative, positive and not known."""
        known = {name: outcomes.truth[:, index] for index, name in enumerate(self.names)}
        counts = {name: [int((own == 0).sum()), int((own == 1).sum()), int(np.isnan(own).sum())] for name, own in known.items()}
        return {"n_of_label": {name: dict(zip((*WORDS, "unknown"), own, strict=True)) for name, own in counts.items()}}

    @property
    def explainable(self) -> tuple[str, ...]:
        return self.names

    def explained(self, prediction: SlidePrediction) -> tuple[int, ...]:
        """Return the labels that are predicted positive, the most probable first; if none is, the most probable label."""
        ranked = sorted(range(self.n_outputs), key=lambda index: -prediction.outputs[index])
        return tuple(index for index in ranked if self.is_predicted(prediction, index)) or (ranked[0],)

    def explained_value(self, prediction: SlidePrediction, output: int) -> float:
        """Return the probability of the label."""
        return prediction.outputs[output]

    def output_name(self, output: int) -> str:
        return self.names[output]

    def is_predicted(self, prediction: SlidePrediction, output: int) -> bool:
        return indices(prediction.predicted)[output] == 1

    def threshold_of(self, threshold: Threshold, output: int) -> float | None:
        return numbers(threshold)[output]

    def prediction_stamp(self, prediction: SlidePrediction) -> dict[str, object]:
        return {
            "probs": [round(p, 6) for p in prediction.outputs],
            "threshold": [round(threshold, 6) for threshold in numbers(prediction.threshold)],
            "predicted": list(indices(prediction.predicted)),
        }

    def label_words(self, label: str) -> str:
        known = [(name, value) for name, value in zip(self.names, label.split(" "), strict=True) if value != "?"]
        return ", ".join(f"{name} {WORDS[int(value)]}" for name, value in known)

    def lacks_evidence(self, label: str, healthy: Collection[str] = ()) -> bool:
        """Return whether every label is known to be negative."""
        return set(label) <= {"0", " "}

    def is_known(self, label: str, output: int) -> bool:
        return bool(~np.isnan(self.encode([label])[0, output]))

    def is_of(self, label: str, output: int) -> bool:
        """Return whether the label of the output is known to be positive."""
        return bool(self.encode([label])[0, output] == 1)

    def title_parts(self, receipt: Mapping[str, Any], output: int) -> list[str]:
        word, name = WORDS[receipt["predicted"][output]], self.names[output]
        return [f"{name}: {word}", f"P = {receipt['probs'][output]:.3f}", f"threshold {receipt['threshold'][output]:.3f}"]

    def explained_in(self, receipt: Mapping[str, Any], output: int) -> tuple[float, bool]:
        return float(receipt["probs"][output]), receipt["predicted"][output] == 1

    def settings(self) -> dict[str, object]:
        return {"labels": list(self.names)}

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "Multilabel":
        return cls(tuple(settings["labels"]))

    def __str__(self) -> str:
        return f"labels {list(self.names)}"

    def _values_in(self, text: str) -> frozenset[int]:
        values = [VALUES[value] for value in text.split(" ")]
        return frozenset(2 * index + int(value) for index, value in enumerate(values) if not np.isnan(value))

    def _figures(
        self, truth: Labels, probs: NDArray[np.float64], index: int, predicted: NDArray[np.int64] | None
    ) -> dict[str, float]:
        """Figures of one label over the rows where it is known, those of `predicted` only if it is given."""
        known = ~np.isnan(truth[:, index])
        own, p = truth[known, index].astype(np.int64), probs[known, index]
        both = np.stack([1 - p, p], axis=1)
        figures = {"auroc": auroc(own, both)}
        if predicted is None:
            return figures
        decided = accuracies(own, predicted[known, index], 2)
        return figures | {
            "auprc": auprc(own, both),
            **decided,
            "brier": brier(own, both),
            "ece": expected_calibration_error(own, both),
        }


def numbers(threshold: Threshold) -> tuple[float, ...]:
    """Return the thresholds of a task that has one for each output."""
    if not isinstance(threshold, tuple):
        raise TypeError(f"expected a threshold for each label, got {threshold}")
    return threshold


def indices(predicted: Predicted) -> tuple[int, ...]:
    """Return what is predicted by a task that predicts each output."""
    if not isinstance(predicted, tuple):
        raise TypeError(f"expected 1 or 0 for each label, got {predicted}")
    return predicted


def shown_labels(row: Mapping[str, str]) -> ShownPrediction:
    """Return a row of `predictions.csv` for display: the most probable label; `predicted` lists those predicted positive."""
    names = [name.removeprefix("predicted_") for name in row if name.startswith("predicted_")]
    probs = {name: finite_cell(row.get(f"prob_{name}", "")) for name in names}
    known = {name: p for name, p in probs.items() if p is not None}
    if not known:
        return ShownPrediction(None, "", None, "")
    of = max(known, key=lambda name: known[name])
    positive = ", ".join(name for name in names if row[f"predicted_{name}"] == "1")
    return ShownPrediction(known[of], of, finite_cell(row.get(f"threshold_{of}", "")), positive or "none")
