"""Check the cells of the sheet."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.addresses import is_url, url_fault
from wsi_mil.cohort.columns import OVERRIDES, SheetColumns
from wsi_mil.cohort.covariates import covariate_columns
from wsi_mil.cohort.labels import columns_of, listed_values
from wsi_mil.cohort.rows import is_windows_path, local_path, number
from wsi_mil.config import ClassesTarget, Target, nearest, parse_settings
from wsi_mil.errors import ConfigError
from wsi_mil.records import SHEET_ROLES
from wsi_mil.units import SANE_MPP

SLIDE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
COPIED = ("patient_id", "scanner", "fold")
"""Columns that are copied to tables, as classes are, which may be opened in a spreadsheet program."""
FORMULAS = ("=", "@", "+")
FILES = ("annotation", "mask")

WRITTEN = "na nan nat n/a n.a. n.a <na> null none nil #n/a #na #null! #ref! #value! #name? #div/0! #num! - -- – — ?"
MISSING_MARKS = frozenset(WRITTEN.split())
"""Texts that R, pandas, spreadsheet programs and people write for missing values, in lower case."""
UNKNOWN = ("unknown", "unk", "missing", "undefined", "tbd", ".")
"""Texts that people write for unknown values."""
CAN_BE_UNKNOWN = ("scanner",)
"""Columns in which these are ordinary values."""
MARKABLE = ("slide_id", "path", "patient_id", "mpp", "split", "fold", "scanner", *FILES)

SCIENTIFIC_NUMBER = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)
"""A long number in scientific notation, as spreadsheet programs show it: different numbers then look the same."""


@dataclass(frozen=True)
class SheetRules:
    """Requirements for the cells of a sheet.

    Attributes:
        folder: folder of the sheet; paths are relative to it.
        targets: what labels are read for.
        needs_path: whether a slide without a path is a fault.
        needs_file: returns for a slide_id whether the slide file must exist; if given, annotations and masks must exist, too.
            None: files are not checked.
        columns: further columns that are read.
    """

    folder: Path
    targets: Mapping[str, Target]
    needs_path: bool
    needs_file: Callable[[str], bool] | None
    columns: SheetColumns


def missing_marks(cells: Mapping[str, str], rules: SheetRules) -> dict[str, str]:
    """Return the cells of a row, by column, that mark a missing value with text instead of being empty."""
    marks = {}
    of_targets = (*columns_of(rules.targets), *covariate_columns(rules.targets))
    for name in dict.fromkeys((*MARKABLE, *of_targets, rules.columns.group)):
        text = cells.get(name, "")
        if not text:
            continue
        is_unknown = text.casefold() in UNKNOWN and name not in CAN_BE_UNKNOWN and name not in ("slide_id", "path", *FILES)
        is_id = name == "slide_id" and not SLIDE_ID.fullmatch(text)  # has another fault
        is_mark = not is_id and (text.casefold() in MISSING_MARKS or is_unknown)
        if is_mark and text not in listed_values(rules.targets.values(), name):
            marks[name] = text
    return marks


def cell_faults(cells: Mapping[str, str], rules: SheetRules) -> list[str]:
    """Return the faults of the cells of a row that do not depend on other rows."""
    slide_id = cells.get("slide_id", "")
    faults = []
    if not SLIDE_ID.fullmatch(slide_id):
        faults.append(f"slide_id {slide_id!r} must be letters, digits, '_', '-', '.', and not start with '.' or '-'")
    faults += _path_faults(cells.get("path", ""), rules) + _text_faults(cells, rules)
    if cells.get("mpp") and not _is_sane_mpp(cells["mpp"]):
        faults.append(f"mpp {cells['mpp']!r} is not a number from {SANE_MPP[0]:g} to {SANE_MPP[1]:g} (µm per pixel)")
    if cells.get("split") and cells["split"] not in SHEET_ROLES:
        faults.append(f"split {cells['split']!r}{nearest(cells['split'], [role.value for role in SHEET_ROLES])}")
    return faults + _override_faults(cells)


def file_faults(cells: Mapping[str, str], rules: SheetRules) -> list[str]:
    """Return the faults of files of a row that do not exist."""
    slide = cells.get("path", "")
    faults: list[str] = []
    if rules.needs_file is None:
        return []
    if slide and not is_url(slide) and rules.needs_file(cells.get("slide_id", "")):  # slides on servers are checked elsewhere
        faults += _absence("path", slide, rules.folder)
    return faults + [fault for name in FILES if cells.get(name) for fault in _absence(name, cells[name], rules.folder)]


def _path_faults(slide: str, rules: SheetRules) -> list[str]:
    if not slide:
        return ["path is empty"] if rules.needs_path else []
    if is_url(slide):
        return [fault] if (fault := url_fault(slide)) else []
    if "{" in slide or "}" in slide:
        return [f"path {slide!r} contains '{{' or '}}', which Snakemake reads as a wildcard; rename the file"]
    return []


def _text_faults(cells: Mapping[str, str], rules: SheetRules) -> list[str]:
    """Faults of cells that spreadsheet programs misinterpret, or have changed."""
    of_classes = [target.column for target in rules.targets.values() if isinstance(target, ClassesTarget)]
    faults = [
        f"{name} {cells[name]!r} looks like a formula, which a spreadsheet program would run: write a value"
        for name in dict.fromkeys((*of_classes, *COPIED, rules.columns.group))
        if cells.get(name, "").startswith(FORMULAS)
    ]
    if SCIENTIFIC_NUMBER.fullmatch(cells.get("patient_id", "")):
        faults.append(f"patient_id {cells['patient_id']!r} is a long number, changed by a spreadsheet program: write it as text")
    return faults


def _absence(name: str, text: str, folder: Path) -> list[str]:
    path = local_path(text, folder)
    try:
        if path.is_file():
            return []
    except OSError as error:  # a name that is too long, a folder without access
        return [f"{name} {text[:200]!r} cannot be checked: {error.strerror}"]
    if is_windows_path(text):
        return [f"{name} {text!r} is a Windows path: give the path on this machine, with '/'"]
    return [f"{name} {path} does not exist"]


def _is_sane_mpp(text: str) -> bool:
    try:
        return SANE_MPP[0] <= number(text) <= SANE_MPP[1]
    except ValueError:
        return False


def _override_faults(cells: Mapping[str, str]) -> list[str]:
    faults: list[str] = []
    for block, model in OVERRIDES.items():
        values = {name.partition(".")[2]: v for name, v in cells.items() if v and name.startswith(f"{block}.")}
        known = {
            key: value for key, value in values.items() if key in model.model_fields
        }  # unknown ones are faults of the column
        if not known:
            continue
        try:
            parse_settings(model, known, where=f"{block}.")
        except ConfigError as error:
            faults += error.faults
    return faults
