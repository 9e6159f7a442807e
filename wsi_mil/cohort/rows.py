"""Convert cells of the sheet to rows, and rows to JSON for the command line."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wsi_mil.addresses import is_url
from wsi_mil.cohort.columns import OVERRIDES, SheetColumns
from wsi_mil.records import NO_PATH, SlideRow

WINDOWS_ROOT = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""Drive or server at the beginning of a Windows path."""


def slide_row(
    cells: Mapping[str, str],
    folder: Path,
    labels: Mapping[str, str],
    columns: SheetColumns,
    covariates: Mapping[str, str] = MappingProxyType({}),
) -> SlideRow:
    """Convert cells without faults to a row; paths are relative to `folder`, labels are by target, covariates by column."""
    annotation, mask = (local_path(cells[name], folder) if cells.get(name) else None for name in ("annotation", "mask"))
    return SlideRow(
        slide_id=cells["slide_id"],
        path=slide_location(cells["path"], folder) if cells.get("path") else NO_PATH,
        patient_id=cells.get("patient_id") or cells["slide_id"],
        mpp=number(cells["mpp"]) if cells.get("mpp") else None,
        split=cells.get("split", ""),
        fold=cells.get("fold", ""),
        annotation=annotation,
        mask=mask,
        scanner=cells.get("scanner", ""),
        group=cells.get(columns.group, ""),
        part=cells.get(columns.part, ""),
        overrides={name: v for name, v in cells.items() if v and name.partition(".")[0] in OVERRIDES and "." in name},
        labels=dict(labels),
        covariates=dict(covariates),
    )


def row_json(row: SlideRow) -> dict[str, object]:
    """Convert a row to texts and numbers, without empty cells, with overrides under their column names."""
    cells = {key: str(v) if isinstance(v, Path) else v for key, v in vars(row).items() if key != "overrides" and v != NO_PATH}
    return {key: value for key, value in {**cells, **row.overrides}.items() if value not in (None, "", {})}


def row_from_json(cells: dict[str, Any], *, path: str = "") -> SlideRow:
    """Convert the output of `row_json`, or a part of it, to a row; `path` (file, URL or "") is used if it has none."""
    overrides = {name: value for name, value in cells.items() if "." in name}
    known = {name: value for name, value in cells.items() if "." not in name}
    files: dict[str, Any] = {name: Path(known[name]) for name in ("annotation", "mask") if name in known}
    text = known.get("path", path)
    where = text if is_url(text) else NO_PATH / text
    return SlideRow(**{**known, **files, "path": where, "overrides": overrides})


def slide_location(text: str, folder: Path) -> Path | str:
    """Return the file named by a cell, or a URL unchanged."""
    return text if is_url(text) else local_path(text, folder)


def local_path(text: str, folder: Path) -> Path:
    """Return a file relative to the sheet's folder; backslashes separate folders, unless a file with that name exists."""
    if "\\" not in text or is_windows_path(text) or os.path.lexists(folder / text):
        return folder / text
    return folder / text.replace("\\", "/")


def is_windows_path(text: str) -> bool:
    """Whether a path has a Windows drive or server and this system is not Windows."""
    return os.name != "nt" and WINDOWS_ROOT.match(text) is not None


def number(text: str) -> float:
    """Parse a number with a decimal point or comma. Raises ValueError."""
    if "_" in text:
        raise ValueError(f"{text} is a number in Python only")
    return float(text.replace(",", ".")) if re.fullmatch(r"[+-]?\d+,\d+", text) else float(text)


def with_overrides(settings: Mapping[str, Any], row: SlideRow) -> dict[str, Any]:
    """Return settings by block, with the overrides of a slide's row."""
    values = {block: dict(keys) if isinstance(keys, Mapping) else keys for block, keys in settings.items()}
    for name, value in row.overrides.items():
        block, _, key = name.partition(".")
        values[block] = {**values.get(block, {}), key: value}
    return values
