"""Tables of vectors of slides: `slide_id`, and a column for each number."""

import csv
import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.decoding import decoded
from wsi_mil.errors import FeatureFileError

TABLE_SUFFIXES = (".csv", ".tsv")
ID = "slide_id"
NUMBERED = re.compile(r"(\D*)(\d+)")


def read_vector_table(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read a table with a vector in each row, by slide_id; pandas' column of row names is taken for it if there is none.

    Columns must be numbered in order (0, 1, … or feat_0, feat_1, …): a label or an age among them would be learned from.

    Raises:
        FeatureFileError: no slide_id, another column, a cell that is no number, a slide in two rows.
    """
    try:
        text = decoded(path.read_bytes(), line="row")
    except (OSError, ValueError) as error:
        raise FeatureFileError(path, f"cannot be read ({error})") from error
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    if not text.strip():
        raise FeatureFileError(path, "is empty")
    header, *rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)]
    name, columns = _columns(path, header)
    vectors: dict[str, NDArray[np.float64]] = {}
    numbers: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        if len(row) != len(header) or not row[name]:
            raise FeatureFileError(path, f"row {number}: expected {ID} and {len(columns)} numbers, found {len(row)} cells")
        if row[name] in vectors:
            raise FeatureFileError(path, f"row {number}: slide {row[name]} is in row {numbers[row[name]]} too; remove one")
        vectors[row[name]] = _numbers(path, number, [row[column] for column in columns])
        numbers[row[name]] = number
    if not vectors:
        raise FeatureFileError(path, "has no rows")
    return vectors


def _columns(path: Path, header: list[str]) -> tuple[int, list[int]]:
    """Place of the slide_id, and places of the numbers."""
    unnamed = [place for place, text in enumerate(header[:1]) if not text]
    if ID not in header and not unnamed:
        raise FeatureFileError(path, f"has no column {ID}, which names the slide of each row; its columns begin {header[:3]}")
    name = header.index(ID) if ID in header else 0
    columns = [place for place in range(len(header)) if place not in (name, *unnamed)]
    parts = [NUMBERED.fullmatch(header[place]) for place in columns]
    stems = [part[1] if part else header[place] for place, part in zip(columns, parts, strict=True)]
    common = max(stems, key=stems.count, default="")
    other = [header[place] for place, part, stem in zip(columns, parts, stems, strict=True) if not part or stem != common]
    order = [int(part[2]) for part in parts if part]
    if other or not order:
        found = f"column {', '.join(other[:3])}" if other else "none"
        what = f"expected {ID} and columns numbered in order, as feat_0, feat_1, …, found {found}"
        raise FeatureFileError(path, f"{what}; leave in the table only the numbers of the vector")
    if order != list(range(order[0], order[0] + len(order))) or order[0] > 1:
        raise FeatureFileError(path, f"columns {common}… are not numbered in order from 0 or 1; write all numbers of the vector")
    return name, columns


def _numbers(path: Path, number: int, cells: list[str]) -> NDArray[np.float64]:
    try:
        return np.array(cells, np.float64)
    except ValueError as error:
        raise FeatureFileError(path, f"row {number}: expected a number in each cell ({error})") from error
