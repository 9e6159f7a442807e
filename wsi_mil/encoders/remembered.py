"""Small facts about weights that are expensive to find out, kept in the user's cache between processes."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from wsi_mil.files import write_text

log = logging.getLogger(__name__)


def remembered(name: str, find_out: Callable[[], str], *, is_valid: Callable[[str], bool]) -> str:
    """Return a fact from the user's cache, or find it out and keep it there.

    A cache that is missing, damaged or not writable costs time only.

    Args:
        name: name of the fact's file; it must determine the fact, since the file is never renewed.
        find_out: finds the fact out.
        is_valid: whether a text can be such a fact; a file with any other text is replaced.
    """
    try:
        file = _folder() / name
        kept = file.read_text(encoding="utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError):  # RuntimeError: a user without a home
        kept = ""
    if is_valid(kept):
        return kept
    fact = find_out()
    try:
        write_text(_folder() / name, fact)
    except (OSError, RuntimeError) as error:
        log.info("%s cannot be cached (%s)", name, error)
    return fact


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsi_mil" / "weights"
