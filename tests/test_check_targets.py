"""Targets that a sheet has no use for, or that have too little in it."""

import sys
from pathlib import Path

import pytest

from tests.conftest import write_cohort
from tests.targets import block_of
from tests.test_check import config, faults
from wsi_mil.check import check
from wsi_mil.check.labels import constant_faults, empty_warnings, event_faults
from wsi_mil.cohort.splits import Splits
from wsi_mil.config import parse_target
from wsi_mil.records import NO_PATH, Role, SlideRow

CLASSES = {"kind": "classes", "column": "grade", "classes": ["low", "mid", "high"]}
MARKERS = {"kind": "multilabel", "columns": ["er", "pr"]}
TMB = {"kind": "regression", "column": "tmb"}
SURVIVAL = {"kind": "survival", "time": "months", "event": "status"}


def rows_of(*labels: str) -> list[SlideRow]:
    return [SlideRow(f"s{n}", NO_PATH, label, f"p{n}") for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("settings", "labels", "said"),
    [
        (CLASSES, ["low", "mid", "low", ""], ["no slide has class 'high': column grade holds 'low' (2) and 'mid' (1)"]),
        (CLASSES, ["mid", "mid"], ["no slide has class 'low' or 'high': column grade holds 'mid' (2)"]),
        (CLASSES, ["low", "high", "mid"], []),
        (CLASSES, ["", ""], ["no slide has a label: column grade must be filled"]),
        (SURVIVAL, ["", ""], ["no slide has a label: columns months and status must be filled"]),
        (MARKERS, ["1 ?", "0 1", "1 1"], ["column pr: all 2 labelled slides are positive"]),
        (MARKERS, ["0 ?", "0 ?"], ["column er: all 2 labelled slides are negative", "column pr is empty: remove it from `col"]),
        (MARKERS, ["1 0", "0 1"], []),
        (TMB, ["2.5", "2.5", ""], ["column tmb: all 2 labelled slides have 2.5: there is nothing to learn"]),
        (TMB, ["2.5", "2.6"], []),
        (SURVIVAL, ["3.0 0", "5.0 0"], ["column status: none of 2 slides has an event"]),
        (SURVIVAL, ["3.0 0", "3.0 1"], ["column months: all 2 labelled slides have 3: there is nothing to learn"]),
        (SURVIVAL, ["3.0 1", "5.0 1"], []),
        (
            {**SURVIVAL, "horizons": [2, 5, 60]},
            ["3.0 1", "5.0 1"],
            ["horizons: 5 and 60: no patient was followed that long; column months ends at 5"],
        ),
    ],
)
def test_labels_that_nothing_can_be_learned_from_are_faults(settings: dict, labels: list[str], said: list[str]) -> None:
    found = constant_faults(parse_target(settings), rows_of(*labels))
    assert len(found) == len(said) and all(text in fault for text, fault in zip(said, found, strict=True))


def test_a_column_that_is_mostly_empty_is_a_warning_with_the_number() -> None:
    rows = rows_of("1 ?", "0 ?", "", "? 1", "? 0", "? 1", "0 0")
    (warning,) = empty_warnings(parse_target(MARKERS), rows)
    assert warning == "4 of 7 slides have no label (column er); they are not trained on"
    assert not empty_warnings(parse_target(TMB), rows_of("1.0", ""))
    (warning,) = empty_warnings(parse_target(SURVIVAL), rows_of("1.0 1", "", ""))
    assert warning.startswith("2 of 3 slides have no label (column months and column status)")


def test_a_fold_that_is_tested_without_an_event_is_a_fault() -> None:
    labels = {"a": "1.0 1", "b": "2.0 0", "c": "3.0 0", "d": "10.0 1"}
    roles = ({"a": Role.TEST, "b": Role.TEST, "c": Role.TRAIN, "d": Role.TRAIN},)
    roles += ({"a": Role.TRAIN, "b": Role.TEST, "c": Role.TEST, "d": Role.VAL},)
    splits = Splits({name: name for name in labels}, labels, roles)
    assert event_faults(parse_target(SURVIVAL), splits) == [
        "splits: fold 1 has no test slide with an event, on which nothing can be measured; use fewer or other folds"
    ]
    assert not event_faults(parse_target(CLASSES), splits)


def sheet_of(folder: Path, **columns: list[str]) -> Path:
    """Ten slides of ten patients with a column of two classes, and other columns."""
    rows = []
    for n in range(10):
        (folder / f"{n}.svs").touch()
        cells = {name: values[n] for name, values in columns.items()}
        rows.append({"slide_id": f"s{n}", "path": f"{n}.svs", "label": ("normal", "tumour")[n % 2], **cells})
    return write_cohort(folder, rows)


