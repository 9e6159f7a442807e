"""Stage `predict`: what the models say about every slide they never saw, and how good that is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_mil.cohort.splits import Placement, bag_members
from wsi_mil.config import Predict, Protocol
from wsi_mil.ensemble import Ensemble
from wsi_mil.figures import cohort_figures
from wsi_mil.files import write_table
from wsi_mil.receipts import write_receipt
from wsi_mil.records import Role, SlidePrediction, SlideRow
from wsi_mil.tasks import Outcomes, Task


@dataclass(frozen=True)
class Predicted:
    """A slide with its prediction and where that came from.

    Attributes:
        bag_id: of the bag it was predicted in: itself, or its patient's slides together.
    """

    row: SlideRow
    bag_id: str
    placement: Placement
    prediction: SlidePrediction

    @property
    def counts(self) -> bool:
        """Whether the slide stands in the figures: labelled, and never seen by the models."""
        return bool(self.row.label) and self.placement.role in (Role.TEST, None)


def predict_cohort(rows: Iterable[SlideRow], features: Path, ensemble: Ensemble, *, include_train: bool) -> list[Predicted]:
    """Predict the slides of `rows` that may be shown, bag by bag, each by the folds that may speak for it."""
    found, splits = [], ensemble.splits.seen_under(ensemble.protocol)
    for bag_id, members in bag_members(rows, ensemble.unit).items():
        placement = splits.placed(members[0].slide_id, members[0].patient_id)
        if placement.is_shown(include_train=include_train):
            bag = ensemble.read_bag(bag_id, [features / f"{row.slide_id}.json" for row in members])
            prediction = ensemble.predict(bag, placement.folds)
            found += [Predicted(row, bag_id, placement, prediction) for row in members]
    return found


def write_predictions(path: Path, predicted: list[Predicted], task: Task, protocol: Protocol) -> None:
    """Write the table: `fold` is the one that held the slide out (or the ones), or "mean" of all for a new patient."""
    columns = ["slide_id", "patient_id", "label", "fold", "role", *task.prediction_columns, "bag", "protocol"]
    table = [
        [
            item.row.slide_id,
            item.row.patient_id,
            item.row.label,
            "mean" if item.placement.role is None else " ".join(map(str, item.placement.folds)),
            item.placement.role or "",
            *task.prediction_cells(item.prediction),
            item.bag_id,
            protocol,
        ]
        for item in predicted
    ]
    write_table(path, columns, table)


def write_metrics(path: Path, predicted: list[Predicted], task: Task, settings: Predict, about: Mapping[str, object]) -> None:
    """Write the figures over labelled bags that the models never saw; null where there is nothing to count.

    `about` is written beside them: what the ensemble says of itself.
    """
    slides = [item for item in predicted if item.counts]
    counted = list({item.bag_id: item for item in slides}.values())
    content: dict[str, object] = {**about, **task.stamp(), "n_slides": len(slides)}
    if counted:
        truth = np.array([task.encode(item.row.label) for item in counted])
        outcomes = Outcomes(
            truth,
            np.array([item.prediction.probs for item in counted]),
            np.array([item.prediction.predicted for item in counted]),
        )
        patients = [item.row.patient_id for item in counted]
        content |= cohort_figures(task, outcomes, patients, _parts(counted, truth), draws=settings.bootstrap)
    write_receipt(path, content)


def _parts(counted: list[Predicted], truth: np.ndarray) -> dict[int, Outcomes]:
    """Each fold's model on the bags that it held out; none for new patients, of whom every fold speaks."""
    held_out = [
        (fold, i, item.prediction.probs_of_fold[k], item.prediction.predicted_of_fold[k])
        for i, item in enumerate(counted)
        if item.placement.role is Role.TEST
        for k, fold in enumerate(item.placement.folds)
    ]
    parts = {}
    for number in sorted({fold for fold, *_ in held_out}):
        own = [entry for entry in held_out if entry[0] == number]
        rows = [i for _, i, _, _ in own]
        parts[number] = Outcomes(truth[rows], np.array([p for *_, p, _ in own]), np.array([c for *_, c in own]))
    return parts
