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
        (["1.234.567", "1.234", "87,5"], ["1234567", "1234", "87.5"]),
        (["1,234,567", "1,234", "87.5"], ["1234567", "1234", "87.5"]),
        (["-1.234.567", "2,345"], ["-1234567", "2.345"]),
        (["2.345.678", "1.234", "87", "95", "4", "8"], ["2345678", "1234", "87", "95", "4", "8"]),
        (["0.123", "1.456", "12"], ["0.123", "1.456", "12"]),
        (["1.234", "2.345", "0"], ["1.234", "2.345", "0"]),
        (["1.234", "12.345", "123.456"], ["1.234", "12.345", "123.456"]),
        (["1.2340", "950", "87"], ["1.234", "950", "87"]),
    ],
)
def test_numbers_are_read_with_the_marks_of_their_column(cells: list[str], expected: list[str]) -> None:
    column = _one("x", *cells)
    assert list(column.cells) == expected and column.kind == "numbers"


@pytest.mark.parametrize(
    "cells",
    [
        ["1,234", "5,678"],
        ["1,5", "2.5"],
        ["950", "1.234", "87", "2.010"],
        ["150.000", "", "75", "230.000"],
        ["1.234.567", "2.5"],
        ["1,234,567", "2,5"],
        ["1.234.567", "1,234,567"],
    ],
)
def test_marks_that_may_mean_either_are_refused_and_said(cells: list[str]) -> None:
    column = _one("x", *cells)
    assert column.kind == "text" and "write" in column.note


def test_a_comma_before_three_digits_is_decimal_in_a_table_of_decimal_commas() -> None:
    columns = _columns({"a": ["1,234", "5,678"], "b": ["0,5", "1,5"]})
    assert columns["a"].cells == ("1.234", "5.678")


def test_a_point_before_three_digits_is_decimal_in_a_table_of_decimal_points_only() -> None:
    beside = {"point": ["2.5", "1.5", "0.5"], "comma": ["2,5", "1,5", "0,5"], "neither": ["2", "1", "x"]}
    read = {name: _columns({"a": ["1.234", "950", "87"], "b": cells})["a"] for name, cells in beside.items()}
    assert read["point"].cells == ("1.234", "950", "87")
    expected = "the mark in 1.234 may separate thousands or decimals: write 1234 or 1.2340"
    assert [read[name].note for name in ("comma", "neither")] == [expected] * 2


def test_survival_times_with_thousands_are_no_target_before_they_are_clear() -> None:
    assert not _survival(OS_Tage=["950", "1.234", "87", "2.010"], OS_Status=["1", "0", "1", "0"])
    (found,) = _survival(OS_Tage=["950", "1234", "87", "2010"], OS_Status=["1", "0", "1", "0"])
    assert found.cells["OS_Tage"] == ("950", "1234", "87", "2010")


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
    assert target.event_is == (is_event,) and "1 events" in found[0].remark


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


@pytest.mark.parametrize(
    ("name", "values", "observed"),
    [
        ("censored", ["no", "yes", "yes"], "no"),
        ("zensiert", ["nein", "ja", "ja"], "nein"),
        ("censored", ["FALSE", "TRUE", "TRUE"], "FALSE"),
        ("OS_censored", ["false", "true", "true"], "false"),
        ("OS_CNSR", ["0", "1", "1"], "0"),
        ("Überleben", ["nein", "ja", "ja"], "nein"),
        ("survived", ["0", "1", "1"], "0"),
        ("living", ["n", "y", "y"], "n"),
        ("lebt", ["falsch", "wahr", "wahr"], "falsch"),
        ("alive at last follow-up", ["0", "1", "1"], "0"),
    ],
)
def test_yes_of_what_is_the_opposite_of_an_event_is_no_event(name: str, values: list[str], observed: str) -> None:
    (found,) = _survival(OS_months=["1.5", "20", "30"], **{name: values})
    target = parse_target(dict(found.settings), where="")
    assert target.event_is == (observed,) and found.rank == ENDPOINT
    assert f"'{values[1]}' in {name} is read as no event, '{observed}' as the event" in found.remark


