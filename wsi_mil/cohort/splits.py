"""Split labelled slides into patient-level folds. No I/O but for reading and writing `splits.csv`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.cohort.parts import (
    held_out_groups,
    held_out_patients,
    least_patients,
    number_of,
    validation_groups,
    validation_patients,
)
from wsi_mil.config import BagUnit, Protocol, Split
from wsi_mil.errors import ConfigError, StoreError
from wsi_mil.files import read_table, write_table
from wsi_mil.receipts import fingerprint
from wsi_mil.records import Role, SlideRow
from wsi_mil.tasks import Task
from wsi_mil.wording import named

ROLE_PREFIX = "role_"


@dataclass(frozen=True)
class Splits:
    """Roles of the labelled slides in each fold.

    Attributes:
        patients: patient of each slide.
        labels: label of each slide, as in the cohort sheet.
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
        """Return the slides that have a role in a fold, sorted."""
        return sorted(slide_id for slide_id, own_role in self.roles[fold].items() if own_role is role)

    def bags(self, fold: int, roles: tuple[Role, ...], unit: BagUnit) -> dict[str, list[str]]:
        """Return the slides of each bag that has one of `roles` in a fold, all sorted; keys are slides or patients."""
        bags: dict[str, list[str]] = {}
        for slide_id in sorted(s for role in roles for s in self.slides(fold, role)):
            bags.setdefault(slide_id if unit == "slide" else self.patients[slide_id], []).append(slide_id)
        return dict(sorted(bags.items()))

    def fingerprint(self, fold: int, unit: BagUnit) -> str:
        """Return the fingerprint of a fold's roles and labels, which identifies the data that a model was trained on."""
        return fingerprint({"roles": self.roles[fold], "labels": self.labels, "unit": unit})

    def as_trained(self, protocol: Protocol) -> "Splits":
        """Return splits with the roles that slides had in training: `as_published` fits on the validation part too."""
        if protocol == "held_out":
            return self
        in_training: dict[Role, Role] = {role: Role.TRAIN if role is Role.VAL else role for role in Role}
        roles = tuple({slide: in_training[role] for slide, role in of_fold.items()} for of_fold in self.roles)
        return Splits(self.patients, self.labels, roles)

    def restricted_to(self, slide_ids: set[str], task: Task, protocol: Protocol) -> "Splits":
        """Return splits of these slides only.

        Raises:
            ConfigError: in a fold, no slide of some stratum is left to fit on, or to select epoch and threshold.
        """
        patients = {s: p for s, p in self.patients.items() if s in slide_ids}
        labels = {s: self.labels[s] for s in patients}
        splits = Splits(patients, labels, tuple({s: roles[s] for s in patients} for roles in self.roles))
        faults = [fault for fold in range(splits.n_folds) for fault in missing_strata(splits, fold, task, protocol)]
        if faults:
            raise ConfigError([f"of the usable slides: {fault}" for fault in faults])
        return splits

    def placement(self, slide_id: str, patient_id: str) -> "Placement":
        """Return the folds that predict a slide, and the role of its patient in them.

        These are the folds that hold its patient out (role test), or all of them if its group is external; without such a
        fold, those that validated on the patient, else those that trained on it. A new patient is predicted by all folds.
        """
        role_of_fold = [self._patient_role(fold, slide_id, patient_id) for fold in range(self.n_folds)]
        for role in (Role.TEST, Role.EXTERNAL, Role.VAL, Role.TRAIN):
            folds = tuple(fold for fold, own_role in enumerate(role_of_fold) if own_role is role)
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
    """Folds whose models predict a slide, and the role of its patient in them; None for a new patient."""

    folds: tuple[int, ...]
    role: Role | None

    def is_shown(self, *, include_train: bool) -> bool:
        """Return whether the slide is predicted and explained; training slides only with `include_train`."""
        return self.role is not Role.TRAIN or include_train


