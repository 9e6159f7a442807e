"""The documentation as tests read it: pages, their links, and the code that stands in them."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

_NAMED = re.compile(r"`([\w./]+\.(?:py|yaml|md))`(?=.*:$)")


def blocks(page: Path, kind: str) -> list[tuple[str, str]]:
    """(name, text) of the page's blocks of code of a kind.

    The name is that of the last file in the line before a block, which ends with a colon ("In `wsi_mil/train.py`:"), or "".
    """
    found, before, opened, lines = [], "", "", list[str]()
    for line in page.read_text(encoding="utf-8").splitlines(keepends=True):
        if opened and line.rstrip() == "```":
            if opened == kind:
                names = _NAMED.findall(before)
                found.append((names[-1] if names else "", "".join(lines)))
            before, opened = "", ""
        elif opened:
            lines.append(line)
        elif line.startswith("```"):
            opened, lines = line.strip("`\n") or "text", []
        elif line.strip():
            before = line.rstrip()
    return found


def changed(text: str, diff: str) -> str:
    """A file's text with a diff of the documentation made in it: parts between lines of `@@`, without line numbers.

    Raises:
        ValueError: a part whose lines do not stand in the text, or more than once.
    """
    for part in _parts(diff):
        before = "".join(line[1:] for line in part if line[0] in " -")
        after = "".join(line[1:] for line in part if line[0] in " +")
        if text.count(before) != 1:
            raise ValueError(f"stands in the file {text.count(before)} times, expected once:\n{before}")
        text = text.replace(before, after)
    return text


def _parts(diff: str) -> Iterator[list[str]]:
    part: list[str] = []
    for line in diff.splitlines(keepends=True):
        if line.startswith("@@"):
            yield part
            part = []
        else:
            part.append(line if line.strip() else " \n")
    yield part


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them: small letters, punctuation left out, '-' for each space."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = sum(1 for name in found if name == anchor or re.fullmatch(re.escape(anchor) + r"-\d+", name))
        found.add(f"{anchor}-{number}" if number else anchor)
    return found


def links(page: Path) -> list[str]:
    """Targets of a page's links and pictures, those to other servers left out."""
    text = re.sub(r"`[^`]*`", "", prose(page))
    found = re.findall(r"\]\(([^()\s]+(?:\([^()\s]*\))?[^()\s]*)\)", text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]
