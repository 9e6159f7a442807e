"""Phrases of messages: lists of names and rows, safe text, signals."""

import signal
from collections.abc import Sequence

MAX_NAMED = 5
"""Largest number of slides that a message names."""
MAX_ROWS = 10
"""Largest number of rows that a message names."""


def named(slides: Sequence[str], *, most: int = MAX_NAMED) -> str:
    """Return the first of some names, and the number of the others."""
    more = f" and {len(slides) - most} more" if len(slides) > most else ""
    return ", ".join(slides[:most]) + more


def in_rows(numbers: Sequence[int], what: str = "row") -> str:
    """Return 'row 3' or 'rows 3, 5 and 400 more', each row once."""
    distinct = [str(number) for number in dict.fromkeys(numbers)]
    return f"{what}{'s' if len(distinct) > 1 else ''} {named(distinct, most=MAX_ROWS)}"


def on_one_line(text: str) -> str:
    """Return text with line breaks and control characters escaped as in Python's source."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def signal_text(number: int) -> str:
    """Return the name of a signal that ended a process, with the usual cause of SIGKILL."""
    name = signal.Signals(number).name
    return f"{name} (the system does so when memory runs out)" if name == "SIGKILL" else name


def listed(parts: Sequence[str]) -> str:
    """Return a; a and b; a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def method_title(method: str, label: str = "") -> str:
    """Return the name of an explanation method as readers see it, with the label that it explains, if there are several.

    Scores for a further label of a slide are stored under the name of the method with the label: `attention@er`. Those on the
    finer grid of shifted tilings are named `attention.fine`.
    """
    name, _, own = method.partition("@")
    title, shown = name.replace(".fine", ", fine").replace("_", " "), label or own
    return f"{title} for {shown}" if shown else title


def digits(value: float | None) -> str:
    """Return a value in a unit of its own to three digits, or a dash if it is missing."""
    if value is None or value != value:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")
