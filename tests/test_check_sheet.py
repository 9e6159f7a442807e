"""Sheets that contradict themselves, or that a configuration with faults cannot be held against."""

from pathlib import Path

import pytest

from tests.conftest import write_cohort
from tests.targets import block_of
from tests.test_check import config, faults
from wsi_mil.check import check
from wsi_mil.receipts import write_receipt


def rows_of(folder: Path, *changes: dict[str, str]) -> list[dict[str, str]]:
    """Ten slides of ten patients, of whom every second has the second class; the first of them changed."""
    rows = [
        {"slide_id": f"s{n}", "path": f"{n}.svs", "label": ("normal", "tumour")[n % 2], "patient_id": f"p{n}"} for n in range(10)
    ]
    for n in range(10):
        (folder / f"{n}.svs").touch()
    return [{**row, **change} for row, change in zip(rows, [*changes, *[{}] * 10], strict=False)]


def sheet_of(folder: Path, *changes: dict[str, str]) -> Path:
    return write_cohort(folder, rows_of(folder, *changes))


FOUR = {"split": {"folds": 4}}
SAME = {"path": "0.svs", "label": "normal", "patient_id": "p0"}


def test_one_file_under_two_rows_is_a_warning(tmp_path: Path) -> None:
    (warning,) = check(config(sheet_of(tmp_path, {}, SAME), **FOUR)).warnings
    assert warning == f"path: slides s0, s1 are one file, {tmp_path}/0.svs, which is counted several times"


@pytest.mark.parametrize("path", ["0.svs", "./0.svs", "link.svs", "linked/0.svs"])
@pytest.mark.parametrize(("column", "one", "other"), [("patient_id", "p0", "p1"), ("label", "normal", "tumour")])
def test_one_file_of_two_patients_or_labels_is_a_fault(path: str, column: str, one: str, other: str, tmp_path: Path) -> None:
    key = {"label": "targets.tumour"}.get(column, column)
    sheet = sheet_of(tmp_path, {}, {**SAME, "path": path, column: other})
    (tmp_path / "link.svs").symlink_to("0.svs")
    (tmp_path / "linked").symlink_to(".")
    (fault,) = faults(config(sheet, **FOUR))
    assert fault.startswith("path: slides s0, s1 are one file, ") and f"but have {key} {one!r}, {other!r}" in fault


def test_a_slide_without_a_label_beside_one_with_it_is_a_warning(tmp_path: Path) -> None:
    (warning,) = check(config(sheet_of(tmp_path, {}, {**SAME, "label": ""}), **FOUR)).warnings
    assert "s0, s1 are one file" in warning


def test_parts_of_a_slide_with_different_masks_may_be_of_two_patients(tmp_path: Path) -> None:
    for name in ("left.geojson", "right.geojson"):
        (tmp_path / name).write_text('{"type": "FeatureCollection", "features": []}')
    parts = [{"mask": "left.geojson"}, {"path": "0.svs", "mask": "right.geojson"}]
    (warning,) = check(config(sheet_of(tmp_path, *parts))).warnings
    assert "s0, s1 are one file" in warning and "with different masks or annotations" in warning
    (fault,) = faults(config(sheet_of(tmp_path, parts[0], {**parts[1], "mask": "left.geojson"})))
    assert "patient_id 'p0', 'p1'" in fault
    outlined = [{"annotation": name["mask"], "mask": "", **({"path": "0.svs"} if n else {})} for n, name in enumerate(parts)]
    (fault,) = faults(config(sheet_of(tmp_path, *outlined)))
    assert "patient_id 'p0', 'p1'" in fault, "annotations that only figures are held against are no parts"


def test_a_repeated_url_is_one_slide(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"path": "s3://b/a.svs"}, {"path": "s3://b/a.svs"})
    with pytest.raises(ValueError, match=r"slides s0, s1 are one file, s3://b/a.svs, but have patient_id 'p0', 'p1'"):
        check(config(write_cohort(tmp_path, rows)), needs_slides=False)


def test_patients_of_several_classes_are_named_with_the_class_that_they_count_as(tmp_path: Path) -> None:
    changes = [{}, {"patient_id": "p0"}]
    (warning,) = check(config(sheet_of(tmp_path, *changes), split={"folds": 3})).warnings
    assert warning.startswith("targets.tumour: 1 patient has slides of several classes") and "p0 (normal, tumour)" in warning
    (fault,) = faults(config(sheet_of(tmp_path, *changes)))
    assert fault == (
        "targets.tumour: class 'normal' has 4 patients (not counting p0, with slides of a later class too), fewer than the 5"
        " that 5 folds need (test, train and validation)"
    )


