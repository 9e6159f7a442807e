"""Words of a private dialect that once filled the documentation, and what to write instead."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

LATER = [ROOT / "docs" / "architecture.md", *(ROOT / "docs").glob("add_an_*.md")]
"""Pages that have not been reworded yet."""

PACKAGE = ROOT / "wsi_mil"
MODULES = [
    *(path for folder in ("report", "heatmaps", "evaluate") for path in sorted((PACKAGE / folder).rglob("*.py"))),
    *sorted((PACKAGE / "report" / "templates").glob("*.html")),
    *(PACKAGE / name for name in ("score_scaling.py", "rasterise.py")),
]
"""Modules and templates of the package; of these too every line is read."""

FILES = [page for page in PAGES if page not in LATER] + MODULES
"""To cover more text (config.yaml, other modules), add files here: Markdown or not, every line is read."""

INSTEAD = {
    r"h(?:old(?:s|ing)?|eld)(?: [\w`]+){0,3} against": "compared with, checked against",
    r"weigh(?:s|ed|ing)?": "weighted, multiplied by",
    r"go(?:es)? before (?:it|them|the|what)": "overrides",
    r"for want of": "without, for lack of",
    r"bears? (?:a|an|no) \w+": "has a",
    r"told (?:from|apart)|tells? (?:[\w`]+ ){0,3}apart": "distinguished from, separated",
    r"may be believed": "can be trusted",
    r"at hand": "available",
    r"laid": "placed",
    r"what lies|lies? (?:there|beside|over|off)|lain": "is, are",
    r"stands? (?:beside|there|on each)": "is next to, is in",
    r"anew|afresh": "again, from the start",
    r"says? nothing": "the neutral value, uninformative",
    r"(?<!weak )supervision": "crash guard; in MIL the word means weak supervision",
    r"(?:may |must not |that )speaks? for": "held-out models; predict",
    r"by heart": "memorised",
    r"stamped": "marked",
    r"to be had": "available",
    r"worked out": "computed",
    r"mend(?:s|ed|ing)?": "correct, fix, repair; remedy",
    r"made (?:slides?|bags?|cohorts?)": "synthetic",
    r"bring and take|what is known of it|of which are": "idiomatic headings; a sentence of its own",
}
"""Regular expressions of whole words, in any case; each occurred."""


def dialect(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, words, what to write instead) of prose; blocks of code and what is generated between comments are passed over.

    Tables of settings come from the package, whose own words are not looked at here.
    """
    skipped = re.sub(r"^ *```.*?^ *```$|<!-- (?:settings|records).*?<!-- end", _blank, text, flags=re.MULTILINE | re.DOTALL)
    for number, line in enumerate(skipped.splitlines(), start=1):
        for words, instead in INSTEAD.items():
            for match in re.finditer(rf"\b(?:{words})\b", line, re.IGNORECASE):
                yield number, match[0], instead


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_prose_is_plain_english(file: Path) -> None:
    name = file.relative_to(ROOT)
    found = [f"{name}:{line}: '{words}'; write: {instead}" for line, words, instead in dialect(file.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_dialect_is_found_with_its_line_but_not_in_code_or_generated_tables() -> None:
    generated = "<!-- settings: X -->\n| laid |\n<!-- end of settings -->\n"
    text = f"A slide bears a warning.\n```\nfor want of\n```\n{generated}Held it against\n"
    assert [(line, words) for line, words, _ in dialect(text)] == [(1, "bears a warning"), (8, "Held it against")]
    assert not list(dialect("weights are weighted; weak supervision; recommended; mainland\n"))
