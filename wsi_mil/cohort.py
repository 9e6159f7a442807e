"""The cohort sheet, and the status of every slide in it."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import Any

from wsi_mil.addresses import is_url, url_fault
from wsi_mil.config import Config, Settings, SlideFile, Tissue, nearest, parse_settings
from wsi_mil.errors import ConfigError, MissingFileError
from wsi_mil.geometry import SANE_MPP
from wsi_mil.records import NO_PATH, Role, SlideRow, Status

REQUIRED = ("slide_id", "path", "label")
"""Columns; `path` only where slides are read."""

OPTIONAL = ("patient_id", "mpp", "split", "fold", "annotation", "mask", "scanner")
OVERRIDES: dict[str, type[Settings]] = {"slide": SlideFile, "tissue": Tissue}
"""Settings blocks that a column `block.key` may override for one slide."""

SLIDE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
DELIMITERS = ",;\t"
MAX_BYTES = 64 * 2**20
OTHER_FILES = {
    b"PK\x03\x04": "a workbook of a spreadsheet program: save it as CSV",
    b"\xff\xfe": "in UTF-16",
    b"\xfe\xff": "in UTF-16",
}
"""How files begin that are taken for sheets."""
COPIED = ("label", "patient_id", "scanner", "fold")
"""Columns whose cells go into tables that are opened in a spreadsheet program again."""
FORMULAS = ("=", "@", "+")


@dataclass(frozen=True)
class Sheet:
    """What was read from a sheet: its rows, and every fault in it."""

    rows: tuple[SlideRow, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class SlideStatus:
    """One row of `cohort_status.csv`.

    Attributes:
        reason: why not `ok`, naming the encoder entry.
        n_tiles: number of usable tiles of each encoder entry.
    """

    slide_id: str
    status: Status
    reason: str
    warnings: str
    n_tiles: dict[str, int]


def read_sheet(
    path: Path,
    classes: tuple[str, ...] | None,
    *,
    needs_path: bool = True,
    needs_file: Callable[[str], bool] | None = None,
) -> Sheet:
    """Read a cohort sheet (comma, semicolon or tab; UTF-8) and find every fault in it.

    Args:
        path: the sheet; paths in it are relative to its folder.
        classes: class names; None: labels are not looked at.
        needs_path: whether a slide without a path is a fault; where there are imported features only it is none.
        needs_file: tells by slide_id whether a slide's file must exist; annotations then must too. None: no file is
            looked for.
    """
    try:
        table, delimiter = _read_cells(path)
    except (OSError, ValueError, csv.Error) as error:
        return Sheet((), (f"cohort: cannot read {path} ({error}); expected a table of text as CSV in UTF-8",))
    columns = [name.strip() for name in table[0]] if table else []
    faults = _column_faults(path, columns, needs_path=needs_path)
    if faults:
        return Sheet((), tuple(faults))
    rows: list[SlideRow] = []
    seen: dict[str, int] = {}
    for number, values in enumerate(table[1:], start=2):
        if not any(value.strip() for value in values):
            continue
        cells = {name: value.strip() for name, value in zip_longest(columns, values[: len(columns)], fillvalue="")}
        found = _cell_faults(cells, classes, seen)
        found += ["path is empty"] if needs_path and not cells.get("path") else []
        if len(values) > len(columns):
            found.append(f"{len(values)} cells, but the header has {len(columns)}: quote what holds a {delimiter!r}")
        if set("{}") & set(str(path.parent)):
            found.append(f"the sheet's folder {path.parent} holds '{{' or '}}', which Snakemake takes for a wildcard")
        if needs_file is not None:
            found += _file_faults(cells, path.parent, needs_file)
        faults += [f"{path}, row {number}: {fault}" for fault in found]
        seen.setdefault(cells.get("slide_id", ""), number)
        if not found:
            rows.append(_row(cells, path.parent))
    if not seen:
        faults.append(f"{path}: has no rows")
    return Sheet(tuple(rows), tuple(faults + _patient_faults(path, rows)))


def labels_of(rows: Iterable[SlideRow], classes: tuple[str, ...]) -> dict[str, int]:
    """Class index of every labelled slide, by slide_id."""
    return {row.slide_id: classes.index(row.label) for row in rows if row.label}


def row_json(row: SlideRow) -> dict[str, object]:
    """A row as text and numbers, empty cells left out, overrides under their column names."""
    cells = {key: str(v) if isinstance(v, Path) else v for key, v in vars(row).items() if key != "overrides" and v != NO_PATH}
    return {key: value for key, value in {**cells, **row.overrides}.items() if value not in (None, "")}


def row_from_json(cells: dict[str, Any], *, path: str = "") -> SlideRow:
    """The row that `row_json` made, or as much of it as a rule passes on; `path` (file, URL or "") where it has none."""
    overrides = {name: value for name, value in cells.items() if "." in name}
    known = {name: value for name, value in cells.items() if "." not in name}
    files = {name: Path(known[name]) for name in ("annotation", "mask") if name in known}
    where = place(known.get("path", path), NO_PATH)
    return SlideRow(**{**known, **files, "path": where, "overrides": overrides})


def place(text: str, folder: Path) -> Path | str:
    """What a cell names: a file, relative to the sheet's folder, or a URL, which stays text."""
    return text if is_url(text) else folder / text


