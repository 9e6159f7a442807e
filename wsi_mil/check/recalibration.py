"""Check whether probabilities can be fitted to the patients that `recalibrate` names."""

from collections.abc import Sequence

from wsi_mil.cohort import Sheet
from wsi_mil.cohort.splits import read_splits
from wsi_mil.config import Config, Kind, Recalibrate, nearest
from wsi_mil.errors import StoreError
from wsi_mil.recalibration import calibration_faults
from wsi_mil.records import SlideRow
from wsi_mil.results import Results
from wsi_mil.tasks import task_of
from wsi_mil.wording import named

WHY_NOT: dict[Kind, str] = {
    "multilabel": "of its labels many may be unknown, and each would need patients of its own",
    "regression": "it has no probabilities",
    "survival": "its probabilities follow from the follow-up of the training patients",
}
"""Why probabilities of a kind of target are not fitted again."""


def recalibration_faults(config: Config, sheet: Sheet) -> list[str]:
    """Return why probabilities cannot be fitted to the patients that the configuration names; [] if it names none."""
    settings = config.recalibrate
    if settings is None:
        return []
    faults = []
    if config.trained is None:
        others = "models of this run are judged on the patients that they hold out, and there are no others"
        faults.append(f"recalibrate: set trained: {others}")
    faults += [
        f"recalibrate: targets.{name} is of kind {target.kind}, and only probabilities of classes are fitted again: {why}"
        for name, target in config.targets.items()
        if (why := WHY_NOT.get(target.kind))
    ]
    if not any(row.part for row in sheet.rows):
        empty = f"column {settings.column} is empty: write {settings.value!r} in the rows of the slides to fit to"
        return [*faults, *([f"recalibrate: {empty}"] if sheet.rows and not _lacks_column(sheet, settings) else [])]
    own = [row for row in sheet.rows if row.part == settings.value]
    if not own:
        values = sorted({row.part for row in sheet.rows if row.part})
        return [*faults, f"recalibrate: no slide has {settings.column} {settings.value!r}{nearest(settings.value, values)}"]
    faults += _overlap(sheet.rows, own, settings)
    for name in sheet.read_targets:
        if config.targets[name].kind not in WHY_NOT:
            faults += [f"targets.{name}: {fault}" for fault in _of_target(config, own, settings, name)]
    return faults


def _lacks_column(sheet: Sheet, settings: Recalibrate) -> bool:
    return any(f"column {settings.column} is missing" in fault for fault in sheet.faults)


def _overlap(rows: Sequence[SlideRow], own: Sequence[SlideRow], settings: Recalibrate) -> list[str]:
    """Patients of whom some slides are fitted to and others are reported."""
    both = sorted({row.patient_id for row in own} & {row.patient_id for row in rows if row.part != settings.value})
    if not both:
        return []
    verb = "has slides" if len(both) == 1 else "have slides"
    where = f"of {settings.column} {settings.value!r} and others: a patient is either fitted to or reported"
    return [f"recalibrate: patient{'s' if len(both) > 1 else ''} {named(both)} {verb} {where}"]


def _of_target(config: Config, own: Sequence[SlideRow], settings: Recalibrate, target: str) -> list[str]:
    """Patients that the earlier run has used, and classes with too few patients."""
    labels: dict[str, list[str]] = {}
    for row in own:
        if target in row.labels:
            labels.setdefault(row.patient_id, []).append(row.labels[target])
    used = _names_in_earlier(config, target)
    known = sorted({name for row in own for name in (row.slide_id, row.patient_id) if name in used})
    faults = [f"recalibrate: {config.trained} was trained or tested with {named(known)}: fit to patients that it does not have"]
    few = calibration_faults(task_of(config.targets[target]), list(labels.values()), settings.method)
    return (faults if known else []) + few


def _names_in_earlier(config: Config, target: str) -> set[str]:
    """Slides and patients of the earlier run."""
    if config.trained is None:
        return set()
    try:
        patients = read_splits(Results(config.trained).target(target).splits).patients
    except StoreError:
        return set()  # reported with the trained models
    return {*patients, *patients.values()}
