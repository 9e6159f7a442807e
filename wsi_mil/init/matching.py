"""Match the rows of a table to slides: by their names, or by the patients that their names begin with."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher, get_close_matches

from wsi_mil.config import nearest
from wsi_mil.errors import ConfigError
from wsi_mil.init.names import (
    BARE,
    COMPLETE,
    SHORT_NUMBER,
    Fits,
    Names,
    by_folder,
    by_name,
    by_patient,
    folders_alike,
    is_elsewhere,
    plain,
    spellings,
    spelt_alike,
)
from wsi_mil.init.patients import Rows, find_patients, normal_notes, of_same_tissue, own_patients
from wsi_mil.init.slides import FoundSlide
from wsi_mil.init.tables import Table
from wsi_mil.init.words import folded, is_missing, names_patients, names_slides, squeezed, word_set
from wsi_mil.wording import named

PATHS = "write the folder too, as in folder/name.svs"
LEAST_ALIKE = 0.5
MOST_PAIRS = 5
MOST_MOVED = 2
MOST_COMPARED, MOST_ROWS = 5, 50
"""Number of columns, and of their rows, whose cells are compared with the names of all slides."""
FILES = word_set(
    "slide slides slideid slidename file files filename filepath path image imageid imagepath wsi wsiid datei dateiname"
)
"""Names of columns that hold slides, not patients."""
MOST = 0.5
"""Share of the rows of patients from which on names of slides in them are preferred."""
FEW = 0.2
"""Patients per slide below which a column is one of groups if its name does not say otherwise."""
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
        some_padded: cells that match only so, where others match as they are.
    """

    column: str
    how: str
    rows: Mapping[str, tuple[int, ...]]
    padded: bool = False
    ambiguous: tuple[str, ...] = ()
    some_padded: tuple[str, ...] = ()


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


def match(tables: Sequence[Table], slides: Sequence[FoundSlide], asked: Asked = Asked()) -> Matched:
    """Match the slides to the rows of the table that fits best.

    Args:
        tables: of a file.
        slides: all slides.
        asked: columns of ids that the user names.

    Raises:
        ConfigError: no row fits a slide, or a named column is missing; the message has the closest pairs.
    """
    names = Names(slides)
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
    matched = _matched(table, key, names, asked)
    others = [other.title for other in tables if other is not table]
    notes = [f"{len(others)} other sheets not used: {', '.join(others[:3])}; --sheet names another"] if others else []
    return replace(matched, notes=(*notes, *matched.notes))


def without_table(slides: Sequence[FoundSlide]) -> Matched:
    """Return slides with the patients that their names or files give."""
    patients, source = own_patients(slides)
    return Matched(None, None, {slide.slide_id: () for slide in slides}, patients, source, notes=tuple(normal_notes(slides)))


def _matched(table: Table, key: Key, names: Names, asked: Asked) -> Matched:
    """Slides with the rows whose labels are theirs, and their patients."""
    patient = _patient_column(table, key, asked)
    by_patients = _key(table, patient, "patient", names).rows if patient else {}
    rows = {slide.slide_id: key.rows.get(slide.slide_id, ()) for slide in names.slides}
    of_tissue = of_same_tissue(table.column(key.column), rows, names) if key.how == "patient" else rows
    own_rows = _without_others(table, key, of_tissue, names) if key.how == "patient" else rows
    patients = find_patients(table, patient, rows, by_patients, names)
    kept = {slide_id: () if slide_id in patients.unclear else own for slide_id, own in own_rows.items()}
    used = {at for own in rows.values() for at in own}
    unused = tuple(at for at in range(len(table.rows)) if at not in used)
    others = [slide_id for slide_id, own in of_tissue.items() if own and not own_rows[slide_id]]
    own_notes = (
        [f"{len(others)} slides get no label, as the rows of their patients name other slides: {named(others)}"] if others else []
    )
    normal = normal_notes(names.slides, of_patients=of_tissue != rows)
    notes = (*_key_notes(table, key, names), *patients.notes, *own_notes, *normal)
    return Matched(table, key, kept, patients.of, patients.source, unused, notes)


def _without_others(table: Table, key: Key, rows: Rows, names: Names) -> dict[str, tuple[int, ...]]:
    """Rows of patients without those that name other slides in a column of slides, if some of its cells are names of slides."""
    result = dict(rows)
    for column in (column for column in table.columns if names_slides(column) and column != key.column):
        cells = table.column(column)
        fits = {cell: by_name(cell, names, loose=False) for cell in set(cells) if not is_missing(cell)}
        if any(fits.values()):
            result = {s: tuple(at for at in own if s in fits.get(cells[at], {s: 0})) for s, own in result.items()}
    return result


