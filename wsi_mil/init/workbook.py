"""Read the cells of an Excel workbook as the text that a reader sees. The only importer of openpyxl."""

import re
import warnings
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_mil.errors import ConfigError

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

Grid = list[list[str]]

ZEROS = re.compile(r"0{2,}")
"""Number format that shows leading zeros."""


def sheets_of(path: Path) -> tuple[dict[str, Grid], list[str]]:
    """Return the cells of each sheet that has some, and notes.

    Merged cells have the content of the range in each of its cells. Numbers whose format shows leading zeros keep them.

    Raises:
        ConfigError: openpyxl is missing, or cannot read the file.
    """
    book, formulas = _open(path, values=True), _open(path, values=False)
    grids: dict[str, Grid] = {}
    notes: list[str] = []
    for name in book.sheetnames:
        sheet = book[name]
        if not hasattr(sheet, "merged_cells") or sheet.sheet_state != "visible":
            continue
        grid = _grid(sheet)
        n_lost = _uncomputed(sheet, formulas[name])
        if n_lost:
            notes.append(f"sheet {name!r}: {n_lost} formulas without a result are read as empty: open and save it in Excel first")
        if any(any(row) for row in grid):
            grids[name] = grid
    return grids, notes


def _open(path: Path, *, values: bool) -> "Workbook":
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise ConfigError(
            [f"{path}: reading Excel needs openpyxl: pip install 'wsi_mil[excel]', or save the table as CSV"]
        ) from error
    try:
        with warnings.catch_warnings(action="ignore"):  # about styles and extensions, which are not read
            return load_workbook(path, data_only=values)
    except OSError:
        raise
    except Exception as error:  # openpyxl raises anything from KeyError to BadZipFile on damaged files
        text = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError([f"{path}: cannot be read as an Excel workbook ({text}); save it again as .xlsx, or as CSV"]) from error


def _grid(sheet: "Worksheet") -> Grid:
    """Cells from the first row and column on, whether they are empty or not."""
    rows = [[_text(cell) for cell in row] for row in sheet.iter_rows(min_row=1, min_col=1)]
    for merged in sheet.merged_cells.ranges:
        left, right = merged.min_col - 1, merged.max_col
        text = rows[merged.min_row - 1][left] if merged.min_row <= len(rows) and left < len(rows[0]) else ""
        for row in rows[merged.min_row - 1 : merged.max_row]:
            row[left:right] = [text] * len(row[left:right])
    return rows


def _text(cell: Any) -> str:
    value = cell.value
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat(" ") if value.time() != time() else value.date().isoformat()
        case date() | time():
            return value.isoformat()
        case float() | int():
            return _number(value, str(cell.number_format or ""))
    return " ".join(str(value).split())


def _number(value: float, number_format: str) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.15g}"
    text = str(int(value))
    is_padded = ZEROS.fullmatch(number_format.strip('"'))
    return text.zfill(len(number_format)) if is_padded and value >= 0 else text


def _uncomputed(values: "Worksheet", formulas: "Worksheet") -> int:
    """Number of formulas whose result the file does not have."""
    pairs = zip(values.iter_rows(), formulas.iter_rows(), strict=False)
    cells = (pair for own, other in pairs for pair in zip(own, other, strict=False))
    return sum(formula.data_type == "f" and value.value is None for value, formula in cells)
