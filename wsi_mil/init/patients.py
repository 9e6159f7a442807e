"""The patient of each slide; slides whose patient is not certain get no label, as they could be in two folds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from wsi_mil.init.names import Names, is_normal, plain, sample_type, tcga_patient, whole
from wsi_mil.init.slides import FoundSlide
from wsi_mil.init.tables import Table
from wsi_mil.init.words import is_missing
from wsi_mil.wording import in_rows, named

Rows = Mapping[str, tuple[int, ...]]
"""Positions of the rows of each slide, by slide_id."""


@dataclass(frozen=True)
class Patients:
    """The patients of slides.

    Attributes:
        of: patient of each slide, by slide_id; the slide's own id if it is not known.
        source: where they are from, for messages; "" if every slide is its own.
        unclear: slides with rows, but without a certain patient.
        notes: what was unusual.
    """

    of: Mapping[str, str]
    source: str
    unclear: frozenset[str]
    notes: tuple[str, ...]


def own_patients(slides: Iterable[FoundSlide]) -> tuple[dict[str, str], str]:
    """Return the patients that slides' names or files give, their own ids for the others, and the source, or ""."""
    found = {slide.slide_id: next(filter(None, map(tcga_patient, slide.names)), "") or slide.patient for slide in slides}
    n = sum(map(bool, found.values()))
    is_tcga = any(map(tcga_patient, found.values()))
    source = ("TCGA barcodes" if is_tcga else "the DICOM files") if n else ""
    return {slide_id: patient or slide_id for slide_id, patient in found.items()}, source


def of_same_tissue(cells: Sequence[str], rows: Rows, names: Names) -> dict[str, tuple[int, ...]]:
    """Return rows without those of whole patients for slides of normal tissue: their labels are those of the tumour.

    Args:
        cells: barcodes of the rows.
        rows: of each slide.
        names: of the slides.
    """
    normal = {slide.slide_id for slide in names.slides if is_normal(slide)}
    return {s: tuple(at for at in own if sample_type(cells[at])) if s in normal else own for s, own in rows.items()}


def normal_notes(slides: Iterable[FoundSlide], *, of_patients: bool = False) -> Iterator[str]:
    """Yield a note on slides of normal tissue; `of_patients`: rows of patients were not taken for them."""
    normal = [slide.slide_id for slide in slides if is_normal(slide)]
    if normal:
        what = ", without labels of rows of patients" if of_patients else ""
        yield f"{_slides(normal, 'is', 'are')} normal tissue by barcode{what}: {named(normal)}"


def find_patients(table: Table, column: str | None, rows: Rows, by_patient: Rows, names: Names) -> Patients:
    """Find the patient of each slide in the rows that it matches, or by its name.

    Args:
        table: the table.
        column: of patients; None: there is none.
        rows: that each slide matches.
        by_patient: rows of the patients that the slides' names begin with.
        names: of the slides.
    """
    patients, source = own_patients(names.slides)
    if column is None:
        return Patients(patients, source, frozenset(), ())
    texts = [_patient_text(cell) for cell in table.column(column)]
    spelt = {plain(text): text for text in reversed(texts) if text}
    of_rows = {slide_id: {plain(texts[at]) for at in own if texts[at]} for slide_id, own in rows.items()}
    of_names = {slide_id: {plain(texts[at]) for at in by_patient.get(slide_id, ()) if texts[at]} for slide_id in rows}
    known = {plain(text) for text in patients.values() if tcga_patient(text) or plain(text) in spelt}
    several = [slide_id for slide_id, found in of_rows.items() if len(found) > 1]
    blank = [s for s, own in rows.items() if own and not of_rows[s] and len(of_names[s]) != 1 and plain(patients[s]) not in known]
    rest = [slide_id for slide_id, own in rows.items() if not own and len(of_names[slide_id]) == 1]
    for slide_id, found in of_rows.items():
        certain = found or of_names[slide_id]
        if len(certain) == 1:
            patients[slide_id] = spelt[next(iter(certain))]
    source = f"column {column!r}" if any(of_rows.values()) else source
    notes = _notes(table, column, {slide_id: rows[slide_id] for slide_id in blank}, several, rest)
    return Patients(patients, source, frozenset([*several, *blank]), tuple(notes))


def _notes(table: Table, column: str, blank: Rows, several: list[str], rest: list[str]) -> Iterator[str]:
    if several:
        yield f"{_slides(several, 'has', 'have')} rows of several patients in column {column!r}, and no label: {named(several)}"
    if blank:
        where = in_rows([table.rows[at][0] for own in blank.values() for at in own])
        yield (
            f"{_slides(list(blank), 'has', 'have', 'matched slide')} an empty patient cell, and no label, as slides of one"
            f" patient could be in training and test: fill column {column!r} in {where}"
        )
    if rest:
        own = _slides(rest, "has no row of its own", "have no row of their own")
        yield f"{own}: patient from column {column!r}, no label: {named(rest)}"


def _patient_text(cell: str) -> str:
    """A patient as text; barcodes of TCGA samples become those of their patients, so that all slides of a patient agree."""
    return "" if is_missing(cell) else tcga_patient(cell) or whole(cell)


def _slides(slides: Sequence[str], one: str, many: str, what: str = "slide") -> str:
    return f"1 {what} {one}" if len(slides) == 1 else f"{len(slides)} {what}s {many}"
