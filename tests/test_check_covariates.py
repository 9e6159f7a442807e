"""Covariates that cannot be used, or that say more than they should: each in one sentence, all at once, before any job."""

from pathlib import Path

import pytest

from tests.targets import block_of
from tests.test_check import config, faults
from tests.test_check_targets import sheet_of
from wsi_mil.check import check
from wsi_mil.check.covariates import covariate_sheet_faults, covariate_sheet_warnings
from wsi_mil.config import Config, parse_settings, parse_target
from wsi_mil.records import NO_PATH, SlideRow

CLASSES = {"kind": "classes", "column": "label", "classes": ["a", "b"]}
AGES = ["61", "44", "70", "58", "", "66", "52", "71", "49", "60"]
SEXES = ["f", "f", "m", "m", "f", "m", "m", "f", "f", "m"]
MANY = "more than the 50 that a category may have; a number goes under numbers, and a name is no covariate"
BOTH = {"ab": {"model": "abmil", "covariates": True}, "clinic": {"model": "clinical"}, "image": {"model": "abmil"}}


def targets(**covariates: list[str]) -> dict[str, dict[str, object]]:
    (name, target), *_ = block_of("normal", "tumour").items()
    return {name: {**target, "covariates": covariates}}


def rows_of(labels: list[str], **columns: list[str]) -> list[SlideRow]:
    """A row for each label, each of another patient, with cells of covariates."""
    rows = []
    for n, label in enumerate(labels):
        cells = {column: values[n] for column, values in columns.items() if values[n]}
        rows.append(SlideRow(f"s{n}", NO_PATH, label, f"p{n}", covariates=cells))
    return rows


def said(settings: dict[str, object], rows: list[SlideRow], *, bag: str = "slide") -> tuple[list[str], list[str]]:
    """Faults and warnings about the covariates of a target."""
    about = {"cohort": "c.csv", "targets": {"t": settings}, "models": {"c": {"model": "clinical"}}, "bag": bag}
    checked, target = parse_settings(Config, about), parse_target(settings)
    return covariate_sheet_faults(checked, target, rows), covariate_sheet_warnings(checked, target, rows)


def test_a_plan_has_the_covariates_of_each_slide_and_those_that_each_model_uses(tmp_path: Path) -> None:
    used = {"numbers": ["age"], "categories": ["sex"]}
    plan = check(config(sheet_of(tmp_path, age=AGES, sex=SEXES), targets=targets(**used), models=BOTH))
    shown = plan.as_json()
    assert shown["slides"][0]["covariates"] == {"age": "61", "sex": "f"} and shown["slides"][4]["covariates"] == {"sex": "f"}
    assert shown["covariates"] == {"tumour": {"ab": used, "clinic": used}}
    assert shown["methods"]["tumour"]["clinic"] == [] and shown["methods"]["tumour"]["ab"]
    assert "covariates" not in shown["reading"]["tumour"] and "covariates" not in shown["predicting"]["tumour"]
    assert plan.warnings == (
        "targets.tumour: covariates: column age is empty for 1 of 10 slides: coded as the mean of the training part, with an"
        " indicator in folds whose training part lacks values too",
    )


def test_there_is_an_indicator_only_where_the_training_part_lacks_values() -> None:
    rows = rows_of(["a", "b", "a", "b", ""], age=["61", "44", "70", "58", ""], sex=["f", "m", "", "m", "f"])
    settings = {**CLASSES, "covariates": {"numbers": ["age"], "categories": ["sex"]}}
    empty = [warning for warning in said(settings, rows)[1] if "is empty for" in warning]
    assert empty == [
        "covariates: column age is empty for 1 of 5 slides: coded as the mean of the training part, without an indicator, since"
        " all labelled slides have a value",
        "covariates: column sex is empty for 1 of 5 slides: coded as no category, with an indicator in folds whose training part"
        " lacks values too",
    ]
    about = {"cohort": "c.csv", "targets": {"t": settings}, "models": {"c": {"model": "clinical"}}, "trained": "earlier"}
    found = covariate_sheet_warnings(parse_settings(Config, about), parse_target(settings), rows)
    assert found[0].endswith("with an indicator if the training part of the models lacked values too")


def test_faults_of_the_sheet_are_said_together_with_their_rows(tmp_path: Path) -> None:
    ages, grades = ["old", *AGES[1:8], "NA", "1,234"], ["2"] * 10
    sheet = sheet_of(tmp_path, age=ages, sx=SEXES, grade=grades)
    found = faults(config(sheet, targets=targets(numbers=["age"], categories=["sex", "grade"]), models=BOTH))
    assert len(found) == 4
    assert found[0].endswith("column sex is missing; did you mean 'sx'? (for targets.tumour.covariates)")
    assert "column age: 'old' in row 2: expected a number (targets.tumour.covariates.numbers); a column of categories" in found[2]
    assert "column age: 'NA' in row 10 would be read as a value: leave these cells empty (of targets.tumour.cov" in found[1]
    assert "column age: '1,234' in row 11: the comma may separate thousands or decimals" in found[3]


