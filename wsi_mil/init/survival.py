"""Guess survival from the columns of a table: times with events, GDC's days to death and follow-up, and dates."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from wsi_mil.config import SurvivalTarget
from wsi_mil.init.columns import Column
from wsi_mil.init.events import CENSORED, DEATH, ENDPOINTS, EVENT, RELAPSE, Events, events_of, is_free
from wsi_mil.init.guessing import ENDPOINT, OTHER, Candidate, sheet_name
from wsi_mil.init.words import word_set, words

UNITS = word_set(
    "months month monate monat mo mos days day tage tag d years year jahre jahr yrs weeks week wochen woche time zeit dauer"
    " duration"
)
TIMES = word_set(
    "os pfs dfs rfs dss dfi pfi efs mfs css ttp survival uberleben uberlebenszeit gesamtuberleben followup follow nachbeobachtung"
    " nachsorge fu rezidivfrei"
)
"""Words in the names of columns of times."""
START = word_set(
    "diagnosis diagnose erstdiagnose surgery operation op resection resektion biopsy biopsie entnahme inclusion start"
)
END = word_set(
    "death tod todesdatum died verstorben sterbedatum last letzter letzte letztes follow followup kontakt contact nachsorge"
)
DEATH_DATE = word_set("death tod todesdatum died verstorben sterbedatum")

DAYS = "survival_days"
"""Name of the column of times that are computed."""
DIED = "died"
"""Name of the column of events where the table has dates of death only."""
DAYS_TO_DEATH = ("daystodeath",)
DAYS_TO_LAST = ("daystolastfollowup", "daystolastfollowup", "daystolastknownalive")


def guess_survival(columns: Sequence[Column]) -> tuple[list[Candidate], set[str]]:
    """Return candidates of kind survival, and the names of the columns that they explain."""
    has_days = any(column.name == DAYS for column in columns)
    joined = [] if has_days else list(_days_of_gdc(columns))
    days = {name for candidate in joined for name in candidate.source[:2]}
    found = [*joined, *_pairs([column for column in columns if column.name not in days])]
    used = {name for candidate in found for name in candidate.source}
    dated = [] if found or has_days else list(_from_dates(columns))
    return [*found, *dated], used | {name for candidate in dated for name in candidate.source}


def _pairs(columns: Sequence[Column]) -> Iterator[Candidate]:
    """Times with the event that belongs to each."""
    times = [column for column in columns if column.kind in ("numbers", "values") and _is_time(column)]
    events = [column for column in columns if column not in times and events_of(column)]
    for time in times:
        best = sorted(events, key=lambda event: -_belongs(time, event))[:1]
        if best and _belongs(time, best[0]) > 0:
            yield from _follow_up(time, best[0])


def _is_time(column: Column) -> bool:
    own = set(column.words)
    if own & EVENT or not _is_number(column) or len(column.counts) <= 2:
        return False
    return bool(own & TIMES) or bool(own & UNITS and own & (DEATH | RELAPSE)) or own <= UNITS


def _is_number(column: Column) -> bool:
    return column.kind == "numbers" or (bool(column.counts) and all(cell.lstrip("+-").isdigit() for cell in column.counts))


def _belongs(time: Column, event: Column) -> int:
    """How surely an event is the one of a time; 0: it is not."""
    own, other = set(time.words), set(event.words)
    common = own & other & ENDPOINTS
    if common:
        return 4
    if own & ENDPOINTS and other & ENDPOINTS:
        return 0
    is_of_death = not own & RELAPSE
    if other & (DEATH if is_of_death else RELAPSE - {"event"}) or (is_free(event) and not is_of_death):
        return 2 if own <= UNITS else 3
    is_generic = bool(other & EVENT) and not other & (DEATH | RELAPSE - {"event"}) and len(other) == 1
    is_clear = other <= CENSORED | {"event"} and (own == {"time"} or bool(own & TIMES))
    return (3 if is_clear else 2) if is_generic else 0


def _follow_up(time: Column, event: Column) -> Iterator[Candidate]:
    events = events_of(event)
    if events is None:
        return
    cells, zeros = _above_zero(time)
    is_own = _belongs(time, event) >= 3
    doubt = "" if is_own else f"check that {event.name} is the event of this time"
    made = _candidate(replace(time, cells=cells), event, events, (zeros, time.note, event.note, doubt))
    yield replace(made, rank=made.rank if is_own else OTHER, source=(time.name, event.name))


def _above_zero(time: Column) -> tuple[tuple[str, ...], str]:
    """Cells of a time without those that are zero or less, which no model can learn from."""
    kept = tuple(cell if cell and float(cell) > 0 else "" for cell in time.cells)
    n = sum(bool(cell) for cell in time.cells) - sum(map(bool, kept))
    return kept, f"{n} times of 0 left empty" if n else ""


def _candidate(time: Column, event: Column, events: Events, remarks: Sequence[str]) -> Candidate:
    names = sheet_name(time.name), sheet_name(event.name)
    settings: dict[str, Any] = {"kind": "survival", "time": names[0], "event": names[1]}
    for key, values in (("event_is", events.observed), ("censored_is", events.censored)):
        if not set(values) <= set(SurvivalTarget.model_fields[key].default):
            settings[key] = values
    known = [cell for days, cell in zip(time.cells, event.cells, strict=True) if days and cell]
    n = sum(cell in events.observed for cell in known)
    text = f"{n} events ({', '.join(events.observed)}) among {len(known)} slides"
    doubt = "" if events.is_sure else f"check which value of {event.name} is the event"
    remark = "; ".join(filter(None, (text, events.remark, doubt, *remarks)))
    rank = ENDPOINT if events.is_sure else OTHER
    return Candidate(_entry(time.name), settings, dict(zip(names, (time.cells, event.cells), strict=True)), rank, remark, names)


def _entry(time: str) -> str:
    """Name of the target: the abbreviation in the time's name, or `survival`."""
    return next((word for word in words(time) if word in ENDPOINTS), "survival")


