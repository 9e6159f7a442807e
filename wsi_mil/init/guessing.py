"""Guess from the columns of a table what could be learned: classes, several labels, numbers; survival is in `survival`."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wsi_mil.cohort.columns import check_columns
from wsi_mil.config import MultilabelTarget
from wsi_mil.init.columns import Column
from wsi_mil.init.words import (
    COVARIATES,
    ENDPOINTS,
    LABELS,
    MARKERS,
    MEASURES,
    NEGATIVE,
    ORDERS,
    POSITIVE,
    YES_NO,
    natural,
    value_key,
    words,
)
from wsi_mil.wording import listed

COVARIATE, OTHER, ENDPOINT, LABEL = range(4)
"""How likely a column is what is asked, from the least."""

LEAST_FILLED = 0.5
"""Share of the slides that must have a label for a target to be a likely one."""
NEGATIONS = ("non", "no", "not", "kein", "keine", "nicht", "ohne", "without", "un")
MUTATION_WORDS = {"mut", "mutation", "mutated", "mutiert"}
ROMAN = {"0": 0, "i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5}
RESERVED = ("index",)
"""Names that no target can have."""


@dataclass(frozen=True)
class Candidate:
    """A target that the table could answer.

    Attributes:
        entry: name in `targets`.
        settings: the entry, with the names that the columns have in the sheet.
        cells: columns of the sheet that it needs, one cell for each slide.
        rank: how likely it is meant: `COVARIATE`, `OTHER`, `ENDPOINT` or `LABEL`.
        remark: what was assumed, for a comment.
        source: columns of the table that it is from.
    """

    entry: str
    settings: Mapping[str, Any]
    cells: Mapping[str, tuple[str, ...]] = field(repr=False)
    rank: int
    remark: str
    source: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Kind of the target."""
        return str(self.settings["kind"])

    @property
    def is_doubtful(self) -> bool:
        """Whether a person must confirm it first: survival whose event or follow-up is not sure."""
        return self.kind == "survival" and self.rank < ENDPOINT


def guess_labels(columns: Sequence[Column]) -> list[Candidate]:
    """Return a candidate for each column of few values or of numbers, and for each group of columns of yes and no."""
    groups = list(_groups(columns))
    grouped = {column.name for group in groups for column in group}
    several = [_multilabel(group) for group in groups]
    single = [_classes(column) for column in columns if column.kind == "values" and column.name not in grouped]
    numbers = [_regression(column) for column in columns if column.kind == "numbers"]
    return [*several, *single, *numbers]


def not_yet(candidate: Candidate, reason: str) -> Candidate:
    """Return a candidate that says why it cannot be learned as the table is."""
    return replace(candidate, remark=f"not yet: {reason}; {candidate.remark}")


def sheet_name(column: str) -> str:
    """Return the name of a column in the sheet: its own, unless the sheet would read it as something else."""
    name = " ".join(column.split())
    found = check_columns(["slide_id", "path", "patient_id", name], {}, needs_path=True)
    is_own = name in found.unread and not found.faults and not name.isdigit() and name not in ("slide_id", "path", "patient_id")
    return name if is_own else f"value of {name}"


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates with names that are valid and differ."""
    taken = set(RESERVED)
    named = []
    for candidate in candidates:
        entry = next(own for own in (candidate.entry, *(f"{candidate.entry}_{n}" for n in range(2, 10_000))) if own not in taken)
        taken.add(entry)
        named.append(replace(candidate, entry=entry))
    return named


def entry_name(column: str) -> str:
    """Return a column's name as the name of a target."""
    name = "_".join(words(column))[:40].strip("_")
    return name if name and not name.isdigit() else f"target_{name}".rstrip("_")


def is_positive(value: str) -> bool | None:
    """Return whether a value is the positive one of two; None if it is neither by itself."""
    key = value_key(value)
    return True if key in POSITIVE else False if key in NEGATIVE else None


def _classes(column: Column) -> Candidate:
    values, remark = _ordered(column)
    name = sheet_name(column.name)
    settings: dict[str, Any] = {"kind": "classes", "column": name, "classes": values}
    remark = "; ".join(filter(None, (counts_text(column, values), remark, column.note)))
    return Candidate(entry_name(column.name), settings, {name: column.cells}, _rank(column), remark, (column.name,))


def counts_text(column: Column, values: Sequence[str]) -> str:
    """Return the numbers of slides with each value, and how many have none."""
    counts = column.counts
    missing = sum(not cell for cell in column.cells)
    texts = [f"{value} ({counts[value]}{'' if number else ' slides'})" for number, value in enumerate(values)]
    return ", ".join([*texts, *([f"unknown ({missing})"] if missing else [])])


def _ordered(column: Column) -> tuple[list[str], str]:
    """Classes in order, of two the positive one last, with how that was decided."""
    values = _sorted(column.counts)
    if len(values) != 2:
        return _ranked(values), ""
    counts = column.counts
    meanings = _known(values)
    known = [meanings[value] for value in values]
    is_known = known.count(True) == 1 or known.count(False) == 1
    if is_known and (known[0] is True or known[1] is False):
        values.reverse()
    elif not is_known and not _are_numbered(values):
        values.sort(key=lambda value: (-counts[value], natural(value)))
    return values, f"positive: {values[1]}{'' if is_known else ' (assumed: swap them if it is the other)'}"


def _sorted(values: Iterable[str]) -> list[str]:
    """Values in natural order, whole numbers by size."""
    texts = list(values)
    are_numbers = all(re.fullmatch(r"[+-]?\d+", text) for text in texts)
    return sorted(texts, key=int) if are_numbers else sorted(texts, key=natural)