GRADE = {"kind": "classes", "column": "grade", "classes": ["low", "high"]}
LOW_HIGH = ["low", "high", "low", "high", "high", "low", "", "low", "", "low"]


def test_faults_name_their_target_and_those_of_all_targets_stand_once(tmp_path: Path) -> None:
    targets = {**block_of("normal", "tumour"), "grade": GRADE}
    sheet = sheet_of(tmp_path, grade=LOW_HIGH, split=["train"] * 10)
    assert faults(config(sheet, targets=targets)) == ["column split has no labelled test slide"]
    sheet = sheet_of(tmp_path, grade=LOW_HIGH)
    assert faults(config(sheet, targets=targets)) == [
        "targets.grade: class 'high' has 3 patients, fewer than the 5 that 5 folds need (test, train and validation)"
    ]
    plan = check(config(sheet, targets=targets, split={"folds": 3}))
    assert plan.n_folds == {"tumour": 3, "grade": 3} and not plan.warnings


def test_a_plan_has_the_labels_of_each_slide_and_what_each_stage_reads_of_a_target(tmp_path: Path) -> None:
    targets = {**block_of("normal", "tumour"), "grade": GRADE}
    plan = check(config(sheet_of(tmp_path, grade=LOW_HIGH), targets=targets, split={"folds": 3})).as_json()
    assert plan["slides"][4]["labels"] == {"tumour": "normal", "grade": "high"}
    assert plan["slides"][6]["labels"] == {"tumour": "normal"} and "label" not in plan["slides"][6]
    assert plan["reading"]["grade"] == plan["learning"]["grade"] == GRADE


def test_settings_that_change_no_label_or_no_model_are_left_out_of_what_is_read_or_learned() -> None:
    target = parse_target({**SURVIVAL, "horizons": [12, 24], "loss": "cox"})
    assert set(target.reading) == {"kind", "time", "event", "event_is", "censored_is"}
    assert set(target.learning) == set(target.model_dump()) - {"horizons", "models", "covariates"}
    assert parse_target(target.reading).loss == "discrete", "any value will do where it is not read"
    assert set(parse_target(TMB).reading) == {"kind", "column", "transform"}


def test_a_target_of_survival_needs_the_package_that_compares_risk_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = sheet_of(tmp_path, months=[f"{n + 1.5}" for n in range(10)], status=["1", "1", "0", "1", "1"] * 2)
    monkeypatch.setitem(sys.modules, "lifelines", None)
    assert faults(config(sheet, targets={"os": SURVIVAL}, split={"folds": 2}))[:1] == [
        "targets of kind survival need the package lifelines, not installed: pip install 'wsi_mil[survival]'"
    ]


def test_curves_for_tensorboard_need_its_package_where_models_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    sheet = sheet_of(tmp_path, grade=["low", "high"] * 5)
    assert check(config(sheet, targets={"grade": GRADE}, split={"folds": 2})).n_folds == {"grade": 2}
    assert faults(config(sheet, targets={"grade": GRADE}, split={"folds": 2}, train={"log": "tensorboard"})) == [
        "train.log: tensorboard needs the package tensorboard, which is not installed: pip install 'wsi_mil[tensorboard]'"
    ]


def test_a_faulty_cell_of_one_target_hides_no_faults_of_others_and_of_its_own_other_rows(tmp_path: Path) -> None:
    months = [f"{n + 1.5}" for n in range(10)]
    columns = {"months": months, "status": ["1", "0"] * 5, "tmb": ["high", *["3"] * 9], "patient_id": ["p", "p", *"abcdefgh"]}
    sheet = sheet_of(tmp_path, grade=["low"] * 10, **columns)
    targets = {"grade": GRADE, "os": SURVIVAL, "tmb": TMB}
    found = faults(config(sheet, targets=targets, split={"folds": 2}))
    assert any("column tmb: 'high' in row 2: expected a number" in fault for fault in found)
    assert any("patient 'p' has 1.5 with event (slide s0) and 2.5 without event (slide s1)" in fault for fault in found)
    assert "targets.grade: no slide has class 'high': column grade holds 'low' (10)" in found
    assert not any(fault.startswith("targets.tmb: column tmb") for fault in found), "the labels that are left are not all"