def _days_of_gdc(columns: Sequence[Column]) -> Iterator[Candidate]:
    """Days to death of the dead and to the last follow-up of the living, joined to one time."""
    by_name = {"".join(column.words): column for column in columns}
    death = next((c for name, c in by_name.items() if name.endswith(DAYS_TO_DEATH) and _is_number(c)), None)
    last = next((c for name, c in by_name.items() if name.endswith(DAYS_TO_LAST) and _is_number(c)), None)
    vital = next((c for c in columns if "vital" in c.words and events_of(c)), None)
    if death is None or last is None or vital is None:
        return
    dead = _died(vital)
    joined = [own if has_died else other for own, other, has_died in zip(death.cells, last.cells, dead, strict=True)]
    text = f"{DAYS}: {death.name} of the dead, {last.name} of the others"
    yield _consistent(joined, vital, _doubtful(death, dead), (text, death.note, last.note), (death, last, vital))


def _from_dates(columns: Sequence[Column]) -> Iterator[Candidate]:
    """Days between the date of diagnosis or surgery and that of death or the last contact."""
    dates = [column for column in columns if column.kind == "dates"]
    start = next((column for column in dates if set(column.words) & START and not set(column.words) & END), None)
    death = next((column for column in dates if set(column.words) & DEATH_DATE), None)
    last = next((column for column in dates if set(column.words) & END and column is not death), None)
    status = next((c for c in columns if events_of(c) and set(c.words) & (DEATH | {"status"})), None)
    if start is None or (death is None and last is None) or (status is None and (death is None or last is None)):
        return
    if death is None and any(map(_is_unread_date, columns)):
        return
    ends = [own or other for own, other in zip(_or_empty(death, start), _or_empty(last, start), strict=True)]
    days = [str((end - begin).days) if end and begin else "" for end, begin in zip(ends, start.dates, strict=True)]
    event = status or Column(DIED, tuple(str(int(bool(cell))) for cell in death.cells) if death else (), "values")
    names = [column.name for column in (start, death, last) if column]
    text = f"{DAYS}: from {names[0]} to {' or '.join(names[1:])}; check that this is the follow-up you mean"
    notes = (text, *(column.note for column in (start, death, last) if column))
    source = [column for column in (start, death, last, status) if column]
    doubtful = _doubtful(death, _died(event)) if death else [False] * len(days)
    yield replace(_consistent(days, event, doubtful, notes, source), rank=OTHER)


def _died(event: Column) -> list[bool | None]:
    """Whether each patient has died; None if that is not known."""
    observed = _events(event).observed
    return [cell in observed if cell else None for cell in event.cells]


def _doubtful(death: Column, died: Sequence[bool | None]) -> list[bool]:
    """Whether the cell of death of each slide cannot be read, or does not agree with the event."""
    return [
        at in death.unread or (has_died is not None and has_died != bool(cell))
        for at, (cell, has_died) in enumerate(zip(death.cells, died, strict=True))
    ]


def _consistent(
    days: Sequence[str], event: Column, doubtful: Sequence[bool], notes: Sequence[str], source: Sequence[Column]
) -> Candidate:
    """A target of days and events, both empty where it is doubtful whether or when a patient has died."""
    time = Column(DAYS, _unless(doubtful, days), "numbers")
    cells, zeros = _above_zero(time)
    n = sum(doubtful)
    left = f"{n} slides left empty, since it cannot be read whether or when these patients died" if n else ""
    name = f"{event.name} of {DAYS}" if n and event.name != DIED else event.name
    kept = replace(event, name=name, cells=_unless(doubtful, event.cells))
    made = _candidate(replace(time, cells=cells), kept, _events(event), (*notes, left, zeros))
    return replace(made, source=tuple(column.name for column in source))


def _unless(doubtful: Sequence[bool], cells: Sequence[str]) -> tuple[str, ...]:
    return tuple("" if is_left else cell for cell, is_left in zip(cells, doubtful, strict=True))


def _events(event: Column) -> Events:
    return events_of(event) or Events(["1"], ["0"])


def _is_unread_date(column: Column) -> bool:
    """Whether a column has dates of death by its name, but cannot be read as dates."""
    own = set(column.words)
    is_date = own & {"todesdatum", "sterbedatum"} or (own & DEATH_DATE and own & {"date", "datum"})
    return bool(is_date) and column.kind not in ("dates", "empty")


def _or_empty(column: Column | None, like: Column) -> Sequence[Any]:
    return column.dates if column else [None] * len(like.cells)
