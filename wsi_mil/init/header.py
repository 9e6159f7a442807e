"""Find the names of a table's columns: below titles and comments, in one line or several."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from wsi_mil.init.words import is_missing, squeezed, word_set
from wsi_mil.wording import in_rows

MOST_LINES = 4
"""Largest number of lines that belong to one header."""
MOSTLY = 0.7
"""Share of a column's cells that are numbers or dates, above which text in it is part of the header."""
VALUE = re.compile(r"[<>≤≥~]?\s*[+-]?\d[\d.,:/ \-]*\s*%?|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{2,4}")
"""Number, date or time."""
UNSPECIFIC = word_set("id nr no code nummer number name key")
"""Names that mean something below a group only."""
GDC_CODE = "CDE_ID:"
"""Beginning of the cells in the third line of GDC's clinical tables."""


@dataclass(frozen=True)
class Header:
    """Names of columns.

    Attributes:
        names: of all columns; "" for those without.
        first: line of the header that names were taken from, to find its repetitions.
        n_lines: number of lines up to the last one of the header, empty ones not counted.
        notes: what is unusual about it.
    """

    names: list[str]
    first: list[str]
    n_lines: int
    notes: list[str]


def find_header(rows: Sequence[list[str]], numbers: Sequence[int]) -> Header:
    """Find the header of a table.

    Args:
        rows: lines that are not empty, of the same length.
        numbers: their numbers, for messages.
    """
    start = _above(rows)
    lines = _header_lines(rows[start:])
    header = [_without_hash(row) for row in rows[start : start + lines]]
    names = _joined(header)
    is_usual = start == 0 and lines == 1
    where = in_rows(numbers[start : start + lines])
    notes = [] if is_usual else [f"names of columns from {where}: {', '.join(filter(None, names[:4]))}, …"]
    return Header(names, header[0], start + lines, notes)


def numbers_rows(cells: Sequence[str]) -> bool:
    """Return whether cells are the row numbers from 0 or 1 that pandas and R write."""
    return list(cells) in ([str(n) for n in range(start, len(cells) + start)] for start in (0, 1))


def _above(rows: Sequence[list[str]]) -> int:
    """Number of lines above the header: comments and titles."""
    start = 0
    while start < len(rows) - 1 and rows[start][0].startswith("#"):
        start += 1
    if start and _names_columns(rows[start - 1], rows[start]):
        start -= 1  # the last comment is the header
    width = max((len(_distinct(row)) for row in rows[start:]), default=0)
    while start < len(rows) - 1 and _is_title(rows[start], width):
        start += 1
    return start


def _is_title(row: list[str], width: int) -> bool:
    """Whether a line is a title, or says when the table was made, in a table with lines of `width` different cells."""
    n = len(_distinct(row))
    return (n <= 1 < width) or (n <= 2 and width > 2 * n and any(map(_is_value, row)))


def _names_columns(comment: list[str], below: list[str]) -> bool:
    """Whether a comment is a header, since the line below it is none."""
    return any(map(_is_value, below)) and not any(map(_is_value, comment)) and len(_distinct(comment)) == len(below)


def _header_lines(rows: Sequence[list[str]]) -> int:
    """Number of lines of the header, at least 1."""
    codes = [at for at, row in enumerate(rows[:MOST_LINES]) if any(cell.startswith(GDC_CODE) for cell in row)]
    lines = codes[-1] + 1 if codes else 1
    while lines < min(MOST_LINES, len(rows) - 1) and _continues(rows[:lines], rows[lines], rows[lines + 1 :]):
        lines += 1
    return lines


def _continues(header: Sequence[list[str]], row: list[str], below: Sequence[list[str]]) -> bool:
    """Whether a line belongs to the header: it has text where the lines below have numbers or dates, or names what is unnamed."""
    if _is_record(row, below):
        return False
    numeric = [at for at in range(len(row)) if _is_numeric([other[at] for other in below])]
    if any(_is_value(row[at]) for at in numeric):
        return False
    has_text = any(row[at] and not is_missing(row[at]) for at in numeric)
    if has_text:
        return True
    gaps = [at for at, name in enumerate(header[-1]) if not name and row[at] and any(other[at] for other in below)]
    return len(header) == 1 and 2 * len(gaps) >= len(row) and len(_distinct(row)) == sum(map(bool, row))


def _is_record(row: list[str], below: Sequence[list[str]]) -> bool:
    """Whether a line is one of the table's records: a cell occurs below it too, or is like S001 above S002."""
    for at, cell in enumerate(row):
        others = {other[at] for other in below if other[at] and other != row}  # the header itself may be repeated
        is_id = any(letter.isdigit() for letter in cell) and _shape(cell) in map(_shape, others)
        if cell and not is_missing(cell) and (cell in others or is_id):
            return True
    return False


def _shape(cell: str) -> str:
    """A cell with its numbers and words as one mark each: 0 and a."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell))


def _joined(header: list[list[str]]) -> list[str]:
    """Names from the lines of a header: the first that names every column by itself, else groups with what is below them."""
    used = [any(line[at] for line in header) for at in range(len(header[0]))]
    for line in header:
        own = [name for name, is_used in zip(line, used, strict=True) if is_used]
        if all(own) and len(set(own)) == len(own):
            return [_told(name, group) for name, group in zip(line, _filled_right(header[0]), strict=True)]
    last = [next((line[at] for line in header[1:] if line[at]), "") for at in range(len(used))]
    return [_name(at, header[0], last) for at in range(len(used))]


def _told(name: str, group: str) -> str:
    """A name that says what it is of: `ID` below `Patient` is Patient ID."""
    return f"{group} {name}" if squeezed(name) in UNSPECIFIC and group != name else name


def _name(at: int, groups: list[str], last: list[str]) -> str:
    """Name of a column below a line of groups."""
    own, name, group = groups[at], last[at], _filled_right(groups)[at]
    if not name or name == own:
        return own
    is_clear = last.count(name) == 1 and groups.count(own) != 1
    return name if is_clear or not group else f"{group} {name}"


def _filled_right(line: list[str]) -> list[str]:
    """A line of groups, each repeated up to the next."""
    filled: list[str] = []
    for name in line:
        filled.append(name or (filled[-1] if filled else ""))
    return filled


def _without_hash(row: list[str]) -> list[str]:
    return [row[0].lstrip("# "), *row[1:]]


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if not is_missing(cell)]
    return bool(filled) and sum(map(_is_value, filled)) >= MOSTLY * len(filled)


def _is_value(cell: str) -> bool:
    return VALUE.fullmatch(cell) is not None


def _distinct(row: Sequence[str]) -> set[str]:
    return {cell for cell in row if cell}
