"""Stage `predict`: what the models say about every slide they never saw, and how good that is."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_mil.cohort import write_table
from wsi_mil.config import Predict
from wsi_mil.ensemble import Ensemble
from wsi_mil.metrics import accuracies, auroc, patient_bootstrap
from wsi_mil.records import Role, SlidePrediction, SlideRow
from wsi_mil.splits import Placement, Splits
from wsi_mil.store import write_receipt


@dataclass(frozen=True)
class Predicted:
    """A slide with its prediction and where that came from."""

    row: SlideRow
    placement: Placement
    prediction: SlidePrediction

    @property
    def counts(self) -> bool:
        """Whether the slide stands in the figures: labelled, and never seen by the models."""
        return bool(self.row.label) and self.placement.role in (Role.TEST, None)


def predict_cohort(
    rows: Iterable[SlideRow], splits: Splits, features: Path, ensemble: Ensemble, *, include_train: bool
) -> list[Predicted]:
    """Predict the slides of `rows` that may be shown, in order, each by the folds that may speak for it."""
    found = []
    for row in rows:
        placement = splits.placed(row.slide_id, row.patient_id)
        if placement.is_shown(include_train=include_train):
            bag = ensemble.read_bag(features / f"{row.slide_id}.json")
            found.append(Predicted(row, placement, ensemble.predict(bag, placement.folds)))
    return found


def write_predictions(path: Path, predicted: list[Predicted], classes: tuple[str, ...]) -> None:
    """Write the table: `fold` is the one that held the slide out, or "mean" of all for a new patient."""
    columns = ["slide_id", "patient_id", "label", "fold", "role", *(f"prob_{name}" for name in classes), "threshold", "predicted"]
    table = [
        [
            item.row.slide_id,
            item.row.patient_id,
            item.row.label,
            item.placement.folds[0] if len(item.placement.folds) == 1 else "mean",
            item.placement.role or "",
            *(f"{p:.6f}" for p in item.prediction.probs),
            "" if item.prediction.threshold is None else f"{item.prediction.threshold:.6f}",
            classes[item.prediction.predicted],
        ]
        for item in predicted
    ]
    write_table(path, columns, table)


def write_metrics(path: Path, predicted: list[Predicted], classes: tuple[str, ...], settings: Predict) -> None:
    """Write the figures over labelled slides that the models never saw; null where there is nothing to count."""
    counted = [item for item in predicted if item.counts]
    content: dict[str, object] = {"classes": list(classes), "n_slides": len(counted)}
    if counted:
        truth = np.array([classes.index(item.row.label) for item in counted])
        probs = np.array([item.prediction.probs for item in counted])
        patients = [item.row.patient_id for item in counted]
        content |= {
            "n_patients": len(set(patients)),
            "n_of_class": {name: int((truth == i).sum()) for i, name in enumerate(classes)},
            "auroc": auroc(truth, probs),
            "auroc_ci95": patient_bootstrap(truth, probs, patients, draws=settings.bootstrap),
            "auroc_of_fold": _by_fold(counted, truth, probs),
            **accuracies(truth, np.array([item.prediction.predicted for item in counted]), len(classes)),
        }
    write_receipt(path, content)


def _by_fold(counted: list[Predicted], truth: np.ndarray, probs: np.ndarray) -> dict[str, float]:
    folds = np.array([",".join(map(str, item.placement.folds)) for item in counted])
    return {fold: auroc(truth[folds == fold], probs[folds == fold]) for fold in sorted(set(folds))}