def protocol_roles(protocol: Protocol) -> tuple[tuple[Role, ...], tuple[Role, ...]]:
    """Return the roles that are fitted on, and the roles that select epoch and threshold.

    With `as_published`, as in most papers of the field, the test part itself selects them: figures are optimistic, and
    marked as such.
    """
    if protocol == "as_published":
        return (Role.TRAIN, Role.VAL), (Role.TEST,)
    return (Role.TRAIN,), (Role.VAL,)


def missing_strata(splits: Splits, fold: int, task: Task, protocol: Protocol, *, titles: Sequence[str] = ()) -> list[str]:
    """Return faults for strata (for example classes) that are missing from the fitted or the selecting part of a fold.

    Args:
        splits: roles of the slides.
        fold: number of the fold.
        task: task to learn.
        protocol: which part selects epoch and threshold.
        titles: names of the folds for messages, if they have other names than their numbers.
    """
    name = titles[fold] if titles else f"fold {fold}"
    faults = []
    for roles in protocol_roles(protocol):
        missing = task.missing({splits.labels[s] for role in roles for s in splits.slides(fold, role)})
        if missing:
            faults.append(f"splits: {name} has no {' and '.join(roles)} {missing}")
    return faults


def mixed_label_faults(rows: Iterable[SlideRow]) -> list[str]:
    """Return faults for patients whose slides have different labels, so that they cannot be one bag."""
    labels: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.label:
            labels.setdefault(row.patient_id, {}).setdefault(row.label, row.slide_id)
    return [
        f"bag: patient needs one label per patient, but patient {patient} has "
        + ", ".join(f"{label!r} (slide {slide})" for label, slide in slide_of_label.items())
        + "; correct the labels or set bag: slide"
        for patient, slide_of_label in labels.items()
        if len(slide_of_label) > 1
    ]


def bag_members(rows: Iterable[SlideRow], unit: BagUnit) -> dict[str, list[SlideRow]]:
    """Return the rows of each bag to predict, sorted by slide.

    Unlabelled slides of a labelled patient are a bag of their own, so that a new unlabelled slide changes neither the
    prediction of the patient's other slides nor any figure.

    Args:
        rows: of the cohort sheet.
        unit: whether a bag is a slide or a patient.
    """
    rows = sorted(rows, key=lambda row: row.slide_id)
    if unit == "slide":
        return {row.slide_id: [row] for row in rows}
    labelled = {row.patient_id for row in rows if row.label}
    bags: dict[str, list[SlideRow]] = {}
    for row in rows:
        is_extra = not row.label and row.patient_id in labelled
        bags.setdefault(f"{row.patient_id} (no label)" if is_extra else row.patient_id, []).append(row)
    return bags


def draw_splits(rows: Iterable[SlideRow], task: Task, settings: Split, *, folds: Sequence[str] = ()) -> Splits:
    """Split labelled slides into patient-level folds.

    With a `split` column there is one fold, with the roles in that column; if it has no `val`, a validation part is drawn
    from the training patients. With a `fold` column each of its values is held out once. With groups, whole ones are held
    out, and whole ones validate if there are enough. Otherwise patients are divided at random into `settings.folds` parts,
    stratified by the task. External groups are in no part. The order of rows and the names of classes do not matter.

    Args:
        rows: labelled slides.
        task: task to learn.
        settings: number of folds, share of the validation part, seed, groups.
        folds: names of the folds that are held out one after the other, in order (`fold_names`); slides of some may be missing
            from `rows` because they failed.

    Raises:
        ValueError: too few patients of a stratum are left in a fold.
    """
    rows = sorted(rows, key=lambda row: row.slide_id)
    inner = [row for row in rows if row.group not in settings.external]
    names = folds or fold_names(inner, settings)
    labels = _patient_labels(inner)
    strata = task.strata(labels, least=least_patients(len(names) or number_of(settings.folds)))
    if any(row.split for row in rows):
        roles = [_fixed_roles(inner, strata, task, settings)]
    elif settings.holds_out_groups:
        roles = _roles_by_group(inner, strata, settings, names)
    else:
        roles = []
        for k, held_out in enumerate(_held_out_patients(inner, strata, settings, names)):
            _require_two_patients(labels, held_out, task, f"{fold_title(names[k]) if names else f'fold {k}'} leaves")
            roles.append(_roles_of_fold(held_out, validation_patients(_without(strata, held_out), settings, k), strata))
    patients = {row.slide_id: row.patient_id for row in rows}
    by_slide = tuple(
        {slide_id: of_patient.get(patient, Role.EXTERNAL) for slide_id, patient in patients.items()} for of_patient in roles
    )
    return Splits(patients, {row.slide_id: row.label for row in rows}, by_slide)


