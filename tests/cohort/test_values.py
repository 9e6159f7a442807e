from pathlib import Path

import pytest

from tests.conftest import write_cohort
from tests.targets import NAME, targets_of
from wsi_mil.cohort import Sheet, read_sheet

CLASSES = ("normal", "tumour")
TARGETS = targets_of(*CLASSES)


def sheet_of(folder: Path, *changes: dict[str, str], classes: tuple[str, ...] = CLASSES, exists: bool = True) -> Sheet:
    """Four slides of two patients, the first of them changed; looked for on disk where they are there."""
    rows = [{"slide_id": f"s{n}", "path": f"{n}.svs", "label": CLASSES[n // 2], "patient_id": f"p{n // 2}"} for n in range(4)]
    rows = [{**row, **change} for row, change in zip(rows, [*changes, *[{}] * 4], strict=False)]
    for n in range(4 if exists else 0):
        (folder / f"{n}.svs").touch()
    return read_sheet(write_cohort(folder, rows), targets_of(*classes), needs_file=(lambda _: True) if exists else None)


@pytest.mark.parametrize("mark", ["NA", "na", "NaN", "nan", "N/A", "n.a.", "null", "NULL", "None", "-", "—", "#N/A", "<NA>", "?"])
@pytest.mark.parametrize("column", ["patient_id", "fold", "split", "label", "mpp", "scanner", "annotation", "mask", "path"])
def test_marks_of_missing_values_are_one_fault_that_names_the_rows(mark: str, column: str, tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, {column: mark}, {}, {column: mark})
    (fault,) = sheet.faults
    assert f"c.csv, column {column}: {mark!r} in rows 2, 4 would be read as a value" in fault.replace("cohort.csv", "c.csv")
    assert [row.slide_id for row in sheet.rows] == ["s1", "s3"]


def test_five_hundred_marks_are_one_sentence(tmp_path: Path) -> None:
    rows = [{"slide_id": f"s{n}", "path": f"{n}.svs", "label": "normal", "patient_id": "NA"} for n in range(500)]
    (fault,) = read_sheet(write_cohort(tmp_path, rows), TARGETS).faults
    assert "'NA' in rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 490 more" in fault and len(fault) < 400


def test_different_marks_of_a_column_are_reported_together(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, {"patient_id": "NA"}, {"patient_id": "unknown"}, {"patient_id": "NA", "label": "x"})
    first, second = sheet.faults
    assert "column label: 'x' in row 4" in second and "'NA' in rows 2, 4 and 'unknown' in row 3" in first


def test_a_class_may_be_called_none(tmp_path: Path) -> None:
    assert not sheet_of(tmp_path, {"label": "none"}, classes=("none", *CLASSES)).faults
    (fault,) = sheet_of(tmp_path, {"label": "None"}, classes=("none", *CLASSES)).faults
    assert "column label: 'None' in row 2" in fault
    assert not read_sheet(tmp_path / "cohort.csv", {}).faults, "where labels are not looked at"


@pytest.mark.parametrize("name", ["Krebs f\u00fcr", "Krebs fu\u0308r", "Krebs\xa0f\u00fcr"])
@pytest.mark.parametrize("label", ["Krebs f\u00fcr", "Krebs fu\u0308r", "Krebs\xa0f\u00fcr"])
def test_a_label_matches_the_class_that_looks_the_same(name: str, label: str, tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, {"label": label}, classes=(name, *CLASSES))
    assert not sheet.faults and sheet.rows[0].labels == {NAME: name}


def test_settings_may_be_called_none_and_scanners_unknown(tmp_path: Path) -> None:
    (row, *_) = sheet_of(tmp_path, {"tissue.method": "none", "scanner": "unknown"}).rows
    assert row.overrides == {"tissue.method": "none"} and row.scanner == "unknown"


def test_a_long_number_changed_by_a_spreadsheet_program_is_a_fault(tmp_path: Path) -> None:
    (fault,) = sheet_of(tmp_path, {"patient_id": "1.23457E+11"}).faults
    assert "row 2: patient_id '1.23457E+11' is a long number, changed" in fault


@pytest.mark.parametrize(("one", "other"), [("P1", "p1"), ("p 1", "P1"), ("007", "7"), ("12.0", "12")])
def test_patients_with_similar_names_are_a_warning(one: str, other: str, tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, {"patient_id": one}, {"patient_id": other})
    (warning,) = (w for w in sheet.warnings if repr(one) in w)
    assert (repr(other) in warning and "count as 2" in warning) or "count as 3" in warning
    assert not sheet_of(tmp_path, {"patient_id": "p10"}, {"patient_id": "p100"}).warnings


@pytest.mark.parametrize("text", ["0,5", "0,50", "0.5", " 0.5 ", "5e-1"])
def test_resolutions_may_have_a_decimal_comma(text: str, tmp_path: Path) -> None:
    assert sheet_of(tmp_path, {"mpp": text}).rows[0].mpp == 0.5


@pytest.mark.parametrize("text", ["0,5,1", "1.000,5", "0;5", "nan", "inf", "0.5 µm", "1_0"])
def test_an_invalid_resolution_is_a_fault(text: str, tmp_path: Path) -> None:
    (fault,) = sheet_of(tmp_path, {"mpp": text}).faults
    assert "mpp" in fault and repr(text) in fault and "row 2" in fault


def test_backslashes_separate_folders(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.svs").touch()
    (tmp_path / "in" / "a.geojson").touch()
    row = sheet_of(tmp_path, {"path": r"in\deep\a.svs", "annotation": r".\in\a.geojson"}).rows[0]
    assert row.path == tmp_path / "in" / "deep" / "a.svs" and row.annotation == tmp_path / "in" / "a.geojson"
    (fault,) = sheet_of(tmp_path, {"path": r"in\gone.svs"}).faults
    assert f"row 2: path {tmp_path}/in/gone.svs does not exist" in fault


def test_a_file_with_a_backslash_in_its_name_is_found(tmp_path: Path) -> None:
    (tmp_path / r"a\b.svs").touch()
    assert sheet_of(tmp_path, {"path": r"a\b.svs"}).rows[0].path == tmp_path / r"a\b.svs"


@pytest.mark.parametrize("path", [r"C:\slides\a.svs", "d:/slides/a.svs", r"\\server\share\a.svs"])
def test_a_windows_path_is_reported(path: str, tmp_path: Path) -> None:
    (fault,) = sheet_of(tmp_path, {"path": path}).faults
    assert f"row 2: path {path!r} is a Windows path" in fault and "'/'" in fault


def test_an_impossible_file_name_is_a_fault_of_its_row(tmp_path: Path) -> None:
    (fault,) = sheet_of(tmp_path, {"path": "x" * 5000 + ".svs"}).faults
    assert "row 2: path 'xxx" in fault and "too long" in fault and len(fault) < 400


def test_if_the_patient_column_is_misspelt_no_patient_faults_are_reported(tmp_path: Path) -> None:
    rows = [{"slide_id": f"s{n}", "path": "a.svs", "label": "x", "Patient": "p", "fold": str(n)} for n in range(2)]
    first, other = read_sheet(write_cohort(tmp_path, rows), TARGETS).faults
    assert "column Patient: did you mean patient_id?" in first
    assert "column label: 'x' in rows 2, 3 (2 slides): not in targets.tumour.classes" in other
