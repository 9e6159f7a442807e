"""Guess survival from the columns of a table: times with events, GDC's days to death and follow-up, and dates."""

from collections.abc import Iterator, Sequence
from typing import Any

from wsi_mil.config import SurvivalTarget
from wsi_mil.init.columns import Column
from wsi_mil.init.guessing import ENDPOINT, OTHER, Candidate, is_positive, sheet_name
from wsi_mil.init.words import natural, value_key, word_set, words

UNITS = word_set(
    "months month monate monat mo mos days day tage tag d years year jahre jahr yrs weeks week wochen woche time zeit dauer"
    " duration"
)
DEATH = word_set(
    "vital death dead died deceased tod todesfall gestorben verstorben exitus os dss css uberleben uberlebensstatus lebt alive"
    " survival vitalstatus"
)
RELAPSE = word_set(
    "recurrence recurred relapse relapsed rezidiv progression progress progressed progredienz progress metastasis pfs dfs rfs"
    " efs pfi dfi mfs ttp bcr event"
)
TIMES = word_set(
    "os pfs dfs rfs dss dfi pfi efs mfs css ttp survival uberleben uberlebenszeit gesamtuberleben followup follow nachbeobachtung"
    " nachsorge fu rezidivfrei"
)
"""Words in the names of columns of times."""
ENDPOINTS = word_set("os pfs dfs rfs dss dfi pfi efs mfs css ttp")
"""Abbreviations that a time and its event have in common."""
EVENT = word_set("status event ereignis censor censored censoring censorship zensiert zensierung indicator")
CENSORED = word_set("censor censored censoring censorship zensiert zensierung")

EVENT_VALUES = word_set(
    "1 true yes ja y dead deceased died death tod tot gestorben verstorben event ereignis recurred relapse relapsed recurrence"
    " rezidiv progressed progression progress uncensored dod doc exitus"
)
CENSORED_VALUES = word_set(
    "0 false no nein n alive living lebt lebend lebendig am_leben censored zensiert diseasefree disease_free disease-free"
    " tumor_free tumorfrei none kein_rezidiv no_event ned awd no_recurrence"
)

START = word_set(
    "diagnosis diagnose erstdiagnose surgery operation op resection resektion biopsy biopsie entnahme inclusion start"
)
END = word_set(
    "death tod todesdatum died verstorben sterbedatum last letzter letzte letztes follow followup kontakt contact nachsorge"
)
DEATH_DATE = word_set("death tod todesdatum died verstorben sterbedatum")

DAYS_TO_DEATH = ("daystodeath",)
DAYS_TO_LAST = ("daystolastfollowup", "daystolastfollowup", "daystolastknownalive")


def guess_survival(columns: Sequence[Column]) -> tuple[list[Candidate], set[str]]:
    """Return candidates of kind survival, and the names of the columns that they explain."""
    found = [*_days_of_gdc(columns), *_pairs(columns)]
    used = {name for candidate in found for name in candidate.source}
    dated = [] if found else list(_from_dates(columns))
    return [*found, *dated], used | {name for candidate in dated for name in candidate.source}


def _pairs(columns: Sequence[Column]) -> Iterator[Candidate]:
    """Times with the event that belongs to each."""
    times = [column for column in columns if column.kind in ("numbers", "values") and _is_time(column)]
    events = [column for column in columns if column not in times and _event_values(column)]
    for time in times:
        best = sorted(events, key=lambda event: -_belongs(time, event))[:1]
        if best and _belongs(time, best[0]) > 0:
            yield _follow_up(time, best[0])


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
    if other & (DEATH if is_of_death else RELAPSE - {"event"}):
        return 2 if own <= UNITS else 3
    is_generic = bool(other & EVENT) and not other & (DEATH | RELAPSE - {"event"}) and len(other) == 1
    is_clear = other <= CENSORED | {"event"} and (own == {"time"} or bool(own & TIMES))
    return (3 if is_clear else 2) if is_generic else 0


def _event_values(column: Column) -> tuple[list[str], list[str]] | None:
    """Values that mean an event, and those that mean the end of follow-up; None if the column does not have both."""
    own = set(column.words)
    if column.kind != "values" or not own & (EVENT | DEATH | RELAPSE):
        return None
    values = sorted(column.counts, key=natural)
    if set(values) == {"1", "2"}:
        return ["2"], ["1"]
    with_event = [value for value in values if _is_event(value)]
    without = [value for value in values if value not in with_event and _is_censored(value)]
    if not with_event or not without or len(with_event) + len(without) < len(values):
        return None
    is_reversed = bool(own & CENSORED and set(values) <= {"0", "1"}) or (
        bool(own & {"alive", "lebt"})
        and all(is_positive(value) is not None for value in values)
        and value_key(values[0]) != "alive"
    )
    return (without, with_event) if is_reversed else (with_event, without)


def _is_event(value: str) -> bool:
    key = value_key(value)
    return key in EVENT_VALUES or key.startswith(("1:", "dead_", "died_", "deceased_"))


