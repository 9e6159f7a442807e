"""Who is trained on and who is held out, by patient. Pure but for reading and writing `splits.csv`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_mil.config import BagUnit, Protocol, Split
from wsi_mil.errors import ConfigError, StoreError
from wsi_mil.files import read_table, write_table
from wsi_mil.receipts import fingerprint
from wsi_mil.records import Role, SlideRow
from wsi_mil.tasks import Task
from wsi_mil.wording import named

ROLE_PREFIX = "role_"
SMALLEST_STRATUM_OF_TWO_FOLDS = 4
"""Of three patients one half may hold two out, which leaves one for both training and validation."""


@dataclass(frozen=True)
class Splits:
    """Roles of the labelled slides in every fold.

    Attributes:
        patients: patient of each slide.
        labels: label of each slide, as in the sheet.
        roles: for each fold, the role of each slide.
    """

    patients: dict[str, str]
    labels: dict[str, str]
    roles: tuple[dict[str, Role], ...]

    @property
    def n_folds(self) -> int:
        """Number of folds; 1 for a fixed split."""
        return len(self.roles)

    def slides(self, fold: int, role: Role) -> list[str]:
        """The slides that `fold` uses for `role`, sorted."""
        return sorted(slide_id for slide_id, have in self.roles[fold].items() if have is role)

    def bags(self, fold: int, roles: tuple[Role, ...], unit: BagUnit) -> dict[str, list[str]]:
        """Slides of each bag that `fold` uses for `roles`, all sorted; a bag is named by its slide or patient."""
        found: dict[str, list[str]] = {}
        for slide_id in sorted(s for role in roles for s in self.slides(fold, role)):
            found.setdefault(slide_id if unit == "slide" else self.patients[slide_id], []).append(slide_id)
        return dict(sorted(found.items()))

    def fingerprint(self, fold: int, unit: BagUnit) -> str:
        """Of all that tells a model of one fold from one that saw other slides."""
        return fingerprint({"roles": self.roles[fold], "labels": self.labels, "unit": unit})

    def seen_under(self, protocol: Protocol) -> "Splits":
        """The roles that slides really had: as published, the validation part was fitted on too."""
        if protocol == "held_out":
            return self
        fitted = dict.fromkeys(Role, Role.TEST) | dict.fromkeys((Role.TRAIN, Role.VAL), Role.TRAIN)
        roles = tuple({slide: fitted[role] for slide, role in of_fold.items()} for of_fold in self.roles)
        return Splits(self.patients, self.labels, roles)

    def restricted(self, slide_ids: set[str], task: Task, protocol: Protocol) -> "Splits":
        """The same without other slides.

        Raises:
            ConfigError: a fold is left without slides of some stratum to fit on, or to choose epoch and threshold by.
        """
        patients = {s: p for s, p in self.patients.items() if s in slide_ids}
        labels = {s: self.labels[s] for s in patients}
        kept = Splits(patients, labels, tuple({s: roles[s] for s in patients} for roles in self.roles))
        faults = [fault for fold in range(kept.n_folds) for fault in missing_strata(kept, fold, task, protocol)]
        if faults:
            raise ConfigError([f"of the slides that can be used: {fault}" for fault in faults])
        return kept

    def placed(self, slide_id: str, patient_id: str) -> "Placement":
        """Which folds' models may speak for a slide, and what they used its patient for.

        A slide (of a patient) in the splits belongs to the folds that hold its patient out (role test); without
        such a fold, to those that validated on it, else to those that trained on it. A new patient gets all folds.
        """
        of_patient = [self._patient_role(fold, slide_id, patient_id) for fold in range(self.n_folds)]
        for role in (Role.TEST, Role.VAL, Role.TRAIN):
            folds = tuple(fold for fold, have in enumerate(of_patient) if have is role)
            if folds:
                return Placement(folds, role)
        return Placement(tuple(range(self.n_folds)), None)

    def _patient_role(self, fold: int, slide_id: str, patient_id: str) -> Role | None:
        roles = self.roles[fold]
        if slide_id in roles:
            return roles[slide_id]
        return next((roles[s] for s, patient in self.patients.items() if patient == patient_id and s in roles), None)


@dataclass(frozen=True)
class Placement:
    """Folds whose models speak for a slide, and its patient's role there (None: never seen)."""

    folds: tuple[int, ...]
    role: Role | None

    def is_shown(self, *, include_train: bool) -> bool:
        """Whether the slide gets scores and pictures: training slides only when asked for."""
        return self.role is not Role.TRAIN or include_train


