"""Fuzz test of cohort sheets: a valid sheet with random changes of content and file format, as spreadsheet programs make.

make fuzz, or python -m tests.fuzz_sheets [--sheets 500] [--seed 0]

The file format must not matter. Each change of content has an expected outcome: the same plan, another plan, warnings, or
faults that name row and column; there must be no other messages.
"""

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.sheet_changes import CHANGES, CLASSES, COLUMNS, UNREAD, Needle, Outcome, Raw, Table, good_table, write_files
from tests.targets import NAME, block_of
from wsi_mil.check import Plan, check
from wsi_mil.errors import ConfigError


@dataclass
class Form:
    """File format of a table."""

    encoding: str = "utf-8"
    newline: str = "\n"
    delimiter: str = ","
    says_delimiter: bool = False
    quotes_all: bool = False
    padding: tuple[str, str] = ("", "")
    n_empty_columns: int = 0
    empty_rows: frozenset[int] = frozenset()


def random_form(rng: np.random.Generator, n_rows: int) -> Form:
    """Return a random file format, of those that programs write."""
    encodings = ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"]
    paddings = [("", ""), ("", ""), (" ", " "), ("\xa0", "\u200b")]
    return Form(
        encoding=encodings[rng.integers(len(encodings))],
        newline=["\n", "\r\n", "\r"][rng.integers(3)],
        delimiter=",;\t"[rng.integers(3)],
        says_delimiter=bool(rng.integers(2)),
        quotes_all=bool(rng.integers(2)),
        padding=paddings[rng.integers(len(paddings))],
        n_empty_columns=int(rng.integers(4)),
        empty_rows=frozenset(int(i) for i in rng.integers(0, n_rows + 1, int(rng.integers(3)))),
    )


def encode(table: Table, form: Form) -> tuple[bytes, list[int]]:
    """Return the bytes of the file, and the number that each row has in a spreadsheet program."""

    def cell(text: str) -> str:
        if isinstance(text, Raw):
            return text
        text = f"{form.padding[0]}{text}{form.padding[1]}"
        needs_quotes = form.quotes_all or form.delimiter in text or '"' in text
        return '"' + text.replace('"', '""') + '"' if needs_quotes else text

    lines: list[str] = []
    numbers: list[int] = []
    for index, row in enumerate([table.columns, *table.rows]):
        if index in form.empty_rows:
            lines.append(form.delimiter * (len(lines) % 3))
        lines.append(form.delimiter.join([cell(text) for text in row] + [""] * form.n_empty_columns))
        numbers.append(len(lines))
    if form.says_delimiter:
        lines.insert(0, f"sep={form.delimiter}")
    return (form.newline.join(lines) + form.newline).encode(form.encoding), numbers[1:]


def outcome_of(sheet: Path) -> Plan | list[str]:
    """Check a sheet; return the plan, or the faults."""
    config = {"cohort": str(sheet), "targets": block_of(*CLASSES), "results": str(sheet.parent / "results")}
    try:
        return check({**config, "models": {"m": {"model": "abmil"}}, "split": {"folds": 2}})
    except ConfigError as error:
        return error.faults


def expected_rows(table: Table, folder: Path) -> list[dict[str, object]]:
    """Return the slides that the rows of a table must be read as."""
    slides = []
    for row in table.rows:
        cells = {**dict.fromkeys(COLUMNS, ""), **dict(zip(table.columns, row, strict=True))}
        slides.append(
            {
                "slide_id": cells["slide_id"],
                "path": folder / cells["path"],
                "label": "",
                "labels": {NAME: cells["label"]} if cells["label"] else {},
                "patient_id": cells["patient_id"] or cells["slide_id"],
                "mpp": float(cells["mpp"]) if cells["mpp"] else None,
                "split": "",
                "fold": cells["fold"],
                "annotation": folder / cells["annotation"] if cells["annotation"] else None,
                "mask": None,
                "scanner": cells["scanner"],
                "group": "",
                "part": "",
                "covariates": {},
                "overrides": {"tissue.method": cells["tissue.method"]} if cells["tissue.method"] else {},
            }
        )
    return slides


