from collections import Counter
from pathlib import Path

from tests.fuzz_sheets import Form, damaged, deviation, encode, failures, outcome_of
from tests.sheet_changes import Outcome, good_table, write_files


def test_sheets_changed_at_random_give_the_plan_or_the_faults_that_they_must(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    assert failures(tmp_path / "sheets", n=500, seed=0, counts=counts) == []
    assert counts.total() == 500 and min(counts[kind] for kind in ("plans", "faults", "warnings")) > 20


def test_sheets_with_bytes_at_random_give_a_plan_or_faults_of_one_line(tmp_path: Path) -> None:
    assert damaged(tmp_path / "sheets", n=200, seed=0) == []


def test_deviations_from_the_expected_outcome_are_noticed(tmp_path: Path) -> None:
    write_files(tmp_path / "x")
    sheet, numbers = tmp_path / "x" / "cohort.csv", list(range(2, 14))
    sheet.write_bytes(encode(good_table(), Form())[0])
    plan = outcome_of(sheet)
    assert deviation(plan, Outcome(good_table()), numbers, tmp_path / "x") == ""
    other = good_table()
    other.put(3, "mpp", "0.3")
    assert deviation(plan, Outcome(other), numbers, tmp_path / "x").startswith("another plan")
    assert deviation(plan, Outcome(good_table(), warnings=[("patient",)]), numbers, tmp_path / "x").startswith("0 messages")
    assert deviation(plan, Outcome(None, [("label",)]), numbers, tmp_path / "x") == "no fault is reported"
    faults = ["c.csv, row 5: label 'x'", "c.csv, column mpp: 'NA' in rows 2, 13"]
    expected = Outcome(None, [(3, "label"), ((0, 11), "mpp")])
    assert deviation(faults, expected, numbers, tmp_path) == ""
    assert deviation(faults, Outcome(None, [(2, "label"), ((0, 11), "mpp")]), numbers, tmp_path).startswith("0 messages")
    assert deviation([*faults, "more"], expected, numbers, tmp_path).startswith("unexpected messages")
    assert deviation(faults[:1], expected, numbers, tmp_path).startswith("0 messages")