def parts_of(protocol: Protocol) -> tuple[tuple[Role, ...], tuple[Role, ...]]:
    """Roles that are fitted on, and roles that choose epoch and threshold.

    As published by most papers of the field, the test fold itself chooses: figures are optimistic, and stamped.
    """
    if protocol == "as_published":
        return (Role.TRAIN, Role.VAL), (Role.TEST,)
    return (Role.TRAIN,), (Role.VAL,)


def missing_strata(splits: Splits, fold: int, task: Task, protocol: Protocol, *, folds: Sequence[str] = ()) -> list[str]:
    """Return faults: strata (classes, say) that the fitted or the choosing part of a fold does not have.

    Args:
        splits: roles.
        fold: its number.
        task: what is learned.
        protocol: what chooses epoch and threshold.
        folds: names of the folds, where a column gives them.
    """
    faults = []
    for roles in parts_of(protocol):
        missing = task.missing({splits.labels[s] for role in roles for s in splits.slides(fold, role)})
        if missing:
            faults.append(f"splits: {_fold_name(fold, folds)} has no {' and '.join(roles)} {missing}")
    return faults


def mixed_patients(rows: Iterable[SlideRow]) -> list[str]:
    """Faults: patients whose slides have different labels, which cannot be one bag."""
    labels: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.label:
            labels.setdefault(row.patient_id, {}).setdefault(row.label, row.slide_id)
    return [
        f"bag: patient needs one label a patient, but patient {patient} has "
        + ", ".join(f"{label!r} (slide {slide})" for label, slide in found.items())
        for patient, found in labels.items()
        if len(found) > 1
    ]


def bag_members(rows: Iterable[SlideRow], unit: BagUnit) -> dict[str, list[SlideRow]]:
    """Rows that are predicted together, sorted by slide; unlabelled slides of a labelled patient are a bag of their own.

    So a new unlabelled slide changes neither what the patient's others are predicted nor any figure.
    """
    rows = sorted(rows, key=lambda row: row.slide_id)
    if unit == "slide":
        return {row.slide_id: [row] for row in rows}
    labelled = {row.patient_id for row in rows if row.label}
    found: dict[str, list[SlideRow]] = {}
    for row in rows:
        own = row.label or row.patient_id not in labelled
        found.setdefault(row.patient_id if own else f"{row.patient_id} (no label)", []).append(row)
    return found


def draw_splits(rows: Iterable[SlideRow], task: Task, settings: Split, *, folds: Sequence[str] = ()) -> Splits:
    """Folds of labelled slides.

    With a `split` column there is one fold, with its roles (a validation part is drawn from the training patients
    where the column has none). With a `fold` column each value is held out once. Otherwise the patients are drawn
    into `settings.folds` parts, stratified by the task. The order of rows and the names of classes change nothing.

    Args:
        rows: labelled slides.
        task: what is learned.
        settings: number of folds, share of validation, seed.
        folds: values of the `fold` column, in order, where `rows` may lack some because their slides failed.

    Raises:
        ValueError: too few patients of a stratum are left in some fold.
    """
    rows = sorted(rows, key=lambda row: row.slide_id)
    strata, names = _patient_strata(rows, task), folds or fold_names(rows)
    if any(row.split for row in rows):
        roles = [_fixed_roles(rows, strata, task, settings)]
    else:
        roles = []
        for k, held_out in enumerate(_parts(rows, strata, settings, names)):
            _require_two_patients(strata, held_out, task, f"{_fold_name(k, names)} leaves")
            roles.append(_roles_of_fold(held_out, strata, settings, k))
    patients = {row.slide_id: row.patient_id for row in rows}
    by_slide = tuple({slide_id: of_patient[patient] for slide_id, patient in patients.items()} for of_patient in roles)
    return Splits(patients, {row.slide_id: row.label for row in rows}, by_slide)


