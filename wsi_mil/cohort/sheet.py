"""Read a cohort sheet, and find all of its faults."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_mil.cohort.columns import SheetColumns, check_columns
from wsi_mil.cohort.covariates import category_columns, covariate_cells, covariate_columns, covariate_faults
from wsi_mil.cohort.labels import (
    CellFault,
    Reading,
    columns_of,
    follow_up_faults,
    label_faults,
    number_warnings,
    read_label,
)
from wsi_mil.cohort.reading import plain, read_cells
from wsi_mil.cohort.rows import slide_row
from wsi_mil.cohort.values import FILES, SheetRules, cell_faults, file_faults, missing_marks
from wsi_mil.config import Target
from wsi_mil.covariates import category_of
from wsi_mil.records import SlideRow
from wsi_mil.wording import in_rows, named, on_one_line

FILE_COLUMNS = ("path", *FILES)
"""Columns of file names, which are not normalised: names that look the same can be different files."""
EMPTY = {
    "slide_id": "name the slides",
    "path": "give the files",
    "patient_id": "name the patients, or leave the cells empty (each slide is its own patient then)",
    "mpp": "leave the cells empty to use the value in the file",
}
"""Fix for cells that mark a missing value with text."""

EMPTY_GROUP = "name the group of every labelled slide (split.group)"


@dataclass(frozen=True)
class Sheet:
    """Content and faults of a cohort sheet.

    Attributes:
        rows: rows without faults; a label that could not be read is missing.
        faults: messages that name the sheet and the row or column.
        warnings: messages about probable mistakes.
        unread: names of columns that are not used.
        read_targets: names of the targets of which every label could be read; none if patients are in several folds.
    """

    rows: tuple[SlideRow, ...]
    faults: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    read_targets: tuple[str, ...] = ()


def read_sheet(
    path: Path,
    targets: Mapping[str, Target],
    *,
    needs_path: bool = True,
    needs_file: Callable[[str], bool] | None = None,
    columns: SheetColumns = SheetColumns(),
) -> Sheet:
    """Read a cohort sheet (comma, semicolon or tab; UTF-8 or with a byte order mark) and find every fault in it.

    Args:
        path: the sheet; paths in it are relative to its folder.
        targets: what labels are read for, by name; {}: no labels are read.
        needs_path: whether a slide without a path is a fault; False if all features are imported.
        needs_file: returns for a slide_id whether the slide file must exist; if given, annotations must exist, too. None: files
            are not checked.
        columns: columns that other blocks of the configuration name.
    """
    sheet = _read(path, SheetRules(path.parent, targets, needs_path, needs_file, columns))
    faults, warnings, unread = (tuple(map(on_one_line, texts)) for texts in (sheet.faults, sheet.warnings, sheet.unread))
    return replace(sheet, faults=faults, warnings=warnings, unread=unread)


def _read(path: Path, rules: SheetRules) -> Sheet:
    try:
        table = read_cells(path)
    except (OSError, ValueError) as error:
        return Sheet((), (f"cohort: cannot read {path} ({error}); expected a CSV file in UTF-8",))
    asked = {**covariate_columns(rules.targets), **columns_of(rules.targets), **rules.columns.keys}
    columns = check_columns(table.columns, asked, needs_path=rules.needs_path)
    faults = [f"{path}: {fault}" for fault in columns.faults]
    rules = replace(rules, targets={n: t for n, t in rules.targets.items() if set(t.columns_read) <= set(table.columns)})
    are_enough = check_columns(table.columns, columns_of(rules.targets), needs_path=rules.needs_path).are_enough
    table_faults = table.faults if are_enough else [fault for fault in table.faults if fault.startswith("column")]
    faults += [f"{path}, {fault}" for fault in table_faults]  # without a valid header, lengths of rows cannot be compared
    if set("{}") & set(str(path.parent)):
        faults.append(f"{path}: the sheet's folder contains '{{' or '}}', which Snakemake reads as a wildcard; rename it")
    if not are_enough:
        return Sheet((), tuple(faults))
    rows, row_faults, partial, faulty = _read_rows(table.rows, rules)
    are_all_there = len(rows) == len(table.rows) and not columns.faults and not table.faults
    faults += [f"{path}, {fault}" for fault in row_faults]
    if not table.rows and not table.faults:
        faults.append(f"{path}: has no rows")
    if not columns.faults:  # if the column of patients is misspelt, every slide counts as a patient of its own
        read = [row for row in rows if not any(row.slide_id in slides for slides in faulty.values())]
        of_patients = _patient_faults(read, rules.columns.group)
        faults += [f"{path}: {fault}" for fault in (*of_patients, *follow_up_faults(rows, rules.targets))]
        are_all_there = are_all_there and not of_patients
    read_targets = tuple(name for name in rules.targets if are_all_there and name not in faulty)
    warnings = (
        *columns.warnings,
        *_similar_names(rows, rules.columns.group),
        *_similar_categories(rows, rules.targets),
        *number_warnings(rules.targets, table.rows),
        *partial,
    )
    return Sheet(tuple(rows), tuple(faults), tuple(f"{path}: {warning}" for warning in warnings), columns.unread, read_targets)


def _read_rows(
    table: Sequence[tuple[int, Mapping[str, str]]], rules: SheetRules
) -> tuple[list[SlideRow], list[str], list[str], dict[str, set[str]]]:
    """Rows without faults but those of labels, all faults, warnings, and by target the slides whose labels are faulty."""
    rows: list[SlideRow] = []
    faults: list[str] = []
    seen: dict[str, int] = {}
    marked: dict[str, dict[str, list[int]]] = {}
    no_labels: list[tuple[int, CellFault]] = []
    partial: dict[str, list[int]] = {}
    faulty: dict[str, set[str]] = {}
    groupless: list[int] = []
    for number, text in table:
        cells = {name: cell if name in FILE_COLUMNS else plain(cell) for name, cell in text.items()}
        marks = missing_marks(cells, rules)
        for column, mark in marks.items():
            marked.setdefault(column, {}).setdefault(mark, []).append(number)
        row_faults = _row_faults(cells, marks, rules)
        slide_id = cells["slide_id"]
        if slide_id in seen and slide_id:
            row_faults.append(f"slide_id {slide_id!r} occurs in row {seen[slide_id]} already")
        seen.setdefault(slide_id, number)
        faults += [f"row {number}: {fault}" for fault in row_faults]
        readings = _labels(cells, marks, rules)
        no_labels += [(number, fault) for reading in readings.values() for fault in reading.faults]
        for name in (name for name, reading in readings.items() if reading.is_partial):
            partial.setdefault(name, []).append(number)
        for name in (name for name, reading in readings.items() if reading.faults):
            faulty.setdefault(name, set()).add(cells["slide_id"])
        no_labels += [(number, fault) for fault in covariate_faults(rules.targets, _unmarked(cells, marks))]
        if not row_faults and not marks:
            labels = {name: reading.label for name, reading in readings.items() if reading.label}
            covariates = covariate_cells(rules.targets, cells)
            fold = {"fold": category_of(cells.get("fold", ""))}
            rows.append(slide_row({**cells, **fold}, rules.folder, labels, rules.columns, covariates))
            if labels and not cells.get(rules.columns.group, number):
                groupless.append(number)
    held = {column: [plain(cells[column]) for _, cells in table] for column in columns_of(rules.targets)}
    of_columns = [_mark_fault(column, rows_by_mark, rules) for column, rows_by_mark in marked.items()]
    if groupless:
        of_columns.append(f"column {rules.columns.group}: empty in {in_rows(groupless)}: {EMPTY_GROUP}")
    warnings = [f"targets.{n}: {in_rows(r)}: time or event is empty: the follow-up is unknown" for n, r in partial.items()]
    return rows, faults + of_columns + label_faults(no_labels, held), warnings, faulty


def _labels(cells: Mapping[str, str], marked: Iterable[str], rules: SheetRules) -> dict[str, Reading]:
    """Labels of a row by target; cells that mark missing values are reported elsewhere."""
    remaining = _unmarked(cells, marked)
    return {name: read_label(name, target, remaining) for name, target in rules.targets.items()}


def _unmarked(cells: Mapping[str, str], marked: Iterable[str]) -> dict[str, str]:
    """Cells of a row; empty where they mark a missing value."""
    return {name: "" if name in marked else cell for name, cell in cells.items()}


def _row_faults(cells: Mapping[str, str], marked: Iterable[str], rules: SheetRules) -> list[str]:
    """Faults of one row; cells that mark missing values are reported once for their column."""
    remaining = _unmarked(cells, marked)
    required = {name: cells[name] for name in ("slide_id", "path") if name in cells}  # must not be empty, either
    faults = cell_faults({**remaining, **required}, rules)
    if any(fault.startswith("path ") for fault in faults):
        remaining["path"] = ""  # an invalid path is not looked up
    return faults + file_faults({**remaining, "slide_id": cells["slide_id"]}, rules)


def _mark_fault(column: str, rows_by_mark: Mapping[str, list[int]], rules: SheetRules) -> str:
    where = " and ".join(f"{mark!r} in {in_rows(numbers)}" for mark, numbers in rows_by_mark.items())
    of_target = columns_of(rules.targets).get(column)
    unknown = f"leave these cells empty (without a label for {of_target}, slides are predicted only)"
    of_covariate = covariate_columns(rules.targets).get(column)
    missing = f"leave these cells empty (of {of_covariate}, missing values are taken care of)"
    is_group = column == rules.columns.group
    otherwise = missing if of_covariate else EMPTY.get(column, "leave these cells empty")
    fix = unknown if of_target else EMPTY_GROUP if is_group else otherwise
    return f"column {column}: {where} would be read as a value: {fix}"


def _patient_faults(rows: Iterable[SlideRow], group: str) -> list[str]:
    """Faults of patients whose slides are in different parts of the split, or in different groups (of the column `group`)."""
    faults = []
    for column, cell in (("split", "split"), ("fold", "fold"), (group, "group")):
        first: dict[str, SlideRow] = {}
        for row in rows:
            value = getattr(row, cell) if row.labels or cell != "group" else ""
            other = first.setdefault(row.patient_id, row) if value else row
            if value and getattr(other, cell) != value:
                faults.append(
                    f"patient {row.patient_id!r} has {column} {getattr(other, cell)!r} (slide {other.slide_id})"
                    f" and {value!r} (slide {row.slide_id}): all slides of a patient must be in one"
                    f" {'group' if cell == 'group' else 'part'}"
                )
    return faults


def _similar_names(rows: Sequence[SlideRow], group: str) -> list[str]:
    """Warnings about names of patients, folds and groups that differ only in case, spaces or leading zeros.

    Spreadsheet programs remove these.
    """
    of_folds = _similar("values of fold", {row.fold for row in rows if row.fold})
    of_groups = _similar(f"values of {group}", {row.group for row in rows if row.group})
    return _similar("patients", {row.patient_id for row in rows}) + of_folds + of_groups


def _similar_categories(rows: Sequence[SlideRow], targets: Mapping[str, Target]) -> list[str]:
    """Warnings about categories of covariates whose names differ as little: each is a column of its own for a model."""
    return [
        warning
        for column in category_columns(targets)
        for warning in _similar(f"values of {column}", {category_of(row.covariates.get(column, "")) for row in rows})
    ]


def _similar(what: str, names: Iterable[str]) -> list[str]:
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        folded = "".join(name.casefold().split())
        as_number = re.fullmatch(r"0*(\d+)(\.0+)?", folded)
        alike.setdefault(as_number[1] if as_number else folded, []).append(name)
    return [
        f"{what} {named([repr(name) for name in same])} count as {len(same)}: use one name if they are the same"
        for same in alike.values()
        if len(same) > 1
    ]