def test_only_of_classes_is_it_said_that_a_patient_has_slides_of_several(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, tmb=[str(n) for n in range(10)], patient_id=["p", "p", *"abcdefgh"])
    several = "slides of several classes"
    assert not any(several in text for text in check(config(sheet, targets={"tmb": TMB}, split={"folds": 2})).warnings)
    (warning,) = check(config(sheet, targets=block_of("normal", "tumour"), split={"folds": 2})).warnings
    assert f"1 patient has {several}" in warning


def test_splits_of_targets_are_given_by_name(tmp_path: Path) -> None:
    targets = {**block_of("normal", "tumour"), "grade": GRADE}
    sheet = sheet_of(tmp_path, grade=LOW_HIGH)
    lines = ["slide_id,patient_id,label,fold,role_0"]
    lines += [f"s{n},s{n},{label},,{('train', 'val', 'test')[n // 2 % 3]}" for n, label in enumerate(LOW_HIGH) if label]
    (tmp_path / "grade.csv").write_text("\n".join(lines) + "\n")
    plan = check(config(sheet, targets=targets, splits={"grade": str(tmp_path / "grade.csv")}))
    assert plan.n_folds == {"tumour": 5, "grade": 1}
    (fault,) = faults(config(sheet, targets=targets, splits={"grad": "x.csv"}, split={"folds": 3}))
    assert fault == "splits.grad: no target 'grad'; did you mean 'grade'?"
    (fault,) = faults(config(sheet, targets=targets, splits="x.csv"))
    assert fault.startswith("splits: a file has the labels of one target: name it, as in splits: {tumour: x.csv, grade: x.csv}")


def test_a_model_that_cannot_learn_a_kind_is_a_fault_until_the_target_names_its_models(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, months=[str(n + 1) for n in range(10)], status=["1"] * 10, tmb=[str(n) for n in range(10)])
    models = {"sb": {"model": "clam"}, "ab": {"model": "abmil"}, "mh": {"model": "mhim", "base": "ab"}, "dt": {"model": "dtfd"}}
    targets = {**block_of("normal", "tumour"), "survival": SURVIVAL, "tmb": {**TMB, "models": ["mh"]}}
    assert faults(config(sheet, targets=targets, models=models)) == [
        "targets.survival: sb and dt cannot learn targets of kind survival; write targets.survival.models: [ab, mh], or remove"
        " the others from models"
    ]
    of_survival = {**SURVIVAL, "models": ["ab"]}
    plan = check(config(sheet, targets={**targets, "survival": of_survival}, models=models))
    assert {name: list(own) for name, own in plan.as_json()["methods"].items()} == {
        "tumour": ["sb", "ab", "mh", "dt"],
        "survival": ["ab"],
        "tmb": ["mh"],
    }
    assert parse_target(of_survival).predicting == parse_target(SURVIVAL).predicting, "a model more runs no other again"
    (fault,) = faults(config(sheet, targets={"tmb": {**TMB, "models": ["abmil"]}}, models=models))
    assert fault.startswith("targets.tmb.models: no entry 'abmil' in models; did you mean")
    (fault,) = faults(config(sheet, targets={"tmb": TMB}, models={"sb": {"model": "clam"}}))
    assert fault.startswith("targets.tmb: sb cannot learn targets of kind regression; add an entry with one of mean_linear, ")
    plan = check(config(sheet, targets={"tmb": {**TMB, "models": ["mh"]}}, models=models))
    assert [text for text in plan.warnings if "no target" in text] == [
        f"models.{entry}: no target names it in its models, so it is not trained" for entry in ("sb", "dt")
    ]


def test_a_column_that_is_missing_does_not_hide_faults_of_other_targets(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, months=["1,5", "-3", *["2"] * 8], status=["1", "0", "dead", *["1"] * 7])
    missing, time, event = faults(config(sheet, targets={"tmb": TMB, "survival": SURVIVAL}))
    assert "column tmb is missing" in missing and "(for targets.tmb)" in missing
    assert "column months: '-3' in row 3: expected a time above 0" in time
    assert "column status: 'dead' in row 4" in event and "the column holds '1' (8), '0' (1) and 'dead' (1)" in event


def test_sparse_inversion_is_left_out_for_values_and_follow_up_and_check_says_so(tmp_path: Path) -> None:
    from wsi_mil.config import Config, methods_of, parse_settings

    values = config(tmp_path / "c.csv", targets={"tmb": TMB, **block_of("a", "b")})
    parsed = parse_settings(Config, {**values, "explain": {"methods": ["attention", "sparse_inversion"]}})
    assert methods_of(parsed, "tmb", "m") == ("attention",)
    assert methods_of(parsed, "tumour", "m") == ("attention", "sparse_inversion")
