"""Sheets as people, spreadsheet programs and R write them: a good one, changed at random in what it says and in how it is saved.

make fuzz, or python -m tests.fuzz_sheets [--sheets 500] [--seed 0]

How a sheet is saved must change nothing. Of what it says, each change knows its outcome: the same plan, another one, warnings,
or faults that name row and column; and nothing else may be said.
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
from wsi_mil.check import Plan, check
from wsi_mil.errors import ConfigError


@dataclass
class Form:
    """How a table is saved."""

    encoding: str = "utf-8"
    newline: str = "\n"
    delimiter: str = ","
    says_delimiter: bool = False
    quotes_all: bool = False
    padding: tuple[str, str] = ("", "")
    n_empty_columns: int = 0
    empty_rows: frozenset[int] = frozenset()


def random_form(rng: np.random.Generator, n_rows: int) -> Form:
    """Any of the ways that programs save a table in."""
    encodings, paddings = (
        ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"],
        [("", ""), ("", ""), (" ", " "), ("\xa0", "\u200b")],
    )
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


def saved(table: Table, form: Form) -> tuple[bytes, list[int]]:
    """The file, and the number that each row has in a spreadsheet program."""

    def cell(text: str) -> str:
        if isinstance(text, Raw):
            return text
        text = f"{form.padding[0]}{text}{form.padding[1]}"
        must = form.quotes_all or form.delimiter in text or '"' in text
        return '"' + text.replace('"', '""') + '"' if must else text

    lines, numbers = [], []
    for index, row in enumerate([table.columns, *table.rows]):
        if index in form.empty_rows:
            lines.append(form.delimiter * (len(lines) % 3))
        lines.append(form.delimiter.join([cell(text) for text in row] + [""] * form.n_empty_columns))
        numbers.append(len(lines))
    if form.says_delimiter:
        lines.insert(0, f"sep={form.delimiter}")
    return (form.newline.join(lines) + form.newline).encode(form.encoding), numbers[1:]


def outcome_of(sheet: Path) -> Plan | list[str]:
    """The plan, or the faults."""
    about = {"cohort": str(sheet), "classes": list(CLASSES), "results": str(sheet.parent / "results")}
    try:
        return check({**about, "models": {"m": {"model": "abmil"}}, "split": {"folds": 2}})
    except ConfigError as error:
        return error.faults


def meaning(table: Table, folder: Path) -> list[dict[str, object]]:
    """What the rows of a table must be read as."""
    found = []
    for row in table.rows:
        cells = {**dict.fromkeys(COLUMNS, ""), **dict(zip(table.columns, row, strict=True))}
        found.append(
            {
                "slide_id": cells["slide_id"],
                "path": folder / cells["path"],
                "label": cells["label"],
                "patient_id": cells["patient_id"] or cells["slide_id"],
                "mpp": float(cells["mpp"]) if cells["mpp"] else None,
                "split": "",
                "fold": cells["fold"],
                "annotation": folder / cells["annotation"] if cells["annotation"] else None,
                "mask": None,
                "scanner": cells["scanner"],
                "overrides": {"tissue.method": cells["tissue.method"]} if cells["tissue.method"] else {},
            }
        )
    return found


def wrong(found: Plan | list[str], expected: Outcome, numbers: list[int], folder: Path) -> str:
    """What is not as it must be, or ""."""
    if isinstance(found, list):
        if any("\n" in fault or len(fault) > 1500 for fault in found):
            return f"not one sentence: {found}"
        return _unlike(found, expected.faults, numbers, others=expected.others)
    if expected.means is None:
        return "nothing is said"
    if [{**vars(row), "path": Path(row.path).resolve()} for row in found.rows] != [
        {**row, "path": Path(str(row["path"])).resolve()} for row in meaning(expected.means, folder)
    ]:
        return f"another plan: {found.rows}"
    unread = set(expected.means.columns) - {*COLUMNS} | UNREAD & {*expected.means.columns}
    if set(found.unread) != unread:
        return f"columns {found.unread} are said to be left alone, not {unread}"
    return _unlike(list(found.warnings), expected.warnings, numbers)


def _unlike(said: list[str], expected: list[tuple[Needle, ...]], numbers: list[int], *, others: tuple[Needle, ...] = ()) -> str:
    """Whether each message is one that must come, and each of those came once."""
    left = list(said)
    for needles in expected:
        fitting = [text for text in left if _holds(text, needles, numbers)]
        if len(fitting) != 1:
            return f"{len(fitting)} messages, not one, hold {needles}: {said}"
        left.remove(fitting[0])
    if others and not left:
        return f"nothing holds {others}: {said}"
    strange = [text for text in left if not others or not _holds(text, others, numbers)]
    return f"too much is said: {strange}" if strange else ""


def _holds(text: str, needles: tuple[Needle, ...], numbers: list[int]) -> bool:
    for needle in needles:
        rows = (needle,) if isinstance(needle, int) else needle
        if isinstance(rows, str):
            if rows not in text:
                return False
        elif not _names_rows(text, [numbers[row] for row in rows]):
            return False
    return True


def _names_rows(text: str, rows: list[int]) -> bool:
    """Whether a message names these rows; of many the first ten, and how many more there are."""
    shown, more = ", ".join(map(str, rows[:10])), f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    return re.search(rf"\brows? {shown}{more}\b", text) is not None


def cases(n: int, seed: int) -> Iterator[tuple[str, bytes, Outcome, list[int]]]:
    """A name, the file, what must come of it, and the numbers of the table's rows in it; every kind of change in turn."""
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        change, table = CHANGES[number % len(CHANGES)], good_table()
        expected = change(rng, table)
        form = random_form(rng, len(table.rows))
        form = Form(**{**vars(form), **expected.form})
        data, numbers = saved(table, form)
        yield f"{number}{change.__name__}", data, expected, numbers


def failures(folder: Path, *, n: int, seed: int, counts: Counter[str]) -> list[str]:
    """What came otherwise than it must; `counts` counts plans and faults."""
    write_files(folder)
    found = []
    for name, data, expected, numbers in cases(n, seed):
        (folder / "cohort.csv").write_bytes(data)
        outcome = outcome_of(folder / "cohort.csv")
        counts["faults" if isinstance(outcome, list) else "warnings" if outcome.warnings else "plans"] += 1
        reason = wrong(outcome, expected, numbers, folder)
        if reason:
            found.append(f"{name}: {reason}")
    return found


def damaged(folder: Path, *, n: int, seed: int) -> list[str]:
    """Faults of more than one line that come of sheets with bytes at random; whatever else they are, they raise nothing."""
    write_files(folder)
    found = []
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        data = bytearray(saved(good_table(), random_form(rng, len(good_table().rows)))[0])
        for at in rng.integers(len(data), size=int(rng.choice([1, 4, 32]))):
            data[at] = int(rng.choice([*b'"\n\r\0,;\t', *rng.integers(256, size=3)]))
        (folder / "cohort.csv").write_bytes(data)
        outcome = outcome_of(folder / "cohort.csv")
        found += [fault for fault in outcome if len(fault.splitlines()) > 1] if isinstance(outcome, list) else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheets", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        found = failures(Path(folder) / "sheets", n=args.sheets, seed=args.seed, counts=counts)
        found += damaged(Path(folder) / "damaged", n=args.sheets, seed=args.seed)
    print("\n".join([*found, json.dumps({**counts, "BAD": len(found)})]))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
