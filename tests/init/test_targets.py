from collections.abc import Mapping, Sequence

import pytest

from wsi_mil.config import parse_target
from wsi_mil.init.columns import Column, label_columns
from wsi_mil.init.guessing import COVARIATE, ENDPOINT, LABEL, OTHER, Candidate, guess_labels, sheet_name
from wsi_mil.init.matching import Matched
from wsi_mil.init.survival import guess_survival
from wsi_mil.init.tables import Table


def _columns(cells: Mapping[str, Sequence[str]]) -> dict[str, Column]:
    """Columns of a table with a row for each slide."""
    n = len(next(iter(cells.values())))
    rows = tuple((at + 2, {name: column[at] for name, column in cells.items()}) for at in range(n))
    ids = [f"s{at}" for at in range(n)]
    own = {slide_id: (at,) for at, slide_id in enumerate(ids)}
    matched = Matched(Table("t.csv", tuple(cells), rows), None, own, dict(zip(ids, ids, strict=True)), "")
    columns, _ = label_columns(matched)
    return {column.name: column for column in columns}


def _one(name: str, *cells: str) -> Column:
    return _columns({name: cells})[name]


def _guess(name: str, *cells: str) -> Candidate:
    (candidate,) = guess_labels([_one(name, *cells)])
    return candidate


def _survival(**cells: Sequence[str]) -> list[Candidate]:
    return guess_survival(list(_columns({name.replace("__", " "): column for name, column in cells.items()}).values()))[0]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,5", "12,25", "3"], ["1.5", "12.25", "3"]),
        (["1.234,5", "12,0", ""], ["1234.5", "12", ""]),
        (["1,234.5", "1,000"], ["1234.5", "1000"]),
        (["12 %", "7.5 %", "8 %"], ["12", "7.5", "8"]),
        (["1.234", "2.345", "0.5"], ["1.234", "2.345", "0.5"]),
        (["1e-3", "0.2", "n/a"], ["0.001", "0.2", ""]),
    ],
)
def test_numbers_are_read_with_the_marks_of_their_column(cells: list[str], expected: list[str]) -> None:
    column = _one("x", *cells)
    assert list(column.cells) == expected and column.kind == "numbers"


@pytest.mark.parametrize("cells", [["1,234", "5,678"], ["1,5", "2.5"]])
def test_marks_that_may_mean_either_are_refused_and_said(cells: list[str]) -> None:
    column = _one("x", *cells)
    assert column.kind == "text" and "write" in column.note


def test_a_comma_before_three_digits_is_decimal_in_a_table_of_decimal_commas() -> None:
    columns = _columns({"a": ["1,234", "5,678"], "b": ["0,5", "1,5"]})
    assert columns["a"].cells == ("1.234", "5.678")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["03.02.2020", "1.12.19"], ["2020-02-03", "2019-12-01"]),
        (["2020-02-03 00:00:00", "2019-12-01"], ["2020-02-03", "2019-12-01"]),
        (["13/02/2020", "01/02/2020"], ["2020-02-13", "2020-02-01"]),
        (["02/13/2020", "01/02/2020"], ["2020-02-13", "2020-01-02"]),
    ],
)
def test_dates_are_read_in_the_order_that_their_column_shows(cells: list[str], expected: list[str]) -> None:
    column = _one("day", *cells)
    assert list(column.cells) == expected and column.kind == "dates"


def test_dates_whose_month_is_unclear_are_said() -> None:
    column = _one("day", "01/02/2020", "03/04/2020")
    assert column.kind == "text" and "either number may be the month" in column.note


def test_missing_values_and_spellings_do_not_become_classes() -> None:
    column = _one("grade", "G1", "g1", "G2", "NA", "unbekannt", "[Not Available]", "G2", "G1")
    assert column.cells == ("G1", "G1", "G2", "", "", "", "G2", "G1") and "G1 = g1" in column.note


