"""The columns of a table as labels of slides: one cell for each slide, and what kind of values they are."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import date

from wsi_mil.init.matching import Matched
from wsi_mil.init.words import folded, is_missing, word_set, words
from wsi_mil.wording import named

MOST_VALUES = 8
"""Largest number of values of a column that is taken for classes."""
MOST_NUMBERS = 5
"""Largest number of whole numbers that are taken for classes, as grades are."""
DATED = 0.8
"""Share of dates from which on a column is one of dates."""

SIGNS = {"+": "positive", "(+)": "positive", "-": "negative", "–": "negative", "−": "negative", "neg": "neg", "pos": "pos"}
"""Cells of columns of signs, in which a minus is no missing value."""

NONE = "none"
NOT_KNOWN = word_set("? unknown unk unbekannt missing fehlt fehlend undefined tbd k.a. k.a [unknown] [discrepancy]") | {
    "nicht bekannt",
    "not known",
    "keine angabe",
    "k. a.",
    "not available",
    "not reported",
    "[not available]",
}
"""Cells, in lower case, that say that there is a value which is not known."""

ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T][\d:.Z+]*)?")
DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4}|\d{2})(?: [\d:]*)?")
SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?: [\d:]*)?")

COMMA_CLEAR = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+,\d+|\d+,(\d{1,2}|\d{4,})|0,\d+)")
POINT_CLEAR = re.compile(r"[+-]?(\d{1,3}(,\d{3})+\.\d+|\d+\.(\d{1,2}|\d{4,})|0\.\d+|\d*\.?\d+[eE][+-]?\d+)")
COMMA_THREE, POINT_THREE = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+"), re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
COMMA_SEVERAL, POINT_SEVERAL = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3}){2,}"), re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3}){2,}")
"""Numbers whose marks separate thousands, as there are several: the decimal mark is the other one."""
WHOLE, ABOVE_NINE = re.compile(r"[+-]?\d+"), re.compile(r"[+-]?[1-9]\d+")


@dataclass(frozen=True)
class Column:
    """A column of labels.

    Attributes:
        name: as in the table.
        cells: text for each slide, in the order of the slides; "" where it is missing or contradictory.
        kind: `empty`, `constant`, `dates`, `numbers`, `values` (few different ones) or `text`.
        note: what was changed, or why it cannot be read.
        unread: positions of the slides whose rows have something that is no value of this column, or contradict each other.
    """

    name: str
    cells: tuple[str, ...]
    kind: str
    note: str = ""
    unread: frozenset[int] = frozenset()

    @property
    def counts(self) -> Counter[str]:
        """Return the values with their numbers of slides."""
        return Counter(cell for cell in self.cells if cell)

    @property
    def numbers(self) -> list[float | None]:
        """Return the cells of a column of numbers as such."""
        return [float(cell) if cell else None for cell in self.cells]

    @property
    def dates(self) -> list[date | None]:
        """Return the cells of a column of dates as such."""
        return [date.fromisoformat(cell) if cell else None for cell in self.cells]

    @property
    def words(self) -> list[str]:
        """Return the words of its name."""
        return words(self.name)


def label_columns(matched: Matched) -> tuple[list[Column], list[str]]:
    """Return the columns of the table but those of ids, and notes on contradictory cells."""
    if matched.table is None:
        return [], []
    names = [name for name in matched.table.columns if name not in matched.id_columns]
    table = {name: _with_signs(matched.table.column(name)) for name in names}
    kept = {name for name, cells in table.items() if has_none_as_class(cells)}
    raw = {name: _cells(matched, table[name], none_is_class=name in kept) for name in names}
    comma = _decimal_comma([cell for cells in raw.values() for cell in cells.texts])
    notes = _contradiction_notes({name: cells.contradictory for name, cells in raw.items()}, matched)
    columns = [_column(name, cells.texts, comma) for name, cells in raw.items()]
    read = [_with_unread(column, raw[column.name]) for column in columns]
    return read, [*notes, *_none_notes(raw, kept)]


@dataclass(frozen=True)
class _Cells:
    """A cell of a column for each slide, and the positions of the slides for which it is empty for a reason."""

    texts: list[str]
    contradictory: set[int]
    unknown: set[int]
    n_none: int


def _with_signs(column: list[str]) -> list[str]:
    is_signs = {cell for cell in column if cell} <= SIGNS.keys() and any(SIGNS.get(cell) == "positive" for cell in column)
    return [SIGNS.get(cell, "") for cell in column] if is_signs else column


def _cells(matched: Matched, column: Sequence[str], *, none_is_class: bool) -> _Cells:
    found = _Cells([], set(), set(), sum(folded(cell) == NONE for cell in column))
    for at, rows in enumerate(matched.rows.values()):
        values = [column[row] for row in rows if not is_missing(column[row]) or (none_is_class and folded(column[row]) == NONE)]
        n = len({folded(value) for value in values})
        found.texts.append(values[0] if n == 1 else "")
        if n > 1:
            found.contradictory.add(at)
        if not n and any(folded(column[row]) in NOT_KNOWN for row in rows):
            found.unknown.add(at)
    return found


def has_none_as_class(column: Sequence[str]) -> bool:
    """Return whether `none` in a column is a class: among few different words, in lower case.

    Programs write `None` for a missing value.
    """
    others = [folded(cell) for cell in column if not is_missing(cell)]
    are_words = all(re.search("[a-z]", cell) and not any(p.fullmatch(cell) for p in (ISO, POINT_CLEAR)) for cell in others)
    is_few = 0 < len(set(others)) < min(MOST_VALUES, len(others))
    return NONE in column and are_words and is_few


def _none_notes(raw: Mapping[str, _Cells], kept: Set[str]) -> list[str]:
    """How `none` was read, by column, where a column has other cells."""
    counted = {name: f"{name} ({cells.n_none})" for name, cells in raw.items() if cells.n_none and any(cells.texts)}
    classes = [text for name, text in counted.items() if name in kept]
    missing = [text for name, text in counted.items() if name not in kept]
    notes = (
        [f"'none' read as a value, not as missing, in columns {named(classes)}; if it marks missing values, empty these cells"]
        if classes
        else []
    )
    hint = "if it is a class, write another word, such as absent"
    return [*notes, *([f"'none' read as missing in columns {named(missing)}; {hint}"] if missing else [])]


def _with_unread(column: Column, cells: _Cells) -> Column:
    lost = {at for at, (text, read) in enumerate(zip(cells.texts, column.cells, strict=True)) if text and not read}
    return replace(column, unread=frozenset(lost | cells.contradictory | cells.unknown))


def _contradiction_notes(contradictions: Mapping[str, Set[int]], matched: Matched) -> list[str]:
    several = [slide_id for slide_id, rows in matched.rows.items() if len(rows) > 1]
    columns = [name for name, slides in contradictions.items() if slides]
    if not several:
        return []
    what = f"{len(several)} slides have several rows of the table"
    if not columns:
        return [f"{what}, which agree"]
    return [f"{what}; where these differ the cell is left empty, in columns {named(columns)}: name one row per slide or patient"]


def _column(name: str, cells: list[str], comma: bool | None) -> Column:
    filled = [cell for cell in cells if cell]
    if not filled:
        return Column(name, tuple(cells), "empty")
    dates, note = _dates(cells)
    if dates:
        return Column(name, tuple(dates), "dates", note)
    if note:
        return Column(name, tuple(cells), "text", note)
    numbers, note = _numbers(cells, comma)
    if numbers:
        distinct = {cell for cell in numbers if cell}
        is_whole = all(WHOLE.fullmatch(cell) for cell in distinct)
        kind = "constant" if len(distinct) == 1 else "values" if len(distinct) <= MOST_NUMBERS and is_whole else "numbers"
        return Column(name, tuple(numbers), kind, note)
    if note:
        return Column(name, tuple(cells), "text", note)
    unified, note = _unified(cells)
    n = len({cell for cell in unified if cell})
    kind = "constant" if n == 1 else "values" if n <= MOST_VALUES and n < len(filled) else "text"
    return Column(name, tuple(unified), kind, note)


def _unified(cells: list[str]) -> tuple[list[str], str]:
    """Cells in which values that differ in case only have their most frequent spelling."""
    spellings: dict[str, Counter[str]] = {}
    for cell in cells:
        if cell:
            spellings.setdefault(folded(cell), Counter())[cell] += 1
    best = {key: counts.most_common(1)[0][0] for key, counts in spellings.items()}
    several = [" = ".join(sorted(counts)) for counts in spellings.values() if len(counts) > 1]
    note = f"read as one value: {named(several)}" if several else ""
    return [best[folded(cell)] if cell else "" for cell in cells], note


def _decimal_comma(cells: Sequence[str]) -> bool | None:
    """Whether the table has decimal commas; None if both marks occur, or neither."""
    comma, point = (any(pattern.fullmatch(cell) for cell in cells) for pattern in (COMMA_CLEAR, POINT_CLEAR))
    return None if comma == point else comma


def _numbers(cells: list[str], table_comma: bool | None) -> tuple[list[str], str]:
    """Numbers as Python writes them, and a note; [] if some cell is none, with a note if only the mark is unclear."""
    texts = [cell.replace("\N{NO-BREAK SPACE}", "").replace("−", "-") for cell in cells]
    if texts and all(cell.endswith("%") for cell in texts if cell):
        texts = [cell.rstrip("% ") for cell in texts]
    filled = [cell for cell in texts if cell]
    patterns = (WHOLE, COMMA_CLEAR, POINT_CLEAR, COMMA_THREE, POINT_THREE)
    if not all(any(pattern.fullmatch(cell) for pattern in patterns) for cell in filled):
        return [], ""
    with_comma = next((cell for cell in filled if COMMA_CLEAR.fullmatch(cell) or POINT_SEVERAL.fullmatch(cell)), "")
    with_point = next((cell for cell in filled if POINT_CLEAR.fullmatch(cell) or COMMA_SEVERAL.fullmatch(cell)), "")
    if with_comma and with_point:
        return [], f"the marks of {with_comma} and {with_point} contradict each other: write all numbers the same way"
    is_clear = bool(with_comma or with_point)
    unclear = "" if is_clear else _unclear(filled, table_comma)
    if unclear:
        return [], f"the mark in {unclear} may separate thousands or decimals: write 1234 or 1.2340"
    comma = bool(with_comma) if is_clear else bool(table_comma)
    return [_number(cell, comma) if cell else "" for cell in texts], ""


def _unclear(cells: Sequence[str], table_comma: bool | None) -> str:
    """The first cell whose mark may separate thousands or decimals, or "".

    In a table without another clear number, three digits after a point are decimals, but not if all cells with a point have
    three, and whole numbers without one have two digits or more: 950, 1.234, 87.
    """
    with_comma = [cell for cell in cells if COMMA_THREE.fullmatch(cell)]
    with_point = [cell for cell in cells if POINT_THREE.fullmatch(cell)]
    if table_comma is False or (table_comma and not with_point):
        return ""
    is_mixed = any(map(ABOVE_NINE.fullmatch, cells))
    unclear = with_point if table_comma else with_comma or (with_point if is_mixed else [])
    return unclear[0] if unclear else ""


def _number(cell: str, comma: bool) -> str:
    text = cell.replace(".", "").replace(",", ".") if comma else cell.replace(",", "")
    is_id = re.fullmatch(r"[+-]?\d+", text)
    return str(int(text)) if is_id else f"{float(text):.15g}"


def _dates(cells: list[str]) -> tuple[list[str], str]:
    """Dates as YYYY-MM-DD with a note; [] if the cells are none, with a note if the order of day and month is unclear."""
    filled = [cell for cell in cells if cell]
    matches = [next((m for p in (ISO, DOTTED, SLASHED) if (m := p.fullmatch(cell))), None) for cell in filled]
    if sum(match is not None for match in matches) < DATED * len(filled):
        return [], ""
    slashed = [match for match in matches if match is not None and match.re is SLASHED]
    month_first = any(int(match[2]) > 12 for match in slashed)
    if slashed and not month_first and not any(int(match[1]) > 12 for match in slashed):
        return [], f"in dates such as {slashed[0][0]} either number may be the month: write them as 2024-01-31"
    read = {cell: _date(match, month_first) for cell, match in zip(filled, matches, strict=True)}
    lost = [cell for cell, text in read.items() if not text]
    return [read.get(cell, "") for cell in cells], f"no dates: {named(lost)}" if lost else ""


def _date(match: "re.Match[str] | None", month_first: bool) -> str:
    if match is None:
        return ""
    parts = [int(part) for part in match.groups()]
    year, month, day = parts if match.re is ISO else reversed(parts)
    if match.re is SLASHED and month_first:
        month, day = day, month
    if year < 100:
        year += 2000 if year < 50 else 1900
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return ""
