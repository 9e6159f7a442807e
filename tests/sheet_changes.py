"""A valid cohort sheet, and changes of its content, each with its expected outcome."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

CLASSES = ("normal", "tumour")
COLUMNS = ["slide_id", "path", "label", "patient_id", "mpp", "fold", "scanner", "annotation", "tissue.method", "note"]
OPTIONAL = COLUMNS[3:8]
UNREAD = {"note"}
WITH_TWO = 8
"""Number of rows of patients with two slides, the first rows."""

Needle = str | int | tuple[int, ...]
"""Part of a message: text, or rows of the table, which are named by their number in the file."""


class Raw(str):
    """A cell that is written without the quotes that a CSV program would add."""


@dataclass
class Table:
    """Cells by row and column."""

    columns: list[str]
    rows: list[list[str]]

    def at(self, column: str) -> int:
        return self.columns.index(column)

    def put(self, row: int, column: str, text: str) -> str:
        """Change a cell and return its previous content."""
        before = self.rows[row][self.at(column)]
        self.rows[row][self.at(column)] = text
        return before

    def drop(self, column: str) -> None:
        at = self.at(column)
        del self.columns[at]
        for row in self.rows:
            del row[at]

    def add(self, at: int, column: str, cells: Sequence[str]) -> None:
        self.columns.insert(at, column)
        for row, cell in zip(self.rows, cells, strict=True):
            row.insert(at, cell)


@dataclass
class Outcome:
    """Expected outcome of a sheet.

    Attributes:
        means: table with the meaning of the sheet; None if there are faults.
        faults: parts of each fault; the number of faults must be the same.
        warnings: parts of each warning; the number of warnings must be the same.
        others: parts of further faults, of which there must be at least one; if empty, there must be none.
        form: properties of the file format that the outcome depends on.
    """

    means: Table | None
    faults: list[tuple[Needle, ...]] = field(default_factory=list)
    warnings: list[tuple[Needle, ...]] = field(default_factory=list)
    others: tuple[Needle, ...] = ()
    form: dict[str, object] = field(default_factory=dict)


def good_table() -> Table:
    """Return a table of twelve slides of eight patients in two folds; two patients of each class have two slides."""
    rows = []
    for patient in range(8):
        for slide in range(2 if patient < 4 else 1):
            name = f"s{patient}_{slide}"
            label, outline = CLASSES[patient % 2], f"truth/{name}.xml" if patient % 2 else ""
            optional = [f"Zoë {patient}", "0.25" if slide else "", "AB"[patient // 2 % 2], f"AT2, {slide}", outline]
            rows.append([name, f"slides/{name} ü.svs", label, *optional, "none" if patient == 3 else "", "pale; good"])
    return Table(list(COLUMNS), rows)


def write_files(folder: Path) -> None:
    """Write the files that the valid table names."""
    for name in ("slides", "truth"):
        (folder / name).mkdir(parents=True)
    for row in good_table().rows:
        for cell in (row[1], row[7]):
            (folder / (cell or "slides/none")).write_bytes(cell.encode())


def _same(rng: np.random.Generator, table: Table) -> Outcome:
    return Outcome(table)


def _columns_in_another_order(rng: np.random.Generator, table: Table) -> Outcome:
    order = rng.permutation(len(table.columns))
    return Outcome(Table([table.columns[i] for i in order], [[row[i] for i in order] for row in table.rows]))


def _rows_in_another_order(rng: np.random.Generator, table: Table) -> Outcome:
    table.rows = [table.rows[i] for i in rng.permutation(len(table.rows))]
    return Outcome(table)


def _misspelt(rng: np.random.Generator, name: str) -> str:
    """Return a name with a typing error, in other case, or with other separators between its words."""
    middle = 1 + int(rng.integers(len(name) - 2))
    swapped = name[:middle] + name[middle + 1] + name[middle] + name[middle + 2 :]
    ways = [name.upper(), name.title(), name.replace("_", " "), name.replace("_", "-"), name.replace("_", "")]
    ways += [f"{name}s", name[:middle] + name[middle] + name[middle:], swapped] if name not in ("mpp", "path") else []
    ways = [way for way in ways if way not in COLUMNS]
    return ways[rng.integers(len(ways))]


def _optional_column_misspelt(rng: np.random.Generator, table: Table) -> Outcome:
    column = OPTIONAL[rng.integers(len(OPTIONAL))]
    name = _misspelt(rng, column)
    table.columns[table.at(column)] = name
    return Outcome(None, [(f"column {name}: did you mean {column}?",)])


def _required_column_misspelt(rng: np.random.Generator, table: Table) -> Outcome:
    column = COLUMNS[rng.integers(3)]
    name = _misspelt(rng, column)
    table.columns[table.at(column)] = name
    return Outcome(None, [(f"column {column} is missing; did you mean {name!r}?",)])


def _patients_under_another_name(rng: np.random.Generator, table: Table) -> Outcome:
    name = ["case_id", "Case", "subject", "Participant ID", "donor"][rng.integers(5)]
    table.columns[table.at("patient_id")] = name
    return Outcome(table, warnings=[(f"column {name} is not used", "patient_id")])


def _setting_misspelt(rng: np.random.Generator, table: Table) -> Outcome:
    name = ["Tissue.Method", "tissue_method", "tissue.metod", "tisue.method"][rng.integers(4)]
    table.columns[table.at("tissue.method")] = name
    return Outcome(None, [(f"column {name}",)])


def _column_dropped(rng: np.random.Generator, table: Table) -> Outcome:
    column = COLUMNS[rng.integers(len(COLUMNS))]
    table.drop(column)
    return Outcome(None, [(f"column {column} is missing",)]) if column in COLUMNS[:3] else Outcome(table)


def _column_emptied(rng: np.random.Generator, table: Table) -> Outcome:
    column = COLUMNS[1:][rng.integers(len(COLUMNS) - 1)]
    for row in range(len(table.rows)):
        table.put(row, column, "")
    if column == "path":
        return Outcome(None, [(row, "path is empty") for row in range(len(table.rows))])
    if column == "label":
        return Outcome(None, [("no slide has a label: column label must be filled",)])
    return Outcome(table)


def _column_doubled(rng: np.random.Generator, table: Table) -> Outcome:
    column = COLUMNS[rng.integers(len(COLUMNS))]
    at = table.at(column)
    means = deepcopy(table)
    table.add(int(rng.integers(len(table.columns))), column, [row[at] for row in table.rows])
    return Outcome(means) if column in UNREAD else Outcome(None, [(f"column {column} occurs twice",)])


def _column_beside_its_like(rng: np.random.Generator, table: Table) -> Outcome:
    column = OPTIONAL[rng.integers(len(OPTIONAL))]
    table.add(0, column.upper(), [""] * len(table.rows))
    return Outcome(None, [(f"columns {column.upper()} and {column} have the same meaning",)])


def _column_without_a_name(rng: np.random.Generator, table: Table) -> Outcome:
    at = int(rng.integers(len(table.columns) + 1))
    filled = tuple(sorted(int(i) for i in rng.choice(len(table.rows), int(rng.integers(4)), replace=False)))
    means = deepcopy(table)
    table.add(at, "", ["x" if row in filled else "" for row in range(len(table.rows))])
    return Outcome(None, [(f"column {at + 1} has no name", filled)]) if filled else Outcome(means)


def _names_swapped(rng: np.random.Generator, table: Table) -> Outcome:
    swaps = [("label", "patient_id", "label"), ("mpp", "scanner", "mpp"), ("fold", "patient_id", "patient", "fold")]
    one, other, *needles = swaps[rng.integers(3)]
    at, to = table.at(one), table.at(other)
    table.columns[at], table.columns[to] = other, one
    if one == "fold":
        return Outcome(None, others=tuple(needles))
    if one == "label":
        return Outcome(None, [("column label: 'Zoë 0' in rows ", "not in targets.tumour.classes")])
    return Outcome(None, [(row, *needles) for row in range(len(table.rows))])


def _row_doubled(rng: np.random.Generator, table: Table) -> Outcome:
    row = int(rng.integers(len(table.rows)))
    table.rows.append(list(table.rows[row]))
    return Outcome(None, [(len(table.rows) - 1, f"slide_id {table.rows[row][0]!r} occurs in", row)])


def _file_under_another_name(rng: np.random.Generator, table: Table) -> Outcome:
    row = int(rng.integers(len(table.rows)))
    table.rows.append(["twin", *table.rows[row][1:]])
    table.put(-1, "path", ["./", "slides/../"][rng.integers(2)] + table.put(-1, "path", ""))
    kind, slides = rng.integers(3), f"slides {table.rows[row][0]}, twin are one file"
    if kind == 0:
        return Outcome(table, warnings=[(slides,)])
    if kind == 1:
        table.put(-1, "patient_id", "another")
        return Outcome(None, [(slides, "patient_id", "'another'")])
    own = table.rows[row][2]
    other = CLASSES[1 - CLASSES.index(own)]
    table.put(-1, "label", other)
    lost: list[tuple[Needle, ...]] = [("class 'normal' has 3 patients (not counting Zoë",)] if own == "normal" else []
    return Outcome(None, [(slides, f"targets.tumour {own!r}, {other!r}"), *lost])


def _patient_of_two_folds(rng: np.random.Generator, table: Table) -> Outcome:
    row = int(rng.integers(WITH_TWO))
    table.put(row, "fold", "AB"[table.rows[row][table.at("fold")] == "A"])
    return Outcome(None, [("fold", repr(table.rows[row][3]), table.rows[row][0])])


def _cell_that_says_nothing(rng: np.random.Generator, table: Table) -> Outcome:
    marks = ["NA", "nan", "N/A", "null", "None", "-", "#N/A", "n.a.", "?"]
    column, mark = [*COLUMNS[1:8]][rng.integers(7)], marks[rng.integers(len(marks))]
    rows = tuple(sorted(int(i) for i in rng.choice(len(table.rows), 1 + int(rng.integers(4)), replace=False)))
    for row in rows:
        table.put(row, column, mark)
    return Outcome(None, [(f"column {column}: {mark!r} in", rows)])


BAD = {
    "slide_id": ("a b", ".a", "-a", "ü", "a/b"),
    "path": ("gone.svs", "{x}.svs", "C:\\a.svs", "ftp://host/a.svs", "https://me:secret@host/a.svs", "y" * 4000, "slides"),
    "label": ("tumor", "Normal", "1", "=1+1"),
    "patient_id": ("=cmd()", "@x", "1.5E+11"),
    "mpp": ("20x", "896", "0", "-1", "0.5.1", "inf"),
    "fold": ("+1",),
    "annotation": ("gone.xml", "D:/truth/a.xml"),
    "tissue.method": ("ottsu",),
}
"""Invalid cells, by column."""


def _bad_cell(rng: np.random.Generator, table: Table) -> Outcome:
    column = list(BAD)[rng.integers(len(BAD))]
    row, text = int(rng.integers(len(table.rows))), BAD[column][rng.integers(len(BAD[column]))]
    table.put(row, column, text)
    if text == "=1+1":
        return Outcome(None, [(row, "label", "formula"), (row, "label", "not in targets.tumour.classes")])
    return Outcome(None, [(row, column)])


EMPTIED = {"slide_id": "slide_id ''", "path": "path is empty"}


def _cell_emptied(rng: np.random.Generator, table: Table) -> Outcome:
    column = ["slide_id", "path", "label", "patient_id", "mpp", "scanner", "annotation", "fold"][rng.integers(8)]
    row = int(rng.integers(len(table.rows)))
    table.put(row, column, "")
    if column in EMPTIED:
        return Outcome(None, [(row, EMPTIED[column])])
    if column == "fold":
        return Outcome(None, [(f"column fold is empty for labelled slides {table.rows[row][0]}",)])
    if column == "label" and row >= WITH_TWO:
        return Outcome(None, [("class", "has 3 patients, fewer than the 4")])
    return Outcome(table)


def _written_otherwise(rng: np.random.Generator, table: Table) -> Outcome:
    """Write a cell in another way with the same meaning: backslashes, decimal comma, zero-width or combining characters."""
    means, row = deepcopy(table), int(rng.integers(len(table.rows)))
    ways: list[tuple[str, Callable[[str], str]]] = [
        ("path", lambda text: text.replace("/", "\\")),
        ("annotation", lambda text: text.replace("/", "\\")),
        ("mpp", lambda text: text.replace(".", ",")),
        ("patient_id", lambda text: f"\u200b{text}\xa0".replace(" ", "\xa0")),
        ("patient_id", lambda text: text.replace("ë", "e\u0308")),
        ("label", lambda text: f"{text[:2]}\u200b{text[2:]}\ufeff"),
    ]
    column, way = ways[rng.integers(len(ways))]
    table.put(row, column, way(table.put(row, column, "")))
    return Outcome(means)


def _cell_with_a_zero_byte(rng: np.random.Generator, table: Table) -> Outcome:
    row = int(rng.integers(len(table.rows)))
    table.put(row, "note", "a\0b")
    return Outcome(None, [(row, "zero byte")], form={"says_delimiter": False})


def _quote_that_nothing_closes(rng: np.random.Generator, table: Table) -> Outcome:
    row, column = int(rng.integers(len(table.rows))), ["path", "patient_id", "scanner", "note"][rng.integers(4)]
    table.put(row, column, Raw('"' + table.put(row, column, "")))
    return Outcome(None, [(row, "quote")])


def _cells_beyond_the_header(rng: np.random.Generator, table: Table) -> Outcome:
    row = int(rng.integers(len(table.rows)))
    table.rows[row] += ["", "x"]
    return Outcome(None, [(row, f"{len(COLUMNS) + 2} cells, but the header has {len(COLUMNS)}")], form={"n_empty_columns": 0})


def _saved_in_latin_1(rng: np.random.Generator, table: Table) -> Outcome:
    rows = tuple(range(len(table.rows)))
    form: dict[str, object] = {"encoding": "latin-1", "says_delimiter": False, "padding": ("", "")}
    return Outcome(None, [(rows, "no UTF-8")], form=form)


CHANGES = [_same, _columns_in_another_order, _rows_in_another_order, _optional_column_misspelt, _required_column_misspelt]
CHANGES += [_patients_under_another_name, _setting_misspelt, _column_dropped, _column_emptied, _column_doubled]
CHANGES += [_column_beside_its_like, _column_without_a_name, _names_swapped, _row_doubled, _file_under_another_name]
CHANGES += [_patient_of_two_folds, _cell_that_says_nothing, _bad_cell, _cell_emptied, _written_otherwise]
CHANGES += [_cell_with_a_zero_byte, _quote_that_nothing_closes, _cells_beyond_the_header, _saved_in_latin_1]
