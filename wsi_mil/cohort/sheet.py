"""A cohort sheet → its rows, and everything that is wrong with it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.cohort.columns import about_columns
from wsi_mil.cohort.reading import plain, read_cells
from wsi_mil.cohort.rows import row_of
from wsi_mil.cohort.values import FILES, Asked, cell_faults, file_faults, marks
from wsi_mil.records import SlideRow
from wsi_mil.tasks import Task
from wsi_mil.wording import in_rows, named, on_one_line

AS_THEY_ARE = ("path", *FILES)
"""Columns whose cells name files: to a disk, what looks the same need not be the same."""
EMPTY = {
    "slide_id": "name the slides",
    "path": "give the files",
    "patient_id": "name the patients, or leave the cells empty (each slide is its own patient then)",
    "label": "name the classes, or leave the cells empty (these slides are predicted only)",
    "mpp": "leave the cells empty where the file's own holds",
}
"""What mends a cell that says there is nothing."""


@dataclass(frozen=True)
class Sheet:
    """What was read from a sheet: its rows, and every fault in it.

    Attributes:
        rows: those without a fault of their own.
        faults: each names the sheet, and the row or column.
        warnings: what may not be meant so, though it can be read.
        unread: names of columns that nothing reads.
    """

    rows: tuple[SlideRow, ...]
    faults: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def read_sheet(
    path: Path,
    task: Task | None,
    *,
    needs_path: bool = True,
    needs_file: Callable[[str], bool] | None = None,
) -> Sheet:
    """Read a cohort sheet (comma, semicolon or tab; UTF-8 or with a byte order mark) and find every fault in it.

    Args:
        path: the sheet; paths in it are relative to its folder.
        task: what labels are read for; None: they are not looked at.
        needs_path: whether a slide without a path is a fault; where there are imported features only it is none.
        needs_file: tells by slide_id whether a slide's file must exist; annotations then must too. None: no file is
            looked for.
    """
    found = _read(path, Asked(path.parent, task, needs_path, needs_file))
    shown = [tuple(map(on_one_line, texts)) for texts in (found.faults, found.warnings, found.unread)]
    return Sheet(found.rows, *shown)


def _read(path: Path, asked: Asked) -> Sheet:
    try:
        table = read_cells(path)
    except (OSError, ValueError) as error:
        return Sheet((), (f"cohort: cannot read {path} ({error}); expected a table of text as CSV in UTF-8",))
    columns = about_columns(table.columns, needs_path=asked.needs_path)
    faults = [f"{path}: {fault}" for fault in columns.faults]
    of_table = table.faults if columns.are_enough else [fault for fault in table.faults if fault.startswith("column")]
    faults += [f"{path}, {fault}" for fault in of_table]  # without a header there is no length to compare rows with
    if set("{}") & set(str(path.parent)):
        faults.append(f"{path}: the sheet's folder holds '{{' or '}}', which Snakemake takes for a wildcard; rename it")
    if not columns.are_enough:
        return Sheet((), tuple(faults))
    rows, of_rows = _read_rows(table.rows, asked)
    faults += [f"{path}, {fault}" for fault in of_rows]
    if not table.rows and not table.faults:
        faults.append(f"{path}: has no rows")
    if not columns.faults:  # without the column of patients each slide would be its own
        faults += [f"{path}: {fault}" for fault in _patient_faults(rows)]
    warnings = (*columns.warnings, *_look_alikes(rows))
    return Sheet(tuple(rows), tuple(faults), tuple(f"{path}: {warning}" for warning in warnings), columns.unread)


def _read_rows(table: Iterable[tuple[int, Mapping[str, str]]], asked: Asked) -> tuple[list[SlideRow], list[str]]:
    """Rows without faults, and the faults of the others."""
    rows: list[SlideRow] = []
    faults: list[str] = []
    seen: dict[str, int] = {}
    marked: dict[str, dict[str, list[int]]] = {}
    values = asked.task.label_values if asked.task else ()
    written = {plain(value): value for value in values}  # as the configuration writes them, letters in parts or not
    for number, text in table:
        cells = {name: cell if name in AS_THEY_ARE else plain(cell) for name, cell in text.items()}
        cells["label"] = written.get(cells["label"], cells["label"])
        nothing = marks(cells, asked)
        for column, mark in nothing.items():
            marked.setdefault(column, {}).setdefault(mark, []).append(number)
        found = _row_faults(cells, nothing, asked)
        slide_id = cells["slide_id"]
        if slide_id in seen and slide_id:
            found.append(f"slide_id {slide_id!r} stands in row {seen[slide_id]} already")
        seen.setdefault(slide_id, number)
        faults += [f"row {number}: {fault}" for fault in found]
        if not found and not nothing:
            rows.append(row_of(cells, asked.folder))
    return rows, faults + [_marked_fault(column, of_column) for column, of_column in marked.items()]


def _row_faults(cells: Mapping[str, str], nothing: Iterable[str], asked: Asked) -> list[str]:
    """Of one row; cells that are marked as empty have one for their column."""
    left = {name: "" if name in nothing else cell for name, cell in cells.items()}
    own = {name: cells[name] for name in ("slide_id", "path") if name in cells}  # these must not be empty either
    found = cell_faults({**left, **own}, asked)
    if any(fault.startswith("path ") for fault in found):
        left["path"] = ""  # is not looked for
    return found + file_faults({**left, "slide_id": cells["slide_id"]}, asked)


def _marked_fault(column: str, of_column: Mapping[str, list[int]]) -> str:
    where = " and ".join(f"{mark!r} in {in_rows(numbers)}" for mark, numbers in of_column.items())
    mend = EMPTY.get(column, "leave these cells empty")
    return f"column {column}: {where} would be taken for a value: {mend}"


def _patient_faults(rows: Iterable[SlideRow]) -> list[str]:
    """A patient must not be in two parts."""
    faults = []
    for column in ("split", "fold"):
        first: dict[str, SlideRow] = {}
        for row in rows:
            value = getattr(row, column)
            other = first.setdefault(row.patient_id, row) if value else row
            if value and getattr(other, column) != value:
                faults.append(
                    f"patient {row.patient_id!r} has {column} {getattr(other, column)!r} (slide {other.slide_id})"
                    f" and {value!r} (slide {row.slide_id}): one patient, one part"
                )
    return faults


def _look_alikes(rows: Iterable[SlideRow]) -> list[str]:
    """Patients whose names differ in case, spaces or the zeros that spreadsheet programs take away."""
    alike: dict[str, list[str]] = {}
    for patient in sorted({row.patient_id for row in rows}):
        folded = "".join(patient.casefold().split())
        as_number = re.fullmatch(r"0*(\d+)(\.0+)?", folded)
        alike.setdefault(as_number[1] if as_number else folded, []).append(patient)
    return [
        f"patients {named([repr(patient) for patient in patients])} count as {len(patients)}: give them one name if they are one"
        for patients in alike.values()
        if len(patients) > 1
    ]
