"""Stage `predict`: predict every slide by models that did not see its patient, and measure their performance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.cohort.splits import Placement, Splits, bag_members
from wsi_mil.config import Predict, Protocol, Recalibrate
from wsi_mil.ensemble import Ensemble
from wsi_mil.errors import ConfigError
from wsi_mil.figures import cohort_figures, group_figures
from wsi_mil.files import write_table
from wsi_mil.recalibration import Recalibrated, calibration_faults, fit_recalibration
from wsi_mil.receipts import write_receipt
from wsi_mil.records import CALIBRATION, Predicted, Role, SlidePrediction, SlideRow
from wsi_mil.tasks import Labels, Outcomes, Task, Truth, one_index, probability_text


@dataclass(frozen=True)
class SlidePredictionRow:
    """One slide of `predictions.csv`: its prediction, and the folds that it comes from.

    Attributes:
        row: the slide's row in the cohort sheet.
        bag_id: id of the bag that was predicted: the slide, or all slides of its patient.
        placement: folds that predicted it, and its patient's role there.
        prediction: the prediction.
        is_calibration: whether probabilities are fitted to its patient (`recalibrate`), who then counts in no figure.
    """

    row: SlideRow
    bag_id: str
    placement: Placement
    prediction: SlidePrediction
    is_calibration: bool = False

    @property
    def role(self) -> str:
        """Role of its patient in `predictions.csv`; "" for a new one."""
        return CALIBRATION if self.is_calibration else self.placement.role or ""

    @property
    def is_evaluated(self) -> bool:
        """Whether the slide counts in the figures: it is labelled, and the models have not seen its patient."""
        return bool(self.row.label) and self.role in (Role.TEST, "")

    @property
    def is_known(self) -> bool:
        """Whether the splits of the models have its patient in a part, so that not the mean of all folds predicts it."""
        return self.placement.role not in (None, Role.EXTERNAL)


def task_with_horizons(task: Task, splits: Splits) -> Task:
    """Return a task with the constants that only its figures need, for survival the horizons, from all labelled slides."""
    slides = sorted(splits.labels)
    patients = tuple(splits.patients[slide] for slide in slides)
    return task.resolved(Truth(task.encode([splits.labels[slide] for slide in slides]), patients))


def predict_cohort(
    rows: Iterable[SlideRow], features: Path, ensemble: Ensemble, *, include_train: bool, calibration: str = ""
) -> list[SlidePredictionRow]:
    """Predict slides bag by bag, each by the folds that held its patient out.

    Args:
        rows: slides of the cohort sheet.
        features: folder with the receipts of `extract`.
        ensemble: models of all folds.
        include_train: whether training slides of a fixed split are predicted too.
        calibration: value of `SlideRow.part` of slides that probabilities are fitted to, or "".
    """
    predictions = []
    splits = ensemble.splits.as_trained(ensemble.protocol)
    for bag_id, members in bag_members(rows, ensemble.unit).items():
        placement = splits.placement(members[0].slide_id, members[0].patient_id)
        if placement.is_shown(include_train=include_train):
            bag = ensemble.read_bag(bag_id, [features / f"{row.slide_id}.json" for row in members])
            prediction = ensemble.predict(bag, placement.folds)
            fits = [bool(calibration) and row.part == calibration for row in members]
            predictions += [SlidePredictionRow(r, bag_id, placement, prediction, f) for r, f in zip(members, fits, strict=True)]
    return predictions


def fitted_again(predictions: list[SlidePredictionRow], task: Task, settings: Recalibrate) -> Recalibrated:
    """Return what probabilities become, fitted to the labelled slides that are set apart for it.

    Raises:
        ConfigError: too few patients of a class, or a task without classes.
    """
    if not task.can_be_recalibrated:
        raise ConfigError([f"recalibrate: expected a target of kind classes, got {task.kind}"])
    own = [item for item in predictions if item.is_calibration and item.row.label]
    labels: dict[str, list[str]] = {}
    for item in own:
        labels.setdefault(item.row.patient_id, []).append(item.row.label)
    faults = calibration_faults(task, list(labels.values()), settings.method)
    if faults:
        raise ConfigError([f"of the usable slides: {fault}" for fault in faults])
    bags = list({item.bag_id: item for item in own}.values())
    probs = np.array([item.prediction.outputs for item in bags])
    truth = Truth.of(task.encode([item.row.label for item in bags]), [item.row.patient_id for item in bags])
    return fit_recalibration(task, probs, truth, settings.method)


def covariate_facts(predictions: Iterable[SlidePredictionRow], ensemble: Ensemble) -> dict[str, object]:
    """Return how the covariates of predicted slides were coded, for the metrics; {} if the models use none.

    `missing` has the number of slides without a value by column, `unseen` by column and value that of slides with a category that
    the training part of a fold that predicted them does not have, which is coded as none.
    """
    codings = [member.card.coding for member in ensemble.folds]
    if ensemble.covariates is None or codings[0] is None:
        return {}
    predictions = list(predictions)
    cells = {item.row.slide_id: ensemble.covariates.of(item.row.slide_id) for item in predictions}
    unseen: dict[str, dict[str, int]] = {}
    for item in predictions:
        own = [codings[fold] for fold in item.placement.folds]
        pairs = {pair for coding in own if coding for pair in coding.unseen(cells[item.row.slide_id]).items()}
        for column, value in sorted(pairs):
            of_column = unseen.setdefault(column, {})
            of_column[value] = of_column.get(value, 0) + 1
    facts = {"columns": list(codings[0].columns), "n_slides": len(predictions)}
    return {"covariates": {**facts, "missing": codings[0].missing(cells.values()), "unseen": unseen}}


def write_predictions(
    path: Path, predictions: list[SlidePredictionRow], task: Task, protocol: Protocol, fitted: Recalibrated | None = None
) -> None:
    """Write `predictions.csv`.

    Its column `fold` names the fold or folds that held the slide out, or "mean" for a new patient: all folds. Probabilities of
    the models are never replaced; recalibrated ones are beside them.
    """
    columns = ["slide_id", "patient_id", "label", "fold", "role", *task.prediction_columns, "bag", "protocol"]
    further = _recalibrated_cells(predictions, fitted) if fitted is not None else {}
    table = [
        [
            item.row.slide_id,
            item.row.patient_id,
            item.row.label,
            "mean" if item.placement.role is None else " ".join(map(str, item.placement.folds)),
            item.role,
            *task.prediction_cells(item.prediction, item.row.label),
            item.bag_id,
            protocol,
            *(cells[i] for cells in further.values()),
        ]
        for i, item in enumerate(predictions)
    ]
    write_table(path, [*columns, *further], table)


def write_metrics(
    path: Path, predictions: list[SlidePredictionRow], task: Task, settings: Predict, metadata: Mapping[str, object]
) -> None:
    """Write figures over the labelled bags that the models did not see; none if there are no such bags.

    If some of their patients are new and others were held out, `of_new` has the figures of the new ones.

    Args:
        path: JSON file to write.
        predictions: of the cohort.
        task: the task the models were trained for.
        settings: number of bootstrap draws.
        metadata: facts about the models, written beside the figures.
    """
    slides = [item for item in predictions if item.is_evaluated]
    bags = list({item.bag_id: item for item in slides}.values())
    content: dict[str, object] = {**metadata, **task.stamp(), "n_slides": len(slides)}
    if bags:
        content |= _figures(task, bags, draws=settings.bootstrap)
    new = [item for item in bags if not item.is_known]
    if 0 < len(new) < len(bags):
        n_new = sum(not item.is_known for item in slides)
        content["of_new"] = {"n_slides": n_new, **_figures(task, new, draws=settings.bootstrap)}
    external = [item for item in predictions if item.row.label and item.role == Role.EXTERNAL]
    of_groups = {"of_group": bags, "of_external": list({item.bag_id: item for item in external}.values())}
    for name, own in of_groups.items():
        grouped = [item for item in own if item.row.group]
        if grouped:
            content[name] = _group_figures(task, grouped, draws=settings.bootstrap)
    write_receipt(path, content)


def recalibrated_figures(predictions: list[SlidePredictionRow], fitted: Recalibrated, settings: Predict) -> dict[str, object]:
    """Return the figures of recalibrated probabilities over new patients, at the threshold chosen with them.

    They are fitted to means of all folds' models; a patient whom the splits hold out is predicted by other means.
    """
    bags = list({item.bag_id: item for item in predictions if item.is_evaluated and not item.is_known}.values())
    if not bags:
        return fitted.about()
    task = fitted.task
    raw = _outcomes(task, bags)
    probs = fitted.probs(raw.outputs)
    outcomes = Outcomes(raw.truth, probs, _decisions([task.predicted(row, fitted.threshold) for row in probs]))
    patients = [item.row.patient_id for item in bags]
    return {**fitted.about(), **cohort_figures(task, outcomes, patients, {}, draws=settings.bootstrap)}


def _figures(task: Task, bags: list[SlidePredictionRow], *, draws: int) -> dict[str, object]:
    outcomes = _outcomes(task, bags)
    parts = _held_out_outcomes(task, bags, outcomes.truth)
    return cohort_figures(task, outcomes, [item.row.patient_id for item in bags], parts, draws=draws)


def _outcomes(task: Task, bags: Sequence[SlidePredictionRow]) -> Outcomes:
    truth = task.encode([item.row.label for item in bags])
    outputs = np.array([item.prediction.outputs for item in bags])
    return Outcomes(truth, outputs, _decisions([item.prediction.predicted for item in bags]))


def _group_figures(task: Task, bags: Sequence[SlidePredictionRow], *, draws: int) -> dict[str, dict[str, Any]]:
    groups = [item.row.group for item in bags]
    figures = group_figures(task, _outcomes(task, bags), [item.row.patient_id for item in bags], groups, draws=draws)
    for group, own in figures["groups"].items():
        of_group = [item for item in bags if item.row.group == group]
        own["lacks"] = task.missing({item.row.label for item in of_group}).partition(";")[0]
        own["folds"] = sorted({fold for item in of_group for fold in item.placement.folds})
    return figures


def _recalibrated_cells(predictions: list[SlidePredictionRow], fitted: Recalibrated) -> dict[str, list[str]]:
    """Cells of the columns about recalibrated probabilities, by their names; empty for patients in the splits."""
    task = fitted.task
    probs = fitted.probs(np.array([item.prediction.outputs for item in predictions]).reshape(-1, task.n_outputs))
    threshold = "" if fitted.threshold is None else probability_text(fitted.threshold)
    predicted = [task.label_values[one_index(task.predicted(row, fitted.threshold))] for row in probs]
    of_class = {f"recalibrated_{name}": [probability_text(p) for p in probs[:, k]] for k, name in enumerate(task.label_values)}
    cells = of_class | {"recalibrated_threshold": [threshold] * len(probs), "recalibrated_predicted": predicted}
    known = [item.is_known for item in predictions]
    return {name: ["" if k else cell for k, cell in zip(known, own, strict=True)] for name, own in cells.items()}


def _held_out_outcomes(task: Task, bags: list[SlidePredictionRow], truth: Labels) -> dict[int, Outcomes]:
    """Return, for each fold, its model's outcomes on what it held out; new patients were held out by none."""
    held_out = [
        (fold, i, item.prediction.outputs_of_fold[k], item.prediction.predicted_of_fold[k])
        for i, item in enumerate(bags)
        if item.placement.role is Role.TEST
        for k, fold in enumerate(item.placement.folds)
    ]
    parts = {}
    for number in sorted({fold for fold, *_ in held_out}):
        own = [entry for entry in held_out if entry[0] == number]
        rows = [i for _, i, _, _ in own]
        outcomes = Outcomes(truth[rows], np.array([p for *_, p, _ in own]), _decisions([c for *_, c in own]))
        parts[number], _ = task.unit_outcomes(outcomes, [bags[i].row.patient_id for i in rows])
    return parts


def _decisions(predicted: Sequence[Predicted]) -> NDArray[np.int64]:
    """Return what is predicted of each bag `(n, …)`, `(n, 0)` where nothing is."""
    return np.array([() if each is None else each for each in predicted], np.int64)