def _known(values: Sequence[str]) -> dict[str, bool | None]:
    """Whether each of two values is the positive one, by itself or since the other is its negation: MSIH and nonMSIH.

    0 and 1 mean no and yes only where there are no other numbers: 1 of 1 and 3 is a grade.
    """
    keys = [value_key(value) for value in values]
    for negative, positive in ((0, 1), (1, 0)):
        if keys[negative] in {f"{word}{mark}{keys[positive]}" for word in NEGATIONS for mark in ("", "-", "_")}:
            return {values[negative]: False, values[positive]: True}
    are_codes = set(keys) == {"0", "1"}
    return {value: is_positive(value) if are_codes or not value.isdigit() else None for value in values}


def _ranked(values: list[str]) -> list[str]:
    """Values in an order that is known, else in natural order with what is normal first."""
    keys = {value_key(value): value for value in values}
    for order in ORDERS:
        if set(keys) <= set(order):
            return [keys[key] for key in order if key in keys]
    if _are_numbered(values):
        return values
    stages = {value: _roman(value) for value in values}
    if all(number is not None for number in stages.values()):
        return sorted(values, key=lambda value: (stages[value] or 0, natural(value)))
    return sorted(values, key=lambda value: (is_positive(value) is not False, natural(value)))


def _roman(value: str) -> int | None:
    """Stage of `Stage IIIA`."""
    last = (words(value) or [""])[-1].rstrip("abc")
    return ROMAN.get(last)


def _are_numbered(values: Iterable[str]) -> bool:
    """Whether values are numbers, or differ in a number only: G1, G2."""
    return len({re.sub(r"[-+.\d]+", "0", value) for value in values}) == 1


def _rank(column: Column) -> int:
    """How likely a column is what is asked, by the words of its name and by its values."""
    own = set(column.words) | {"".join(column.words)}
    filled = sum(map(bool, column.cells)) >= LEAST_FILLED * len(column.cells)
    keys = {value_key(value) for value in column.counts}
    if not filled:
        return COVARIATE if own & COVARIATES else OTHER
    if own & LABELS and not own & COVARIATES:
        return LABEL
    tells = bool(keys - YES_NO) and keys <= {*NEGATIVE, *POSITIVE} and not own & COVARIATES
    if column.kind == "values" and (tells or (own & ENDPOINTS and not own & COVARIATES)):
        return ENDPOINT
    if own & (MARKERS | MUTATION_WORDS) and column.kind == "values" and not own & COVARIATES:
        return ENDPOINT
    return COVARIATE if own & COVARIATES else OTHER


def _regression(column: Column) -> Candidate:
    name = sheet_name(column.name)
    own = set(column.words)
    values = [value for value in column.numbers if value is not None]
    is_label = bool(own & {"label", "target", "outcome", "y"})
    is_measure = bool(own & MEASURES) and not own & COVARIATES
    rank = LABEL if is_label else ENDPOINT if is_measure else COVARIATE if own & COVARIATES else OTHER
    missing = sum(not cell for cell in column.cells)
    parts = [f"{min(values):g} to {max(values):g}", f"unknown ({missing})" if missing else "", column.note]
    settings = {"kind": "regression", "column": name}
    remark = "; ".join(filter(None, parts))
    return Candidate(entry_name(column.name), settings, {name: column.cells}, rank, remark, (column.name,))


def _groups(columns: Sequence[Column]) -> Iterable[list[Column]]:
    """Groups of columns of yes and no that belong together: of genes and stains, or whose names begin with the same word."""
    binary = [column for column in columns if _is_yes_no(column) and _rank(column) != COVARIATE]
    markers = [column for column in binary if _is_marker(column)]
    if len(markers) > 1:
        yield markers
    rest: dict[str, list[Column]] = {}
    for column in (column for column in binary if column not in markers or len(markers) < 2):
        if len(column.words) > 1:
            rest.setdefault(column.words[0], []).append(column)
    yield from (group for group in rest.values() if len(group) > 2)


def _is_marker(column: Column) -> bool:
    return bool(set(column.words) & (MARKERS | MUTATION_WORDS))


def _is_yes_no(column: Column) -> bool:
    """Whether a column has a positive and a negative value."""
    return (
        column.kind == "values" and {is_positive(value) for value in column.counts} == {True, False} and len(column.counts) == 2
    )


def _multilabel(group: Sequence[Column]) -> Candidate:
    names = [sheet_name(column.name) for column in group]
    values = sorted({value for column in group for value in column.counts}, key=natural)
    positive, negative = ([v for v in values if is_positive(v) is wanted] for wanted in (True, False))
    settings: dict[str, Any] = {"kind": "multilabel", "columns": names}
    if not _are_default("positive", positive) or not _are_default("negative", negative):
        settings |= {"positive": positive, "negative": negative}
    texts = [
        f"{name} {sum(is_positive(c) is True for c in column.cells if c)})" for name, column in zip(names, group, strict=True)
    ]
    cells = {name: column.cells for name, column in zip(names, group, strict=True)}
    rank = ENDPOINT if all(map(_is_marker, group)) else OTHER
    entry = (
        "mutations" if all(MUTATION_WORDS & set(c.words) for c in group) else "markers" if rank == ENDPOINT else group[0].words[0]
    )
    return Candidate(entry, settings, cells, rank, f"positive: {listed(texts)}", tuple(column.name for column in group))


def _are_default(key: str, values: Collection[str]) -> bool:
    return set(values) <= set(MultilabelTarget.model_fields[key].default)