def fold_names(rows: Iterable[SlideRow], settings: Split | None = None) -> list[str]:
    """Return the names of folds that the sheet has, in order: values of `fold`, or with `folds: all` the groups to hold out."""
    if settings is not None and settings.folds == "all":
        return group_names(rows, settings)
    names = {row.fold for row in rows if row.fold}
    return sorted(names, key=lambda name: (len(name), name))


def fold_title(name: str) -> str:
    """Return the name of a fold for messages, from its value in the column `fold`."""
    return f"fold {name!r} (of column fold)"


def group_names(rows: Iterable[SlideRow], settings: Split) -> list[str]:
    """Return the groups of labelled slides that are not external, sorted."""
    return sorted({row.group for row in rows if row.label and row.group} - set(settings.external))


def patients_with_several_labels(rows: Iterable[SlideRow], task: Task) -> dict[str, tuple[str, ...]]:
    """Return the labels of patients whose slides have different ones, in order; folds are stratified by the last of them."""
    labels_of: dict[str, set[str]] = {}
    for row in rows:
        if row.label:
            labels_of.setdefault(row.patient_id, set()).add(row.label)
    return {patient: task.in_order(labels) for patient, labels in sorted(labels_of.items()) if len(labels) > 1}


def n_folds(rows: Iterable[SlideRow], settings: Split) -> int:
    """Return the number of folds: how many models are trained for each entry of `encoders` and `models`."""
    rows = [row for row in rows if row.label]
    if any(row.split for row in rows):
        return 1
    return len(fold_names(rows, settings)) or number_of(settings.folds) * settings.repeats


def split_faults(rows: list[SlideRow], task: Task, settings: Split) -> list[str]:
    """Return the faults of labelled slides that prevent a split; of groups, `cohort.groups` returns them."""
    rows_with = {column: [row for row in rows if getattr(row, column)] for column in ("split", "fold")}
    faults = []
    for column, filled in rows_with.items():
        missing = [row.slide_id for row in rows if not getattr(row, column)] if filled else []
        if missing:
            faults.append(f"column {column} is empty for labelled slides {', '.join(missing[:5])}: fill it for all or none")
    if rows_with["split"]:
        roles = {row.split for row in rows}
        if settings.repeats > 1:
            faults.append(f"split.repeats is {settings.repeats}, but column split fixes the split: remove one of them")
        faults += [f"column split has no labelled {role} slide" for role in (Role.TRAIN, Role.TEST) if role not in roles]
        return faults
    if rows_with["fold"] and settings.repeats > 1:
        faults.append(f"split.repeats is {settings.repeats}, but column fold fixes the folds: remove one of them")
    folds = len(fold_names(rows)) or number_of(settings.folds)
    if folds < 2:
        faults.append("column fold has only one value: at least two folds are needed")
    inner = [row for row in rows if row.group not in settings.external]
    return faults if settings.holds_out_groups else faults + _too_few_patients(inner, task, folds)


def write_splits(path: Path, splits: Splits) -> None:
    """Write `splits.csv`; its column `fold` is the first fold that holds the slide out."""
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
        StoreError: the file is not a valid `splits.csv`, or a patient is in two parts of a fold.
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
    _require_no_leaks(path, splits)
    return splits


