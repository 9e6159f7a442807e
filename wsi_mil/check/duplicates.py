"""Find slide files that are listed more than once in the sheet."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.config import Config
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.wording import named


@dataclass(frozen=True)
class Duplicates:
    """Messages about duplicate files: faults if their rows contradict each other, else warnings."""

    faults: tuple[str, ...]
    warnings: tuple[str, ...]


def duplicates(rows: Iterable[SlideRow], config: Config) -> Duplicates:
    """Find rows of the same file, even under different paths: a fault if patients or labels differ, else a warning.

    Rows with different masks (or annotations, if these define the tissue) are parts of a slide and may differ.
    """
    by_file: dict[object, list[SlideRow]] = {}
    for row in rows:
        if row.path != NO_PATH:
            by_file.setdefault(_identity(row.path), []).append(row)
    faults = []
    warnings = []
    for duplicate_rows in (rows_of_file for rows_of_file in by_file.values() if len(rows_of_file) > 1):
        slides = f"path: slides {named([row.slide_id for row in duplicate_rows])} are one file, {duplicate_rows[0].path}"
        by_part: dict[object, list[SlideRow]] = {}
        for row in duplicate_rows:
            by_part.setdefault(_part(row, config), []).append(row)
        contradiction = next((text for part in by_part.values() if (text := _contradiction(part))), "")
        if contradiction:
            faults.append(f"{slides}, but have {contradiction}: remove all but one, or correct them")
        else:
            are_parts = len(by_part) == len(duplicate_rows)
            remark = ", with different masks or annotations" if are_parts else ", which is counted several times"
            warnings.append(f"{slides}{remark}")
    return Duplicates(tuple(faults), tuple(warnings))


def _identity(path: Path | str) -> str:
    """Key of a file, the same for links to it and other spellings of its path; a URL is its own key."""
    return path if isinstance(path, str) else os.path.realpath(path)


def _part(row: SlideRow, config: Config) -> object:
    """Key of a part of a slide: its mask, and its annotation if that defines the tissue."""
    follows_annotation = row.overrides.get("tissue.method", config.tissue.method) == "annotation"
    files = (row.mask, row.annotation if follows_annotation else None)
    return tuple(None if file is None else _identity(file) for file in files)


def _contradiction(rows: list[SlideRow]) -> str:
    """Patients or labels that differ, as text, or ""; a missing label is no contradiction."""
    targets = dict.fromkeys(name for row in rows for name in row.labels)
    columns = {"patient_id": [row.patient_id for row in rows]}
    columns |= {f"targets.{name}": [row.labels[name] for row in rows if name in row.labels] for name in targets}
    for column, cells in columns.items():
        values = dict.fromkeys(cells)
        if len(values) > 1:
            return f"{column} {named([repr(value) for value in values])}"
    return ""
