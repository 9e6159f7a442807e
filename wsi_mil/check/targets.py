"""Check the labels of each target: folds, given splits, trained models."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_mil.check.covariates import covariate_sheet_faults
from wsi_mil.check.labels import constant_faults, event_faults
from wsi_mil.check.trained import trained_faults
from wsi_mil.cohort import Sheet
from wsi_mil.cohort.groups import external_faults, fold_titles, group_faults, whole_group_faults
from wsi_mil.cohort.splits import (
    Splits,
    draw_splits,
    fold_names,
    fold_title,
    missing_strata,
    mixed_label_faults,
    read_splits,
    split_faults,
)
from wsi_mil.config import Config
from wsi_mil.errors import StoreError
from wsi_mil.records import SlideRow
from wsi_mil.survival import lifelines_fault
from wsi_mil.tasks import task_of


def target_faults(config: Config, sheet: Sheet) -> list[str]:
    """Return why targets whose labels could be read cannot be learned from, or predicted for, the slides of the sheet."""
    faults = {}
    for name in sheet.read_targets:
        target, rows = config.targets[name], [row.for_target(name) for row in sheet.rows]
        constant = constant_faults(target, rows) if config.trained is None else []
        mixed = mixed_label_faults(rows) if config.bag == "patient" else []
        of_covariates = covariate_sheet_faults(config, target, rows)
        if config.split.group is not None and any(row.label and not row.group for row in rows):
            faults[name] = of_covariates  # the empty group is a fault of the sheet, and no split can be drawn
            continue
        faults[name] = mixed + (constant or _split_faults(config, rows, name)) + of_covariates
    has_survival = any(target.kind == "survival" for target in config.targets.values())
    return [fault for fault in [lifelines_fault()] if fault and has_survival] + _with_keys(faults)


def _with_keys(faults: Mapping[str, Sequence[str]]) -> list[str]:
    """Faults with the key of their target; those that all of several targets have stand once, without a key."""
    of_all = set.intersection(*map(set, faults.values())) if len(faults) > 1 else set[str]()
    shared = [fault for fault in next(iter(faults.values()), []) if fault in of_all]
    return shared + [f"targets.{name}: {fault}" for name, own in faults.items() for fault in own if fault not in of_all]


def _split_faults(config: Config, rows: list[SlideRow], target: str) -> list[str]:
    """Why the labelled slides cannot be split, or do not fit the trained models or the given splits."""
    if config.trained is not None:
        return trained_faults(config, config.trained, rows, target)
    given = config.splits_of(target)
    if given is not None:
        return _given_split_faults(config, rows, given, target)
    labelled, task = [row for row in rows if row.label], task_of(config.targets[target])
    faults = split_faults(labelled, task, config.split)
    titles = [fold_title(name) for name in fold_names(labelled)]
    if config.split.group is not None:
        faults += group_faults(labelled, task, config.split) + external_faults(labelled, config.split)
        is_by_group = config.split.holds_out_groups and not faults
        titles = fold_titles(labelled, task, config.split) if is_by_group else titles
    if not faults:
        try:
            splits = draw_splits(labelled, task, config.split)
        except ValueError as error:
            return [f"split: these slides cannot be split ({error})"]
        faults = _part_faults(splits, config, target, titles)
    return faults


def _part_faults(splits: Splits, config: Config, target: str, titles: Sequence[str] = ()) -> list[str]:
    """What parts of folds lack."""
    settings = config.targets[target]
    task = task_of(settings)
    numbers = range(splits.n_folds)
    faults = [fault for fold in numbers for fault in missing_strata(splits, fold, task, config.protocol, titles=titles)]
    return faults if config.split.holds_out_groups else faults + event_faults(settings, splits)


def _given_split_faults(config: Config, rows: list[SlideRow], path: Path, target: str) -> list[str]:
    """Why a splits file does not fit the sheet."""
    try:
        splits = read_splits(path)
    except StoreError as error:
        return [f"splits: {error}"]
    faults = [
        f"splits: {path} has {name} {values[row.slide_id]!r} for slide {row.slide_id}, but the sheet has {getattr(row, name)!r}"
        for row in rows
        for name, values in (("label", splits.labels), ("patient_id", splits.patients))
        if row.slide_id in values and values[row.slide_id] != getattr(row, name)
    ]
    if config.split.group is not None:
        faults += [f"splits: {path}: {fault}" for fault in whole_group_faults(splits, rows, config.split)]
        faults += external_faults([row for row in rows if row.label], config.split)
    return faults + _part_faults(splits, config, target)