@pytest.mark.parametrize(
    ("covariates", "fault"),
    [
        ({"numbers": ["age", "age"]}, "covariates list age twice: a column is either a number or a category, once"),
        ({"numbers": ["age"], "categories": ["age"]}, "covariates list age twice"),
        ({}, "covariates name no column"),
        ({"number": ["age"]}, "targets.tumour.covariates.number: unknown key; did you mean 'numbers'?"),
        ({"categories": ["label"]}, "the target itself is read from column label, which would tell the answer: remove it"),
        ({"categories": ["patient_id"]}, "column patient_id says which slide it is, not what is known of the patient"),
    ],
)
def test_covariates_that_make_no_sense_are_refused(tmp_path: Path, covariates: dict, fault: str) -> None:
    found = faults(config(sheet_of(tmp_path, age=AGES), targets=targets(**covariates), models=BOTH))
    assert any(fault in text for text in found), found


def test_models_with_covariates_need_a_target_that_has_some(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, grade=["low", "high"] * 5, age=AGES)
    (fault,) = faults(config(sheet, models={"clinic": {"model": "clinical"}, "image": {"model": "abmil"}}))
    assert fault.startswith("models.clinic: clinical learns from covariates, but no target has any: add covariates")
    (fault,) = faults(config(sheet, models={"ab": {"model": "abmil", "covariates": True}, "image": {"model": "abmil"}}))
    assert fault == (
        "targets.tumour: ab needs covariates, but the target has none; add covariates to the target, or write"
        " targets.tumour.models: [image]"
    )


def test_the_clinical_model_is_left_out_for_a_target_without_covariates_and_that_is_said(tmp_path: Path) -> None:
    grade = {"kind": "classes", "column": "grade", "classes": ["low", "high"]}
    sheet = sheet_of(tmp_path, grade=["low", "high"] * 5, age=[*AGES[:4], "50", *AGES[5:]])
    models = {"clinic": {"model": "clinical"}, "image": {"model": "abmil"}}
    plan = check(config(sheet, targets={**targets(numbers=["age"]), "grade": grade}, models=models))
    assert plan.as_json()["methods"]["grade"].keys() == {"image"}
    assert plan.warnings == ("targets.grade: has no covariates, so clinic is left out for it",)
    named = {**grade, "models": ["clinic"]}
    (fault,) = faults(config(sheet, targets={**targets(numbers=["age"]), "grade": named}, models=models))
    assert fault.startswith("targets.grade: clinic needs covariates, but the target has none")


def test_covariates_that_no_model_uses_are_a_warning(tmp_path: Path) -> None:
    plan = check(config(sheet_of(tmp_path, sex=SEXES), targets=targets(categories=["sex"])))
    assert plan.warnings == (
        "targets.tumour.covariates: no model uses them: set covariates: true in an entry of models, or add one with model:"
        " clinical",
    )


def test_the_column_of_held_out_groups_is_no_covariate(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, site=["Bern", "Bern", "Basel", "Basel", "Chur", "Chur", "Chur", "Basel", "Basel", "Bern"])
    both = {"targets": targets(categories=["site"]), "models": {"c": {"model": "clinical"}}}
    (fault,) = faults(config(sheet, **both, split={"group": "site", "folds": "all"}))
    assert fault == (
        "targets.tumour.covariates: whole groups of column site are held out (split.group), and a model cannot learn from a site"
        " that it never saw: remove it"
    )
    said = "targets.tumour.covariates: column site is split.group too: models with covariates predict from the site itself"
    warned = check(config(sheet, **both, split={"group": "site", "whole_groups": False})).warnings
    assert sum(text.startswith(said) for text in warned) == 1
    assert not any(text.startswith(said) for text in check(config(sheet, **both)).warnings)


def test_categories_that_look_alike_are_a_warning_and_numbers_are_not(tmp_path: Path) -> None:
    sexes = ["Male", "male", "female", "f", "male", "f", "", "female", "male", "f"]
    sheet = sheet_of(
        tmp_path, sex=sexes, stage=["1", "1.0", "2", "2", "2", "1", "1", "2", "2", "1"], age=["061", "61", "70", "44", "50"] * 2
    )
    settings = targets(categories=["sex", "stage"], numbers=["age"])
    warnings = check(config(sheet, targets=settings, models={"c": {"model": "clinical"}})).warnings
    alike = [text.partition(": ")[2] for text in warnings if "count as" in text]
    assert alike == ["values of sex 'Male', 'male' count as 2: use one name if they are the same"], "1 and 1.0 are one category"


