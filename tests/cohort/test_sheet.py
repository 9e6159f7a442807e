from pathlib import Path

import pytest

from tests.conftest import write_cohort
from tests.targets import targets_of
from wsi_mil.cohort import (
    Sheet,
    SheetColumns,
    SlideStatus,
    read_sheet,
    read_status,
    row_from_json,
    row_json,
    with_overrides,
    write_status,
)
from wsi_mil.cohort.splits import fold_names
from wsi_mil.config import TileSettings, parse_settings
from wsi_mil.records import NO_PATH, Status

CLASSES = ("normal", "tumour")
TARGETS = targets_of(*CLASSES)
GOOD = {"slide_id": "a", "path": "a.svs", "label": "normal"}


def faults(tmp_path: Path, *rows: dict[str, str]) -> list[str]:
    return list(read_sheet(write_cohort(tmp_path, list(rows)), TARGETS).faults)


def test_a_sheet_is_read_with_paths_relative_to_it(tmp_path: Path) -> None:
    row = {**GOOD, "patient_id": "p", "mpp": "0.25", "tissue.method": "none", "annotation": "t/a.xml", "age": "61"}
    (read,) = read_sheet(write_cohort(tmp_path, [row]), TARGETS).rows
    assert (read.path, read.patient_id, read.mpp) == (tmp_path / "a.svs", "p", 0.25)
    assert read.annotation == tmp_path / "t/a.xml" and read.overrides == {"tissue.method": "none"}


def test_a_scanner_in_the_sheet_travels_with_its_slide(tmp_path: Path) -> None:
    rows = [{**GOOD, "scanner": "AT2 7"}, {**GOOD, "slide_id": "b", "scanner": ""}]
    first, second = read_sheet(write_cohort(tmp_path, rows), TARGETS).rows
    assert (first.scanner, second.scanner) == ("AT2 7", "")
    assert row_json(first)["scanner"] == "AT2 7" and "scanner" not in row_json(second)


def test_a_short_row_has_empty_cells_and_a_long_one_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("slide_id,path,label\na,a.svs\nb,b.svs,normal,what\n")
    sheet = read_sheet(tmp_path / "c.csv", TARGETS)
    assert sheet.rows[0].labels == {} and "row 3: 4 cells, but the header has 3" in sheet.faults[0]


def test_a_slide_without_a_patient_is_a_patient_of_its_own(tmp_path: Path) -> None:
    assert read_sheet(write_cohort(tmp_path, [GOOD]), TARGETS).rows[0].patient_id == "a"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_sheets_from_a_spreadsheet_program_work(tmp_path: Path, delimiter: str) -> None:
    lines = ["slide_id,path,label", "a,ä b'c.svs,tumour", ""]
    (tmp_path / "c.csv").write_text("\r\n".join(lines).replace(",", delimiter), encoding="utf-8-sig", newline="")
    (row,) = read_sheet(tmp_path / "c.csv", TARGETS).rows
    assert row.slide_id == "a" and row.path.name == "ä b'c.svs"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"slide_id": "a b"}, "slide_id 'a b' must be letters"),
        ({"slide_id": ".a"}, "slide_id '.a' must be letters"),
        ({"slide_id": "-a"}, "slide_id '-a' must be letters"),
        ({"path": "{a}.svs"}, "reads as a wildcard"),
        ({"path": ""}, "path is empty"),
        ({"fold": "=1"}, "fold '=1' looks like a formula"),
        ({"mpp": "20x"}, "mpp '20x' is not a number from 0.05 to 10"),
        ({"mpp": "896"}, "mpp '896' is not a number from 0.05 to 10"),
        ({"split": "training"}, "split 'training'; did you mean 'train'?"),
        ({"tissue.method": "ottsu"}, "tissue.method"),
    ],
)
def test_a_fault_names_its_row(tmp_path: Path, change: dict[str, str], fault: str) -> None:
    (found,) = faults(tmp_path, {**GOOD, **change})
    assert "row 2: " in found and fault in found


def test_a_missing_column_is_reported_with_the_nearest_name(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, {"slideid": "a", "path": "p", "label": ""})
    assert found.endswith("column slide_id is missing; did you mean 'slideid'?")


def test_an_unknown_setting_in_a_column_is_a_fault_and_other_columns_are_not(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, {**GOOD, "tissue.metod": "none", "x.y": "1"})
    assert "column tissue.metod: unknown setting; did you mean 'method'?" in found


def test_all_faults_of_all_rows_are_reported_together(tmp_path: Path) -> None:
    found = faults(tmp_path, {**GOOD, "mpp": "x"}, GOOD, {**GOOD, "slide_id": "b", "label": "x"})
    assert ["row 2" in found[0], "row 3" in found[1], "row 4" in found[2], len(found)] == [True, True, True, 3]
    assert "slide_id 'a' occurs in row 2 already" in found[1]


def test_one_patient_is_in_one_part(tmp_path: Path) -> None:
    first = {**GOOD, "patient_id": "p", "split": "train"}
    (found,) = faults(tmp_path, first, {**first, "slide_id": "b", "split": "test"})
    assert "patient 'p' has split 'train' (slide a) and 'test' (slide b)" in found


