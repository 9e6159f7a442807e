"""From slides and a table to a sheet and a configuration that `check` accepts."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsi_mil.check import check
from wsi_mil.cohort import read_sheet
from wsi_mil.config import nearest
from wsi_mil.encoders import DEFAULT_ENCODER, name_faults
from wsi_mil.errors import ConfigError
from wsi_mil.geometry import UPSAMPLING_TOLERANCE
from wsi_mil.init.columns import Column, label_columns
from wsi_mil.init.guessing import COVARIATE, ENDPOINT, LABEL, Candidate, distinct, guess_labels, not_yet
from wsi_mil.init.matching import Asked, Matched, match, without_table
from wsi_mil.init.slides import Found, FoundSlide, find_slides
from wsi_mil.init.survival import guess_survival
from wsi_mil.init.tables import read_tables, require_header
from wsi_mil.init.words import squeezed
from wsi_mil.init.writing import CONFIG, DEFAULT_FOLDS, EXAMPLE, SHEET, Setup, config_text, setup_of, sheet_text
from wsi_mil.units import SANE_MPP
from wsi_mil.wording import listed, named

FOLDS = (DEFAULT_FOLDS, 4, 3, 2)
"""Numbers of folds that are tried."""
MOST_TRIED = 24
"""Largest number of targets, active or commented out."""
MOST_ACTIVE = 4
"""Largest number of targets that are not commented out, unless the user names them."""
NO_TARGET = "neither classes nor numbers"
ONE_OF_MANY = "less likely than others; --target takes it"
DESCRIBES = "describes the patient, the hospital or the scan; --target takes it all the same"
UNSUITABLE = {
    "empty": "is empty",
    "constant": "has one value only",
    "text": "too many different values for classes, and no numbers",
    "dates": "dates",
}


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        sources: files and folders of slides.
        table: clinical table, or None.
        out: folder to write into.
        sheet: sheet of the workbook; None: the one that fits best.
        asked: columns of ids.
        targets: columns that are to be learned; (): they are guessed.
        encoder: name of the encoder.
        mpp: µm per pixel of slides whose files have none.
        images: whether plain images are slides; None: only where there are no others.
    """

    sources: tuple[Path, ...]
    table: Path | None
    out: Path
    sheet: str | None = None
    asked: Asked = field(default_factory=Asked)
    targets: tuple[str, ...] = ()
    encoder: str = DEFAULT_ENCODER
    mpp: float | None = None
    images: bool | None = None


@dataclass(frozen=True)
class Draft:
    """A sheet and a configuration that are not written yet.

    Attributes:
        found: the slides.
        matched: with their rows.
        active: targets of the configuration.
        offered: targets that are commented out.
        refused: columns that cannot be targets, or describe the patient, with the reason.
        failed: columns that look like targets, but with which a run would not start, with the reason.
        setup: encoder, tiling and folds.
        files: text of each file, by name.
        notes: what else to know.
    """

    found: Found
    matched: Matched
    active: tuple[Candidate, ...]
    offered: tuple[Candidate, ...]
    refused: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]
    setup: Setup
    files: Mapping[str, str]
    notes: tuple[str, ...]


def require_writable(out: Path) -> None:
    """Require that the files can be written, before anything is searched.

    Raises:
        ConfigError: a file exists already, or the folder cannot be written into.
    """
    existing = [str(out / name) for name in (SHEET, CONFIG) if os.path.lexists(out / name)]
    if existing:
        exist = "exists" if len(existing) == 1 else "exist"
        raise ConfigError([f"{listed(existing)} {exist} already, and would not be overwritten; give another folder with --out"])
    folder = out
    while not os.path.lexists(folder):  # False also for what is in a folder without access
        folder = folder.parent
    if not folder.is_dir():
        raise ConfigError([f"{folder}: is a file, not a folder; give another folder with --out"])
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError([f"{folder}: no permission to write into this folder; give another one with --out"])


def draft(request: Request) -> Draft:
    """Find the slides, match the table, guess the targets, and check what would be written.

    Raises:
        ConfigError: no slide, no row that fits, an unknown encoder, or a column that does not exist; all files are kept.
    """
    setup = setup_of(request.encoder)
    faults = name_faults(setup.entry, request.encoder, "pretrained")
    if faults:
        raise ConfigError([fault.replace(f"encoders.{setup.entry}.encoder", "--encoder") for fault in faults])
    tables = read_tables(request.table, request.sheet) if request.table else []
    found = find_slides(request.sources, images=request.images)
    matched = match(tables, found.slides, request.asked) if tables else without_table(found.slides)
    if matched.table:
        require_header(matched.table, [slide.path.stem for slide in found.slides])
    columns, notes = label_columns(matched)
    base = _base(found.slides, matched, request)
    _require_rows(base)
    candidates, refused = _candidates(columns, request)
    active, offered, folds, failed = _chosen(candidates, base, setup, request)
    _require_asked(request.targets, active, dict([*refused, *failed]))
    missing = sum(slide.mpp is None and not cell for slide, cell in zip(found.slides, base.get("mpp", ()), strict=False))
    setup = replace(setup, folds=folds, missing_mpp=missing, results=_free_name(request.out))
    files = {SHEET: _sheet(base, [*active, *offered]), CONFIG: config_text(setup, active, offered)}
    notes = [*notes, *_coarse(found.slides, setup)]
    return Draft(found, matched, tuple(active), tuple(offered), tuple(refused), tuple(failed), setup, files, tuple(notes))


