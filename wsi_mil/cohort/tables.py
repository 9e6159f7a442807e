"""Tables that stages write and read, as CSV."""

import csv
from collections.abc import Iterable
from pathlib import Path

from wsi_mil.errors import MissingFileError


def write_table(path: Path, columns: list[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file aside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    part.replace(path)


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as dictionaries. Raises MissingFileError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise MissingFileError(path, "no such file; run the stage that writes it again") from error