@pytest.mark.parametrize("name", ["recurrence_free", "rezidivfrei", "Progression free", "tumor_frei"])
def test_freedom_from_recurrence_is_no_recurrence(name: str) -> None:
    (found,) = _survival(RFS_months=["1.5", "20", "30"], **{name: ["no", "yes", "yes"]})
    assert found.settings["event_is"] == ["no"] and found.rank == ENDPOINT
    assert not _survival(OS_months=["1.5", "20", "30"], **{name: ["no", "yes", "yes"]})


@pytest.mark.parametrize(
    ("name", "values", "observed"),
    [
        ("censored", ["dead", "censored", "censored"], "dead"),
        ("alive", ["dead", "alive", "alive"], "dead"),
        ("survival_status", ["1:DECEASED", "0:LIVING", "0:LIVING"], "1:DECEASED"),
        ("OS_status", ["0:DECEASED", "1:LIVING", "1:LIVING"], "0:DECEASED"),
        ("survival_event", ["1", "0", "0"], "1"),
    ],
)
def test_values_that_name_themselves_and_events_are_not_reversed(name: str, values: list[str], observed: str) -> None:
    (found,) = _survival(OS_months=["1.5", "20", "30"], **{name: values})
    assert parse_target(dict(found.settings), where="").event_is == (observed,)
    assert found.rank == ENDPOINT


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("survival_status", ["1", "0", "0"]),
        ("vital_status", ["1", "0", "0"]),
        ("survival", ["1", "0", "0"]),
        ("OS", ["yes", "no", "no"]),
        ("OS_censoring_status", ["1", "0", "0"]),
        ("OS not censored", ["1", "0", "0"]),
        ("nicht verstorben", ["ja", "nein", "nein"]),
        ("death excluded", ["ja", "nein", "nein"]),
        ("dead or alive", ["1", "0", "0"]),
    ],
)
def test_columns_whose_yes_may_be_either_are_offered_with_a_doubt(name: str, values: list[str]) -> None:
    (found,) = _survival(OS_months=["1.5", "20", "30"], **{name: values})
    assert found.rank == OTHER and found.is_doubtful and f"check which value of {name} is the event" in found.remark


def test_yes_beside_a_value_that_names_itself_is_no_event_of_the_living() -> None:
    assert not _survival(OS_months=["1.5", "20", "30"], alive=["yes", "censored", "yes"])


def _dated(death: Sequence[str], **others: Sequence[str]) -> Candidate:
    """Surgery on 1 January 2015 and the last contact 30 days later, of as many patients as cells."""
    n = len(death)
    dates = {"OP_Datum": ["01.01.2015"] * n, "Letzter_Kontakt": ["31.01.2015"] * n}
    (found,) = _survival(**dates, Todesdatum=death, **others)
    return found


@pytest.mark.parametrize("cell", ["03/2018", "unbekannt", "?", "31.02.2016", "2016"])
def test_who_died_on_a_day_that_cannot_be_read_is_not_censored(cell: str) -> None:
    found = _dated([cell, *["11.01.2015"] * 5, "", "-", "n/a"])
    assert found.cells["survival_days"] == ("", *["10"] * 5, "30", "30", "30")
    assert found.cells["died"] == ("", *["1"] * 5, "0", "0", "0")
    assert "1 slides left empty" in found.remark and (cell in ("unbekannt", "?") or f"no dates: {cell}" in found.remark)


