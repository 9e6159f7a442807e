"""Read a clinical table as hospitals export it: text of any delimiter and encoding, or Excel; with titles above its header."""

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from wsi_mil.cohort.reading import DELIMITERS, MAX_BYTES, SEPARATOR_LINE, plain
from wsi_mil.decoding import decoded
from wsi_mil.errors import ConfigError
from wsi_mil.init.header import Header, find_header, numbers_rows
from wsi_mil.init.words import folded
from wsi_mil.init.workbook import Grid, sheets_of
from wsi_mil.wording import in_rows, listed, named

ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
OTHER_FILES = {
    OLE: "an old Excel workbook (.xls), or one with a password: save it as .xlsx or CSV",
    b"\x1f\x8b": "compressed: decompress it",
    b"%PDF": "a PDF document: a CSV, TSV or Excel table is needed",
    b"SQLite": "a database: export the table as CSV",
    b"<": "a web page or XML: export the table as CSV or .xlsx",
    b"{": "JSON: export the table as CSV or .xlsx",
}
FALLBACK = "cp1252"
"""Encoding of Western European Windows, which every byte that is no UTF-8 comes from most often."""
SNIFFED_LINES = 20


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: file, and sheet, for messages.
        columns: names, which differ.
        rows: number of each row as spreadsheet programs count, and its cells by column.
        notes: how it was read, one line each.
        header: number of each row above the rows, and its cells.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    notes: tuple[str, ...] = ()
    header: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        return [cells[name] for _, cells in self.rows]


def require_header(table: Table, slides: Collection[str]) -> None:
    """Require that no row of a slide was read as names of columns.

    Args:
        table: the table.
        slides: names of the slides' files, without ending; those without a digit may be names of columns.

    Raises:
        ConfigError: a cell above the rows is the name of a slide.
    """
    names = {folded(name) for name in slides if re.search(r"\d", name)}
    faults = [
        f"{table.title}, row {number}: has the slide {cell}, where names of columns were expected; write one line of them"
        for number, cells in table.header
        for cell in cells
        if folded(cell) in names or folded(PurePath(cell).stem) in names
    ]
    if faults:
        raise ConfigError(faults)


def read_tables(path: Path, sheet: str | None = None) -> list[Table]:
    """Return the table in a text file, or those in the sheets of a workbook.

    Args:
        path: the file; its content decides how it is read.
        sheet: name of the only sheet to read; None: all that are not hidden.

    Raises:
        ConfigError: the file is missing or no table, or has no such sheet.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror}); give a CSV, TSV or Excel file with --table"]) from error
    if len(data) > MAX_BYTES:
        raise ConfigError([f"{path}: is larger than {MAX_BYTES // 2**20} MiB; give a table of patients or slides"])
    if data.startswith(ZIP):
        return _of_workbook(path, sheet)
    if sheet is not None:
        raise ConfigError([f"{path}: --sheet {sheet!r} is for Excel workbooks, and this is a text table; leave it out"])
    return [_of_text(path, data)]


def _of_workbook(path: Path, sheet: str | None) -> list[Table]:
    grids, notes = sheets_of(path)
    if sheet is not None and sheet not in grids:
        raise ConfigError([f"{path}: no sheet {sheet!r} with cells; it has {listed([repr(name) for name in grids]) or 'none'}"])
    read = {name: grid for name, grid in grids.items() if sheet in (None, name)}
    tables = [_table(f"{path.name}, sheet {name!r}", grid, notes) for name, grid in read.items()]
    filled = [table for table in tables if table.rows]
    if not filled:
        raise ConfigError([f"{path}: no sheet has a header and rows; expected one row per patient or slide under column names"])
    return filled


def _of_text(path: Path, data: bytes) -> Table:
    kind = next((kind for begin, kind in OTHER_FILES.items() if data.lstrip(b"\xef\xbb\xbf \r\n").startswith(begin)), "")
    if kind:
        raise ConfigError([f"{path}: is {kind}"])
    text, notes = _decoded(path, data)
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    if not lines:
        raise ConfigError([f"{path}: is empty; expected a header and rows"])
    separator_line = SEPARATOR_LINE.fullmatch(lines[0].strip())
    delimiter = separator_line[1] if separator_line else _delimiter(lines)
    grid = [[" ".join(plain(cell).split()) for cell in record] for record in _records(path, text, delimiter)]
    if separator_line:
        grid = grid[next(n for n, row in enumerate(grid) if any(row)) + 1 :]
    table = _table(path.name, grid, notes)
    if not table.rows:
        raise ConfigError([f"{path}: has no rows; expected one row per patient or slide under column names"])
    return table


def _decoded(path: Path, data: bytes) -> tuple[str, list[str]]:
    try:
        return decoded(data, line="row"), []
    except ValueError as error:
        if b"\0" in data:
            raise ConfigError([f"{path}: {error}"]) from error
    numbers = [number for number, line in enumerate(data.splitlines(), start=1) if not line.isascii()]
    note = f"not in UTF-8, read as Windows-1252: check the accents in {in_rows(numbers)}"
    return data.decode(FALLBACK, "replace"), [note]


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter that cuts most lines into the same number of cells, the larger number if several do."""
    sample = lines[:SNIFFED_LINES]

    def evenness(delimiter: str) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in sample]
        best = max(set(counts), key=lambda n: (counts.count(n) if n else 0, n))
        return (counts.count(best) if best else 0, best)

    return max(DELIMITERS + "|", key=evenness)


