"""Turn the splits of another tool into ours, for the labelled slides of a sheet."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from wsi_mil.cohort.groups import with_external
from wsi_mil.cohort.split_layouts import SharedSplits
from wsi_mil.cohort.splits import Splits, draw_splits
from wsi_mil.config import Split
from wsi_mil.errors import ConfigError
from wsi_mil.records import Role, SlideRow
from wsi_mil.tasks import Task
from wsi_mil.wording import named


def import_splits(
    shared: SharedSplits, rows: Iterable[SlideRow], task: Task, settings: Split, *, subset: bool = False
) -> tuple[Splits, list[str]]:
    """Return the splits of the labelled slides of a sheet, and notes on what was left out or drawn.

    In folds without a validation part, one is drawn from the training patients. Slides of external groups, which other tools do
    not know, have the role external in every fold.

    Args:
        shared: splits of another tool.
        rows: of the sheet, with the labels of one target.
        task: what is learned.
        settings: share and seed of a validation part that is drawn, and the external groups.
        subset: leave out slides that only the file or only the sheet has.

    Raises:
        ConfigError: names slides or patients that only one of them has, those without a part in a fold, those of external groups
            with one, and patients in two parts of a fold.
    """
    rows = sorted(rows, key=lambda row: row.slide_id)
    labelled = [row for row in rows if row.label and row.group not in settings.external]
    external = {_name(shared, row) for row in rows if row.label and row.group in settings.external}
    shared = _with_known_names(shared, {_name(shared, row) for row in rows})
    faults, notes = _coverage(shared, rows, labelled, external, subset=subset)
    used = [row for row in labelled if all(_name(shared, row) in fold for fold in shared.folds)]
    roles = tuple({row.slide_id: fold[_name(shared, row)] for row in used} for fold in shared.folds)
    splits = Splits({r.slide_id: r.patient_id for r in used}, {r.slide_id: r.label for r in used}, roles)
    faults += _leaks(splits, shared.names)
    faults += [
        f"{name}: has no {role} slide that is labelled in the sheet"
        for name, of_fold in zip(shared.names, roles, strict=True)
        for role in (Role.TRAIN, Role.TEST)
        if role not in of_fold.values()
    ]
    if faults:
        raise ConfigError(faults)
    without = {k: name for k, name in enumerate(shared.names) if Role.VAL not in roles[k].values()}
    faults = [fault for k, name in without.items() for fault in _too_few(used, roles[k], task, name)]
    if faults:
        raise ConfigError(faults)
    if without:
        share = f"{100 * settings.validation:g} % of the training patients"
        where = named(list(without.values()))
        notes.append(f"{where}: no validation part, so {share} were drawn for it (split.validation, split.seed)")
    drawn = tuple(_with_validation(used, own, task, settings, k) if k in without else own for k, own in enumerate(roles))
    return with_external(Splits(splits.patients, splits.labels, drawn), rows, settings), notes


def _too_few(rows: Sequence[SlideRow], roles: Mapping[str, Role], task: Task, name: str) -> list[str]:
    """Strata with a single training patient, who cannot both train and validate."""
    labels: dict[str, list[str]] = {}
    for row in rows:
        if roles[row.slide_id] is Role.TRAIN:
            labels.setdefault(row.patient_id, []).append(row.label)
    patients = [[p for p, own in labels.items() if index in task.groups_of(own)] for index in range(len(task.groups))]
    return [
        f"{name}: has no validation part, and its training part one patient of {group}, {own[0]}: two are needed to draw one"
        for group, own in zip(task.groups, patients, strict=True)
        if len(own) == 1
    ]


def _with_validation(
    rows: Sequence[SlideRow], roles: Mapping[str, Role], task: Task, settings: Split, fold: int
) -> dict[str, Role]:
    """Roles of a fold with a validation part, drawn as for a sheet whose column `split` has none."""
    own = Split(validation=settings.validation, seed=settings.seed + fold)
    return draw_splits([replace(row, split=str(roles[row.slide_id]), fold="") for row in rows], task, own).roles[0]


def _name(shared: SharedSplits, row: SlideRow) -> str:
    return row.slide_id if shared.unit == "slide" else row.patient_id


def _with_known_names(shared: SharedSplits, known: set[str]) -> SharedSplits:
    """Splits whose numbers are as in the sheet: pandas writes those of a column with gaps with a decimal point."""

    def name(text: str) -> str:
        whole = text.removesuffix(".0")
        return whole if text not in known and whole in known else text

    folds = tuple({name(text): role for text, role in fold.items()} for fold in shared.folds)
    return SharedSplits(shared.layout, shared.unit, shared.names, folds)


def _coverage(
    shared: SharedSplits, rows: Sequence[SlideRow], labelled: Sequence[SlideRow], external: set[str], *, subset: bool
) -> tuple[list[str], list[str]]:
    """Faults, and notes, about slides or patients that only the file, only the sheet or only some folds have.

    Those of external groups are not to be split: the file has them if it does not know of the groups.
    """
    in_sheet = {_name(shared, row) for row in rows}
    to_split = {_name(shared, row) for row in labelled}
    in_file = {name for fold in shared.folds for name in fold}
    of = f"{shared.unit}s"
    faults, notes = [], []
    extent = {
        f"{of} that the sheet does not have: {named(sorted(in_file - in_sheet))}; add them to the sheet": in_file - in_sheet,
        f"no part for labelled {of} of the sheet: {named(sorted(to_split - in_file))}; add them to the file": to_split - in_file,
        f"{of} of groups that split.external names: {named(sorted(external & in_file))}; take them out of the file, or the groups"
        " out of split.external": external & in_file,
    }
    for text, names in extent.items():
        if names and subset:
            notes.append(f"{shared.names[0]}: {text.partition('; ')[0]}: left out")
        elif names:
            faults.append(f"{shared.names[0]}: {text}, or leave them out with --subset")
    unlabelled = sorted(in_file & in_sheet - to_split - external)
    if unlabelled:
        notes.append(f"{shared.names[0]}: without a label in the sheet, so in no part here: {named(unlabelled)}")
    for fold, name in zip(shared.folds, shared.names, strict=True):
        absent = sorted((in_file & to_split) - set(fold))
        if absent:
            faults.append(f"{name}: has no part for {named(absent)}, which other folds have; give each a part in every fold")
    return faults, notes


def _leaks(splits: Splits, names: Sequence[str]) -> list[str]:
    """Patients in two parts of a fold."""
    faults = []
    for name, roles in zip(names, splits.roles, strict=True):
        first: dict[str, str] = {}
        told = set[str]()
        for slide_id, role in roles.items():
            patient = splits.patients[slide_id]
            other = first.setdefault(patient, slide_id)
            if roles[other] is not role and patient not in told:
                told.add(patient)
                where = f"patient {patient!r} is in {roles[other]} (slide {other}) and in {role} (slide {slide_id})"
                faults.append(f"{name}: {where}: all slides of a patient must be in one part")
    return faults
