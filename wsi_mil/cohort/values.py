"""Cells of the sheet: what is wrong with them, row by row or column by column."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.addresses import is_url, url_fault
from wsi_mil.cohort.columns import OVERRIDES
from wsi_mil.cohort.rows import is_of_windows, local, number
from wsi_mil.config import nearest, parse_settings
from wsi_mil.errors import ConfigError
from wsi_mil.geometry import SANE_MPP
from wsi_mil.records import Role
from wsi_mil.tasks import Task

SLIDE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
COPIED = ("label", "patient_id", "scanner", "fold")
"""Columns whose cells go into tables that are opened in a spreadsheet program again."""
FORMULAS = ("=", "@", "+")
FILES = ("annotation", "mask")

WRITTEN = "na nan nat n/a n.a. n.a <na> null none nil #n/a #na #null! #ref! #value! #name? #div/0! #num! - -- – — ?"
NOTHING = frozenset(WRITTEN.split())
"""What R, pandas, spreadsheet programs and people write, in any case, where there is nothing."""
UNKNOWN = ("unknown", "unk", "missing", "undefined", "tbd", ".")
"""What people write where they do not know."""
CAN_BE_UNKNOWN = ("scanner",)
"""Columns where that is a value like any other."""
MARKABLE = ("slide_id", "path", "label", "patient_id", "mpp", "split", "fold", "scanner", *FILES)

SHORTENED = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)
"""A long number as a spreadsheet program shows it: different ones then look the same."""


@dataclass(frozen=True)
class Asked:
    """What is asked of cells.

    Attributes:
        folder: of the sheet; paths are relative to it.
        task: what labels are read for; None: they are not looked at.
        needs_path: whether a slide without a path is a fault.
        needs_file: tells by slide_id whether a slide's file must exist; annotations and masks then must too. None: no file is
            looked for.
    """

    folder: Path
    task: Task | None
    needs_path: bool
    needs_file: Callable[[str], bool] | None


def marks(cells: Mapping[str, str], asked: Asked) -> dict[str, str]:
    """Cells of one row that say there is nothing where they should be empty, by column."""
    found = {}
    for name in MARKABLE:
        text = cells.get(name, "")
        if not text:
            continue
        is_unknown = text.casefold() in UNKNOWN and name not in CAN_BE_UNKNOWN and name not in ("slide_id", "path", *FILES)
        is_label = name == "label" and (asked.task is None or not asked.task.label_fault(text))
        is_id = name == "slide_id" and not SLIDE_ID.fullmatch(text)  # is a fault of its own
        if not is_label and not is_id and (text.casefold() in NOTHING or is_unknown):
            found[name] = text
    return found


def cell_faults(cells: Mapping[str, str], asked: Asked) -> list[str]:
    """What is wrong with the cells of one row, whatever the others are."""
    slide_id, faults = cells.get("slide_id", ""), []
    if not SLIDE_ID.fullmatch(slide_id):
        faults.append(f"slide_id {slide_id!r} must be letters, digits, '_', '-', '.', and not start with '.' or '-'")
    faults += _path_faults(cells.get("path", ""), asked) + _text_faults(cells)
    label = cells.get("label", "")
    if label and asked.task is not None and (fault := asked.task.label_fault(label)):
        faults.append(fault)
    if cells.get("mpp") and not _is_sane_mpp(cells["mpp"]):
        faults.append(f"mpp {cells['mpp']!r} is not a number from {SANE_MPP[0]:g} to {SANE_MPP[1]:g} (µm per pixel)")
    if cells.get("split") and cells["split"] not in list(Role):
        faults.append(f"split {cells['split']!r}{nearest(cells['split'], [role.value for role in Role])}")
    return faults + _override_faults(cells)


def file_faults(cells: Mapping[str, str], asked: Asked) -> list[str]:
    """Files of one row that are not there."""
    faults, slide = [], cells.get("path", "")
    if asked.needs_file is None:
        return []
    if slide and not is_url(slide) and asked.needs_file(cells.get("slide_id", "")):  # servers are asked elsewhere, all at once
        faults += _absence("path", slide, asked.folder)
    return faults + [fault for name in FILES if cells.get(name) for fault in _absence(name, cells[name], asked.folder)]


def _path_faults(slide: str, asked: Asked) -> list[str]:
    if not slide:
        return ["path is empty"] if asked.needs_path else []
    if is_url(slide):
        return [fault] if (fault := url_fault(slide)) else []
    if "{" in slide or "}" in slide:
        return [f"path {slide!r} holds '{{' or '}}', which Snakemake takes for a wildcard; rename the file"]
    return []


def _text_faults(cells: Mapping[str, str]) -> list[str]:
    """Cells that are copied into tables, or told apart by their text."""
    faults = [
        f"{name} {cells[name]!r} begins as a formula does, which a spreadsheet program would run: write a value"
        for name in COPIED
        if cells.get(name, "").startswith(FORMULAS)
    ]
    if SHORTENED.fullmatch(cells.get("patient_id", "")):
        faults.append(
            f"patient_id {cells['patient_id']!r} is a long number, shortened by a spreadsheet program: write it as text"
        )
    return faults


def _absence(name: str, text: str, folder: Path) -> list[str]:
    path = local(text, folder)
    try:
        if path.is_file():
            return []
    except OSError as error:  # a name that is too long, a folder that is not ours
        return [f"{name} {text[:200]!r} cannot be looked for: {error.strerror}"]
    if is_of_windows(text):
        return [f"{name} {text!r} is a path of Windows, which this machine does not know: give it as it is here, with '/'"]
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
        known = {key: value for key, value in values.items() if key in model.model_fields}  # others are faults of their column
        if not known:
            continue
        try:
            parse_settings(model, known, where=f"{block}.")
        except ConfigError as error:
            faults += error.faults
    return faults