def _key_notes(table: Table, key: Key, names: Names) -> Iterator[str]:
    """What is unusual about the names in a column."""
    if key.ambiguous and key.how == "slide":
        yield f"{named(key.ambiguous)} fit several slides in different folders, and none is taken: {PATHS}"
    elif key.ambiguous:
        yield f"{named(key.ambiguous)} fit slides of several patients if zeros and marks do not count, and none is taken"
    padded = f"{named(key.some_padded)} in column {key.column!r} fit" if key.some_padded else f"column {key.column!r} fits"
    if key.padded or key.some_padded:
        yield f"{padded} the slides only without leading zeros and marks: check the pairs in cohort.csv"
    if key.how == "patient":
        return
    cells = table.column(key.column)
    moved = [cells[at] for slide_id, own in key.rows.items() for at in own if is_elsewhere(cells[at], names.by_id[slide_id])]
    if moved:
        yield f"{len(moved)} rows matched by the file's name only, as their folders are not here: {named(moved, most=MOST_MOVED)}"
    others = _elsewhere(cells, names)
    if others:
        yield f"{len(others)} rows name slides of other folders, and match none: {named(others, most=MOST_MOVED)}"


def _elsewhere(cells: Sequence[str], names: Names) -> list[str]:
    """Cells that fit slides by the name of the file, but not by its folder."""
    paths = [cell for cell in dict.fromkeys(cells) if "/" in cell.replace("\\", "/") and not by_name(cell, names, loose=False)]
    return [cell for cell in paths if by_name(spellings(cell)[1], names, loose=False)]


def _missing_columns(table: Table, asked: Asked) -> list[str]:
    options = {"--slide-column": asked.slide, "--patient-column": asked.patient}
    return [
        f"{option}: {table.title} has no column {name!r}{nearest(name, list(table.columns))}"
        for option, name in options.items()
        if name is not None and name not in table.columns
    ]


def _headless(table: Table, names: Names) -> list[str]:
    """Fault of a table whose names of columns are a row."""
    slides = [column for column in table.columns if len(column) > SHORT_NUMBER and by_name(column, names, loose=False)]
    return [f"{table.title}: its first row names slide {name}: write the names of the columns above it" for name in slides[:1]]


def _keys(table: Table, names: Names, asked: Asked) -> list[Key]:
    """Columns that fit slides, in every way that they do."""
    if asked.slide is not None:
        return [key for key in (_key(table, asked.slide, "slide", names),) if key.rows]
    patients = [asked.patient] if asked.patient is not None else table.columns
    found = [_key(table, column, "slide", names) for column in table.columns]
    found += [_key(table, column, "patient", names) for column in patients]
    keys = [key for key in found if key.rows and (key.column == asked.patient or _is_plausible(key, table, names))]
    return [key for key in keys if not any(_names_more(other, key) for other in keys)]


def _names_more(slide: Key, key: Key) -> bool:
    """Whether another column names a slide in most rows of a column of patients: their labels are of those slides only."""
    own = {at for rows in key.rows.values() for at in rows}
    of_slides = {at for rows in slide.rows.values() for at in rows}
    is_of_slides = slide.how == "slide" and (names_slides(slide.column) or not names_patients(slide.column))
    is_other = key.how == "patient" and slide.column != key.column
    return is_other and is_of_slides and len(own & of_slides) > MOST * len(own)


def _key(table: Table, column: str, how: str, names: Names) -> Key:
    cells = table.column(column)
    filled = [cell for cell in dict.fromkeys(cells) if not is_missing(cell)]
    find = by_name if how == "slide" else by_patient
    for loose in (False, True):
        fits = {cell: find(cell, names, loose=loose) for cell in filled}
        is_several = {
            cell: len(fit) > 1 if how == "slide" else loose and not spelt_alike(cell, names) for cell, fit in fits.items()
        }
        several = tuple(cell for cell in filled if is_several[cell])
        fits = {cell: {} if is_several[cell] else fit for cell, fit in fits.items()}
        rows = _rows_of(cells, fits)
        if how == "patient":
            rows |= _rows_of(cells, by_folder(fits, names, loose=loose))
        if rows or several:
            key = Key(column, how, rows, loose, several)
            return key if loose else _with_padded(key, cells, fits, names)
    return Key(column, how, {})