def test_files_are_checked_only_if_required(tmp_path: Path) -> None:
    sheet = write_cohort(tmp_path, [{**GOOD, "annotation": "a.xml"}, {**GOOD, "slide_id": "b", "annotation": ""}])
    assert not read_sheet(sheet, TARGETS).faults
    found = read_sheet(sheet, TARGETS, needs_file=lambda slide_id: slide_id == "b").faults
    assert len(found) == 2 and "annotation" in found[0] and "row 3: path" in found[1]


def test_a_row_survives_conversion_to_json(tmp_path: Path) -> None:
    row = {**GOOD, "mpp": "0.25", "tissue.method": "none", "annotation": "a.xml"}
    (read,) = read_sheet(write_cohort(tmp_path, [row]), TARGETS).rows
    assert row_from_json(row_json(read)) == read
    assert "patient_id" in row_json(read) and "fold" not in row_json(read)


def test_statuses_written_are_read(tmp_path: Path) -> None:
    statuses = [SlideStatus("a", Status.OK, "", "pale", {"e": 5}), SlideStatus("b", Status.FAILED, 'e: "no, sir"', "", {"e": 0})]
    write_status(tmp_path / "s.csv", statuses)
    assert read_status(tmp_path / "s.csv") == statuses


@pytest.mark.parametrize("column", ["tisue.method", "tiling.mpp", "tilings.mpp", "heatmap.colormap"])
def test_a_column_that_looks_like_an_unknown_setting_is_a_fault(tmp_path: Path, column: str) -> None:
    (found,) = faults(tmp_path, {**GOOD, column: "x"})
    assert f"column {column}: only settings of slide and tissue can be columns of the sheet" in found
    assert not faults(tmp_path, {**GOOD, "scanner.site": "x"})


def test_a_cell_can_name_several_classes_and_booleans(tmp_path: Path) -> None:
    cells = {"tissue.annotation_classes": "Tissue| Tumour", "tissue.remove_pen": "false", "slide.on_missing_mpp": "0.25"}
    (row,) = read_sheet(write_cohort(tmp_path, [{**GOOD, **cells}]), TARGETS).rows
    parsed = parse_settings(TileSettings, with_overrides({}, row))
    assert parsed.tissue.annotation_classes == ("Tissue", "Tumour") and not parsed.tissue.remove_pen
    assert parsed.slide.on_missing_mpp == 0.25


def test_a_url_stays_text_and_one_with_a_password_is_a_fault(tmp_path: Path) -> None:
    url = "s3://bucket/deep/{a} b.svs"
    (row,) = read_sheet(write_cohort(tmp_path, [{**GOOD, "path": url}]), TARGETS, needs_file=lambda _: True).rows
    assert row.path == url and row_from_json(row_json(row)) == row
    (found,) = faults(tmp_path, {**GOOD, "path": "https://me:geheim@host/a.svs"})
    assert "row 2" in found and "password" in found and "geheim" not in found


def test_a_path_is_not_needed_if_features_are_imported(tmp_path: Path) -> None:
    sheet = write_cohort(tmp_path, [{"slide_id": "a", "label": "normal"}, {"slide_id": "b", "label": "x"}])
    assert "column path is missing" in read_sheet(sheet, TARGETS).faults[0]
    (fault,) = read_sheet(sheet, TARGETS, needs_path=False).faults
    assert "column label: 'x' in row 3: not in targets.tumour.classes" in fault
    (row, _) = read_sheet(sheet, {}, needs_path=False).rows
    assert row.path == NO_PATH and "path" not in row_json(row) and row_from_json(row_json(row)) == row


SHEET = "slide_id,path,label\na,a.svs,normal\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe" * 50, "rows 1, 3, 5"),
        (b"\x00" * 4096, "row 1 holds a zero byte"),
        (SHEET.encode("utf-16-le"), "UTF-16 without its mark"),
        (SHEET.encode("utf-16") + b"a", "its byte order mark says UTF-16"),
        (b"PK\x03\x04" + SHEET.encode(), "a spreadsheet workbook: save it as CSV"),
        ((SHEET + f'b,"{"x" * 200_000}",normal\n').encode(), "field larger than field limit"),
        (b"", "column slide_id is missing"),
    ],
    ids=["binary", "zeros", "without a mark", "half a letter", "workbook", "one vast cell", "empty"],
)
def test_a_file_that_is_no_sheet_is_reported(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(data)
    sheet = read_sheet(tmp_path / "c.csv", TARGETS)
    assert not sheet.rows and said in sheet.faults[0] and "c.csv" in sheet.faults[0]


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "c.csv").open("wb") as file:
        file.truncate(100 * 10**6)
    sheet = read_sheet(tmp_path / "c.csv", TARGETS)
    assert not sheet.rows and "it is larger than 64 MiB" in sheet.faults[0]


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "@SUM(1+1)", '=HYPERLINK("http://x.y")', "+1+1"])
@pytest.mark.parametrize("column", ["patient_id", "scanner"])
def test_formulas_are_faults_and_never_reach_our_tables(cell: str, column: str, tmp_path: Path) -> None:
    path = write_cohort(tmp_path, [{"slide_id": "a", "path": "a.svs", "label": "normal", column: cell}])
    (fault,) = read_sheet(path, TARGETS).faults
    assert f"{column} {cell!r} looks like a formula" in fault and "row 2" in fault