def test_signs_are_values_and_no_missing_ones() -> None:
    assert _one("ER", "+", "-", "+", "").cells == ("positive", "negative", "positive", "")


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["tumour", "normal", "normal"], ["normal", "tumour"]),
        (["Karzinom", "kein Tumor", "kein Tumor"], ["kein Tumor", "Karzinom"]),
        (["malignant", "benign", "benign"], ["benign", "malignant"]),
        (["MSS", "MSI-H", "MSS"], ["MSS", "MSI-H"]),
        (["wildtype", "mutated", "mutated"], ["wildtype", "mutated"]),
        (["MSIH", "nonMSIH", "MSIH"], ["nonMSIH", "MSIH"]),
        (["necrosis", "no necrosis", "necrosis"], ["no necrosis", "necrosis"]),
        (["ja", "nein", "ja"], ["nein", "ja"]),
        (["1", "0", "1"], ["0", "1"]),
        (["yes", "no", "no"], ["no", "yes"]),
        (["luad", "luad", "lusc"], ["luad", "lusc"]),
        (["lusc", "lusc", "luad"], ["lusc", "luad"]),
        (["high", "low", "intermediate", "low"], ["low", "intermediate", "high"]),
        (["Stage IV", "Stage I", "Stage IIIA", "Stage II", "Stage I"], ["Stage I", "Stage II", "Stage IIIA", "Stage IV"]),
        (["G3", "G1", "G2", "G1"], ["G1", "G2", "G3"]),
        (["lusc", "luad", "normal", "luad"], ["normal", "luad", "lusc"]),
        (["3", "1", "2", "2"], ["1", "2", "3"]),
    ],
)
def test_classes_are_in_order_and_of_two_the_positive_one_is_last(cells: list[str], classes: list[str]) -> None:
    assert _guess("label", *cells).settings["classes"] == classes


def test_what_is_assumed_of_two_classes_is_said() -> None:
    assert "positive: lusc (assumed" in _guess("label", "luad", "luad", "lusc").remark
    assert _guess("label", "no", "no", "yes", "").remark == "no (2 slides), yes (1), unknown (1); positive: yes"


@pytest.mark.parametrize(
    ("name", "cells", "rank"),
    [
        ("Diagnosis", ("a", "b", "a"), LABEL),
        ("Dignität", ("x", "y", "x"), LABEL),
        ("subtype", ("a", "b", "a"), LABEL),
        ("x", ("tumour", "normal", "normal"), ENDPOINT),
        ("MSI status", ("MSS", "MSI", "MSS"), ENDPOINT),
        ("Grading", ("G1", "G2", "G1"), ENDPOINT),
        ("Geschlecht", ("m", "w", "m"), COVARIATE),
        ("is_female", ("0", "1", "0"), COVARIATE),
        ("smoking_status", ("yes", "no", "no"), COVARIATE),
        ("diagnosis code", ("a", "b", "a"), COVARIATE),
        ("Age at diagnosis", ("50.5", "61", "72"), COVARIATE),
        ("TMB", ("5.5", "6.1", "7.2"), ENDPOINT),
        ("plateau", ("a", "b", "a"), OTHER),
        ("Diagnosis", ("a", "b", "", "", "", "", "a"), OTHER),
    ],
)
def test_columns_are_ranked_by_their_names_and_values(name: str, cells: tuple[str, ...], rank: int) -> None:
    assert _guess(name, *cells).rank == rank


@pytest.mark.parametrize("name", ["path", "Patient_ID", "MPP", "fold", "slide.reader", "tissue.methd", "2"])
def test_a_column_that_the_sheet_would_misread_is_renamed(name: str) -> None:
    assert sheet_name(name) == f"value of {name}" and sheet_name("Tumor grade") == "Tumor grade"


def test_columns_of_yes_and_no_of_genes_are_one_target() -> None:
    columns = _columns({"KRAS": ["0", "1", "0", "1"], "TP53_mut": ["mut", "wt", "", "wt"], "smoker": ["0", "1", "1", "1"]})
    several, *others = guess_labels(list(columns.values()))
    values = {"positive": ["1", "mut"], "negative": ["0", "wt"]}
    assert several.settings == {"kind": "multilabel", "columns": ["KRAS", "TP53_mut"], **values}
    assert [candidate.source for candidate in others] == [("smoker",)]


