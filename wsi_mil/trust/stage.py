"""Stage `trust`: whether a model is better than chance, and each of its methods better than random order."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.cohort.splits import Splits
from wsi_mil.config import method_of
from wsi_mil.errors import StoreMismatchError
from wsi_mil.figures import cohort_figures, group_figures
from wsi_mil.metrics import interval95, patient_weights
from wsi_mil.receipts import read_receipt, write_receipt
from wsi_mil.records import Role, SlideRow
from wsi_mil.tasks import Outcomes, Task
from wsi_mil.trust.verdicts import AS_PUBLISHED, CHOOSING, HELD_OUT, VALIDATION, Verdict

log = logging.getLogger(__name__)

STAGE_VERSION = 4
MAX_P = 0.025
"""A model is better than chance if labels that are permuted among patients give as good a figure in a smaller share of draws."""

MIN_PATIENTS = 5
"""With fewer patients there is no interval of a method's gain, and a mean above 0 does not show that it beats random order."""

OLD = "was written by an earlier version; run `explain` and `explain-validation` again"


@dataclass(frozen=True)
class TrustSources:
    """Input of the stage.

    Attributes:
        scores: folder with the receipts of `explain`.
        validation: folder with the receipts of `explain-validation` of each fold, or None.
        splits: patients and labels of the slides that the models were trained with.
        task: task of the models.
        earlier: output of this stage in the run that trained the models, or None.
    """

    scores: Path
    validation: Path | None
    splits: Splits
    task: Task
    earlier: Path | None = None


@dataclass(frozen=True)
class _Judged:
    """A labelled bag with its prediction and scores: its id, patient, label, receipt, and group or ""."""

    bag: str
    patient: str
    label: str
    receipt: Mapping[str, Any]
    group: str = ""


def write_trust(rows: Iterable[SlideRow], sources: TrustSources, trust: Path, *, draws: int) -> None:
    """Write what is known of a model and its methods.

    Models of an earlier run are judged again on the labelled slides of this run. What these cannot tell is taken from what that
    run wrote, and marked; the tests of its methods are always taken from it, since its validation slides are not here.

    Args:
        rows: labelled, usable slides, each with a receipt of `explain`.
        sources: input of the stage.
        trust: JSON file to write.
        draws: number of bootstrap draws, and of permutations of the labels.

    Raises:
        StoreMismatchError: scores of an earlier version.
    """
    earlier = read_receipt(sources.earlier) if sources.earlier is not None and sources.earlier.is_file() else None
    rows = list(rows)
    held_out, validation = list(_held_out(rows, sources)), list(_validation(rows, sources))
    judged = held_out if held_out or earlier else validation
    verdicts = _verdicts(sources.task, judged, _judged_on(judged), draws=draws) if judged else {}
    content = {
        "stage_version": STAGE_VERSION,
        **sources.task.stamp(),
        "models": next((bag.receipt["models"] for bag in judged if "models" in bag.receipt), ""),
        "protocol": _protocol([*held_out, *validation]),
        "model": asdict(verdicts[""]) if verdicts else None,
        "outputs": {name: asdict(verdict) for name, verdict in verdicts.items() if name},
        "methods": {name: _method(name, validation, draws=draws) for name in _methods(validation)},
    }
    write_receipt(trust, _with_earlier(content, earlier) if earlier else content)
    log.info("%d held-out and %d validation slides", len(held_out), len(validation))


