"""Match the rows of a table to slides: by their names, or by the patients that their names begin with."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher, get_close_matches
from pathlib import PurePosixPath

from wsi_mil.config import nearest
from wsi_mil.errors import ConfigError
from wsi_mil.init.slides import FoundSlide
from wsi_mil.init.tables import Table
from wsi_mil.init.words import TCGA, folded, is_missing, names_patients, names_slides, squeezed, word_set
from wsi_mil.wording import named

SHORT_NUMBER = 3
"""Length up to which a number is too common to be an id in a column whose name does not say so."""
TCGA_SAMPLE = 15
"""Length of a barcode of TCGA up to the type of the sample."""
PATHS = "write the folder too, as in folder/name.svs"
LEAST_ALIKE = 0.5
MOST_PAIRS = 5
MOST_COMPARED, MOST_ROWS = 5, 50
"""Number of columns, and of their rows, whose cells are compared with the names of all slides."""
COMPLETE = 0.8
"""Share of slides and rows that short numbers must match to be ids if the column's name does not say so."""
FILES = word_set(
    "slide slides slideid slidename file files filename filepath path image imageid imagepath wsi wsiid datei dateiname"
)
"""Names of columns that hold slides, not patients."""
FEW = 0.2
"""Patients per slide below which a column is one of groups if its name does not say otherwise."""
LOOSE = "\0"
UNCERTAIN = 0.5
"""Share of the slides that a column must match to be the ids if its name does not say so."""


@dataclass(frozen=True)
class Key:
    """A column by which rows are matched.

    Attributes:
        column: its name.
        how: `slide`: its cells are names of slides; `patient`: slides' names, or folders, begin with them.
        rows: positions of the rows of each slide, by slide_id.
        padded: whether cells match only if leading zeros do not count.
        ambiguous: cells with the name of several slides, which match none.
    """

    column: str
    how: str
    rows: Mapping[str, tuple[int, ...]]
    padded: bool = False
    ambiguous: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matched:
    """Slides with their rows.

    Attributes:
        table: the table.
        key: column that the rows were matched by.
        rows: positions of the rows of each slide, by slide_id; () if it has none.
        patients: patient of each slide, by slide_id; the slide's own id if it is not known.
        patient_source: where the patients are from, for messages; "" if every slide is its own.
        unused_rows: positions of rows without a slide.
        notes: what was unusual.
    """

    table: Table | None
    key: Key | None
    rows: Mapping[str, tuple[int, ...]]
    patients: Mapping[str, str]
    patient_source: str
    unused_rows: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def id_columns(self) -> set[str]:
        """Columns that are ids, not labels."""
        columns = self.table.columns if self.table else ()
        return {name for name in columns if names_patients(name) or names_slides(name)} | (
            {self.key.column} if self.key else set()
        )


@dataclass(frozen=True)
class Asked:
    """Columns that the user names as ids; None: they are found."""

    slide: str | None = None
    patient: str | None = None


@dataclass
class _Names:
    """Slides by the spellings of their names and folders."""

    slides: Sequence[FoundSlide]
    exact: dict[str, set[str]] = field(default_factory=dict)
    loose: dict[str, set[str]] = field(default_factory=dict)
    prefixes: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for slide in self.slides:
            for name in (*slide.names, *_with_folders(slide)):
                self.exact.setdefault(_plain(name), set()).add(slide.slide_id)
                self.loose.setdefault(_without_zeros(name), set()).add(slide.slide_id)
            for prefix in _prefixes(slide):
                self.prefixes.setdefault(prefix, set()).add(slide.slide_id)


def match(tables: Sequence[Table], slides: Sequence[FoundSlide], asked: Asked = Asked()) -> Matched:
    """Match the slides to the rows of the table that fits best.

    Args:
        tables: of a file.
        slides: all slides.
        asked: columns of ids that the user names.

    Raises:
        ConfigError: no row fits a slide, or a named column is missing; the message has the closest pairs.
    """
    names = _Names(slides)
    faults = [fault for table in tables for fault in _missing_columns(table, asked)]
    tables = [table for table in tables if not _missing_columns(table, asked)]
    if not tables:
        raise ConfigError(list(dict.fromkeys(faults)))
    headless = [fault for table in tables for fault in _headless(table, names)]
    if headless:
        raise ConfigError(headless)
    keys = [(table, key) for table in tables for key in _keys(table, names, asked)]
    if not keys:
        raise ConfigError([_no_match(tables, slides, names)])
    table, key = max(keys, key=lambda pair: _rank(pair[1], pair[0]))
    matched = _with_patients(table, key, names, asked)
    others = [other.title for other in tables if other is not table]
    notes = [f"{len(others)} other sheets not used: {', '.join(others[:3])}; --sheet names another"] if others else []
    return replace(matched, notes=(*notes, *matched.notes))


