import pytest

from wsi_mil.cohort.columns import OPTIONAL, REQUIRED, SETTINGS, Columns, check_columns

LABEL = {"label": "targets.t"}
"""The column that a target is read from."""


def about(*names: str) -> Columns:
    """Of a sheet that has these columns beside the required ones."""
    return check_columns([*REQUIRED, "label", *names], LABEL, needs_path=True)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *((name, "patient_id") for name in ("Patient_ID", "PATIENT", "patient", "patient id", "PatientID", "patients")),
        *((name, "patient_id") for name in ("patient-id", " Patient.Id", "pateint_id", "patientid", "patient_ids", "patient_no")),
        *(("MPP", "mpp"), ("Split", "split"), ("splits", "split"), ("spilt", "split"), ("folds", "fold"), ("FOLD", "fold")),
        *(("Annotation", "annotation"), ("annotations", "annotation"), ("anotation", "annotation"), ("Mask", "mask")),
        *(("Scanner", "scanner"), ("scaner", "scanner"), ("Tissue.Method", "tissue.method"), ("slide.Reader", "slide.reader")),
        *(("tissue_method", "tissue.method"), ("TISSUE.REMOVE PEN", "tissue.remove_pen")),
    ],
)
def test_a_misspelt_column_is_a_fault_that_suggests_the_right_name(name: str, meant: str) -> None:
    found = about(name)
    assert found.faults == (f"column {name}: did you mean {meant}?",)
    assert found.are_enough and not found.warnings and not found.unread


@pytest.mark.parametrize("name", ["case_id", "case", "Subject", "subject_id", "participant", "bcr_patient_barcode", "Donor ID"])
def test_a_name_that_may_mean_patients_is_a_warning(name: str) -> None:
    found = about(name)
    (warning,) = found.warnings
    assert f"column {name} is not used" in warning and "every slide then counts as a patient of its own" in warning
    assert not found.faults and found.unread == (name,)
    assert not about("patient_id", name).warnings


@pytest.mark.parametrize(
    ("name", "column"),
    [
        *(("mpp_x", "mpp"), ("level0_mpp", "mpp"), ("fold_1", "fold"), ("cv_fold", "fold"), ("annotation_path", "annotation")),
        *(("mask_file", "mask"), ("tissue_mask", "mask"), ("scanner_id", "scanner"), ("ScannerModel", "scanner")),
        *(("subset", "split"), ("pixel_size_um", "mpp")),
    ],
)
def test_a_column_name_with_an_extra_word_is_a_warning_if_the_column_is_missing(name: str, column: str) -> None:
    (warning,) = about(name).warnings
    assert warning.startswith(f"column {name} is not used, and there is no column {column}")
    assert not about(name, column).warnings and not about(name, column).faults


INNOCENT = ["age", "site", "patient_age", "patient_sex", "stain", "gold", "task", "annotator", "annotated", "scanned", "grade"]
INNOCENT += [
    "split_date",
    "folder",
    "MMP9",
    "fold_change",
    "scanner.site",
    "slide_type",
    "magnification",
    "Überleben",
    "#",
    "mast",
]


@pytest.mark.parametrize("name", INNOCENT)
def test_other_columns_are_ignored(name: str) -> None:
    found = about(name)
    assert not found.faults and not found.warnings and found.unread == (name,)


@pytest.mark.parametrize("column", [*OPTIONAL, *SETTINGS])
def test_a_column_and_its_name_in_capitals_are_ambiguous(column: str) -> None:
    assert about(column, column.upper()).faults == (
        f"columns {column.upper()} and {column} have the same meaning: remove one of them",
    )
    assert not about(column).faults and not about(column).unread


def test_a_similar_name_besides_the_right_one_is_another_column() -> None:
    found = about("patient_id", "patient", "fold", "folds")
    assert not found.faults and not found.warnings and found.unread == ("patient", "folds")


@pytest.mark.parametrize(
    ("names", "hints"),
    [
        (["Slide_ID", "PATH", "Label"], ["'Slide_ID'", "'PATH'", "'Label'"]),
        (["slide", "filename", "diagnosis"], ["'slide'", "'filename'", "'diagnosis'"]),
        (["labels", "slideid", "paths"], ["'slideid'", "'paths'", "'labels'"]),
    ],
)
def test_a_missing_required_column_is_reported_with_the_similar_name(names: list[str], hints: list[str]) -> None:
    found = check_columns(names, LABEL, needs_path=True)
    expected = zip((*REQUIRED, "label"), hints, ("", "", " (for targets.t)"), strict=True)
    assert found.faults == tuple(f"column {name} is missing; did you mean {hint}?{key}" for name, hint, key in expected)
    assert not found.are_enough


def test_without_a_similar_name_the_columns_are_listed() -> None:
    (fault, *_) = check_columns(["a|b|c"], LABEL, needs_path=True).faults
    assert fault == "column slide_id is missing; its columns are a|b|c"


def test_a_path_in_capitals_is_a_fault_even_if_no_path_is_needed() -> None:
    assert check_columns(["slide_id", "label", "Path"], LABEL, needs_path=False).faults == ("column Path: did you mean path?",)
    assert not check_columns(["slide_id", "label"], LABEL, needs_path=False).faults


def test_known_columns_must_not_be_repeated_and_others_may() -> None:
    assert about("mpp", "mpp").faults == ("column mpp occurs twice",) and not about("mpp", "mpp").are_enough
    assert about("note", "note").unread == ("note",) and not about("note", "note").faults