def fold_names(rows: Iterable[SlideRow]) -> list[str]:
    """Distinct values of the `fold` column, in order."""
    names = {row.fold for row in rows if row.fold}
    return sorted(names, key=lambda name: (len(name), name))


def several_labels(rows: Iterable[SlideRow], task: Task) -> dict[str, tuple[str, ...]]:
    """Return patients whose slides have several labels; when folds are drawn such a patient counts as the last of them."""
    found: dict[str, set[str]] = {}
    for row in rows:
        if row.label:
            found.setdefault(row.patient_id, set()).add(row.label)
    return {patient: task.in_order(have) for patient, have in sorted(found.items()) if len(have) > 1}


def n_folds(rows: Iterable[SlideRow], settings: Split) -> int:
    """How many models are trained for each encoder and model entry."""
    rows = [row for row in rows if row.label]
    return 1 if any(row.split for row in rows) else len(fold_names(rows)) or settings.folds * settings.repeats


def split_faults(rows: list[SlideRow], task: Task, settings: Split) -> list[str]:
    """Why no split can be drawn from these labelled slides, row by row or stratum by stratum."""
    by_hand = {column: [row for row in rows if getattr(row, column)] for column in ("split", "fold")}
    faults = []
    for column, given in by_hand.items():
        missing = [row.slide_id for row in rows if not getattr(row, column)] if given else []
        if missing:
            faults.append(f"column {column} is empty for labelled slides {', '.join(missing[:5])}: fill it for all or none")
    if by_hand["split"]:
        have = {row.split for row in rows}
        if settings.repeats > 1:
            faults.append(f"split.repeats is {settings.repeats}, but column split fixes the split: take one of them away")
        faults += [f"column split has no labelled {role} slide" for role in (Role.TRAIN, Role.TEST) if role not in have]
        return faults
    if by_hand["fold"] and settings.repeats > 1:
        faults.append(f"split.repeats is {settings.repeats}, but column fold fixes the folds: take one of them away")
    folds = len(fold_names(rows)) or settings.folds
    if folds < 2:
        faults.append("column fold has one value only: two folds are the least")
    return faults + _too_few_patients(rows, task, folds)


def write_splits(path: Path, splits: Splits) -> None:
    """Write `splits.csv`: `fold` is the first fold that holds the slide out."""
    columns = ["slide_id", "patient_id", "label", "fold", *(f"{ROLE_PREFIX}{k}" for k in range(splits.n_folds))]
    rows = []
    for slide_id in sorted(splits.patients):
        roles = [of_fold[slide_id] for of_fold in splits.roles]
        fold = roles.index(Role.TEST) if Role.TEST in roles else ""
        rows.append([slide_id, splits.patients[slide_id], splits.labels[slide_id], fold, *roles])
    write_table(path, columns, rows)


def read_splits(path: Path) -> Splits:
    """Read `splits.csv`.

    Raises:
        StoreError: not such a file, or a patient who is in two parts of a fold.
    """
    try:
        table = read_table(path)
        columns = [c for c in (table[0] if table else {}) if c.startswith(ROLE_PREFIX)]
        roles = tuple({row["slide_id"]: Role(row[column]) for row in table} for column in columns)
        splits = Splits({r["slide_id"]: r["patient_id"] for r in table}, {r["slide_id"]: r["label"] for r in table}, roles)
    except (OSError, KeyError, ValueError) as error:
        raise StoreError(path, f"not a splits.csv with slide_id, patient_id, label, {ROLE_PREFIX}0, … ({error!r})") from error
    if not roles:
        raise StoreError(path, f"has no rows, or no column {ROLE_PREFIX}0")
    _refuse_leaks(path, splits)
    return splits


def _refuse_leaks(path: Path, splits: Splits) -> None:
    for fold, roles in enumerate(splits.roles):
        of_patient: dict[str, Role] = {}
        for slide_id, role in roles.items():
            patient = splits.patients[slide_id]
            if of_patient.setdefault(patient, role) is not role:
                raise StoreError(path, f"fold {fold}: patient {patient!r} is in both {of_patient[patient]} and {role}")