def _with_earlier(content: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of models from this run, and of the rest from the run that trained them, if they are the same models."""
    models = content["models"], earlier.get("models", "")
    if all(models) and models[0] != models[1]:
        log.warning("the models were trained again after `trust` had tested them: what it found does not count")
        return dict(content)
    outputs = {name: _known(content["outputs"].get(name), own) for name, own in earlier["outputs"].items()}
    return {
        **content,
        "models": models[0] or models[1],
        "protocol": earlier.get("protocol", content["protocol"]),
        "model": _known(content["model"], earlier["model"]),
        "outputs": {**content["outputs"], **outputs},
        "methods": {**earlier["methods"], **content["methods"]},
    }


def _known(own: Mapping[str, Any] | None, earlier: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The verdict of this run, or where it cannot tell, that of the run that trained the models."""
    is_told = own is not None and own["is_better"] is not None
    return own if is_told or earlier is None else {**earlier, "is_earlier": True}


def _held_out(rows: Iterable[SlideRow], sources: TrustSources) -> Iterator[_Judged]:
    """Labelled bags of slides that no model was trained or validated on, each bag once."""
    seen = set()
    for row in sorted(rows, key=lambda row: row.slide_id):
        path = sources.scores / f"{row.slide_id}.json"
        receipt = read_receipt(path)
        if receipt["role"] in (Role.TEST, "", None) and receipt["bag"] not in seen:
            seen.add(receipt["bag"])
            yield _Judged(receipt["bag"], row.patient_id, row.label, _current(receipt, path), row.group)


def _validation(rows: Iterable[SlideRow], sources: TrustSources) -> Iterator[_Judged]:
    """Validation bags of each fold, each bag once in a fold."""
    if sources.validation is None:
        return
    groups = {row.slide_id: row.group for row in rows}
    for fold in range(sources.splits.n_folds):
        path = sources.validation / f"fold-{fold}.json"
        seen, content = set(), read_receipt(path)
        about = {"role": Role.VAL, "protocol": content["protocol"]}
        for slide_id, receipt in sorted(content["slides"].items()):
            if receipt["bag"] not in seen:
                seen.add(receipt["bag"])
                label, patient = sources.splits.labels[slide_id], sources.splits.patients[slide_id]
                yield _Judged(receipt["bag"], patient, label, _current(receipt | about, path), groups.get(slide_id, ""))


def _judged_on(judged: Sequence[_Judged]) -> str:
    """Which slides these are; one that chose an epoch is enough for all of them to have done so."""
    if any(bag.receipt["protocol"] == AS_PUBLISHED and bag.receipt["role"] in (Role.TEST, Role.VAL) for bag in judged):
        return CHOOSING
    return VALIDATION if any(bag.receipt["role"] == Role.VAL for bag in judged) else HELD_OUT


def _protocol(bags: Sequence[_Judged]) -> str:
    return next((str(bag.receipt["protocol"]) for bag in bags), "held_out")


def _current(receipt: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    if "outputs" not in _of_slides(receipt):
        raise StoreMismatchError(path, OLD)
    return receipt


def _of_slides(receipt: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is predicted of a bag by its slides: heatmaps show nothing of covariates, however well these predict alone."""
    own: Mapping[str, Any] = receipt["covariates"].get("slides_alone", {}) if "covariates" in receipt else receipt
    return own


def _verdicts(task: Task, judged: Sequence[_Judged], on: str, *, draws: int) -> dict[str, Verdict]:
    """Verdict on the model under "", and of several labels on each; with covariates, on what the slides alone predict."""
    predictions = [_of_slides(bag.receipt) for bag in judged]
    outcomes = Outcomes(
        task.encode([bag.label for bag in judged]),
        np.array([own["outputs"] for own in predictions], np.float64),
        np.array([() if own.get("predicted") is None else own["predicted"] for own in predictions], np.int64),
    )
    patients, groups = [bag.patient for bag in judged], [bag.group for bag in judged]
    is_by_group = all(groups) and len(set(groups)) > 1
    figures: dict[str, Any] = cohort_figures(task, outcomes, patients, {}, draws=draws)
    if is_by_group:
        figures = task.arranged(group_figures(task, outcomes, patients, groups, draws=draws)["mean"])
    p_of = _p_values(task, _parts(task, outcomes, patients, groups if is_by_group else [""] * len(groups)), draws=draws)
    name = task.figure_name
    found = {"": figures, **figures.get("of_label", {})}
    return {
        key: Verdict(
            f"mean {task.figure_label} over groups" if is_by_group else task.figure_label,
            *_rounded(own[name], own[f"{name}_ci95"]),
            chance=task.chance,
            on=on,
            n_slides=len(judged),
            is_of_slides_alone=any("covariates" in bag.receipt for bag in judged),
            is_better=_is_better(own[name], own[f"{name}_ci95"][0], p_of[f"{key}/{name}" if key else name], task.chance),
        )
        for key, own in found.items()
    }


def _rounded(value: float, ci95: Sequence[float]) -> tuple[float | None, tuple[float | None, float | None]]:
    low, high = (round(end, 6) if end == end else None for end in ci95)
    return (round(value, 6) if value == value else None), (low, high)


def _is_better(value: float, low: float, p: float, chance: float) -> bool | None:
    """Whether both tests are passed; None without a figure or an interval."""
    return None if value != value or low != low else bool(low > chance and p <= MAX_P)


_Part = tuple[Outcomes, tuple[str, ...]]
"""Outcomes of a group, or of all bags, and the patient of each row."""


def _parts(task: Task, outcomes: Outcomes, patients: Sequence[str], groups: Sequence[str]) -> list[_Part]:
    rows_of = [np.array([i for i, own in enumerate(groups) if own == group]) for group in sorted(set(groups))]
    return [task.unit_outcomes(outcomes.rows(rows), [patients[i] for i in rows]) for rows in rows_of]


def _p_values(task: Task, parts: Sequence[_Part], *, draws: int) -> dict[str, float]:
    """For each main figure, the share of permutations of the labels among patients that give as large a mean over the parts.

    The bootstrap interval of a perfect figure is a point, even of four slides; permutations know how few they are. With
    groups, patients change places within their group, so that a model which only knows the group is at chance.
    """
    rng = np.random.default_rng(0)
    observed = _mean_figures(task, [outcomes for outcomes, _ in parts])
    names = [name for name in observed if name.rpartition("/")[2] == task.figure_name]
    figures = [
        _mean_figures(task, [Outcomes(own.truth[_permuted(p, rng)], own.outputs, own.predicted) for own, p in parts])
        for _ in range(draws)
    ]
    return {name: _share_reached(observed[name], [own[name] for own in figures]) for name in names}


def _mean_figures(task: Task, parts: Sequence[Outcomes]) -> dict[str, float]:
    """Mean of each figure over the parts in which it is defined."""
    points = [task.point_figures(part) for part in parts]
    defined = {name: [own[name] for own in points if own[name] == own[name]] for name in points[0]}
    return {name: float(np.mean(values)) if values else float("nan") for name, values in defined.items()}


def _share_reached(observed: float, drawn: Sequence[float]) -> float:
    """Share of the defined draws, the observed figure among them, that are as large as it."""
    defined = [value for value in drawn if value == value]
    return (1 + sum(value >= observed for value in defined)) / (1 + len(defined))


def _permuted(patients: Sequence[str], rng: np.random.Generator) -> NDArray[np.int64]:
    """Row whose label each row gets: patients change places, a patient's rows get the labels of one other patient in turn."""
    names, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) == len(patients):
        return rng.permutation(len(patients))
    rows_of = [np.flatnonzero(patient_of == index) for index in range(len(names))]
    given = np.empty(len(patients), np.int64)
    for own, donor in zip(rows_of, rng.permutation(len(names)), strict=True):
        given[own] = np.resize(rows_of[donor], len(own))
    return given


def _methods(validation: Sequence[_Judged]) -> list[str]:
    """Names of methods; scores of further outputs have names of their own and do not count."""
    return sorted({name for bag in validation for name in bag.receipt["methods"] if name == method_of(name)})


def _method(name: str, validation: Sequence[_Judged], *, draws: int) -> dict[str, object]:
    """Symmetric gain of a method over random order, and how much its maps are like those of permuted weights."""
    entries = [(bag.patient, bag.receipt["methods"].get(name, {})) for bag in validation]
    curves = [(patient, entry["curves"]) for patient, entry in entries if "curves" in entry]
    gains = np.array([own["symmetric_gain"] - own["random_symmetric_gain"] for _, own in curves])
    names, patient_of = np.unique([patient for patient, _ in curves], return_inverse=True)
    low, high = _gain_interval(gains, patient_of, draws) if len(names) >= MIN_PATIENTS else (np.nan, np.nan)
    mean = float(gains.mean()) if len(gains) else float("nan")
    randomised = [entry["randomised_correlation"] for _, entry in entries if entry.get("randomised_correlation") is not None]
    return {
        "n_slides": len(gains),
        "n_patients": len(names),
        "symmetric_gain": mean,
        "symmetric_gain_ci95": [low, high],
        "beats_random": _beats_random(mean, low),
        "randomised": float(np.mean(randomised)) if randomised else None,
    }


def _beats_random(mean: float, low: float) -> bool | None:
    """Whether a gain is above 0; None without a gain, and where a mean above 0 has no interval."""
    if mean <= 0:
        return False
    return bool(low > 0) if low == low else None


def _gain_interval(gains: NDArray[np.float64], patient_of: NDArray[np.int64], draws: int) -> tuple[float, float]:
    weights = patient_weights(int(patient_of.max()) + 1, draws=draws)
    return interval95((weights @ np.bincount(patient_of, gains)) / (weights @ np.bincount(patient_of)))
