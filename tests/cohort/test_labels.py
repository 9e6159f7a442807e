"""Labels of the four kinds of targets, as they are read from the sheet."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import write_cohort
from wsi_mil.cohort import Sheet, read_sheet, row_from_json, row_json
from wsi_mil.config import Target, parse_target

GRADE = {"kind": "classes", "column": "grade", "classes": ["low", "high", "2"]}
MARKERS = {"kind": "multilabel", "columns": ["er", "pr"], "positive": ["+", "1"], "negative": ["-", "0"]}
TMB = {"kind": "regression", "column": "tmb"}
SURVIVAL = {"kind": "survival", "time": "months", "event": "status", "event_is": ["1:DECEASED", 1]}
EMPTY = dict.fromkeys(("grade", "er", "pr", "tmb", "months", "status"), "")


def targets(**settings: Mapping[str, object]) -> dict[str, Target]:
    return {name: parse_target(values) for name, values in settings.items()}


ALL = targets(grade=GRADE, markers=MARKERS, tmb=TMB, os=SURVIVAL)


def sheet_of(folder: Path, *rows: dict[str, str], of: Mapping[str, Target] = ALL) -> Sheet:
    """A sheet whose rows are of slides s0, s1, … of a patient each, and have these cells; the others are empty."""
    about = [{"slide_id": f"s{n}", "path": "a.svs", "patient_id": f"p{n}", **EMPTY, **row} for n, row in enumerate(rows)]
    return read_sheet(write_cohort(folder, about), of)


def labels(folder: Path, **cells: str) -> dict[str, str]:
    sheet = sheet_of(folder, cells)
    assert not sheet.faults, sheet.faults
    return sheet.rows[0].labels


def faults(folder: Path, *rows: dict[str, str], of: Mapping[str, Target] = ALL) -> list[str]:
    found = sheet_of(folder, *rows, of=of).faults
    return [fault.removeprefix(f"{folder}/cohort.csv, ") for fault in found]


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        ({}, {}),
        ({"grade": "high"}, {"grade": "high"}),
        ({"grade": "2.0"}, {"grade": "2"}),
        ({"er": "+", "pr": "-"}, {"markers": "1 0"}),
        ({"er": "", "pr": "1.0"}, {"markers": "? 1"}),
        ({"tmb": "12,5"}, {"tmb": "12.5"}),
        ({"tmb": "-3"}, {"tmb": "-3.0"}),
        ({"tmb": "-0,25"}, {"tmb": "-0.25"}),
        ({"months": "34.50", "status": "1:DECEASED"}, {"os": "34.5 1"}),
        ({"months": "7", "status": "1"}, {"os": "7.0 1"}),
        ({"months": "0,1", "status": "0:LIVING"}, {"os": "0.1 0"}),
        ({"months": "8", "status": "0.0"}, {"os": "8.0 0"}),
    ],
)
def test_cells_are_read_as_one_text_for_each_target_that_they_say_something_of(
    cells: dict[str, str], read: dict[str, str], tmp_path: Path
) -> None:
    assert labels(tmp_path, **cells) == read


def test_the_label_of_a_target_is_that_of_the_row(tmp_path: Path) -> None:
    (row,) = sheet_of(tmp_path, {"grade": "low", "tmb": "3"}).rows
    assert (row.label, row.for_target("grade").label, row.for_target("tmb").label, row.for_target("os").label) == (
        *("", "low", "3.0", ""),
    )
    assert row_json(row)["labels"] == {"grade": "low", "tmb": "3.0"} and row_from_json(row_json(row)) == row


def test_a_value_that_no_class_has_is_one_fault_with_its_rows_and_all_values(tmp_path: Path) -> None:
    rows = [{"grade": "high"}, {"grade": "hihg"}, {"grade": "low"}, {"grade": "hihg"}, {"grade": "IV"}]
    first, second = faults(tmp_path, *rows)
    assert first == (
        "column grade: 'hihg' in rows 3, 5 (2 slides): not in targets.grade.classes; did you mean 'high'?;"
        " the column holds 'hihg' (2), 'high' (1), 'low' (1) and 'IV' (1)"
    )
    assert second.startswith("column grade: 'IV' in row 6: not in targets.grade.classes; known: low, high, 2; the column holds")


def test_an_event_that_is_not_listed_is_a_fault_that_lists_the_values_of_the_column(tmp_path: Path) -> None:
    rows = [{"months": "3", "status": text} for text in ("1:DECEASED", "dead", "0", "0", "alive")]
    (fault,) = faults(tmp_path, *rows)
    assert fault == (
        "column status: 'dead' in row 3 and 'alive' in row 6: neither in targets.os.event_is (1:DECEASED, 1) nor in"
        " targets.os.censored_is (0, 0:LIVING); the column holds '0' (2), '1:DECEASED' (1), 'dead' (1) and 'alive' (1)"
    )


def test_a_label_with_a_third_value_is_a_fault_of_its_column(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, {"er": "+", "pr": "low"}, {"er": "-", "pr": "+"})
    assert fault.startswith("column pr: 'low' in row 2: neither in targets.markers.positive (+, 1) nor in targets.markers.neg")
    assert fault.endswith("the column holds 'low' (1) and '+' (1)")


@pytest.mark.parametrize("text", ["0", "-3", "0,0", "three", "inf", "1e400", "3 months", "1.234,5"])
def test_a_time_that_is_not_above_zero_or_no_number_is_a_fault(text: str, tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, {"months": text, "status": "1"})
    assert fault == f"column months: {text!r} in row 2: expected a time above 0 (targets.os.time)"


@pytest.mark.parametrize(("column", "text"), [("tmb", "1,234"), ("tmb", "-12,345"), ("months", "100,000")])
def test_a_comma_that_may_separate_thousands_is_a_fault(column: str, text: str, tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, {column: text, "status": "1"}, {"tmb": "460", "months": "3,5", "status": "1"})
    expected = "the comma may separate thousands or decimals; write 1234 or 1.234"
    assert fault == f"column {column}: {text!r} in row 2: {expected}"


@pytest.mark.parametrize("text", ["high", "1_000", "12 %", "1.234,5", "infinity"])
def test_a_value_that_is_no_number_is_a_fault(text: str, tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, {"tmb": text}, {"tmb": "3"})
    assert fault == f"column tmb: {text!r} in row 2: expected a number (targets.tmb)"


@pytest.mark.parametrize(
    ("transform", "good", "bad", "said"),
    [
        ("log1p", ["0", "3"], ["-0.5", "-2"], "targets.x.transform log1p needs values of 0 or more"),
        ("logit", ["0.001", "0.999"], ["0", "1", "1.5"], "targets.x.transform logit needs values above 0 and below 1"),
    ],
)
def test_a_value_that_cannot_be_transformed_is_a_fault(
    transform: str, good: list[str], bad: list[str], said: str, tmp_path: Path
) -> None:
    of = targets(x={**TMB, "transform": transform})
    assert not faults(tmp_path, *({"tmb": text} for text in good), of=of)
    (fault,) = faults(tmp_path, *({"tmb": text} for text in (*good, *bad)), of=of)
    assert fault.endswith(said) and all(f"{text!r} in row" in fault for text in bad)


def test_faults_of_all_targets_are_reported_together(tmp_path: Path) -> None:
    row = {"grade": "x", "er": "?", "tmb": "x", "months": "0", "status": "x"}
    found = faults(tmp_path, row, {"grade": "low"})
    assert [fault.split(":")[0] for fault in found] == [f"column {name}" for name in ("er", "grade", "tmb", "months", "status")]
    assert "'?' in row 2 would be read as a value: leave these cells empty (without a label for targets.markers" in found[0]


@pytest.mark.parametrize("mark", ["NA", "unknown", "n/a", "-"])
@pytest.mark.parametrize("column", ["grade", "tmb", "months", "status"])
def test_marks_of_missing_values_are_faults_in_all_columns_of_targets(mark: str, column: str, tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, {column: mark}, {"grade": "low"})
    assert fault.startswith(f"column {column}: {mark!r} in row 2 would be read as a value: leave these cells empty")


def test_a_mark_that_a_target_lists_is_a_value(tmp_path: Path) -> None:
    assert labels(tmp_path, er="-", pr="+") == {"markers": "0 1"}, "a formula only where the cell is copied to tables"
    of = targets(grade={**GRADE, "classes": ["NA", "high"]})
    assert not faults(tmp_path, {"grade": "NA"}, of=of)


def test_follow_up_that_differs_between_slides_of_a_patient_is_a_fault(tmp_path: Path) -> None:
    one = {"patient_id": "p", "months": "34,5", "status": "1"}
    same = {"patient_id": "p", "months": "34.50", "status": "1:DECEASED"}
    assert not faults(tmp_path, one, same, {"patient_id": "p"})
    (fault,) = faults(tmp_path, one, {**same, "status": "0"})
    assert fault.endswith(
        "targets.os: patient 'p' has 34.5 with event (slide s0) and 34.5 without event (slide s1): all slides of a patient must"
        " have the same follow-up"
    )


def test_follow_up_of_which_half_is_missing_is_unknown_and_a_warning(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, {"months": "3"}, {"status": "1"}, {"months": "3", "status": "1"}, {})
    assert [row.labels for row in sheet.rows] == [{}, {}, {"os": "3.0 1"}, {}]
    (warning,) = sheet.warnings
    assert warning.endswith("targets.os: rows 2, 3: time or event is empty: the follow-up is unknown")


def test_decimal_commas_beside_points_are_a_warning_that_says_how_they_are_read(tmp_path: Path) -> None:
    assert not sheet_of(tmp_path, {"tmb": "1,234"}, {"tmb": "12"}).warnings
    (warning,) = sheet_of(tmp_path, {"tmb": "12.5"}, {"tmb": "1,234"}).warnings
    assert warning.endswith("column tmb: decimal commas in row 3 and decimal points in others; 1,234 is read as 1.234")


@pytest.mark.parametrize(("column", "other"), [("tmb", {}), ("months", {"status": "1"})])
def test_points_that_may_separate_thousands_are_a_warning_that_says_how_they_are_read(
    column: str, other: dict[str, str], tmp_path: Path
) -> None:
    def warnings(*cells: str) -> tuple[str, ...]:
        return sheet_of(tmp_path, *({column: cell, **other} for cell in cells)).warnings

    (warning,) = warnings("950", "1.234", "87", "2.010")
    assert warning.endswith(
        f"column {column}: the point in 1.234 (rows 3, 5), beside whole numbers such as 950, is read as a decimal point; if it"
        " separates thousands, write 1234, otherwise 1.2340"
    )
    for decimals in (("950", "1.2340", "87"), ("0.123", "1.456", "12"), ("1.234", "12.345"), ("1.234", "2", "9"), ("950", "87")):
        assert not warnings(*decimals), decimals


def test_two_targets_may_read_one_column(tmp_path: Path) -> None:
    of = targets(a={**GRADE, "classes": ["low", "high"]}, b={**GRADE, "classes": ["high", "low"]})
    (row,) = sheet_of(tmp_path, {"grade": "high"}, of=of).rows
    assert row.labels == {"a": "high", "b": "high"}
    found = faults(tmp_path, {"grade": "x"}, of=of)
    assert ["targets.a.classes" in found[0], "targets.b.classes" in found[1]] == [True, True]


def test_columns_that_targets_name_are_required(tmp_path: Path) -> None:
    row = {"slide_id": "s", "path": "a.svs", "grade": "low", "ER": "", "pr": "", "tmb": "", "months": ""}
    found = read_sheet(write_cohort(tmp_path, [row]), ALL).faults
    assert [fault.partition(", ")[0].partition(": ")[2] for fault in found] == [
        "column er is missing; did you mean 'ER'? (for targets.markers)",
        "column status is missing; its columns are slide_id",
    ]
