"""Files of splits of other tools: CLAM's `splits_{k}.csv`, STAMP's `splits.json`, Patho-Bench's `k=all.tsv`."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsi_mil.cohort.splits import Splits
from wsi_mil.decoding import decoded
from wsi_mil.errors import ConfigError
from wsi_mil.files import write_table, write_text
from wsi_mil.records import Role
from wsi_mil.wording import named

CLAM, STAMP, PATHO_BENCH = "clam", "stamp", "patho-bench"
SPLIT_LAYOUTS = (CLAM, STAMP, PATHO_BENCH)
PARTS = (Role.TRAIN, Role.VAL, Role.TEST)
"""Roles that the files know."""

CLAM_FILE = re.compile(r"splits_(\d+)(_bool)?\.csv")
STAMP_FILE, PATHO_BENCH_FILE = "splits.json", "k=all.tsv"
FOLD_COLUMN = re.compile(r"fold_(\d+)")
VAL_PATIENTS = "val_patients"
"""Key of our exports for STAMP, which reads `train_patients` and `test_patients` alone and draws its validation part from the
first: those of them that validate here."""


@dataclass(frozen=True)
class SharedSplits:
    """Splits as they stand in files of another tool.

    Attributes:
        layout: name of the layout.
        unit: whether they name slides or patients.
        names: where each fold is from, for messages: a file, or a file and a column.
        folds: role of each slide or patient in each fold.
    """

    layout: str
    unit: Literal["slide", "patient"]
    names: tuple[str, ...]
    folds: tuple[dict[str, Role], ...]


def read_shared(path: Path, layout: str = "auto") -> SharedSplits:
    """Read the splits of another tool from its file, or from the folder with its files.

    Args:
        path: file or folder.
        layout: one of `SPLIT_LAYOUTS`, or "auto": by the names of the files.

    Raises:
        ConfigError: there is no such file, or it does not follow the layout; names every fault.
    """
    found = _layout_of(path) if layout == "auto" else layout
    if found == STAMP:
        return _read_stamp(path / STAMP_FILE if path.is_dir() else path)
    if found == PATHO_BENCH:
        return _read_patho_bench(path / PATHO_BENCH_FILE if path.is_dir() else path)
    return _read_clam(path)


def _layout_of(path: Path) -> str:
    names = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    if any(CLAM_FILE.fullmatch(name) for name in names):
        return CLAM
    endings = {".json": STAMP, ".tsv": PATHO_BENCH, ".csv": CLAM}
    known = [endings[Path(name).suffix] for name in sorted(names) if Path(name).suffix in endings]
    if path.is_dir():
        known = [layout for name, layout in ((STAMP_FILE, STAMP), (PATHO_BENCH_FILE, PATHO_BENCH)) if name in names]
    if len(known) == 1:
        return known[0]
    expected = f"splits_0.csv, … (CLAM), {STAMP_FILE} (STAMP) or {PATHO_BENCH_FILE} (Patho-Bench)"
    reason = "no such file or folder" if not path.exists() else f"expected {expected}"
    raise ConfigError([f"{path}: {reason}; give one of them, and --layout if it has another name"])


def _read_clam(path: Path) -> SharedSplits:
    """CLAM: a file for each fold, with the slides of each part in a column, or with a row of true and false for each slide."""
    faults: list[str] = []
    names, folds = [], []
    for files in _clam_files(path) if path.is_dir() else [[path]]:
        try:
            parts = [_clam_parts(file) for file in files]
        except ConfigError as error:
            faults += error.faults
            continue
        differing = sorted({s for one in parts for s in one if any(other.get(s) != one[s] for other in parts)})
        if differing:
            faults.append(f"{files[1]}: disagrees with {files[0].name} about {named(differing)}; delete the one that is wrong")
        names.append(str(files[0]))
        folds.append(parts[0])
    if faults:
        raise ConfigError(faults)
    return SharedSplits(CLAM, "slide", tuple(names), tuple(folds))


def _clam_files(folder: Path) -> list[list[Path]]:
    """Files of each fold, in order: `splits_{k}.csv`, `splits_{k}_bool.csv` or both."""
    of_fold: dict[int, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if match := CLAM_FILE.fullmatch(file.name):
            of_fold.setdefault(int(match[1]), []).append(file)
    missing = sorted(set(range(max(of_fold, default=0) + 1)) - set(of_fold))
    if missing:
        raise ConfigError([f"{folder}: has no splits_{k}.csv, so fold {k} is missing" for k in missing])
    return [of_fold[k] for k in sorted(of_fold)]


def _clam_parts(file: Path) -> dict[str, Role]:
    header, rows = _table(file, ",")
    places = {role: header.index(role) for role in PARTS if role in header}
    if Role.TRAIN not in places or Role.TEST not in places:
        raise ConfigError([f"{file}: expected the columns train, val and test, found {', '.join(header) or 'nothing'}"])
    cells = [(number, role, row[place]) for number, row in rows for role, place in places.items() if row[place]]
    if {text.casefold() for *_, text in cells} <= {"true", "false"}:
        others = [place for place in range(len(header)) if place not in places.values()]
        if not others:
            raise ConfigError([f"{file}: expected a column of slides beside {', '.join(header)}, which hold true and false only"])
        first = others[0]
        slides = {number: row[first] for number, row in rows}
        cells = [(number, role, slides[number]) for number, role, text in cells if text.casefold() == "true"]
    return _one_part_each(file, cells)


def _read_patho_bench(file: Path) -> SharedSplits:
    """Patho-Bench: a row for each slide, with its part in the column of each fold."""
    header, rows = _table(file, "," if file.suffix == ".csv" else "\t")
    columns = sorted((name for name in header if FOLD_COLUMN.fullmatch(name)), key=lambda name: int(name.removeprefix("fold_")))
    if "slide_id" not in header or not columns:
        found = ", ".join(header[:6]) or "nothing"
        raise ConfigError([f"{file}: expected the columns slide_id and fold_0, fold_1, …, found {found}"])
    slide, faults, folds = header.index("slide_id"), [], []
    for column in columns:
        place = header.index(column)
        wrong = [f"row {n}: {column} is {row[place]!r}" for n, row in rows if row[place] not in ("", *PARTS)]
        faults += [f"{file}, {text}, expected train, val or test" for text in wrong[:5]]
        cells = [(n, Role(row[place]), row[slide]) for n, row in rows if row[place] in PARTS]
        try:
            folds.append(_one_part_each(file, cells))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return SharedSplits(PATHO_BENCH, "slide", tuple(f"{file}, column {name}" for name in columns), tuple(folds))


def _read_stamp(file: Path) -> SharedSplits:
    """STAMP: the patients of each fold's training and test part."""
    try:
        content = json.loads(decoded(file.read_bytes()))
        splits = [{key: [*map(_text, split.get(key, []))] for key in (*STAMP_KEYS, VAL_PATIENTS)} for split in content["splits"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        expected = 'expected {"splits": [{"train_patients": […], "test_patients": […]}, …]}'
        raise ConfigError([f"{file}: {expected} ({type(error).__name__}: {error})"]) from error
    faults, folds = [], []
    for k, split in enumerate(splits):
        where = f"{file}, split {k}"
        val = set(split[VAL_PATIENTS])
        train, test = split["train_patients"], split["test_patients"]
        both = sorted(set(test) & {*train, *val})
        faults += [f"{where}: patient {patient} is in both the training and the test part" for patient in both]
        faults += [f"{where}: has no {key}" for key in STAMP_KEYS if not split[key]]
        folds.append({**dict.fromkeys(train, Role.TRAIN), **dict.fromkeys(val, Role.VAL), **dict.fromkeys(test, Role.TEST)})
    if faults or not folds:
        raise ConfigError(faults or [f"{file}: has no splits"])
    return SharedSplits(STAMP, "patient", tuple(f"{file}, split {k}" for k in range(len(folds))), tuple(folds))


STAMP_KEYS = ("train_patients", "test_patients")


def _text(value: object) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no patient")
    return str(value)


def _table(file: Path, delimiter: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and numbered rows of a table, as long as the header each. Raises ConfigError."""
    try:
        text = decoded(file.read_bytes(), line="row")
    except (OSError, ValueError) as error:
        raise ConfigError([f"{file}: cannot be read ({error})"]) from error
    table = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)]
    header = table[0] if table else []
    rows = [(number, row) for number, row in enumerate(table[1:], start=2) if any(row)]
    wrong = [number for number, row in rows if len(row) != len(header)]
    if wrong or not rows:
        reason = f"row {wrong[0]} has another number of cells than the header" if wrong else "has no rows"
        raise ConfigError([f"{file}: {reason}"])
    return header, rows


def _one_part_each(file: Path, cells: Iterable[tuple[int, Role, str]]) -> dict[str, Role]:
    """Part of each slide. Raises ConfigError for slides that are in two."""
    first: dict[str, tuple[int, Role]] = {}
    faults = []
    for number, role, name in cells:
        other_number, other = first.setdefault(name, (number, role))
        if other is not role:
            both = f"slide {name} is in {role}, and in {other} by row {other_number}"
            faults.append(f"{file}, row {number}: {both}; remove one")
    if faults:
        raise ConfigError(faults)
    return {name: role for name, (_, role) in first.items()}


def _write_clam(folder: Path, splits: Splits, _: str) -> list[Path]:
    """`splits_{k}.csv` and `splits_{k}_bool.csv`, as pandas writes them for CLAM."""
    files = []
    for k in range(splits.n_folds):
        parts = [splits.slides(k, role) for role in PARTS]
        rows = [[i, *(part[i] if i < len(part) else "" for part in parts)] for i in range(max(map(len, parts)))]
        marks = [[s, *(role is own for own in PARTS)] for role, part in zip(PARTS, parts, strict=True) for s in part]
        for name, table in ((f"splits_{k}.csv", rows), (f"splits_{k}_bool.csv", marks)):
            write_table(folder / name, ["", *PARTS], table)
            files.append(folder / name)
    return files


def _write_stamp(folder: Path, splits: Splits, _: str) -> list[Path]:
    """`splits.json`; patients that validate are among STAMP's training patients, and once more under a key of ours."""
    content = []
    for roles in splits.roles:
        of_patient = {splits.patients[s]: role for s, role in roles.items()}
        parts = {role: sorted(p for p, own in of_patient.items() if own is role) for role in PARTS}
        train = sorted(parts[Role.TRAIN] + parts[Role.VAL])
        split = {"train_patients": train, "test_patients": parts[Role.TEST], VAL_PATIENTS: parts[Role.VAL]}
        content.append(split)
    file = folder / STAMP_FILE
    write_text(file, json.dumps({"splits": content}, indent=4, ensure_ascii=False) + "\n")
    return [file]


def _write_patho_bench(folder: Path, splits: Splits, target: str) -> list[Path]:
    """`k=all.tsv`: case_id, slide_id, the label in a column with the name of the target, and a column for each fold."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["case_id", "slide_id", target, *(f"fold_{k}" for k in range(splits.n_folds))])
    for slide_id in sorted(splits.patients):
        roles = [str(of_fold[slide_id]) for of_fold in splits.roles if of_fold[slide_id] in PARTS]
        if not roles:
            continue
        writer.writerow([splits.patients[slide_id], slide_id, splits.labels[slide_id], *roles])
    file = folder / PATHO_BENCH_FILE
    write_text(file, text.getvalue())
    return [file]


SPLIT_WRITERS: Mapping[str, Callable[[Path, Splits, str], list[Path]]] = {
    CLAM: _write_clam,
    STAMP: _write_stamp,
    PATHO_BENCH: _write_patho_bench,
}
"""Writer of each layout: (folder, splits, name of the target) → the written files."""

OMITTED = {
    CLAM: "patients and labels, which CLAM reads from its table of the dataset",
    STAMP: "slides and labels, which STAMP reads from its tables; STAMP draws its validation part from train_patients, where"
    f" the patients that validate here are ({VAL_PATIENTS} names them for import-splits)",
    PATHO_BENCH: "what Patho-Bench reads from the task's config.yaml beside it: task_col, sample_col, label_dict, metrics",
}
"""What the files of a layout do not say."""