def _require_no_leaks(path: Path, splits: Splits) -> None:
    for fold, roles in enumerate(splits.roles):
        of_patient: dict[str, Role] = {}
        for slide_id, role in roles.items():
            patient = splits.patients[slide_id]
            if of_patient.setdefault(patient, role) is not role:
                clash = f"{of_patient[patient]} and {role}"
                raise StoreError(path, f"fold {fold}: patient {patient!r} is in both {clash}; correct {ROLE_PREFIX}{fold}")


def _patient_labels(rows: list[SlideRow]) -> dict[str, list[str]]:
    """Return the labels of each patient's slides, patients sorted."""
    labels: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.patient_id):
        labels.setdefault(row.patient_id, []).append(row.label)
    return labels


def _require_two_patients(labels: dict[str, list[str]], held_out: set[str], task: Task, subject: str) -> None:
    """Raise ValueError if only one patient of a group is left for training and validation."""
    for index, name in enumerate(task.groups):
        patients = [patient for patient, own in labels.items() if index in task.groups_of(own) and patient not in held_out]
        if len(patients) == 1:
            raise ValueError(f"{subject} one patient of {name}, {patients[0]}: two are needed, for training and validation")


def _held_out_patients(
    rows: Sequence[SlideRow], strata: Mapping[str, int], settings: Split, names: Sequence[str]
) -> list[set[str]]:
    if names:
        return [{row.patient_id for row in rows if row.fold == name} for name in names]
    return held_out_patients(strata, settings)


def _roles_by_group(
    rows: Sequence[SlideRow], strata: Mapping[str, int], settings: Split, names: Sequence[str]
) -> list[dict[str, Role]]:
    group_of = {row.patient_id: row.group for row in rows}
    roles = []
    for k, groups in enumerate(held_out_groups(strata, group_of, settings, names)):
        held_out = {patient for patient, group in group_of.items() if group in groups}
        others = _without(strata, held_out)
        validation = validation_groups(others, group_of, settings, k) or validation_patients(others, settings, k)
        roles.append(_roles_of_fold(held_out, validation, strata))
    return roles


def _without(strata: Mapping[str, int], held_out: Collection[str]) -> dict[str, int]:
    return {patient: stratum for patient, stratum in strata.items() if patient not in held_out}


def _roles_of_fold(held_out: Collection[str], validation: Collection[str], strata: Mapping[str, int]) -> dict[str, Role]:
    return {p: Role.TEST if p in held_out else Role.VAL if p in validation else Role.TRAIN for p in strata}


def _fixed_roles(rows: list[SlideRow], strata: dict[str, int], task: Task, settings: Split) -> dict[str, Role]:
    roles = {row.patient_id: Role(row.split) for row in rows}
    if Role.VAL not in roles.values():
        held_out = {patient for patient, role in roles.items() if role is not Role.TRAIN}
        _require_two_patients(_patient_labels(rows), held_out, task, "column split has no val, and its train has")
        train = {p: stratum for p, stratum in strata.items() if roles[p] is Role.TRAIN}
        roles.update(dict.fromkeys(validation_patients(train, settings, 0), Role.VAL))
    return {patient: roles[patient] for patient in strata}


def _too_few_patients(rows: list[SlideRow], task: Task, folds: int) -> list[str]:
    """Return faults for groups with too few patients."""
    groups = [task.groups_of(own) for own in _patient_labels(rows).values()]
    several = patients_with_several_labels(rows, task)
    minimum = least_patients(folds)
    faults = []
    for index, name in enumerate(task.groups):
        n = sum(index in own for own in groups)
        if n < minimum:
            elsewhere = [p for p, labels in several.items() if index in _only_earlier(task, labels)]
            note = f" (not counting {named(elsewhere)}, with slides of a later class too)" if elsewhere else ""
            count = f"{n} patient{'' if n == 1 else 's'}{note}"
            faults.append(f"{name} has {count}, fewer than the {minimum} that {folds} folds need (test, train and validation)")
    return faults


def _only_earlier(task: Task, labels: tuple[str, ...]) -> set[int]:
    """Return groups of a patient's single labels that the patient as a whole is not in."""
    return {index for label in labels for index in task.groups_of([label])} - task.groups_of(labels)