def without_table(slides: Sequence[FoundSlide]) -> Matched:
    """Return slides with the patients that their names or files give."""
    patients, source = _own_patients(slides)
    return Matched(None, None, {slide.slide_id: () for slide in slides}, patients, source)


def tcga_patient(name: str) -> str:
    """Return the patient of a TCGA barcode at the beginning of a name, or ""."""
    barcode = TCGA.match(name)
    return barcode[0].upper() if barcode else ""


def _own_patients(slides: Iterable[FoundSlide]) -> tuple[dict[str, str], str]:
    found = {slide.slide_id: next(filter(None, map(tcga_patient, slide.names)), "") or slide.patient for slide in slides}
    n = sum(map(bool, found.values()))
    is_tcga = any(map(tcga_patient, found.values()))
    source = ("TCGA barcodes" if is_tcga else "the DICOM files") if n else ""
    return {slide_id: patient or slide_id for slide_id, patient in found.items()}, source


def _missing_columns(table: Table, asked: Asked) -> list[str]:
    options = {"--slide-column": asked.slide, "--patient-column": asked.patient}
    return [
        f"{option}: {table.title} has no column {name!r}{nearest(name, list(table.columns))}"
        for option, name in options.items()
        if name is not None and name not in table.columns
    ]


def _headless(table: Table, names: _Names) -> list[str]:
    """Fault of a table whose names of columns are a row."""
    slides = [column for column in table.columns if len(column) > SHORT_NUMBER and _by_name(column, names, loose=False)]
    return [f"{table.title}: its first row names slide {name}: write the names of the columns above it" for name in slides[:1]]


def _keys(table: Table, names: _Names, asked: Asked) -> list[Key]:
    """Columns that fit slides, in every way that they do."""
    if asked.slide is not None:
        return [key for key in (_key(table, asked.slide, "slide", names),) if key.rows]
    columns = [asked.patient] if asked.patient is not None else table.columns
    found = [_key(table, column, how, names) for column in columns for how in ("slide", "patient")]
    asked_for = {asked.slide, asked.patient}
    return [key for key in found if key.rows and (key.column in asked_for or _is_plausible(key, table, names))]


def _key(table: Table, column: str, how: str, names: _Names) -> Key:
    cells = table.column(column)
    find = _by_name if how == "slide" else _by_patient
    for loose in (False, True):
        found = {cell: find(cell, names, loose=loose) for cell in dict.fromkeys(cells) if not is_missing(cell)}
        several = tuple(cell for cell, slides in found.items() if len(slides) > 1) if how == "slide" else ()
        rows = _rows_of(cells, {cell: slides for cell, slides in found.items() if cell not in several})
        if rows or several:
            return Key(column, how, rows, loose, several)
    return Key(column, how, {})


def _rows_of(cells: Sequence[str], found: Mapping[str, set[str]]) -> dict[str, tuple[int, ...]]:
    """Rows of each slide; of several cells that fit a slide the longest counts: P1-2 before P1."""
    best: dict[str, tuple[int, list[int]]] = {}
    for at, cell in enumerate(cells):
        for slide_id in found.get(cell, ()):
            length, rows = best.get(slide_id, (0, []))
            if len(cell) == length:
                rows.append(at)
            elif len(cell) > length:
                best[slide_id] = (len(cell), [at])
    return {slide_id: tuple(rows) for slide_id, (_, rows) in best.items()}


def _by_name(cell: str, names: _Names, *, loose: bool) -> set[str]:
    """Slides of a cell with a slide's name, with or without ending or folders."""
    spellings = _spellings(cell)
    if loose:
        return set().union(*(names.loose.get(_without_zeros(text), set()) for text in spellings))
    return next((found for text in spellings if (found := names.exact.get(_plain(text), set()))), set())