def with_overrides(settings: Mapping[str, Any], row: SlideRow) -> dict[str, Any]:
    """Settings by block, those that the slide's row overrides replaced."""
    values = {block: dict(keys) if isinstance(keys, Mapping) else keys for block, keys in settings.items()}
    for name, value in row.overrides.items():
        block, _, key = name.partition(".")
        values[block] = {**values.get(block, {}), key: value}
    return values


def write_status(path: Path, statuses: list[SlideStatus]) -> None:
    """Write `cohort_status.csv`, aside and renamed."""
    encoders = list(statuses[0].n_tiles) if statuses else []
    columns = ["slide_id", "status", "reason", "warnings", *(f"n_tiles_{name}" for name in encoders)]
    rows = [[s.slide_id, s.status, s.reason, s.warnings, *(s.n_tiles[e] for e in encoders)] for s in statuses]
    write_table(path, columns, rows)


def read_status(path: Path) -> list[SlideStatus]:
    """Read `cohort_status.csv`."""
    prefix = "n_tiles_"
    found = []
    for cells in read_table(path):
        counts = {name.removeprefix(prefix): int(value) for name, value in cells.items() if name.startswith(prefix)}
        found.append(SlideStatus(cells["slide_id"], Status(cells["status"]), cells["reason"], cells["warnings"], counts))
    return found


def ok_ids(statuses: list[SlideStatus]) -> set[str]:
    """The slides that every encoder entry could use."""
    return {s.slide_id for s in statuses if s.status is Status.OK}


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