def _patient_strata(rows: list[SlideRow], task: Task) -> dict[str, int]:
    """Return the stratum of each patient, patients sorted."""
    labels: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.patient_id):
        labels.setdefault(row.patient_id, []).append(row.label)
    return {patient: task.stratum(own) for patient, own in labels.items()}


def _fold_name(fold: int, names: Sequence[str]) -> str:
    """A fold by its name in the column, or its number."""
    return f"fold {names[fold]!r} (of column fold)" if names else f"fold {fold}"


def _require_two_patients(strata: dict[str, int], left_out: set[str], task: Task, what: str) -> None:
    """Raise where one patient of a stratum is left to train and to validate on."""
    for stratum in sorted(set(strata.values())):
        patients = [patient for patient, own in strata.items() if own == stratum and patient not in left_out]
        if len(patients) == 1:
            name = task.stratum_name(stratum)
            raise ValueError(f"{what} one patient of {name}, {patients[0]}: two are needed, to train and to validate on")


def _parts(rows: list[SlideRow], strata: dict[str, int], settings: Split, names: Sequence[str]) -> list[set[str]]:
    """Patients held out by each fold; drawn folds come `repeats` times, each from a seed of its own."""
    if names:
        return [{row.patient_id for row in rows if row.fold == name} for name in names]
    from sklearn.model_selection import StratifiedKFold  # half a second that reading splits need not cost

    patients, labels = list(strata), list(strata.values())
    draws = [StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed + r) for r in range(settings.repeats)]
    return [{patients[i] for i in held_out} for draw in draws for _, held_out in draw.split(patients, labels)]


def _roles_of_fold(held_out: set[str], strata: dict[str, int], settings: Split, fold: int) -> dict[str, Role]:
    others = {patient: stratum for patient, stratum in strata.items() if patient not in held_out}
    validation = _validation_part(others, settings, fold)
    return {p: Role.TEST if p in held_out else Role.VAL if p in validation else Role.TRAIN for p in strata}


def _validation_part(strata: dict[str, int], settings: Split, fold: int) -> set[str]:
    """Patients for early stopping and threshold, stratified, at least one of each stratum."""
    rng = np.random.default_rng([settings.seed, fold])
    drawn: set[str] = set()
    for stratum in sorted(set(strata.values())):
        patients = [patient for patient, own in strata.items() if own == stratum]
        size = min(max(1, round(settings.validation * len(patients))), len(patients) - 1)
        drawn |= {patients[i] for i in rng.permutation(len(patients))[:size]}
    return drawn


def _fixed_roles(rows: list[SlideRow], strata: dict[str, int], task: Task, settings: Split) -> dict[str, Role]:
    roles = {row.patient_id: Role(row.split) for row in rows}
    if Role.VAL not in roles.values():
        held_out = {patient for patient, role in roles.items() if role is not Role.TRAIN}
        _require_two_patients(strata, held_out, task, "column split has no val, and its train has")
        train = {p: stratum for p, stratum in strata.items() if roles[p] is Role.TRAIN}
        roles.update(dict.fromkeys(_validation_part(train, settings, 0), Role.VAL))
    return {patient: roles[patient] for patient in strata}


def _too_few_patients(rows: list[SlideRow], task: Task, folds: int) -> list[str]:
    """Every fold needs a patient of each stratum to test on; the largest part must leave two, to train and validate on."""
    of_patient, several = list(_patient_strata(rows, task).values()), several_labels(rows, task)
    least = SMALLEST_STRATUM_OF_TWO_FOLDS if folds == 2 else folds
    faults = []
    for stratum in task.strata:
        n = of_patient.count(stratum)
        if n < least:
            elsewhere = [patient for patient, own in several.items() if stratum in [task.stratum([o]) for o in own[:-1]]]
            beside = f", and {named(elsewhere)} with slides of it that count as a later class" if elsewhere else ""
            have = f"{n} patient{'' if n == 1 else 's'}{beside}"
            name = task.stratum_name(stratum)
            faults.append(f"{name} has {have}, fewer than the {least} that {folds} folds need (test, train and validation)")
    return faults