def test_dates_of_death_that_contradict_the_status_or_each_other_leave_time_and_event_empty() -> None:
    status = ["tot", "lebt", "tot", "lebt", ""]
    found = _dated(["11.01.2015", "12.01.2015", "", "", "13.01.2015"], Vitalstatus=status)
    assert found.cells["survival_days"] == ("10", "", "", "30", "12")
    assert found.cells["Vitalstatus of survival_days"] == ("tot", "", "", "lebt", "")
    cells = {"start": "01.01.2015", "last contact": "31.01.2015"}
    rows = tuple((n, {**cells, "death": day}) for n, day in enumerate(["11.01.2015", "12.01.2015", "13.01.2015", ""]))
    own = {"a": (0, 1), "b": (2,), "c": (3,)}
    matched = Matched(Table("t.csv", ("start", "death", "last contact"), rows), None, own, {name: name for name in own}, "")
    (twice,), _ = guess_survival(label_columns(matched)[0])
    assert twice.cells["survival_days"] == ("", "12", "30") and twice.cells["died"] == ("", "1", "0")


def test_without_readable_dates_of_death_the_last_contact_is_no_time_of_death() -> None:
    dates = {"OP_Datum": ["01.01.2015"] * 3, "Letzter_Kontakt": ["31.01.2015"] * 3}
    assert not _survival(**dates, Todesdatum=["03/2015", "", ""], Vitalstatus=["tot", "lebt", "lebt"])


def test_days_of_gdc_that_contradict_the_vital_status_are_left_empty() -> None:
    (found,) = _survival(
        vital_status=["Dead", "Alive", "Alive", "Dead"],
        days_to_death=["100", "", "90", ""],
        days_to_last_follow_up=["", "500", "80", "70"],
    )
    assert found.cells["survival_days"] == ("100", "500", "", "")
    assert found.cells["vital_status of survival_days"] == ("Dead", "Alive", "", "")


@pytest.mark.parametrize(
    ("cells", "classes", "is_assumed"),
    [
        (["3", "3", "1"], ["1", "3"], True),
        (["1", "2", "2"], ["1", "2"], True),
        (["0", "2", "2"], ["0", "2"], True),
        (["9", "10", "10"], ["9", "10"], True),
        (["-1", "1", "1"], ["-1", "1"], True),
        (["1", "0", "1"], ["0", "1"], False),
        (["G2", "G1", "G2"], ["G1", "G2"], True),
        (["tumor", "tumor", "metastasis"], ["tumor", "metastasis"], True),
        (["normal", "benign", "benign"], ["benign", "normal"], True),
        (["luad", "luad", "normal"], ["normal", "luad"], False),
        (["luad", "luad", "tumor"], ["luad", "tumor"], False),
        (["R1", "R0", "R1"], ["R0", "R1"], False),
    ],
)
def test_the_positive_class_is_known_only_if_one_value_alone_says_so(
    cells: list[str], classes: list[str], is_assumed: bool
) -> None:
    found = _guess("grade", *cells)
    assert found.settings["classes"] == classes and ("(assumed" in found.remark) == is_assumed


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["none", "partial", "complete", "partial"], ["none", "partial", "complete", "partial"]),
        (["none", "None", "V600E", "V600E"], ["none", "none", "V600E", "V600E"]),
        (["None", "V600E", "None", "V600E"], ["", "V600E", "", "V600E"]),
        (["none", "1", "2", "1"], ["", "1", "2", "1"]),
        (["none", "a1b", "b2c", "c3d"], ["", "a1b", "b2c", "c3d"]),
    ],
)
def test_none_in_lower_case_is_a_class_among_words(cells: list[str], expected: list[str]) -> None:
    assert list(_one("response", *cells).cells) == expected


def test_how_none_is_read_is_said() -> None:
    cells = {"response": ["none", "partial", "partial"], "BRAF": ["None", "V600E", "V600E"], "empty": ["None"] * 3}
    rows = tuple((at + 2, {name: column[at] for name, column in cells.items()}) for at in range(3))
    own = {f"s{at}": (at,) for at in range(3)}
    _, notes = label_columns(Matched(Table("t.csv", tuple(cells), rows), None, own, {name: name for name in own}, ""))
    assert (
        notes[0]
        == "'none' read as a value, not as missing, in columns response (1); if it marks missing values, empty these cells"
    )
    assert notes[1].startswith("'none' read as missing in columns BRAF (1); ") and len(notes) == 2