BY_SITE = SheetColumns(group="site", part="part")


def with_sites(folder: Path, *cells: tuple[str, str, str]) -> Sheet:
    """A sheet of slides with patient, label and site."""
    rows = [
        {"slide_id": f"s{i}", "path": f"{i}.svs", "patient_id": patient, "label": label, "site": site, "part": "x"}
        for i, (patient, label, site) in enumerate(cells)
    ]
    return read_sheet(write_cohort(folder, rows), TARGETS, columns=BY_SITE)


def test_groups_and_parts_are_read_from_the_columns_that_the_configuration_names(tmp_path: Path) -> None:
    sheet = with_sites(tmp_path, ("p", "normal", "Bern"), ("q", "", ""))
    assert [(row.group, row.part) for row in sheet.rows] == [("Bern", "x"), ("", "x")]
    assert not sheet.faults and not sheet.unread, "a slide that is only predicted needs no group"
    assert row_from_json(row_json(sheet.rows[0])).group == "Bern"


def test_labelled_slides_without_a_group_are_named_by_their_rows(tmp_path: Path) -> None:
    (fault,) = with_sites(tmp_path, ("p", "normal", ""), ("q", "tumour", "Bern"), ("r", "tumour", "")).faults
    assert fault.endswith("column site: empty in rows 2 and 4: name the group of every labelled slide (split.group)") or (
        "column site: empty in rows 2, 4: name the group" in fault
    )
    (fault,) = with_sites(tmp_path, ("p", "normal", "NA"), ("q", "tumour", "Bern")).faults
    assert "column site: 'NA' in row 2 would be read as a value: name the group of every labelled slide" in fault


def test_a_patient_of_two_groups_is_named_with_both(tmp_path: Path) -> None:
    (fault,) = with_sites(tmp_path, ("p", "normal", "Bern"), ("q", "tumour", "Bern"), ("p", "normal", "Basel")).faults
    assert "patient 'p' has site 'Bern' (slide s0) and 'Basel' (slide s2): all slides of a patient must be in one group" in fault
    assert not with_sites(tmp_path, ("p", "normal", "Bern"), ("p", "", "Basel")).faults, "the second is only predicted"


def test_groups_whose_names_look_alike_are_a_warning(tmp_path: Path) -> None:
    (warning,) = with_sites(tmp_path, ("p", "normal", "Bern"), ("q", "tumour", "bern")).warnings
    assert "values of site 'Bern', 'bern' count as 2: use one name if they are the same" in warning


def with_folds(folder: Path, *folds: str) -> Sheet:
    rows = [{**GOOD, "slide_id": f"s{i}", "patient_id": f"p{i}", "fold": fold} for i, fold in enumerate(folds)]
    return read_sheet(write_cohort(folder, rows), TARGETS)


def test_a_fold_may_have_the_decimals_of_pandas(tmp_path: Path) -> None:
    sheet = with_folds(tmp_path, "1", "1.0", "2.0", "10.00", "", "1.5", "B.0")
    assert [row.fold for row in sheet.rows] == ["1", "1", "2", "10", "", "1.5", "B.0"]
    assert fold_names(sheet.rows) == ["1", "2", "10", "1.5", "B.0"]
    assert not sheet.faults and not any("fold" in warning for warning in sheet.warnings)
    slides = [{**GOOD, "slide_id": f"s{i}", "patient_id": "p", "fold": fold} for i, fold in enumerate(("1", "1.0"))]
    assert not read_sheet(write_cohort(tmp_path, slides), TARGETS).faults, "both slides of the patient are in one fold"


@pytest.mark.parametrize(("one", "other"), [("01", "1"), ("A", "a"), ("fold 1", "fold1")])
def test_folds_whose_names_look_alike_are_a_warning(one: str, other: str, tmp_path: Path) -> None:
    (warning,) = (warning for warning in with_folds(tmp_path, one, other, "x").warnings if "fold" in warning)
    assert f"values of fold {one!r}, {other!r} count as 2: use one name if they are the same" in warning


def test_a_column_of_groups_that_is_missing_is_named_with_the_nearest(tmp_path: Path) -> None:
    sheet = read_sheet(
        write_cohort(tmp_path, [{**GOOD, "sites": "Bern"}]), TARGETS, columns=SheetColumns(group="site", part="prt")
    )
    assert [fault.partition(": ")[2] for fault in sheet.faults] == [
        "column site is missing; did you mean 'sites'? (for split.group)",
        "column prt is missing; its columns are slide_id, path, label, sites (for recalibrate)",
    ]