def _free_name(out: Path) -> str:
    """Return a name of a results folder that does not exist yet, so that no other cohort's results are replaced."""
    names = ["results", *(f"results_{number}" for number in range(2, 1000))]
    return next(name for name in names if not os.path.lexists(out / name))


def write(request: Request, made: Draft) -> None:
    """Write the files; none is overwritten.

    Raises:
        ConfigError: a file was made by somebody else meanwhile, or the folder cannot be written into.
    """
    require_writable(request.out)
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        for name, text in made.files.items():
            with (request.out / name).open("x", encoding="utf-8", newline="") as file:
                file.write(text)
    except FileExistsError as error:
        raise ConfigError([f"{error.filename} exists already and is not overwritten; give another folder with --out"]) from error
    except OSError as error:
        raise ConfigError(
            [f"{request.out}: cannot be written into ({error.strerror}); give another folder with --out"]
        ) from error


def _base(slides: Sequence[FoundSlide], matched: Matched, request: Request) -> dict[str, tuple[str, ...]]:
    """Columns of the sheet that are no labels."""
    out = Path(os.path.realpath(request.out))
    base = {
        "slide_id": tuple(slide.slide_id for slide in slides),
        "path": tuple(_path(slide.path, out) for slide in slides),
        "patient_id": tuple(matched.patients[slide.slide_id] for slide in slides),
    }
    missing = [slide for slide in slides if slide.mpp is None]
    if missing:
        of_table = _table_mpp(matched)
        default = f"{request.mpp:g}" if request.mpp else ""
        base["mpp"] = tuple("" if slide.mpp else of_table.get(slide.slide_id, default) for slide in slides)
    return base


def _require_rows(base: Mapping[str, tuple[str, ...]]) -> None:
    """Require that the rows are valid without labels: patients that a spreadsheet program has shortened are not."""
    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder) / SHEET
        sheet.write_text(_sheet(base, []), encoding="utf-8")
        faults = read_sheet(sheet, {}).faults
    if faults:
        raise ConfigError([f"{fault.replace(str(sheet), f'the rows of {SHEET}')}; correct the table" for fault in faults])


def _path(path: Path, out: Path) -> str:
    """Path of a slide in the sheet: relative if it is in the folder of the sheet, or beside it.

    Args:
        path: of the slide.
        out: folder of the sheet without links, as the `..` of a relative path leads out of the folder that a link points to.
    """
    linked, unlinked = Path(os.path.normpath(Path.cwd() / path)), Path(os.path.realpath(path.parent)) / path.name
    same = [own for own in (linked, unlinked) if own.exists() and own.samefile(path)]  # `..` after a link leads elsewhere
    near = out.parent if out.parent != Path(out.anchor) else out
    beside = next((own for own in same if own.is_relative_to(near)), None)
    return Path(os.path.relpath(beside, out)).as_posix() if beside else same[0].as_posix()


def _table_mpp(matched: Matched) -> dict[str, str]:
    """µm per pixel that a column `mpp` of the table has, by slide."""
    table = matched.table
    name = next((column for column in table.columns if squeezed(column) == "mpp"), None) if table else None
    if table is None or name is None:
        return {}
    cells = {slide_id: [table.rows[at][1][name].replace(",", ".") for at in rows] for slide_id, rows in matched.rows.items()}
    return {slide_id: values[0] for slide_id, values in cells.items() if len(set(values)) == 1 and _is_mpp(values[0])}


def _is_mpp(text: str) -> bool:
    try:
        return SANE_MPP[0] <= float(text) <= SANE_MPP[1]
    except ValueError:
        return False


def _coarse(slides: Sequence[FoundSlide], setup: Setup) -> Iterator[str]:
    """Note on slides that are coarser than the tiling."""
    wanted = setup.tiling["mpp"]
    coarse = [slide for slide in slides if slide.mpp and max(slide.mpp.x, slide.mpp.y) > UPSAMPLING_TOLERANCE * wanted]
    if coarse:
        least = max(max(slide.mpp.x, slide.mpp.y) for slide in coarse if slide.mpp)
        names = named([slide.slide_id for slide in coarse])
        yield (
            f"{len(coarse)} slides are coarser than the tiling's {wanted:g} µm per pixel and would fail ({names}: up to"
            f" {least:.3g}): raise tilings.default.mpp to {least:.3g}, or correct their mpp"
        )