def _read_cells(path: Path) -> tuple[list[list[str]], str]:
    """Rows of a sheet, and what stands between its cells. Raises OSError, ValueError, csv.Error."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES // 2**20} MiB, which is no sheet of slides")
    for begin, kind in OTHER_FILES.items():
        if data.startswith(begin):
            raise ValueError(f"it is {kind}")
    text = data.decode("utf-8-sig")
    delimiter = max(DELIMITERS, key=text.split("\n", 1)[0].count)
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)), delimiter


def _column_faults(path: Path, columns: list[str], *, needs_path: bool) -> list[str]:
    required = [name for name in REQUIRED if needs_path or name != "path"]
    faults = [f"{path}: column {name} is missing{nearest(name, columns)}" for name in required if name not in columns]
    faults += [f"{path}: column {name} stands there twice" for name in sorted({c for c in columns if columns.count(c) > 1})]
    for name in columns:
        block, dot, key = name.partition(".")
        if dot and block in OVERRIDES and key not in OVERRIDES[block].model_fields:
            faults.append(f"{path}: column {name}: unknown setting{nearest(key, list(OVERRIDES[block].model_fields))}")
        if dot and block not in OVERRIDES and get_close_matches(block, Config.model_fields, cutoff=0.75):
            faults.append(f"{path}: column {name}: settings of {' and '.join(OVERRIDES)} can stand in the sheet, not of {block}")
    return faults


def _cell_faults(cells: dict[str, str], classes: tuple[str, ...] | None, seen: dict[str, int]) -> list[str]:
    slide_id, faults = cells.get("slide_id", ""), []
    if not SLIDE_ID.fullmatch(slide_id):
        faults.append(f"slide_id {slide_id!r} must be letters, digits, '_', '-', '.', and not start with '.' or '-'")
    if slide_id in seen:
        faults.append(f"slide_id {slide_id!r} stands in row {seen[slide_id]} already")
    slide = cells.get("path", "")
    if is_url(slide):
        faults += [fault] if (fault := url_fault(slide)) else []
    elif "{" in slide or "}" in slide:
        faults.append(f"path {slide!r} holds '{{' or '}}', which Snakemake takes for a wildcard; rename the file")
    for name in COPIED:
        if cells.get(name, "").startswith(FORMULAS):
            faults.append(
                f"{name} {cells[name]!r} begins as a formula does, which a spreadsheet program would run: write a value"
            )
    label = cells.get("label", "")
    if label and classes is not None and label not in classes:
        faults.append(f"label {label!r} is not in classes{nearest(label, list(classes))}")
    if cells.get("mpp") and not _is_sane_mpp(cells["mpp"]):
        faults.append(f"mpp {cells['mpp']!r} is not a number from {SANE_MPP[0]:g} to {SANE_MPP[1]:g} (µm per pixel)")
    if cells.get("split") and cells["split"] not in list(Role):
        faults.append(f"split {cells['split']!r}{nearest(cells['split'], [role.value for role in Role])}")
    return faults + _override_faults(cells)


def _file_faults(cells: dict[str, str], folder: Path, needs_file: Callable[[str], bool]) -> list[str]:
    faults, slide = [], cells.get("path", "")
    is_file = is_url(slide) or (folder / slide).is_file()  # servers are asked elsewhere, all at once
    if slide and not is_file and needs_file(cells.get("slide_id", "")):
        faults.append(f"path {folder / slide} does not exist")
    for name in ("annotation", "mask"):
        if cells.get(name) and not (folder / cells[name]).is_file():
            faults.append(f"{name} {folder / cells[name]} does not exist")
    return faults


def _is_sane_mpp(text: str) -> bool:
    try:
        return SANE_MPP[0] <= float(text) <= SANE_MPP[1]
    except ValueError:
        return False


def _override_faults(cells: dict[str, str]) -> list[str]:
    faults: list[str] = []
    for block, model in OVERRIDES.items():
        values = {name.partition(".")[2]: v for name, v in cells.items() if v and name.startswith(f"{block}.")}
        try:
            parse_settings(model, values, where=f"{block}.")
        except ConfigError as error:
            faults += error.faults
    return faults


def _row(cells: dict[str, str], folder: Path) -> SlideRow:
    return SlideRow(
        slide_id=cells["slide_id"],
        path=place(cells["path"], folder) if cells.get("path") else NO_PATH,
        label=cells["label"],
        patient_id=cells.get("patient_id") or cells["slide_id"],
        mpp=float(cells["mpp"]) if cells.get("mpp") else None,
        split=cells.get("split", ""),
        fold=cells.get("fold", ""),
        annotation=folder / cells["annotation"] if cells.get("annotation") else None,
        mask=folder / cells["mask"] if cells.get("mask") else None,
        scanner=cells.get("scanner", ""),
        overrides={name: v for name, v in cells.items() if v and name.partition(".")[0] in OVERRIDES and "." in name},
    )


def _patient_faults(path: Path, rows: list[SlideRow]) -> list[str]:
    """A patient must not be in two parts."""
    faults = []
    for column in ("split", "fold"):
        first: dict[str, SlideRow] = {}
        for row in rows:
            value = getattr(row, column)
            other = first.setdefault(row.patient_id, row) if value else row
            if value and getattr(other, column) != value:
                faults.append(
                    f"{path}: patient {row.patient_id!r} has {column} {getattr(other, column)!r} (slide {other.slide_id})"
                    f" and {value!r} (slide {row.slide_id}): one patient, one part"
                )
    return faults