def _by_patient(cell: str, names: _Names, *, loose: bool) -> set[str]:
    """Slides of a cell that their names or folders begin with."""
    for text in _patient_spellings(cell):
        found = names.prefixes.get(f"{LOOSE}{_without_zeros(text)}" if loose else _plain(text), set())
        if found:
            return found
    return set()


def _spellings(cell: str) -> list[str]:
    """Spellings of a slide's name: as a path, from each of its folders on, a file name, and without its ending."""
    path = PurePosixPath(_whole(cell).replace("\\", "/"))
    below = ["/".join(path.parts[at:]) for at in range(1, len(path.parts) - 1)]
    stem = path.stem if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,7}", path.suffix) else path.name
    return list(dict.fromkeys((cell, path.as_posix(), *below, path.name, stem, stem.removesuffix(".ome"))))


def _whole(cell: str) -> str:
    """A cell without the decimals that pandas gives whole numbers in columns with empty cells: 12.0."""
    return cell[:-2] if re.fullmatch(r"\d+\.0", cell) else cell


def _patient_spellings(cell: str) -> list[str]:
    """Spellings of a patient: as it is, and the sample and the patient of a TCGA barcode."""
    patient = tcga_patient(cell)
    return [_whole(cell), *([cell[:TCGA_SAMPLE], patient] if patient and len(cell) >= TCGA_SAMPLE else [])]


def _prefixes(slide: FoundSlide) -> set[str]:
    """What slides' names begin with, up to a mark or the end, and the names of their folders and patients.

    Those in which leading zeros do not count begin with `LOOSE`.
    """
    texts = {*slide.folders, *([slide.patient] if slide.patient else [])}
    for name in (name for name in slide.names if name != slide.path.name):
        ends = [match.start() for match in re.finditer(r"(?<=[^\W_])(?=[\W_]|$)", name)]
        texts |= {name[:end] for end in ends}
        texts |= {name[:TCGA_SAMPLE]} if tcga_patient(name) else set()
    return {_plain(text) for text in texts} | {f"{LOOSE}{_without_zeros(text)}" for text in texts}


def _with_folders(slide: FoundSlide) -> list[str]:
    """The whole path of a slide's file, and with each of its folders."""
    parts = [*reversed(slide.folders), slide.path.name]
    return [slide.path.as_posix(), *("/".join(parts[at:]) for at in range(len(slide.folders)))]


def _plain(text: str) -> str:
    return " ".join(folded(text).split())


def _without_zeros(text: str) -> str:
    """Text without marks between its parts and leading zeros of its numbers: P-0012_3 is p12/3."""
    parts = [part.lstrip("0") or "0" for part in re.findall(r"\d+|[^\W\d_]+", _plain(text))]
    return "/".join(parts)


def _is_plausible(key: Key, table: Table, names: _Names) -> bool:
    """Whether a column is one of ids, by its name or by its cells."""
    if key.how == "patient" and squeezed(key.column) in FILES:
        return False
    if names_patients(key.column) or names_slides(key.column):
        return True
    if _is_of_groups(key, table):
        return False
    cells = [cell for cell in table.column(key.column) if not is_missing(cell)]
    is_common = all(re.fullmatch(rf"\d{{1,{SHORT_NUMBER}}}(\.\d+)?", cell) for cell in cells)
    is_repeated = key.how == "slide" and len(set(cells)) < len(cells) * UNCERTAIN
    if is_common:
        n_rows = len({at for rows in key.rows.values() for at in rows})
        is_complete = len(key.rows) >= COMPLETE * len(names.slides) and n_rows >= COMPLETE * len(cells)
        return is_complete and len(set(cells)) == len(cells)
    return not is_repeated and (not key.padded or len(key.rows) >= UNCERTAIN * len(names.slides))


def _is_of_groups(key: Key, table: Table) -> bool:
    """Whether few cells fit many slides, as folders of batches or stains do."""
    cells = table.column(key.column)
    distinct = {cells[at] for rows in key.rows.values() for at in rows}
    return len(distinct) < FEW * len(key.rows)


def _rank(key: Key, table: Table) -> tuple[object, ...]:
    """The more slides the better, then exact names, names of slides, a telling column name, few rows for each slide."""
    is_slide, is_patient = names_slides(key.column), names_patients(key.column)
    is_expected = is_slide if key.how == "slide" else is_patient
    n_rows = sum(map(len, key.rows.values()))
    at = table.columns.index(key.column)
    return (
        len(key.rows),
        not key.padded,
        -n_rows,
        is_expected,
        is_slide or is_patient,
        key.how == "slide",
        -at,
    )