def deviation(result: Plan | list[str], expected: Outcome, numbers: list[int], folder: Path) -> str:
    """Return how a result deviates from the expected outcome, or ""."""
    if isinstance(result, list):
        if any("\n" in fault or len(fault) > 1500 for fault in result):
            return f"not one sentence: {result}"
        return _message_deviation(result, expected.faults, numbers, others=expected.others)
    if expected.means is None:
        return "no fault is reported"
    if [{**vars(row), "path": Path(row.path).resolve()} for row in result.rows] != [
        {**row, "path": Path(str(row["path"])).resolve()} for row in expected_rows(expected.means, folder)
    ]:
        return f"another plan: {result.rows}"
    unread = set(expected.means.columns) - {*COLUMNS} | UNREAD & {*expected.means.columns}
    if set(result.unread) != unread:
        return f"columns {result.unread} are reported as unread, expected {unread}"
    return _message_deviation(list(result.warnings), expected.warnings, numbers)


def _message_deviation(
    messages: list[str], expected: list[tuple[Needle, ...]], numbers: list[int], *, others: tuple[Needle, ...] = ()
) -> str:
    """Return how messages deviate from the expected ones, each of which must occur once; or ""."""
    left = list(messages)
    for needles in expected:
        matching = [text for text in left if _contains(text, needles, numbers)]
        if len(matching) != 1:
            return f"{len(matching)} messages, not one, contain {needles}: {messages}"
        left.remove(matching[0])
    if others and not left:
        return f"no message contains {others}: {messages}"
    unexpected = [text for text in left if not others or not _contains(text, others, numbers)]
    return f"unexpected messages: {unexpected}" if unexpected else ""


def _contains(text: str, needles: tuple[Needle, ...], numbers: list[int]) -> bool:
    for needle in needles:
        rows = (needle,) if isinstance(needle, int) else needle
        if isinstance(rows, str):
            if rows not in text:
                return False
        elif not _names_rows(text, [numbers[row] for row in rows]):
            return False
    return True


def _names_rows(text: str, rows: list[int]) -> bool:
    """Return whether a message names these rows: the first ten, and the number of further ones."""
    shown = ", ".join(map(str, rows[:10]))
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    return re.search(rf"\brows? {shown}{more}\b", text) is not None


def cases(n: int, seed: int) -> Iterator[tuple[str, bytes, Outcome, list[int]]]:
    """Yield name, file content, expected outcome, and row numbers in the file; each kind of change in turn."""
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        change, table = CHANGES[number % len(CHANGES)], good_table()
        expected = change(rng, table)
        form = random_form(rng, len(table.rows))
        form = Form(**{**vars(form), **expected.form})
        data, numbers = encode(table, form)
        yield f"{number}{change.__name__}", data, expected, numbers


def failures(folder: Path, *, n: int, seed: int, counts: Counter[str]) -> list[str]:
    """Return the deviations from expected outcomes; `counts` counts plans, warnings and faults."""
    write_files(folder)
    deviations = []
    for name, data, expected, numbers in cases(n, seed):
        (folder / "cohort.csv").write_bytes(data)
        outcome = outcome_of(folder / "cohort.csv")
        counts["faults" if isinstance(outcome, list) else "warnings" if outcome.warnings else "plans"] += 1
        reason = deviation(outcome, expected, numbers, folder)
        if reason:
            deviations.append(f"{name}: {reason}")
    return deviations


def damaged(folder: Path, *, n: int, seed: int) -> list[str]:
    """Return faults of more than one line from sheets with random bytes; any exception but ConfigError propagates."""
    write_files(folder)
    long_faults = []
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        data = bytearray(encode(good_table(), random_form(rng, len(good_table().rows)))[0])
        for at in rng.integers(len(data), size=int(rng.choice([1, 4, 32]))):
            data[at] = int(rng.choice([*b'"\n\r\0,;\t', *rng.integers(256, size=3)]))
        (folder / "cohort.csv").write_bytes(data)
        outcome = outcome_of(folder / "cohort.csv")
        long_faults += [fault for fault in outcome if len(fault.splitlines()) > 1] if isinstance(outcome, list) else []
    return long_faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheets", type=int, default=500, help="number of sheets of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        bad = failures(Path(folder) / "sheets", n=args.sheets, seed=args.seed, counts=counts)
        bad += damaged(Path(folder) / "damaged", n=args.sheets, seed=args.seed)
    print("\n".join([*bad, json.dumps({**counts, "BAD": len(bad)})]))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
