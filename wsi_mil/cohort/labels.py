"""Read the labels of targets from the cells of a sheet.

A label is text, whatever the kind of target, and "" where it is not known:

- classes: the name of the class
- multilabel: one of `1 0 ?` (positive, negative, unknown) for each column, separated by spaces: `1 0 ?`
- regression: the shortest text of the number, in the column's unit: `12.5`
- survival: time, and 1 for an observed event or 0 for the end of follow-up: `34.5 1`
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wsi_mil.cohort.reading import plain
from wsi_mil.cohort.rows import number
from wsi_mil.config import ClassesTarget, MultilabelTarget, RegressionTarget, SurvivalTarget, Target, nearest
from wsi_mil.records import SlideRow
from wsi_mil.wording import in_rows, listed

UNKNOWN_LABEL = "?"
"""Unknown label of a slide whose other labels are known."""
MAX_VALUES = 8
"""Largest number of values of a column that a message lists."""

WITH_COMMA = re.compile(r"[+-]?\d+,\d+")
WITH_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
"""A comma that may separate thousands, or decimals."""
AMBIGUOUS = "the comma may separate thousands or decimals; write 1234 or 1.234"
WITH_POINT = re.compile(r"[+-]?\d+\.\d+")
POINT_THREE, ABOVE_NINE = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}"), re.compile(r"[+-]?[1-9]\d+")
"""A number whose point may separate thousands if all are like this, and a whole number beside which this is likely."""


@dataclass(frozen=True)
class CellFault:
    """A cell that is no label of a target.

    Attributes:
        column: name of the column.
        text: content of the cell.
        expected: what it should be.
        is_listed: whether it should be one of a list, so that the column's values help to find what is missing there.
    """

    column: str
    text: str
    expected: str
    is_listed: bool = False


@dataclass(frozen=True)
class Reading:
    """Label of a slide for one target.

    Attributes:
        label: "" if it is unknown.
        faults: faults of its cells.
        is_partial: whether some of its cells are filled, but not all that it needs.
    """

    label: str
    faults: tuple[CellFault, ...] = ()
    is_partial: bool = False


def read_label(name: str, target: Target, cells: Mapping[str, str]) -> Reading:
    """Read the label of a row.

    Args:
        name: name of the target.
        target: its settings.
        cells: cells of the row by column, empty if a value is missing.
    """
    where = f"targets.{name}"
    match target:
        case ClassesTarget():
            return _class(where, target, cells)
        case MultilabelTarget():
            return _labels(where, target, cells)
        case RegressionTarget():
            return _value(where, target, cells[target.column])
        case SurvivalTarget():
            return _follow_up(where, target, cells)


def listed_values(targets: Iterable[Target], column: str) -> set[str]:
    """Return the values of a column that some target lists."""
    values = set[str]()
    for target in targets:
        if column in target.columns_read:
            values |= {plain(value) for value in _listed_in(target, column)}
    return values


def columns_of(targets: Mapping[str, Target]) -> dict[str, str]:
    """Return the columns that targets are read from, with the key of the first target that names them."""
    columns: dict[str, str] = {}
    for name, target in targets.items():
        for column in target.columns_read:
            columns.setdefault(column, f"targets.{name}")
    return columns


def label_faults(found: Iterable[tuple[int, CellFault]], held: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the messages about cells that are no labels, one for each column and reason.

    Args:
        found: faults with the numbers of their rows.
        held: cells of each column.
    """
    rows: dict[CellFault, list[int]] = {}
    for row, fault in found:
        rows.setdefault(fault, []).append(row)
    by_reason: dict[tuple[str, str], list[CellFault]] = {}
    for fault in rows:
        by_reason.setdefault((fault.column, fault.expected), []).append(fault)
    messages = []
    for (column, expected), faults in by_reason.items():
        texts = [f"{fault.text!r} in {in_rows(rows[fault])}{_slides(len(rows[fault]))}" for fault in faults]
        more = [f"{len(texts) - MAX_VALUES} other values"] if len(texts) > MAX_VALUES else []
        content = f"; the column holds {_counts(held[column])}" if faults[0].is_listed else ""
        messages.append(f"column {column}: {listed([*texts[:MAX_VALUES], *more])}: {expected}{content}")
    return messages


def number_warnings(targets: Mapping[str, Target], rows: Sequence[tuple[int, Mapping[str, str]]]) -> list[str]:
    """Return warnings about columns of numbers with decimal commas and points, or with points that may separate thousands."""
    columns = {column for t in targets.values() if t.covariates for column in t.covariates.numbers}
    columns |= {t.column for t in targets.values() if isinstance(t, RegressionTarget)}
    columns |= {t.time for t in targets.values() if isinstance(t, SurvivalTarget)}
    warnings = []
    for column in sorted(columns):
        with_comma = [row for row, cells in rows if WITH_COMMA.fullmatch(cells.get(column, ""))]
        if with_comma and any(WITH_POINT.fullmatch(cells.get(column, "")) for _, cells in rows):
            first = next(cells[column] for row, cells in rows if row == with_comma[0])
            warnings.append(
                f"column {column}: decimal commas in {in_rows(with_comma)} and decimal points in others; {first} is read as"
                f" {number(first):g}"
            )
        warnings += _thousands_warning(column, [(row, cells.get(column, "")) for row, cells in rows])
    return warnings