def _with_patients(table: Table, key: Key, names: _Names, asked: Asked) -> Matched:
    """Match the rest by the patient, and find each slide's patient."""
    patient = _patient_column(table, key, asked)
    rows = {slide.slide_id: key.rows.get(slide.slide_id, ()) for slide in names.slides}
    notes: list[str] = []
    if key.how == "slide" and patient and not all(rows.values()):
        rest = _key(table, patient, "patient", names).rows
        more = {slide_id: rest[slide_id] for slide_id, own in rows.items() if not own and slide_id in rest}
        rows |= more
        notes += [f"{len(more)} slides not in column {key.column!r} matched by the patient, column {patient!r}"] if more else []
    if key.ambiguous:
        notes.append(f"{named(key.ambiguous)} fit several slides in different folders, and none is taken: {PATHS}")
    if key.padded:
        notes.append(f"column {key.column!r} fits the slides only without leading zeros and marks: check the pairs in cohort.csv")
    patients, source = _own_patients(names.slides)
    cells = table.column(patient) if patient else []
    of_rows = {s: next((cells[at] for at in own if not is_missing(cells[at])), "") for s, own in rows.items()} if patient else {}
    if any(of_rows.values()):
        source = f"column {patient!r}"
    patients |= {slide_id: _patient_text(text) for slide_id, text in of_rows.items() if text}
    used = {at for own in rows.values() for at in own}
    unused = tuple(at for at in range(len(table.rows)) if at not in used)
    return Matched(table, key, rows, patients, source, unused, tuple(notes))


def _patient_text(cell: str) -> str:
    """A patient as text; barcodes of TCGA samples become those of their patients, so that all slides of a patient agree."""
    return tcga_patient(cell) or _whole(cell)


def _patient_column(table: Table, key: Key, asked: Asked) -> str | None:
    """The column of patients."""
    if asked.patient is not None:
        return asked.patient
    called = [column for column in table.columns if names_patients(column) and any(table.column(column))]
    best = next((column for column in called if "pat" in folded(column)), None)
    if key.how == "patient" and (names_patients(key.column) or not called):
        return key.column
    return best or next(iter(called), None)


def _no_match(tables: Sequence[Table], slides: Sequence[FoundSlide], names: _Names) -> str:
    """Why no row fits, with the pairs of a cell and a slide that are most alike."""
    several = [cell for table in tables for column in table.columns for cell in _key(table, column, "slide", names).ambiguous]
    if several:
        return f"{tables[0].title}: {named(several)} are names of several slides in different folders: {PATHS}"
    ids = {_plain(slide.slide_id): slide.slide_id for slide in slides}
    columns = sorted(((t, c) for t in tables for c in t.columns), key=lambda pair: _distinctness(*pair), reverse=True)[
        :MOST_COMPARED
    ]
    pairs = [pair for table, column in columns for pair in _alike(table, column, ids)]
    best = sorted(pairs, reverse=True)[:MOST_PAIRS]
    closest = "; closest: " + ", ".join(text for *_, text in best) if best else ""
    first = ", ".join(slide.slide_id for slide in slides[:3])
    hint = "correct the table, or name the column with --slide-column or --patient-column"
    return f"{tables[0].title}: no row fits a slide (slides are named like {first}){closest}; {hint}"


def _distinctness(table: Table, column: str) -> tuple[bool, int]:
    """How likely a column is one of ids: by its name, and by how many different cells it has."""
    return names_patients(column) or names_slides(column), len(set(table.column(column)))


def _alike(table: Table, column: str, ids: Mapping[str, str]) -> list[tuple[float, int, str]]:
    """The cell of a column that is most like a slide's name, and similar pairs, with how alike they are."""
    pairs = []
    for number, cells in table.rows[:MOST_ROWS]:
        cell = _plain(_spellings(cells[column])[-1])
        if len(cell) < SHORT_NUMBER or is_missing(cell):
            continue
        close = get_close_matches(cell, list(ids), n=1, cutoff=LEAST_ALIKE)
        if close:
            alike = SequenceMatcher(None, cell, close[0]).ratio()
            pairs.append((alike, -number, f"row {number} {column} {cells[column]!r} and slide {ids[close[0]]}"))
    return sorted(pairs, reverse=True)[:MOST_PAIRS]
