"""Words of a private dialect that once filled the documentation, and what to write instead."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

REWORDED = [
    *(file for folder in ("report", "heatmaps", "evaluate") for file in sorted((ROOT / "wsi_mil" / folder).rglob("*.py"))),
    *sorted((ROOT / "wsi_mil" / "report" / "templates").glob("*.html")),
]
"""What the report says and what it is made of: here none of the words may occur, not only those of `IN_THE_PACKAGE`."""

FILES = [*PAGES, ROOT / "config.yaml", ROOT / "Makefile", *REWORDED]
"""Every line is read, of Markdown all but blocks of code and generated tables."""

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


PACKAGE = [
    *sorted((ROOT / "wsi_mil").rglob("*.py")),
    *sorted((ROOT / "wsi_mil").glob("*/templates/*.html")),
    *sorted((ROOT / "wsi_mil" / "view" / "static").glob("*.js")),
    *sorted((ROOT / "workflow").rglob("*.smk")),
]
IN_THE_PACKAGE = (
    r"h(?:old(?:s|ing)?|eld)(?: [\w`]+){0,3} against",
    r"weigh(?:s|ed|ing)?",
    r"go(?:es)? before (?:it|them|the|what)",
    r"for want of",
    r"bears? (?:a|an|no) \w+",
    r"may be believed",
    r"at hand",
    r"(?<!weak )supervision",
    r"(?:may |must not |that )speaks? for",
    r"by heart",
    r"to be had",
)
"""Of the words above, those that must not be in docstrings, comments and messages either."""

NO_NAMES = re.compile(
    r"(?:^|_)(?:weigh(?!t)|laying|laid|supervis|doors?(?:_|$)|grounds?(?:_(?!truth)|$)|said(?:_|$))", re.IGNORECASE
)


@pytest.mark.parametrize("file", PACKAGE, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_the_package_says_it_in_plain_english(file: Path) -> None:
    name, text = file.relative_to(ROOT), file.read_text(encoding="utf-8")
    found = [
        f"{name}:{number}: '{match[0]}'; write: {INSTEAD[words]}"
        for number, line in enumerate(text.splitlines(), start=1)
        for words in IN_THE_PACKAGE
        for match in re.finditer(rf"\b(?:{words})\b", line, re.IGNORECASE)
    ]
    assert not found, "\n".join(found)


def names(tree: ast.AST) -> Iterator[str]:
    """What code gives a name to: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@pytest.mark.parametrize("file", PACKAGE, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_names_are_terms_of_the_field(file: Path) -> None:
    if file.suffix == ".py":
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not sorted({name for name in names(tree) if NO_NAMES.search(name)})
    assert not NO_NAMES.search(file.stem)


def test_names_with_such_words_are_found() -> None:
    tree = ast.parse(
        "class Ground: ...\nlaid_tiles = weighed = 1\ndef said(ground_truth, background, weight, layout, layer): ..."
    )
    assert sorted(name for name in names(tree) if NO_NAMES.search(name)) == ["Ground", "laid_tiles", "said", "weighed"]