def _candidates(columns: Sequence[Column], request: Request) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """Candidates, the likeliest first, and columns that cannot be learned."""
    known = {column.name for column in columns}
    unknown = [name for name in request.targets if name not in known]
    if unknown:
        raise ConfigError([f"--target: the table has no column {name!r}{nearest(name, list(known))}" for name in unknown])
    follow_up, used = guess_survival(columns)
    labels = guess_labels([column for column in columns if column.name not in used])
    candidates = distinct(sorted([*labels, *follow_up], key=lambda candidate: -candidate.rank))
    explained = {name for candidate in candidates for name in candidate.source}
    refused = [(c.name, c.note or UNSUITABLE[c.kind]) for c in columns if c.name not in explained and c.kind in UNSUITABLE]
    described = [c for c in candidates if c.rank == COVARIATE and not set(c.source) & set(request.targets)]
    refused += [(listed(c.source), DESCRIBES) for c in described]
    likely = [c for c in candidates if c not in described]
    tried = [c for number, c in enumerate(likely) if number < MOST_TRIED or set(c.source) & set(request.targets)]
    return tried, refused + [(listed(c.source), ONE_OF_MANY) for c in likely if c not in tried]


def _chosen(
    candidates: Sequence[Candidate], base: Mapping[str, tuple[str, ...]], setup: Setup, request: Request
) -> tuple[list[Candidate], list[Candidate], int, list[tuple[str, str]]]:
    """Targets, offered ones, the number of folds, and the columns that `check` refuses, with the reason."""
    asked = set(request.targets)
    wanted = [c for c in candidates if asked & set(c.source)] if asked else _likely(candidates)
    folds_of = {c.entry: next((folds for folds in FOLDS if not _faults(c, base, setup, folds)), 0) for c in wanted}
    usable = [n for n in folds_of.values() if n]
    folds = (min if asked else max)(usable, default=DEFAULT_FOLDS)
    active = [c for c in wanted if folds_of[c.entry] >= folds]
    reasons = {c.entry: "" if c in active else _faults(c, base, setup, folds) for c in candidates}
    if not active and not asked:
        usable_ones = sorted(
            (c for c in candidates if not reasons[c.entry] and not c.is_doubtful), key=lambda c: (-c.rank, c.kind != "survival")
        )
        promoted = next(iter(usable_ones), None)
        active = [promoted] if promoted else []
    offered = [c for c in candidates if c not in active and not reasons[c.entry]]
    offered += [not_yet(c, reasons[c.entry]) for c in wanted if not active and reasons[c.entry]]
    failed = [(listed(c.source), reasons[c.entry]) for c in candidates if reasons[c.entry]]
    return active, offered, folds, failed


def _require_asked(asked: Sequence[str], active: Sequence[Candidate], reasons: Mapping[str, str]) -> None:
    learned = {name for candidate in active for name in candidate.source}
    faults = [f"--target {name!r}: cannot be learned ({reasons.get(name, NO_TARGET)})" for name in asked if name not in learned]
    if faults:
        raise ConfigError(faults)


def _likely(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that are probably meant: what is called a label, and survival; without a label, endpoints too."""
    labels = [candidate for candidate in candidates if candidate.rank == LABEL]
    endpoints = [c for c in candidates if c.rank == ENDPOINT and (not labels or c.kind == "survival")]
    return [*labels, *endpoints][:MOST_ACTIVE]


def _faults(candidate: Candidate, base: Mapping[str, tuple[str, ...]], setup: Setup, folds: int) -> str:
    """Why a run would refuse a target, or ""."""
    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder) / SHEET
        sheet.write_text(_sheet(base, [candidate]), encoding="utf-8")
        values = replace(setup, folds=folds).values(
            str(sheet), str(Path(folder) / "results"), {candidate.entry: candidate.settings}
        )
        try:
            check(values, needs_slides=False)
        except ConfigError as error:
            return _reason(error.faults[0], candidate, sheet)
    return ""


def _reason(fault: str, candidate: Candidate, sheet: Path) -> str:
    return fault.removeprefix(f"targets.{candidate.entry}: ").replace(str(sheet), SHEET)


def _sheet(base: Mapping[str, tuple[str, ...]], candidates: Sequence[Candidate]) -> str:
    columns: dict[str, Sequence[str]] = dict(base)
    for candidate in candidates:
        columns |= candidate.cells
    if not candidates:
        columns[str(EXAMPLE["column"])] = [""] * len(base["slide_id"])
    return sheet_text(columns)
