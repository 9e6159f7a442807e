"""Slide files that stand in the sheet more than once."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.config import Config
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.wording import named


@dataclass(frozen=True)
class Duplicates:
    """What there is to say of them: contradictions, and what may be meant so."""

    faults: tuple[str, ...]
    warnings: tuple[str, ...]


def duplicates(rows: Iterable[SlideRow], config: Config) -> Duplicates:
    """Rows of the same file, whatever its path: under one patient and label a warning, else a fault.

    Rows whose masks (or annotations, where tissue is what they outline) differ are parts of a slide, not the same one.
    """
    by_file: dict[object, list[SlideRow]] = {}
    for row in rows:
        if row.path != NO_PATH:
            by_file.setdefault(_identity(row.path), []).append(row)
    faults, warnings = [], []
    for same in (same for same in by_file.values() if len(same) > 1):
        slides = f"path: slides {named([row.slide_id for row in same])} are one file, {same[0].path}"
        by_part: dict[object, list[SlideRow]] = {}
        for row in same:
            by_part.setdefault(_part(row, config), []).append(row)
        unlike = next((found for part in by_part.values() if (found := _contradiction(part))), "")
        if unlike:
            faults.append(f"{slides}, but have {unlike}: take all but one out, or correct them")
        else:
            apart = ", told apart by mask or annotation" if len(by_part) == len(same) else ", which counts so many times"
            warnings.append(f"{slides}{apart}")
    return Duplicates(tuple(faults), tuple(warnings))


def _identity(path: Path | str) -> str:
    """The same for a file, links to it and other ways to write its path; an address is the same where its text is."""
    return path if isinstance(path, str) else os.path.realpath(path)


def _part(row: SlideRow, config: Config) -> object:
    """What tells a part of a slide from another part."""
    is_outlined = row.overrides.get("tissue.method", config.tissue.method) == "annotation"
    files = (row.mask, row.annotation if is_outlined else None)
    return tuple(None if file is None else _identity(file) for file in files)


def _contradiction(rows: list[SlideRow]) -> str:
    """The patients or the labels that differ, or ""; a row without a label contradicts none."""
    for what in ("patient_id", "label"):
        values = dict.fromkeys(value for row in rows if (value := getattr(row, what)))
        if len(values) > 1:
            return f"{what} {named([repr(value) for value in values])}"
    return ""