def _with_padded(key: Key, cells: Sequence[str], fits: Mapping[str, Fits], names: Names) -> Key:
    """A column with its cells that fit no slide as they are, but slides that are left over if leading zeros do not count.

    A spreadsheet program makes 1, 10 and 100 of the patients 001, 010 and 100, of which the last still fits.

    Args:
        key: the column, matched by its cells as they are.
        cells: of the column.
        fits: slides that each of them fits as it is.
        names: of the slides.
    """
    taken = {cells[at] for own in key.rows.values() for at in own} | {*key.ambiguous}
    rest = [cell for cell, fit in fits.items() if not fit and cell not in taken]
    find = by_name if key.how == "slide" else by_patient
    found = {cell: find(cell, names, loose=True) for cell in rest}
    is_one = {cell: len(fit) == 1 if key.how == "slide" else spelt_alike(cell, names) for cell, fit in found.items()}
    if key.how == "patient":
        folders = by_folder({**fits, **found}, names, loose=True)
        of_folders = {cell: folders[cell] for cell in rest if not found[cell] and cell in folders}
        is_one |= {cell: folders_alike(cell, slides, names) for cell, slides in of_folders.items()}
        found |= of_folders
    left = {cell: {s: strength for s, strength in fit.items() if s not in key.rows} for cell, fit in found.items()}
    rows = _rows_of(cells, {cell: fit for cell, fit in left.items() if is_one[cell]})
    padded = tuple(cell for cell in rest if is_one[cell] and left[cell])
    several = tuple(cell for cell in rest if key.how == "patient" and not is_one[cell] and left[cell])
    return replace(key, rows={**key.rows, **rows}, ambiguous=(*key.ambiguous, *several), some_padded=padded)


def _rows_of(cells: Sequence[str], fits: Mapping[str, Fits]) -> dict[str, tuple[int, ...]]:
    """Rows of each slide: those that fit best, P1-2 before P1, and those with its bare name.

    Rows that fit equally well all count, so that a contradiction is seen.
    """
    best: dict[str, int] = {}
    for fit in fits.values():
        for slide_id, strength in fit.items():
            best[slide_id] = max(strength, best.get(slide_id, BARE))
    rows: dict[str, list[int]] = {}
    for at, cell in enumerate(cells):
        for slide_id, strength in fits.get(cell, {}).items():
            if strength in (best[slide_id], BARE):
                rows.setdefault(slide_id, []).append(at)
    return {slide_id: tuple(own) for slide_id, own in rows.items()}


def _is_plausible(key: Key, table: Table, names: Names) -> bool:
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
        not key.padded and not key.some_padded,
        -n_rows,
        is_expected,
        is_slide or is_patient,
        key.how == "slide",
        -at,
    )


def _patient_column(table: Table, key: Key, asked: Asked) -> str | None:
    """The column of patients: slides may be named by cases, of which a patient can have several."""
    if asked.patient is not None:
        return asked.patient
    called = [column for column in table.columns if names_patients(column) and any(table.column(column))]
    of_persons = [column for column in called if "pat" in folded(column)]
    if key.how == "patient" and (key.column in of_persons or not called or (key.column in called and not of_persons)):
        return key.column
    return next(iter([*of_persons, *called]), None)


def _no_match(tables: Sequence[Table], slides: Sequence[FoundSlide], names: Names) -> str:
    """Why no row fits, with the pairs of a cell and a slide that are most alike."""
    several = [cell for table in tables for column in table.columns for cell in _key(table, column, "slide", names).ambiguous]
    if several:
        return f"{tables[0].title}: {named(several)} are names of several slides in different folders: {PATHS}"
    others = [cell for table in tables for column in table.columns for cell in _elsewhere(table.column(column), names)]
    if others:
        hint = "correct them, or give init the folder below which they agree"
        return f"{tables[0].title}: {named(others)} have names of slides, but other folders: {hint}"
    ids = {plain(slide.slide_id): slide.slide_id for slide in slides}
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
        cell = plain(spellings(cells[column])[-1])
        if len(cell) < SHORT_NUMBER or is_missing(cell):
            continue
        close = get_close_matches(cell, list(ids), n=1, cutoff=LEAST_ALIKE)
        if close:
            alike = SequenceMatcher(None, cell, close[0]).ratio()
            pairs.append((alike, -number, f"row {number} {column} {cells[column]!r} and slide {ids[close[0]]}"))
    return sorted(pairs, reverse=True)[:MOST_PAIRS]