def _thousands_warning(column: str, cells: Sequence[tuple[int, str]]) -> list[str]:
    """Warning about a column such as 950, 1.234, 87: all cells with a point have three digits after it, beside whole numbers."""
    with_mark = [(row, text) for row, text in cells if _finite(text) is not None and not re.fullmatch(r"[+-]?\d+", text)]
    whole = next((text for _, text in cells if ABOVE_NINE.fullmatch(text)), "")
    if not whole or not with_mark or not all(POINT_THREE.fullmatch(text) for _, text in with_mark):
        return []
    first = with_mark[0][1]
    return [
        f"column {column}: the point in {first} ({in_rows([row for row, _ in with_mark])}), beside whole numbers such as {whole},"
        f" is read as a decimal point; if it separates thousands, write {first.replace('.', '')}, otherwise {first}0"
    ]


def follow_up_faults(rows: Iterable[SlideRow], targets: Mapping[str, Target]) -> list[str]:
    """Return faults of patients whose slides have different follow-up, which is the patient's."""
    rows = list(rows)
    faults = []
    for name in (name for name, target in targets.items() if isinstance(target, SurvivalTarget)):
        first: dict[str, SlideRow] = {}
        for row in rows:
            label = row.labels.get(name, "")
            other = first.setdefault(row.patient_id, row) if label else row
            if label and other.labels[name] != label:
                faults.append(
                    f"targets.{name}: patient {row.patient_id!r} has {_follow_up_text(other.labels[name])} (slide"
                    f" {other.slide_id}) and {_follow_up_text(label)} (slide {row.slide_id}): all slides of a patient must have"
                    " the same follow-up"
                )
    return faults


def _class(where: str, target: ClassesTarget, cells: Mapping[str, str]) -> Reading:
    text = cells[target.column]
    value = _listed_value(text, target.classes)
    if value is not None or not text:
        return Reading(value or "")
    expected = f"not in {where}.classes{nearest(text, list(target.classes))}"
    return Reading("", (CellFault(target.column, text, expected, is_listed=True),))


def _labels(where: str, target: MultilabelTarget, cells: Mapping[str, str]) -> Reading:
    labels, faults = [], []
    for column in target.columns:
        text = cells[column]
        is_positive, is_negative = (_listed_value(text, values) is not None for values in (target.positive, target.negative))
        labels.append("1" if is_positive else "0" if is_negative else UNKNOWN_LABEL)
        if text and not is_positive and not is_negative:
            known = f"{where}.positive ({', '.join(target.positive)}) nor in {where}.negative ({', '.join(target.negative)})"
            faults.append(CellFault(column, text, f"neither in {known}", is_listed=True))
    is_known = set(labels) != {UNKNOWN_LABEL}
    return Reading(" ".join(labels) if is_known and not faults else "", tuple(faults))


def _value(where: str, target: RegressionTarget, text: str) -> Reading:
    if not text:
        return Reading("")
    value = _finite(text)
    expected = ""
    if WITH_THOUSANDS.fullmatch(text):
        expected = AMBIGUOUS
    elif value is None:
        expected = f"expected a number ({where})"
    elif target.transform == "log1p" and value < 0:
        expected = f"{where}.transform log1p needs values of 0 or more"
    elif target.transform == "logit" and not 0 < value < 1:
        expected = f"{where}.transform logit needs values above 0 and below 1"
    return Reading("", (CellFault(target.column, text, expected),)) if expected else Reading(repr(value))


def _follow_up(where: str, target: SurvivalTarget, cells: Mapping[str, str]) -> Reading:
    text, status = cells[target.time], cells[target.event]
    faults = []
    time = _finite(text) if text else None
    if WITH_THOUSANDS.fullmatch(text):
        faults.append(CellFault(target.time, text, AMBIGUOUS))
    elif text and (time is None or time <= 0):
        faults.append(CellFault(target.time, text, f"expected a time above 0 ({where}.time)"))
    has_event, is_censored = (_listed_value(status, values) is not None for values in (target.event_is, target.censored_is))
    if status and not has_event and not is_censored:
        known = f"{where}.event_is ({', '.join(target.event_is)}) nor in {where}.censored_is ({', '.join(target.censored_is)})"
        faults.append(CellFault(target.event, status, f"neither in {known}", is_listed=True))
    if faults or not text or not status:
        return Reading("", tuple(faults), is_partial=bool(text) != bool(status))
    return Reading(f"{time!r} {int(has_event)}")


def _listed_in(target: Target, column: str) -> tuple[str, ...]:
    """Values that a target lists for one of its columns."""
    match target:
        case ClassesTarget():
            return target.classes
        case MultilabelTarget():
            return (*target.positive, *target.negative)
        case SurvivalTarget() if column == target.event:
            return (*target.event_is, *target.censored_is)
    return ()


def _listed_value(text: str, values: Iterable[str]) -> str | None:
    """The value that a cell has, in its form in the configuration; None if it has none of them.

    1.0 is 1: programs write whole numbers so if the column has empty cells.
    """
    spellings = {plain(value): value for value in values}
    whole = re.fullmatch(r"(\d+)\.0+", text)
    return spellings.get(text, spellings.get(whole[1]) if whole else None)


def _finite(text: str) -> float | None:
    try:
        value = number(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _follow_up_text(label: str) -> str:
    time, event = label.split()
    return f"{float(time):g} {'with' if event == '1' else 'without'} event"


def _slides(n: int) -> str:
    return f" ({n} slides)" if n > 1 else ""


def _counts(cells: Sequence[str]) -> str:
    """Values of a column with their numbers of rows, the most frequent first."""
    counts = Counter(cell for cell in cells if cell).most_common()
    texts = [f"{text!r} ({n})" for text, n in counts[:MAX_VALUES]]
    more = [f"{len(counts) - MAX_VALUES} other values"] if len(counts) > MAX_VALUES else []
    return listed([*texts, *more])