def test_a_patient_of_several_classes_is_no_warning_where_no_folds_are_drawn(tmp_path: Path) -> None:
    changes = [{"fold": "AB"[n // 2 % 2], **({"patient_id": "p0"} if n == 1 else {})} for n in range(10)]
    assert not check(config(sheet_of(tmp_path, *changes))).warnings


def test_faults_of_folds_by_hand_name_fold_and_class(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    for n, row in enumerate(rows):
        row["fold"] = "site A" if row["label"] == "tumour" or n < 4 else "site B"
    assert faults(config(write_cohort(tmp_path, rows))) == [
        f"targets.tumour: splits: fold 'site A' (of column fold) has no {part} slide of class 'tumour'; every class is needed"
        " there"
        for part in ("train", "val")
    ]
    rows[9]["fold"] = "site B"
    (fault,) = faults(config(write_cohort(tmp_path, rows)))
    assert "fold 'site A' (of column fold) leaves one patient of class 'tumour', p9: two are needed" in fault


def test_a_fixed_split_with_one_training_patient_of_a_class_names_it(tmp_path: Path) -> None:
    changes = [{"split": "test" if n % 2 and n < 9 else "train"} for n in range(10)]
    (fault,) = faults(config(sheet_of(tmp_path, *changes)))
    assert "column split has no val, and its train has one patient of class 'tumour', p9" in fault


def test_unused_columns_are_reported(tmp_path: Path) -> None:
    plan = check(config(sheet_of(tmp_path, {"age": "61", "stain": "HE"})))
    assert plan.unread == ("age", "stain") and not plan.warnings
    plan = check(config(sheet_of(tmp_path, {"patient_id": "", "case_id": "c"})))
    assert not plan.warnings, "where there is a column of patients, even an empty one"


def test_a_column_that_may_contain_patients_is_a_warning(tmp_path: Path) -> None:
    rows = [{"case_id": row.pop("patient_id"), **row} for row in rows_of(tmp_path)]
    (warning,) = check(config(write_cohort(tmp_path, rows))).warnings
    assert "cohort.csv: column case_id is not used" in warning and "every slide then counts as a patient of its own" in warning


IMPORTED = {"encoders": {"e": {"features": "imported"}}}


def without_paths(folder: Path, **change: str) -> Path:
    rows = rows_of(folder, change)
    for row in rows:
        del row["path"]
    return write_cohort(folder, rows)


@pytest.mark.parametrize(
    "changes",
    [
        {**IMPORTED, "predict": {"bootstrap": 50}},
        {**IMPORTED, "modles": {}},
        {"encoders": {"e": {"features": "imported", "batch": 3}}},
        {"encoders": {"e": {"feature": "imported"}}},
        {"encodres": {"e": {"features": "imported"}}},
        {**IMPORTED, "results": 3},
    ],
    ids=["another block", "an unknown block", "the block itself", "its key", "its name", "results"],
)
def test_a_fault_of_the_configuration_makes_none_in_the_sheet(changes: dict[str, object], tmp_path: Path) -> None:
    (fault,) = faults(config(without_paths(tmp_path), **changes))
    assert "cohort.csv" not in fault
    _, fault = faults(config(without_paths(tmp_path, label="x"), **changes))
    assert "cohort.csv, column label: 'x' in row 2" in fault, "what is wrong all the same is said"


def test_tiled_slides_are_not_reported_missing_because_of_other_faults(tmp_path: Path) -> None:
    sheet, receipts = sheet_of(tmp_path), tmp_path / "results" / "tiles" / "default"
    for n in range(10):
        (tmp_path / f"{n}.svs").unlink()
        write_receipt(receipts / f"s{n}.json", {})
    (fault,) = faults(config(sheet, predict={"bootstrap": 50}))
    assert fault.startswith("predict.bootstrap")
    (fault,) = faults(config(sheet, results=3))
    assert fault.startswith("results")


def test_labels_are_not_compared_with_invalid_classes(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, {"label": "x"}, {"mpp": "20x"})
    found = faults(config(sheet, targets=block_of("normal")))
    assert len(found) == 2 and found[0].startswith("targets.tumour.classes: ") and "row 3: mpp '20x'" in found[1]


def test_a_misspelt_block_is_not_also_reported_missing(tmp_path: Path) -> None:
    values = config(sheet_of(tmp_path))
    values["modles"] = values.pop("models")
    assert faults(values) == ["modles: unknown key; did you mean 'models'?"]
    del values["modles"]
    assert faults(values) == ["models: missing"]


def test_the_suggested_import_command_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    folder.mkdir()
    (fault,) = faults(config(without_paths(folder), **IMPORTED))
    quoted = str(folder).replace("'", "'\"'\"'")
    assert f"--results '{quoted}/results' --slides '{quoted}/cohort.csv'`" in fault
