"""Things in a row, as messages name them."""

from collections.abc import Sequence

MOST_NAMED = 5
"""Slides that a message names."""
MOST_ROWS = 10


def named(slides: Sequence[str], *, most: int = MOST_NAMED) -> str:
    """The first of some slides, and how many more there are."""
    more = f" and {len(slides) - most} more" if len(slides) > most else ""
    return ", ".join(slides[:most]) + more


def in_rows(numbers: Sequence[int], what: str = "row") -> str:
    """'row 3' or 'rows 3, 5 and 400 more'; one that comes twice is named once."""
    distinct = [str(number) for number in dict.fromkeys(numbers)]
    return f"{what}{'s' if len(distinct) > 1 else ''} {named(distinct, most=MOST_ROWS)}"


def on_one_line(text: str) -> str:
    """Text without what breaks a line or drives a terminal: such characters stand there as in Python's source."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def listed(parts: Sequence[str]) -> str:
    """Return a; a and b; a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
