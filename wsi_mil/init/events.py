"""Which values of a column mean that an event was observed: `1` of `death`, but `no` of `alive` and of `censored`."""

import re
from dataclasses import dataclass

from wsi_mil.init.columns import Column
from wsi_mil.init.words import YES_NO, natural, value_key, word_set
from wsi_mil.wording import listed

DIED = word_set("death dead died deceased tod todesfall tot gestorben verstorben exitus")
ALIVE = word_set("alive living survived survives survivor surviving lebt lebend lebendig uberlebt uberlebend uberlebende")
SURVIVAL = word_set("survival uberleben gesamtuberleben")
DEATH = DIED | ALIVE | SURVIVAL | word_set("vital vitalstatus os dss css uberlebensstatus")
RELAPSE = word_set(
    "recurrence recurred relapse relapsed rezidiv progression progress progressed progredienz metastasis pfs dfs rfs"
    " efs pfi dfi mfs ttp bcr event"
)
ENDPOINTS = word_set("os pfs dfs rfs dss dfi pfi efs mfs css ttp")
"""Abbreviations that a time and its event have in common."""
CENSORED = word_set("censor cens cnsr censored censoring censorship zensiert zensierung zensur")
EVENT = word_set("status event ereignis indicator") | CENSORED
VAGUE = word_set("status indicator vital vitalstatus uberlebensstatus state zustand")
"""Words with which 1 may be either: `vital_status`, `survival_status`, the indicator of censoring."""
NEGATED = word_set("never excluded absent lost ausgeschlossen nie no non not kein keine nicht ohne without un")
FREE = re.compile(r".*(free|frei)(es|er|e|heit)?")
"""Words that say that there was no event: `progression_free`, `rezidivfrei`."""

EVENT_VALUES = word_set(
    "1 true wahr yes ja y j dead deceased died death tod tot gestorben verstorben event ereignis recurred relapse relapsed"
    " recurrence rezidiv progressed progression progress uncensored dod doc exitus"
)
CENSORED_VALUES = word_set(
    "0 false falsch no nein n alive living lebt lebend lebendig am_leben censored zensiert diseasefree disease_free disease-free"
    " tumor_free tumorfrei none kein_rezidiv no_event ned awd no_recurrence"
)


@dataclass(frozen=True)
class Events:
    """The two kinds of values of a column of events.

    Attributes:
        observed: values that mean an event.
        censored: values that mean that follow-up ended without it.
        remark: how the values were read if their column says the opposite of an event; or "".
        is_sure: whether the column's name leaves no doubt which value is the event.
    """

    observed: list[str]
    censored: list[str]
    remark: str = ""
    is_sure: bool = True


def events_of(column: Column) -> Events | None:
    """Return which values of a column mean an event; None if it has no events, or values of one kind only."""
    if column.kind != "values" or not (_is_named_event(column) or is_free(column)):
        return None
    values = sorted(column.counts, key=natural)
    if set(values) == {"1", "2"}:
        return Events(["2"], ["1"], is_sure=False)
    observed = [value for value in values if _is_observed(value)]
    censored = [value for value in values if value not in observed and _is_censored(value)]
    if not observed or not censored or len(observed) + len(censored) < len(values):
        return None
    plain = [value for value in values if value_key(value) in YES_NO]
    if not plain:
        return Events(observed, censored)
    is_reversed, is_sure = _direction(column, values)
    if len(plain) < len(values) and (is_reversed or not is_sure):
        return None  # `yes` beside `dead` in a column `alive`
    if not is_reversed:
        return Events(observed, censored, is_sure=is_sure)
    remark = f"{_quoted(observed)} in {column.name} is read as no event, {_quoted(censored)} as the event"
    return Events(censored, observed, remark, is_sure)


def is_free(column: Column) -> bool:
    """Return whether a column says that an event has not happened: `recurrence_free`."""
    return any(FREE.fullmatch(word) for word in column.words)


def _is_named_event(column: Column) -> bool:
    return bool(set(column.words) & (EVENT | DEATH | RELAPSE))


def _direction(column: Column, values: list[str]) -> tuple[bool, bool]:
    """Whether yes means no event by the column's name, and whether that is sure."""
    own = set(column.words)
    reversing = [bool(own & ALIVE), bool(own & SURVIVAL), bool(own & CENSORED), is_free(column)]
    is_numbered = {value_key(value) for value in values} <= {"0", "1"}
    is_event = bool(own & {"event", "ereignis"})
    is_negated = bool(own & NEGATED)
    is_doubtful = is_negated or bool(own & (VAGUE - {"status"})) or (sum(reversing) > 1)
    if not any(reversing):
        is_bare = own <= ENDPOINTS | {"status"} and not is_numbered  # yes of `OS` may mean survived
        return is_negated, not (is_doubtful or is_bare)
    if is_event and own & SURVIVAL and sum(reversing) == 1:
        return is_negated, not is_doubtful  # the event of survival
    is_doubtful |= bool(own & (DIED | {"status"})) or (is_event and not is_free(column))
    is_doubtful |= bool(own & SURVIVAL) and is_numbered
    return (not own & SURVIVAL or "status" not in own) != is_negated, not is_doubtful


def _quoted(values: list[str]) -> str:
    return listed([f"'{value}'" for value in values])


def _is_observed(value: str) -> bool:
    number, text = _parts(value)
    return text in EVENT_VALUES or text.startswith(("dead_", "died_", "deceased_")) or (number == "1" and not _is_censored(value))


def _is_censored(value: str) -> bool:
    number, text = _parts(value)
    is_text = text in CENSORED_VALUES or text.startswith(("alive_", "living_"))
    return is_text or (number == "0" and text not in EVENT_VALUES)


def _parts(value: str) -> tuple[str, str]:
    """Number and text of cBioPortal's `1:DECEASED`; "" and the value itself if it has no number."""
    number, colon, text = value_key(value).partition(":")
    return (number, text.strip("_")) if colon and number in ("0", "1") else ("", value_key(value))