def _records(path: Path, text: str, delimiter: str) -> Grid:
    csv.field_size_limit(MAX_BYTES)
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise ConfigError([f"{path}: cannot be read as a table ({error}); save it as CSV again"]) from error
    width = max(map(len, records), default=0)
    swallowing = [number for number, record in enumerate(records, start=1) if _holds_rows(record, delimiter, width)]
    if swallowing:
        raise ConfigError([f"{path}, {in_rows(swallowing)}: a quoted cell seems to contain the rows below: close its quote"])
    return records


def _holds_rows(record: Sequence[str], delimiter: str, width: int) -> bool:
    """Whether a cell contains lines with as many delimiters as rows have, since a quote is not closed."""
    lines = (line for cell in record for line in cell.splitlines()[1:])
    return width > 1 and any(line.count(delimiter) >= width - 1 for line in lines)


def _table(title: str, grid: Grid, notes: Sequence[str]) -> Table:
    width = max((n + 1 for row in grid for n, cell in enumerate(row) if cell), default=0)
    padded = [(number, [*row, *[""] * width][:width]) for number, row in enumerate(grid, start=1) if any(row)]
    if not padded:
        return Table(title, (), ())
    header = find_header([row for _, row in padded], [number for number, _ in padded])
    body = padded[header.n_lines :]
    repeated = [number for number, row in body if _is_header(row, header)]
    body = [(number, row) for number, row in body if number not in repeated]
    names, kept, column_notes = _columns(header, [row for _, row in body])
    rows = [(number, {name: row[at] for name, at in zip(names, kept, strict=True)}) for number, row in body]
    own = [*header.notes, *column_notes]
    own += [f"the header is repeated in {in_rows(repeated)}, left out"] if repeated else []
    above = tuple((number, tuple(row)) for number, row in padded[: header.n_lines])
    return Table(title, tuple(names), tuple(rows), (*notes, *own), above)


def _is_header(row: list[str], header: Header) -> bool:
    filled = [(cell, name) for cell, name in zip(row, header.first, strict=True) if cell or name]
    return len(filled) > 1 and all(cell == name for cell, name in filled)


def _columns(header: Header, rows: list[list[str]]) -> tuple[list[str], list[int], list[str]]:
    """Distinct names of the columns that have cells, where they are, and notes on names that occur twice or are missing."""
    names: list[str] = []
    kept: list[int] = []
    same: list[str] = []
    renamed: list[str] = []
    for at, name in enumerate(header.names):
        cells = [row[at] for row in rows]
        if (not any(cells) and not name) or (not name and at == 0 and numbers_rows(cells)):
            continue
        twin = kept[names.index(name)] if name in names else None
        if twin is not None and cells == [row[twin] for row in rows]:
            same.append(name)
            continue
        own = _free(name or f"column {at + 1}", names)
        renamed += [f"{name!r} → {own!r}"] if own != name else []
        names.append(own)
        kept.append(at)
    notes = [f"columns that occur twice with the same cells, read once: {named(same)}"] if same else []
    notes += (
        [f"columns without a name, or of the same name but with other cells, are renamed: {named(renamed)}"] if renamed else []
    )
    return names, kept, notes


def _free(name: str, taken: Sequence[str]) -> str:
    return next(own for own in (name, *(f"{name}_{n}" for n in range(2, len(taken) + 3))) if own not in taken)