def _is_censored(value: str) -> bool:
    key = value_key(value)
    return key in CENSORED_VALUES or key.startswith(("0:", "alive_", "living_"))


def _follow_up(time: Column, event: Column) -> Candidate:
    cells, note = _above_zero(time)
    is_sure = _belongs(time, event) >= 3 and set(event.counts) != {"1", "2"}
    doubt = "" if is_sure else f"check that {event.name} is the event of this time"
    remark = "; ".join(filter(None, (note, time.note, doubt)))
    return _candidate((time.name, cells), (event.name, event), remark, ENDPOINT if is_sure else OTHER, (time.name, event.name))


def _above_zero(time: Column) -> tuple[tuple[str, ...], str]:
    """Cells of a time without those that are zero or less, which no model can learn from."""
    kept = tuple(cell if cell and float(cell) > 0 else "" for cell in time.cells)
    n = sum(bool(cell) for cell in time.cells) - sum(map(bool, kept))
    return kept, f"{n} times of 0 left empty" if n else ""


def _candidate(
    time: tuple[str, tuple[str, ...]], event: tuple[str, Column], remark: str, rank: int, source: tuple[str, ...]
) -> Candidate:
    names = sheet_name(time[0]), sheet_name(event[0])
    with_event, without = _event_values(event[1]) or (["1"], ["0"])
    settings: dict[str, Any] = {"kind": "survival", "time": names[0], "event": names[1]}
    fields = SurvivalTarget.model_fields
    settings |= {"event_is": with_event} if not set(with_event) <= set(fields["event_is"].default) else {}
    settings |= {"censored_is": without} if not set(without) <= set(fields["censored_is"].default) else {}
    n = sum(bool(t) and cell in with_event for t, cell in zip(time[1], event[1].cells, strict=True))
    n_known = sum(bool(t) and bool(cell) for t, cell in zip(time[1], event[1].cells, strict=True))
    text = f"{n} events ({', '.join(with_event)}) among {n_known} slides"
    cells = {names[0]: time[1], names[1]: event[1].cells}
    return Candidate(_entry(time[0]), settings, cells, rank, "; ".join(filter(None, (text, remark))), source)


def _entry(time: str) -> str:
    """Name of the target: the abbreviation in the time's name, or `survival`."""
    return next((word for word in words(time) if word in ENDPOINTS), "survival")


def _days_of_gdc(columns: Sequence[Column]) -> Iterator[Candidate]:
    """Days to death of the dead and to the last follow-up of the living, joined to one time."""
    by_name = {"".join(column.words): column for column in columns}
    death = next((c for name, c in by_name.items() if name.endswith(DAYS_TO_DEATH) and _is_number(c)), None)
    last = next((c for name, c in by_name.items() if name.endswith(DAYS_TO_LAST) and _is_number(c)), None)
    vital = next((c for c in columns if "vital" in c.words and _event_values(c)), None)
    if death is None or last is None or vital is None:
        return
    dead = (_event_values(vital) or ([], []))[0]
    joined = [own if status in dead else other for own, other, status in zip(death.cells, last.cells, vital.cells, strict=True)]
    time = Column("survival_days", tuple(joined), "numbers")
    cells, note = _above_zero(time)
    remark = "; ".join(filter(None, (f"survival_days: {death.name} of the dead, {last.name} of the others", note)))
    yield _candidate((time.name, cells), (vital.name, vital), remark, ENDPOINT, (death.name, last.name, vital.name))


def _from_dates(columns: Sequence[Column]) -> Iterator[Candidate]:
    """Days between the date of diagnosis or surgery and that of death or the last contact."""
    dates = [column for column in columns if column.kind == "dates"]
    start = next((column for column in dates if set(column.words) & START and not set(column.words) & END), None)
    death = next((column for column in dates if set(column.words) & DEATH_DATE), None)
    last = next((column for column in dates if set(column.words) & END and column is not death), None)
    status = next((c for c in columns if _event_values(c) and set(c.words) & (DEATH | {"status"})), None)
    if start is None or (death is None and last is None) or (status is None and (death is None or last is None)):
        return
    ends = [own or other for own, other in zip(_or_empty(death, start), _or_empty(last, start), strict=True)]
    days = [(end - begin).days if end and begin else None for end, begin in zip(ends, start.dates, strict=True)]
    time = Column("survival_days", tuple(str(n) if n is not None else "" for n in days), "numbers")
    died = Column("died", tuple(str(int(bool(cell))) for cell in death.cells) if death else (), "values")
    event = status or died
    cells, note = _above_zero(time)
    names = [column.name for column in (start, death, last) if column]
    source = (*names, *([status.name] if status else []))
    text = f"survival_days: from {names[0]} to {' or '.join(names[1:])}; check that this is the follow-up you mean"
    yield _candidate((time.name, cells), (event.name, event), "; ".join(filter(None, (text, note))), OTHER, source)


def _or_empty(column: Column | None, like: Column) -> Sequence[Any]:
    return column.dates if column else [None] * len(like.cells)
