"""Rows of the sheet: what their cells mean, and how they travel through a rule."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_mil.addresses import is_url
from wsi_mil.cohort.columns import OVERRIDES
from wsi_mil.records import NO_PATH, SlideRow

OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""How a path begins that only Windows knows."""


def row_of(cells: Mapping[str, str], folder: Path) -> SlideRow:
    """The row that cells without faults say; paths in them are relative to `folder`."""
    files = {name: local(cells[name], folder) if cells.get(name) else None for name in ("annotation", "mask")}
    return SlideRow(
        slide_id=cells["slide_id"],
        path=place(cells["path"], folder) if cells.get("path") else NO_PATH,
        label=cells["label"],
        patient_id=cells.get("patient_id") or cells["slide_id"],
        mpp=number(cells["mpp"]) if cells.get("mpp") else None,
        split=cells.get("split", ""),
        fold=cells.get("fold", ""),
        scanner=cells.get("scanner", ""),
        overrides={name: v for name, v in cells.items() if v and name.partition(".")[0] in OVERRIDES and "." in name},
        **files,
    )


def row_json(row: SlideRow) -> dict[str, object]:
    """A row as text and numbers, empty cells left out, overrides under their column names."""
    cells = {key: str(v) if isinstance(v, Path) else v for key, v in vars(row).items() if key != "overrides" and v != NO_PATH}
    return {key: value for key, value in {**cells, **row.overrides}.items() if value not in (None, "")}


def row_from_json(cells: dict[str, Any], *, path: str = "") -> SlideRow:
    """The row that `row_json` made, or as much of it as a rule passes on; `path` (file, URL or "") where it has none."""
    overrides = {name: value for name, value in cells.items() if "." in name}
    known = {name: value for name, value in cells.items() if "." not in name}
    files: dict[str, Any] = {name: Path(known[name]) for name in ("annotation", "mask") if name in known}
    text = known.get("path", path)
    where = text if is_url(text) else NO_PATH / text
    return SlideRow(**{**known, **files, "path": where, "overrides": overrides})


def place(text: str, folder: Path) -> Path | str:
    """What a cell names: a file, or a URL, which stays text."""
    return text if is_url(text) else local(text, folder)


def local(text: str, folder: Path) -> Path:
    """A file, relative to the sheet's folder; where no file has backslashes in its name, they stand between folders."""
    if "\\" not in text or is_of_windows(text) or os.path.lexists(folder / text):
        return folder / text
    return folder / text.replace("\\", "/")


def is_of_windows(text: str) -> bool:
    """Whether a path has a drive or server of Windows, and this is another system."""
    return os.name != "nt" and OF_WINDOWS.match(text) is not None


def number(text: str) -> float:
    """A number, with a point or a decimal comma. Raises ValueError."""
    if "_" in text:
        raise ValueError(f"{text} is a number to Python only")
    return float(text.replace(",", ".")) if re.fullmatch(r"\d+,\d+", text) else float(text)


def with_overrides(settings: Mapping[str, Any], row: SlideRow) -> dict[str, Any]:
    """Settings by block, those that the slide's row overrides replaced."""
    values = {block: dict(keys) if isinstance(keys, Mapping) else keys for block, keys in settings.items()}
    for name, value in row.overrides.items():
        block, _, key = name.partition(".")
        values[block] = {**values.get(block, {}), key: value}
    return values