def test_constant_empty_and_many_valued_columns_are_faults() -> None:
    labels = ["a", "b"] * 30 + [""]
    columns = {
        "one": ["5"] * 60 + ["6"],
        "none": [""] * 60 + ["x"],
        "name": [f"n{n}" for n in range(61)],
        "post": [f"n{n % 55}" for n in range(61)],
        "two": ["1", "2", "2"] * 20 + ["2"],
    }
    settings = {**CLASSES, "covariates": {"numbers": ["one", "two"], "categories": ["none", "name", "post"]}}
    found, _ = said(settings, rows_of(labels, **columns))
    assert found == [
        "covariates: column one: all labelled slides with a value have '5': remove it",
        "covariates: column none is empty for all 60 labelled slides: fill it, or remove it",
        f"covariates: column name has 60 values, {MANY}",
        f"covariates: column post has 55 values, {MANY}",
    ], "a number with two values is fine"
    found, _ = said({**CLASSES, "covariates": {"categories": ["name"]}}, rows_of(labels[:6], name=columns["name"]))
    assert found[0].startswith("covariates: column name has 6 values, each of one patient only")


@pytest.mark.parametrize(
    ("settings", "labels", "column", "what"),
    [
        (CLASSES, ["a", "b", "a", "b"], ["1", "7", "2", "8"], "the class"),
        ({**CLASSES, "classes": ["a", "b", "c"]}, ["c", "b", "a", "c", "b", "a"], ["1", "5", "9", "2", "6", "8"], "the class"),
        ({"kind": "multilabel", "columns": ["er", "pr"]}, ["1 0", "0 1", "1 1", "? 1"], ["5", "2", "5", "9"], "label er"),
        ({"kind": "regression", "column": "y"}, ["1.0", "2.0", "4.0"], ["10", "20", "21"], "the order of the values"),
        ({"kind": "survival", "time": "t", "event": "e"}, ["9.0 1", "2.0 0", "5.0 1"], ["1", "0", "1"], "the event"),
        ({"kind": "survival", "time": "t", "event": "e"}, ["9.0 1", "2.0 0", "5.0 1"], ["9", "2", "5"], "the order of the times"),
    ],
    ids=["two classes", "three classes", "label", "value", "event", "time"],
)
def test_a_number_that_tells_the_answer_by_itself_is_a_warning(settings: dict, labels: list, column: list, what: str) -> None:
    _, warnings = said({**settings, "covariates": {"numbers": ["x"]}}, rows_of(labels, x=column))
    assert f"covariates: column x alone tells {what} of every labelled slide: is it known before the answer is?" in warnings
    nearly = [*labels, labels[0]], [*column, column[1]]
    _, warnings = said({**settings, "covariates": {"numbers": ["x"]}}, rows_of(nearly[0], x=nearly[1]))
    assert not any(f"tells {what}" in text for text in warnings)


def test_categories_and_empty_cells_that_tell_the_answer_are_warnings() -> None:
    labels = ["a", "b", "a", "b", "a", "b"]
    settings = {**CLASSES, "covariates": {"categories": ["x"]}}
    _, warnings = said(settings, rows_of(labels, x=["u", "v", "w", "v", "u", "v"]))
    assert any("column x alone tells the class" in text for text in warnings)
    _, warnings = said(settings, rows_of(labels, x=["u", "", "v", "", "u", ""]))
    assert any("whether column x is empty tells the class of every labelled slide" in text for text in warnings)


def test_values_of_one_patient_or_of_no_labelled_slide_are_warnings() -> None:
    settings = {**CLASSES, "covariates": {"categories": ["grade"]}}
    _, warnings = said(settings, rows_of(["a", "b", "a", "b", "b", ""], grade=["1", "2", "1", "2.0", "3", "4"]))
    assert warnings == [
        "covariates: column grade: '3' is of one patient only, for whom it is coded as no category when held out",
        "covariates: column grade: no labelled slide has '4', which is coded as no category",
    ]


def test_different_values_of_a_patients_slides_are_a_fault_where_they_are_one_bag() -> None:
    settings = {**CLASSES, "covariates": {"numbers": ["age"]}}
    rows = [
        SlideRow(f"s{n}", NO_PATH, label, patient, covariates={"age": age})
        for n, (label, patient, age) in enumerate([("a", "p", "61"), ("a", "p", "61.0"), ("b", "q", "50"), ("b", "q", "52")])
    ]
    found, _ = said(settings, rows, bag="patient")
    assert found == [
        "covariates: patient 'q' has age '50' (slide s2) and '52' (slide s3); with bag: patient all slides of a patient must have"
        " the same value"
    ]
    found, warnings = said(settings, rows)
    assert (
        not found
        and "covariates: patient 'q' has age '50' (slide s2) and '52' (slide s3): each slide has its own value" in warnings
    )
