"""Read the cells of a sheet, in the variants of CSV that spreadsheet programs, R and people write."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.cohort.columns import READ
from wsi_mil.decoding import decoded
from wsi_mil.wording import in_rows

DELIMITERS = ",;\t"
MAX_BYTES = 64 * 2**20
OTHER_FILES = {
    b"PK\x03\x04": "a spreadsheet workbook: save it as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet workbook: save it as CSV",
    b"\x1f\x8b": "compressed: decompress it",
}
"""First bytes of files that are often given as a sheet."""
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\s,;]*', re.IGNORECASE)
"""First line that names the delimiter for Excel; it is not counted as a row."""

INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\xad"
"""Characters without width, common in text copied from web pages and PDFs."""
_ENDS = re.compile(rf"^[\s{INVISIBLE}]+|[\s{INVISIBLE}]+$")
_WITHIN = re.compile(f"[{INVISIBLE}]")
_WIDE = re.compile(r"[^\S\r\n]")

QUOTES = {
    "unexpected end of data": "a quoted cell begins in this row and is never closed",
    "expected after": "text follows a closing quote; a quote inside a quoted cell must be doubled",
}
"""Messages of Python's csv module about quotes, and their explanations."""


@dataclass(frozen=True)
class Cells:
    """Content of a sheet.

    Attributes:
        columns: names, without unnamed empty columns.
        rows: number of each row that is not empty, as counted by spreadsheet programs, and its cells by column.
        faults: faults in the shape of the table; the rows that they name are not in `rows`.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    faults: tuple[str, ...]


def read_cells(path: Path) -> Cells:
    """Read the cells of a sheet, without surrounding white space and invisible characters.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no text table; the message names rows.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 2**20} MiB, too large for a cohort sheet")
    for begin, kind in OTHER_FILES.items():
        if data.startswith(begin):
            raise ValueError(f"it is {kind}")
    delimiter, text = _delimited(decoded(data, line="row"))
    table = [(number, [_cleaned(cell) for cell in record]) for number, record in _records(text, delimiter)]
    filled = [(number, record) for number, record in table if any(record)]
    header = filled[0][1] if filled else []
    columns = [plain(name) for name in header]
    shapes = _too_long(len(columns), filled[1:], delimiter) | _swallowed(columns, filled[1:], delimiter)
    malformed = {number for numbers in shapes.values() for number in numbers}
    faults = _unnamed(columns, filled[1:]) + [f"{in_rows(numbers)}: {fault}" for fault, numbers in shapes.items()]
    rows = tuple((number, _by_name(columns, record)) for number, record in filled[1:] if number not in malformed)
    return Cells(tuple(name for name in columns if name), rows, tuple(faults))


def plain(text: str) -> str:
    """Normalise text for comparison, so that texts that look the same are equal."""
    if text.isascii() and text.isprintable():
        return text
    return unicodedata.normalize("NFC", _WIDE.sub(" ", _WITHIN.sub("", text)))


def _delimited(text: str) -> tuple[str, str]:
    """The delimiter, and the text without the line that names it."""
    first, *_ = re.split(r"\r\n|\r|\n", text.lstrip("\r\n"), maxsplit=1)
    separator_line = SEPARATOR_LINE.fullmatch(first)
    if separator_line:
        return separator_line[1], re.sub(r"^(\r\n|\r|\n)", "", text.lstrip("\r\n")[len(first) :])
    return max(DELIMITERS, key=first.count), text


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    number = 1
    try:
        for number, record in enumerate(reader, start=1):
            yield number, record
            number += 1
    except csv.Error as error:
        explanation = next((text for message, text in QUOTES.items() if message in str(error)), str(error))
        raise ValueError(f"row {number}: {explanation}") from error


def _cleaned(cell: str) -> str:
    return cell.strip() if cell.isascii() else _ENDS.sub("", cell)


def _by_name(columns: list[str], record: list[str]) -> dict[str, str]:
    """Cells by column; short rows are filled with empty cells."""
    padded = record + [""] * (len(columns) - len(record))
    return {name: cell for name, cell in zip(columns, padded, strict=False) if name}


def _unnamed(columns: list[str], rows: list[tuple[int, list[str]]]) -> list[str]:
    """Faults of columns without a name that are not empty, except for the row numbers written by pandas and R."""
    faults = []
    for at in (at for at, name in enumerate(columns) if not name):
        numbers = [number for number, record in rows if at < len(record) and record[at]]
        if numbers and not (at == 0 and _numbers_rows([record[0] for _, record in rows])):
            faults.append(f"column {at + 1} has no name, but has cells in {in_rows(numbers)}: name it, or empty it")
    return faults


def _numbers_rows(cells: list[str]) -> bool:
    """Whether cells are the row numbers from 0 or 1."""
    return cells in ([str(n) for n in range(start, len(cells) + start)] for start in (0, 1))


def _too_long(width: int, rows: list[tuple[int, list[str]]], delimiter: str) -> dict[str, list[int]]:
    """Rows with cells beyond the last column of the header, by fault."""
    faults: dict[str, list[int]] = {}
    for number, record in rows:
        length = max((at + 1 for at, cell in enumerate(record) if cell), default=0)
        if length > width:
            fault = f"{length} cells, but the header has {width}: quote cells that contain {delimiter!r}, or name the column"
            faults.setdefault(fault, []).append(number)
    return faults


def _swallowed(columns: list[str], rows: list[tuple[int, list[str]]], delimiter: str) -> dict[str, list[int]]:
    """Rows in which a quote that is not closed has turned the rows below into one cell."""
    swallowing = [
        number
        for number, record in rows
        if any(_holds_rows(cell, name, len(columns), delimiter) for name, cell in zip(columns, record, strict=False))
    ]
    return {"a quoted cell seems to contain the rows below: close its quote": swallowing} if swallowing else {}


def _holds_rows(cell: str, column: str, width: int, delimiter: str) -> bool:
    """Whether a cell seems to contain the end of a row and the beginning of another, with whole rows between them."""
    first, *others = cell.splitlines() or [""]
    if not others or delimiter not in cell:
        return False
    ends = first.count(delimiter) + others[-1].count(delimiter)
    return column in READ or ends == width - 1 or any(line.count(delimiter) >= width - 1 for line in others)
