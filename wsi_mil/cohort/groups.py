"""Faults and warnings of splits by groups of patients, such as sites. No I/O."""

from collections.abc import Mapping, Sequence

from wsi_mil.cohort.label_association import association_text, label_association
from wsi_mil.cohort.parts import held_out_groups, least_patients
from wsi_mil.cohort.splits import Splits, group_names
from wsi_mil.config import Split, nearest
from wsi_mil.records import Role, SlideRow
from wsi_mil.tasks import Task
from wsi_mil.wording import listed, named


def group_faults(rows: Sequence[SlideRow], task: Task, settings: Split) -> list[str]:
    """Return why labelled slides, each of which has a group, cannot be split by their groups.

    A group without a class is no fault: its figures are those that can be computed. A class that is lost from what a fold
    trains on is one.
    """
    faults = _fixed_faults(rows, settings)
    groups = group_names(rows, settings)
    if faults or not settings.holds_out_groups:
        return faults
    if len(groups) < 2:
        beside = " besides split.external" if settings.external else ""
        only = f"only one value{beside}, {groups[0]!r}" if groups else f"no value{beside}"
        return [f"column {settings.group} has {only}: at least two groups are needed, to train on one and test on another"]
    patients = {row.patient_id for row in rows if row.group in groups}
    if len(groups) > 2 and len(patients) == len(groups):
        each = f"column {settings.group} has {len(groups)} groups, each of one patient only"
        return [f"{each}: name a column of groups of several patients, or leave split.group out"]
    if settings.folds != "all" and settings.folds > len(groups):
        few = f"split.folds is {settings.folds}, but column {settings.group} has {len(groups)} groups ({named(groups)})"
        return [f"{few}: use at most {len(groups)}, or folds: all"]
    return _class_faults(rows, task, settings, groups)


def external_faults(rows: Sequence[SlideRow], settings: Split) -> list[str]:
    """Return the names of `split.external` that no labelled slide has."""
    groups = sorted({row.group for row in rows if row.group})
    return [
        f"split.external: no labelled slide has {settings.group} {name!r}{nearest(name, groups)}"
        for name in settings.external
        if name not in groups
    ]


def whole_group_faults(splits: Splits, rows: Sequence[SlideRow], settings: Split) -> list[str]:
    """Return the folds of given splits that divide a group, or use an external one."""
    group_of = {row.slide_id: row.group for row in rows if row.group}
    faults = []
    for fold, roles in enumerate(splits.roles):
        parts = dict[str, set[Role]]()
        for slide_id, role in roles.items():
            parts.setdefault(group_of.get(slide_id, ""), set()).add(role)
        divided = [g for g, own in parts.items() if g and Role.TEST in own and len(own) > 1 and settings.holds_out_groups]
        used = [g for g in settings.external if parts.get(g, set()) - {Role.EXTERNAL}]
        if divided:
            faults.append(f"fold {fold} tests and trains on slides of {settings.group} {named(divided)}: set whole_groups: false")
        if used:
            faults.append(f"fold {fold} has slides of {settings.group} {named(used)} in its parts, which split.external names")
    return faults


def with_external(splits: Splits, rows: Sequence[SlideRow], settings: Split) -> Splits:
    """Return given splits in which labelled slides of external groups that they lack have the role external in every fold.

    Args:
        splits: as read from a file.
        rows: of the cohort sheet, with the labels of the target.
        settings: the external groups.
    """
    new = [r for r in rows if r.label and r.group in settings.external and r.slide_id not in splits.patients]
    external = dict.fromkeys((row.slide_id for row in new), Role.EXTERNAL)
    return Splits(
        {**splits.patients, **{row.slide_id: row.patient_id for row in new}},
        {**splits.labels, **{row.slide_id: row.label for row in new}},
        tuple({**roles, **external} for roles in splits.roles),
    )


def fold_titles(rows: Sequence[SlideRow], task: Task, settings: Split) -> list[str]:
    """Return the name of each fold for messages, with the groups that it holds out."""
    return [
        f"fold {k} (without {settings.group} {listed([repr(group) for group in part])})"
        for k, part in enumerate(_held_out(rows, task, settings, group_names(rows, settings)))
    ]


def group_warnings(rows: Sequence[SlideRow], task: Task, settings: Split) -> list[str]:
    """Return groups of labelled slides without a class, and whether what is learned follows from the group."""
    labels = dict[str, set[str]]()
    for row in rows:
        labels.setdefault(row.group, set()).add(row.label)
    lacking = dict[str, list[str]]()
    for group, own in sorted(labels.items()):
        if group and (what := task.missing(own).partition(";")[0]):
            lacking.setdefault(what, []).append(repr(group))
    warnings = [
        f"{settings.group} {named(groups)} {'have' if len(groups) > 1 else 'has'} no {what}: there is no {task.figure_label} of"
        f" {'each' if len(groups) > 1 else 'it'} alone"
        for what, groups in lacking.items()
    ]
    found = label_association([row for row in rows if row.group not in settings.external], task)
    return warnings + ([association_text(found, str(settings.group))] if found and found.is_above_chance else [])


def _fixed_faults(rows: Sequence[SlideRow], settings: Split) -> list[str]:
    """Columns of the sheet that fix the parts, so that groups cannot."""
    column = next((name for name in ("split", "fold") if any(getattr(row, name) for row in rows)), "")
    if not column or not (settings.holds_out_groups or settings.external):
        return []
    keys = [f"split.group is {settings.group!r}"] if settings.holds_out_groups else []
    keys += [f"split.external is {named(settings.external)}"] if settings.external else []
    fix = " (or set split.whole_groups: false)" if settings.holds_out_groups else ""
    return [f"{' and '.join(keys)}, but column {column} says who is held out: remove one of them{fix}"]


def _class_faults(rows: Sequence[SlideRow], task: Task, settings: Split, groups: Sequence[str]) -> list[str]:
    """Folds whose groups leave fewer than two patients of a class, for training and validation."""
    labels, group_of = _of_patients(rows, settings)
    members = {p: task.groups_of(own) for p, own in labels.items()}
    faults = list[str]()
    for k, part in enumerate(_held_out(rows, task, settings, groups)):
        where = f"split: fold {k} holds out {settings.group} {listed([repr(group) for group in part])}"
        if not part:
            return [f"split: fold {k} would hold out no group; use fewer folds, or folds: all"]
        for index, name in enumerate(task.groups):
            left = [patient for patient, own in members.items() if index in own and group_of[patient] not in part]
            if len(left) < 2:
                only = f"only one patient of {name} ({left[0]}), and two" if left else f"no patient of {name}, and two"
                faults.append(f"{where}, which leaves {only} are needed, for training and validation")
    return faults


def _held_out(rows: Sequence[SlideRow], task: Task, settings: Split, groups: Sequence[str]) -> list[tuple[str, ...]]:
    labels, group_of = _of_patients(rows, settings)
    n_folds = len(groups) if settings.folds == "all" else settings.folds
    return held_out_groups(task.strata(labels, least=least_patients(n_folds)), group_of, settings, groups)


def _of_patients(rows: Sequence[SlideRow], settings: Split) -> tuple[dict[str, list[str]], Mapping[str, str]]:
    """Labels and group of each patient that is not external."""
    inner = [row for row in rows if row.group not in settings.external]
    labels = dict[str, list[str]]()
    for row in inner:
        labels.setdefault(row.patient_id, []).append(row.label)
    return labels, {row.patient_id: row.group for row in inner}
