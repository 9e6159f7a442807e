"""The file of a sheet → its cells, as spreadsheet programs, R and people write such files."""

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
    b"PK\x03\x04": "a workbook of a spreadsheet program: save it as CSV",
    b"\xd0\xcf\x11\xe0": "a workbook of a spreadsheet program: save it as CSV",
    b"\x1f\x8b": "compressed: unpack it",
}
"""How files begin that are taken for sheets."""
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\s,;]*', re.IGNORECASE)
"""The first line by which Excel is told what stands between cells; Excel itself counts no row for it."""

INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\xad"
"""Characters without width, which text copied from a web page or a PDF brings along."""
_ENDS = re.compile(rf"^[\s{INVISIBLE}]+|[\s{INVISIBLE}]+$")
_WITHIN = re.compile(f"[{INVISIBLE}]")
_WIDE = re.compile(r"[^\S\r\n]")

QUOTES = {
    "unexpected end of data": "a quote opens there that nothing closes",
    "expected after": "something stands behind a closing quote; a quote within a quoted cell is written twice",
}
"""What Python's csv says of quotes, and what it means."""


@dataclass(frozen=True)
class Cells:
    """What a sheet holds.

    Attributes:
        columns: names, without unnamed columns that are empty.
        rows: number of each row that is not empty, counted as a spreadsheet program does, and its cells by column.
        faults: of the shape of the table; rows that they name are left out.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    faults: tuple[str, ...]


def read_cells(path: Path) -> Cells:
    """The cells of a sheet, cleaned of what stands invisibly around them.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no table of text; the message names rows.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES // 2**20} MiB, which is no sheet of slides")
    for begin, kind in OTHER_FILES.items():
        if data.startswith(begin):
            raise ValueError(f"it is {kind}")
    delimiter, text = _delimited(decoded(data, line="row"))
    table = [(number, [_cleaned(cell) for cell in record]) for number, record in _records(text, delimiter)]
    filled = [(number, record) for number, record in table if any(record)]
    header = filled[0][1] if filled else []
    columns = [plain(name) for name in header]
    shapes = _too_long(len(columns), filled[1:], delimiter) | _swallowed(columns, filled[1:], delimiter)
    odd = {number for numbers in shapes.values() for number in numbers}
    faults = _unnamed(columns, filled[1:]) + [f"{in_rows(numbers)}: {what}" for what, numbers in shapes.items()]
    rows = tuple((number, _by_name(columns, record)) for number, record in filled[1:] if number not in odd)
    return Cells(tuple(name for name in columns if name), rows, tuple(faults))


def plain(text: str) -> str:
    """Text as it is compared: what looks the same is the same."""
    if text.isascii() and text.isprintable():
        return text
    return unicodedata.normalize("NFC", _WIDE.sub(" ", _WITHIN.sub("", text)))


def _delimited(text: str) -> tuple[str, str]:
    """What stands between cells, and the text without the line that says so."""
    first, *_ = re.split(r"\r\n|\r|\n", text.lstrip("\r\n"), maxsplit=1)
    said = SEPARATOR_LINE.fullmatch(first)
    if said:
        return said[1], re.sub(r"^(\r\n|\r|\n)", "", text.lstrip("\r\n")[len(first) :])
    return max(DELIMITERS, key=first.count), text


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    number = 1
    try:
        for number, record in enumerate(reader, start=1):
            yield number, record
            number += 1
    except csv.Error as error:
        meant = next((meaning for said, meaning in QUOTES.items() if said in str(error)), str(error))
        raise ValueError(f"row {number}: {meant}") from error


def _cleaned(cell: str) -> str:
    return cell.strip() if cell.isascii() else _ENDS.sub("", cell)


def _by_name(columns: list[str], record: list[str]) -> dict[str, str]:
    """Cells by column; a short row has empty ones."""
    padded = record + [""] * (len(columns) - len(record))
    return {name: cell for name, cell in zip(columns, padded, strict=False) if name}


def _unnamed(columns: list[str], rows: list[tuple[int, list[str]]]) -> list[str]:
    """Columns without a name that are not empty; but for the row numbers that pandas and R write first."""
    faults = []
    for at in (at for at, name in enumerate(columns) if not name):
        numbers = [number for number, record in rows if at < len(record) and record[at]]
        if numbers and not (at == 0 and _numbers_rows([record[0] for _, record in rows])):
            faults.append(f"column {at + 1} has no name, but cells in {in_rows(numbers)}: give it one, or empty it")
    return faults


def _numbers_rows(cells: list[str]) -> bool:
    """Whether cells count the rows, from 0 or 1 on."""
    return cells in ([str(n) for n in range(start, len(cells) + start)] for start in (0, 1))


def _too_long(width: int, rows: list[tuple[int, list[str]]], delimiter: str) -> dict[str, list[int]]:
    """Rows with something beyond the header's last column, by what is wrong."""
    found: dict[str, list[int]] = {}
    for number, record in rows:
        length = max((at + 1 for at, cell in enumerate(record) if cell), default=0)
        if length > width:
            what = f"{length} cells, but the header has {width}: quote what holds a {delimiter!r}, or name the column"
            found.setdefault(what, []).append(number)
    return found


def _swallowed(columns: list[str], rows: list[tuple[int, list[str]]], delimiter: str) -> dict[str, list[int]]:
    """Rows where a quote that nothing closes has made a cell of the rows below it."""
    found = [
        number
        for number, record in rows
        if any(_holds_rows(cell, name, len(columns), delimiter) for name, cell in zip(columns, record, strict=False))
    ]
    return {"a cell in quotes goes on over what look like rows: close its quote": found} if found else {}


def _holds_rows(cell: str, column: str, width: int, delimiter: str) -> bool:
    """Whether there is the end of a row in a cell, and the beginning of one; whole rows may stand between them."""
    first, *others = cell.splitlines() or [""]
    if not others or delimiter not in cell:
        return False
    ends = first.count(delimiter) + others[-1].count(delimiter)
    return column in READ or ends == width - 1 or any(line.count(delimiter) >= width - 1 for line in others)
