"""Groups and recalibration, as a user who starts a run meets their faults: all at once."""

from pathlib import Path

import pytest

from tests.targets import NAME
from tests.test_check import config, faults
from tests.test_check_targets import TMB, sheet_of
from wsi_mil.check import check
from wsi_mil.cohort.splits import Splits, write_splits
from wsi_mil.records import Role

SITES = ["Bern", "Bern", "Basel", "Basel", "Basel", "Basel", "Chur", "Chur", "Chur", "Chur"]
"""Of ten slides whose labels alternate: normal, tumour, normal, …"""
BY_SITE = {"group": "site", "folds": "all"}


def test_a_run_by_sites_has_a_fold_for_each(tmp_path: Path) -> None:
    plan = check(config(sheet_of(tmp_path, site=SITES), split=BY_SITE))
    assert plan.n_folds == {NAME: 3} and not plan.warnings and not plan.unread
    assert plan.as_json()["slides"][0]["group"] == "Bern"
    assert check(config(sheet_of(tmp_path, site=SITES), split={**BY_SITE, "external": ["Bern"]})).n_folds == {NAME: 2}


def test_faults_of_groups_and_of_other_blocks_are_said_at_once(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, site=["", *SITES[1:]])
    found = faults(config(sheet, split={"group": "site", "folds": 7}, heatmap={"colormap": "virids"}))
    assert len(found) == 2 and "virids" in found[0]
    assert "column site: empty in row 2: name the group of every labelled slide (split.group)" in found[1]
    found = faults(config(sheet_of(tmp_path, site=SITES), split={"group": "site", "folds": 7, "external": ["Berm"]}))
    assert found == [
        "targets.tumour: split.folds is 7, but column site has 3 groups (Basel, Bern, Chur): use at most 3, or folds: all",
        "targets.tumour: split.external: no labelled slide has site 'Berm'; did you mean 'Bern'?",
    ]


def test_a_site_that_has_one_class_is_a_warning_and_one_that_has_the_only_other_a_fault(tmp_path: Path) -> None:
    sites = ["A", "B", "A", "C", "A", "C", "C", "B", "B", "C"]
    warnings = check(config(sheet_of(tmp_path, site=sites), split=BY_SITE)).warnings
    assert any("site 'A' has no slide of class 'tumour': there is no AUROC of it alone" in text for text in warnings)
    (found,) = faults(config(sheet_of(tmp_path, site=["A", "B"] * 5), split=BY_SITE))[:1]
    assert "fold 0 holds out site 'A', which leaves no patient of class 'normal', and two are needed" in found


def test_a_site_that_tells_the_label_is_a_warning_with_figures(tmp_path: Path) -> None:
    sites = ["A", "B"] * 5
    warnings = check(config(sheet_of(tmp_path, site=sites), split={"group": "site", "folds": 5, "whole_groups": False})).warnings
    (text,) = [text for text in warnings if "go together" in text]
    assert "site and label go together (Cramér's V 1.00): the site alone predicts the label with AUROC 1.00" in text


def test_external_sites_are_checked_against_given_splits_too(tmp_path: Path) -> None:
    """Given splits of the first eight slides; the last two are of the external site."""
    sites, file = ["Bern", "Bern", "Basel", "Basel"] * 2 + ["Graz"] * 2, tmp_path / "old.csv"
    roles = {f"s{n}": (Role.TEST, Role.VAL, Role.TRAIN, Role.TRAIN)[n // 2] for n in range(8)}
    write_splits(file, Splits({s: s for s in roles}, {f"s{n}": ("normal", "tumour")[n % 2] for n in range(8)}, (roles,)))
    sheet = sheet_of(tmp_path, site=sites)
    by_site = {"group": "site", "whole_groups": False}
    assert not check(config(sheet, splits=str(file), split={**by_site, "external": ["Graz"]})).warnings
    (warning,) = check(config(sheet, splits=str(file), split=by_site)).warnings
    assert f"2 labelled slides are not in {file}: predicted, not trained on" in warning
    found = faults(config(sheet, splits=str(file), split={**by_site, "external": ["Gratz", "Bern"]}))
    assert found == [
        f"targets.tumour: splits: {file}: fold 0 has slides of site Bern in its parts, which split.external names",
        "targets.tumour: split.external: no labelled slide has site 'Gratz'; did you mean 'Graz'?",
    ]


def given(folder: Path) -> Path:
    """Splits of an earlier run that trained on patients p0 to p3, and no model."""
    old = folder / "old"
    roles = {f"s{n}": Role.TEST if n < 2 else Role.TRAIN for n in range(4)}
    patients = {f"s{n}": f"s{n}" for n in range(4)}
    write_splits(old / f"splits/{NAME}.csv", Splits(patients, {f"s{n}": ("normal", "tumour")[n % 2] for n in range(4)}, (roles,)))
    return old


PART = {"method": "platt", "column": "part", "value": "cal"}


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        (["cal"] * 10, {"value": "kal"}, "recalibrate: no slide has part 'kal'; did you mean 'cal'?"),
        ([""] * 10, {}, "recalibrate: column part is empty: write 'cal' in the rows of the slides to fit to"),
        (["cal"] * 10, {"column": "parts"}, "column parts is missing; did you mean 'part'? (for recalibrate)"),
        (
            ["cal"] * 3 + [""] * 7,
            {},
            "recalibrate: platt needs 5 patients of each class, and there are 2 of class 'normal' and 1",
        ),
        (["cal"] + ["x"] * 9, {}, "recalibrate: platt needs 5 patients"),
        (["cal"] * 10, {"method": "isotonic"}, "recalibrate: isotonic needs 20 patients of each class, and there are 5"),
        (["cal"] * 10, {}, "was trained or tested with s0, s1, s2, s3: fit to patients that it does not have"),
    ],
)
def test_what_probabilities_cannot_be_fitted_to_is_one_sentence(
    tmp_path: Path, part: list[str], changes: dict[str, str], said: str
) -> None:
    sheet = sheet_of(tmp_path, part=part)
    found = faults(config(sheet, trained=str(given(tmp_path)), recalibrate={**PART, **changes}))
    assert sum(said in fault for fault in found) == 1


def test_a_patient_is_either_fitted_to_or_reported(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, part=["cal"] * 4 + [""] * 6, patient_id=["p", "p", "q", "r", "q", *"stuvw"])
    found = faults(config(sheet, trained=str(given(tmp_path)), recalibrate=PART))
    overlap = "recalibrate: patient q has slides of part 'cal' and others: a patient is either fitted to or reported"
    assert overlap in found


def test_recalibration_needs_models_of_an_earlier_run_and_classes(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, part=["cal"] * 10, tmb=[f"{n}.5" for n in range(10)])
    found = faults(config(sheet, recalibrate=PART, targets={"tmb": TMB}))
    assert any(fault.startswith("recalibrate: set trained: models of this run are judged on") for fault in found)
    kind = "targets.tmb is of kind regression, and only probabilities of classes are fitted again: it has no probabilities"
    assert f"recalibrate: {kind}" in found