def test_two_columns_of_yes_and_no_of_no_common_kind_stay_apart() -> None:
    columns = _columns({"ulceration": ["0", "1", "0"], "invasion": ["1", "1", "0"]})
    assert [candidate.kind for candidate in guess_labels(list(columns.values()))] == ["classes", "classes"]


def test_times_belong_to_the_event_of_the_same_endpoint() -> None:
    os, pfs = _survival(
        OS_MONTHS=["10.5", "3", "7"], OS_STATUS=["1:DECEASED", "0:LIVING", "0:LIVING"],
        PFS_MONTHS=["9", "2", "6"], PFS_STATUS=["1:PROGRESSION", "0:CENSORED", "0:CENSORED"],
    )  # fmt: skip
    assert (os.settings["time"], os.settings["event"], os.entry, os.rank) == ("OS_MONTHS", "OS_STATUS", "os", ENDPOINT)
    assert (pfs.settings["time"], pfs.settings["event"]) == ("PFS_MONTHS", "PFS_STATUS")
    assert os.settings["event_is"] == ["1:DECEASED"] and "censored_is" not in os.settings
    assert pfs.settings["censored_is"] == ["0:CENSORED"]


@pytest.mark.parametrize(
    ("time", "event", "values", "is_event"),
    [
        ("OS.time", "OS", ["1", "0", "0"], "1"),
        ("overall survival (days)", "vital_status", ["Dead", "Alive", "Alive"], "Dead"),
        ("Überlebenszeit Monate", "Vitalstatus", ["verstorben", "lebt", "lebt"], "verstorben"),
        ("Nachbeobachtung", "Tod", ["ja", "nein", "nein"], "ja"),
        ("survival_months", "censored", ["0", "1", "1"], "0"),
        ("RFS_days", "Rezidiv", ["yes", "no", "no"], "yes"),
        ("time", "event", ["1", "0", "0"], "1"),
        ("survival_months", "censorship", ["0", "1", "1"], "0"),
        ("follow_up_years", "death", ["true", "false", "false"], "true"),
    ],
)
def test_times_and_events_are_recognised_by_their_names(time: str, event: str, values: list[str], is_event: str) -> None:
    found = _survival(**{time.replace(" ", "__"): ["1.5", "20", "30"], event: values})
    assert len(found) == 1
    target = parse_target(dict(found[0].settings), where="")
    assert target.event_is == (is_event,) and "1 events" in found[0].remark  # type: ignore[union-attr]


def test_a_death_is_no_event_of_a_time_to_recurrence() -> None:
    assert not _survival(RFS_months=["1", "2", "3"], death=["1", "0", "0"])


def test_times_of_zero_are_left_empty_and_said() -> None:
    (found,) = _survival(OS_MONTHS=["0", "3", "7.5"], OS_STATUS=["1", "0", "1"])
    assert found.cells["OS_MONTHS"] == ("", "3", "7.5") and "1 times of 0 left empty" in found.remark


def test_events_of_1_and_2_are_offered_with_a_doubt() -> None:
    (found,) = _survival(time_os=["5", "3", "7.5"], status_os=["1", "2", "1"])
    assert found.rank == OTHER and found.settings["event_is"] == ["2"] and "check" in found.remark


def test_days_of_gdc_are_joined_by_the_vital_status() -> None:
    (found,) = _survival(
        **{
            "demographic.vital_status": ["Dead", "Alive", "Alive"],
            "demographic.days_to_death": ["100", "", ""],
            "diagnoses.days_to_last_follow_up": ["", "500", "70.0"],
        }
    )
    assert found.cells["survival_days"] == ("100", "500", "70") and found.rank == ENDPOINT


def test_survival_from_dates_is_offered_and_explained() -> None:
    (found,) = _survival(
        OP_Datum=["01.03.2020", "05.03.2020", "06.03.2020"],
        Todesdatum=["11.03.2020", "", ""],
        Letzter_Kontakt=["11.03.2020", "04.04.2020", "01.03.2020"],
    )
    assert found.cells["survival_days"] == ("10", "30", "") and found.cells["died"] == ("1", "0", "0")
    assert found.rank == OTHER and "from OP_Datum to Todesdatum or Letzter_Kontakt" in found.remark
