from datetime import date
from pathlib import Path

import openpyxl
import pytest

from tests.init.files import write_text
from wsi_mil.errors import ConfigError
from wsi_mil.init.tables import Table, read_tables


def _read(path: Path) -> Table:
    (table,) = read_tables(path)
    return table


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    rows = ["id", "note, or not", "x"], ["1", "a", "2"], ["2", "b", "3"]
    lines = [delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in row) for row in rows]
    table = _read(write_text(tmp_path / "t.csv", *lines))
    assert table.columns == ("id", "note, or not", "x") and table.column("x") == ["2", "3"]


def test_decimal_commas_do_not_count_as_delimiters(tmp_path: Path) -> None:
    table = _read(write_text(tmp_path / "t.csv", "id;a;b", "1;0,5;1,5", "2;0,7;2,5"))
    assert table.column("b") == ["1,5", "2,5"]


def test_a_line_that_names_the_delimiter_is_no_header(tmp_path: Path) -> None:
    assert _read(write_text(tmp_path / "t.csv", "sep=;", "id;a,b", "1;2")).columns == ("id", "a,b")


def test_text_that_is_no_utf8_is_read_as_windows_1252_and_said(tmp_path: Path) -> None:
    table = _read(write_text(tmp_path / "t.csv", "id,Größe", "1,2", encoding="cp1252"))
    assert table.columns == ("id", "Größe") and "Windows-1252" in table.notes[0]
    assert not _read(write_text(tmp_path / "u.csv", "id,Größe", "1,2", encoding="utf-16")).notes


def test_rows_are_numbered_as_in_a_spreadsheet(tmp_path: Path) -> None:
    table = _read(write_text(tmp_path / "t.csv", "Export of 2024", "", "id,a", "1,x", ",", "2,y"))
    assert [number for number, _ in table.rows] == [4, 6] and "row 3" in table.notes[0]


def test_comments_above_the_header_are_passed_over(tmp_path: Path) -> None:
    """As in the tables of cBioPortal."""
    lines = ["#Patient\tMonths", "#text\tnumber", "#1\t1", "PATIENT_ID\tOS_MONTHS", "TCGA-AA-0001\t12"]
    assert _read(write_text(tmp_path / "t.txt", *lines)).columns == ("PATIENT_ID", "OS_MONTHS")


def test_a_header_that_begins_with_a_hash_is_kept(tmp_path: Path) -> None:
    assert _read(write_text(tmp_path / "t.tsv", "#id\tage", "a\t3", "b\t4")).columns == ("id", "age")


def test_units_below_the_header_are_no_row(tmp_path: Path) -> None:
    table = _read(write_text(tmp_path / "t.csv", "id,age,size", ",years,mm", "a,40,3", "b,50,4"))
    assert table.columns == ("id", "age", "size") and table.column("id") == ["a", "b"]


def test_groups_above_the_header_name_what_is_unspecific_only(tmp_path: Path) -> None:
    table = _read(write_text(tmp_path / "t.csv", "Patient,,Tumour,", "ID,Age,Type,Size", "p1,40,A,3", "p2,41,B,4"))
    assert table.columns == ("Patient ID", "Age", "Type", "Size") and len(table.rows) == 2


def test_the_third_line_of_gdc_belongs_to_the_header(tmp_path: Path) -> None:
    lines = ["bcr_patient_barcode\tgender", "barcode\tsex", "CDE_ID:2673794\tCDE_ID:2200604", "TCGA-AA-0001\tMALE"]
    table = _read(write_text(tmp_path / "t.txt", *lines))
    assert table.columns == ("bcr_patient_barcode", "gender") and len(table.rows) == 1


def test_a_first_row_of_data_is_no_header(tmp_path: Path) -> None:
    table = _read(write_text(tmp_path / "t.csv", "id,age,sex", "a,NA,m", "b,50,f", "c,60,f"))
    assert table.column("age") == ["NA", "50", "60"]


def test_columns_of_one_name_are_kept_apart_unless_they_are_equal(tmp_path: Path) -> None:
    table = _read(write_text(tmp_path / "t.csv", "id,grade,grade,id,", "a,1,2,a,x", "b,2,1,b,y"))
    assert table.columns == ("id", "grade", "grade_2", "column 5") and len(table.notes) == 2


def test_row_numbers_of_pandas_and_empty_columns_are_no_columns(tmp_path: Path) -> None:
    assert _read(write_text(tmp_path / "t.csv", ",id,,a", "0,x,,1", "1,y,,2")).columns == ("id", "a")


def test_a_header_that_is_repeated_is_no_row(tmp_path: Path) -> None:
    assert _read(write_text(tmp_path / "t.csv", "id,a", "x,1", "id,a", "y,2")).column("id") == ["x", "y"]


def _workbook(path: Path, rows: list[list[object]]) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "Data"
    for row in rows:
        book.active.append(row)
    book.save(path)
    return book


def test_excel_cells_are_read_as_they_look(tmp_path: Path) -> None:
    book = _workbook(tmp_path / "t.xlsx", [["id", "n", "x", "day", "yes"], [7, 3.0, 0.1 + 0.2, date(2020, 2, 3), True]])
    assert book.active is not None
    book.active["A2"].number_format = "00000"
    book.save(tmp_path / "t.xlsx")
    assert _read(tmp_path / "t.xlsx").rows[0][1] == {"id": "00007", "n": "3", "x": "0.3", "day": "2020-02-03", "yes": "true"}


def test_merged_cells_have_their_content_in_every_row(tmp_path: Path) -> None:
    rows: list[list[object]] = [["Title"], ["patient", "slide", "x"], ["p1", "s1", 1], [None, "s2", 2], ["p2", "s3", 3]]
    book = _workbook(tmp_path / "t.xlsx", rows)
    assert book.active is not None
    book.active.merge_cells("A1:C1")
    book.active.merge_cells("A3:A4")
    book.save(tmp_path / "t.xlsx")
    table = _read(tmp_path / "t.xlsx")
    assert table.column("patient") == ["p1", "p1", "p2"] and table.columns == ("patient", "slide", "x")


def test_a_table_may_begin_anywhere_in_its_sheet(tmp_path: Path) -> None:
    book = _workbook(tmp_path / "t.xlsx", [])
    assert book.active is not None
    for row, cells in enumerate([["id", "a"], ["x", 1], [None, 2], ["y", 3]], start=4):
        for column, cell in enumerate(cells, start=3):
            book.active.cell(row, column, cell)
    book.active.merge_cells("C5:C6")
    book.save(tmp_path / "t.xlsx")
    table = _read(tmp_path / "t.xlsx")
    assert table.columns == ("id", "a") and table.column("id") == ["x", "x", "y"]
    assert [number for number, _ in table.rows] == [5, 6, 7]


def test_every_sheet_is_a_table_unless_one_is_named(tmp_path: Path) -> None:
    book = _workbook(tmp_path / "t.xlsx", [["id", "a"], ["x", 1]])
    book.create_sheet("Empty")
    book.create_sheet("More").append(["id", "b"])
    book["More"].append(["y", 2])
    book.save(tmp_path / "t.xlsx")
    assert [table.title for table in read_tables(tmp_path / "t.xlsx")] == ["t.xlsx, sheet 'Data'", "t.xlsx, sheet 'More'"]
    assert read_tables(tmp_path / "t.xlsx", "More")[0].columns == ("id", "b")
    with pytest.raises(ConfigError, match="no sheet 'Less' with cells; it has 'Data' and 'More'"):
        read_tables(tmp_path / "t.xlsx", "Less")


def test_formulas_that_were_never_computed_are_said(tmp_path: Path) -> None:
    _workbook(tmp_path / "t.xlsx", [["id", "a"], ["x", "=1+1"], ["y", 3]])
    table = _read(tmp_path / "t.xlsx")
    assert table.column("a") == ["", "3"] and "1 formulas without a result" in table.notes[0]


def test_a_quote_that_is_not_closed_is_a_fault_with_its_row(tmp_path: Path) -> None:
    path = write_text(tmp_path / "t.csv", "id,a,b", "x,1,2", 'y,"3,4', "z,5,6", "w,7,8")
    with pytest.raises(ConfigError, match="row 3: a quoted cell seems to contain the rows below"):
        read_tables(path)
    lines = write_text(tmp_path / "u.csv", "id,note,b", 'x,"two\nlines, here",2', "y,one,3")
    assert _read(lines).column("note") == ["two lines, here", "one"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"id,a\n", "has no rows"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 99, "old Excel workbook"),
        (b"PK\x03\x04 no workbook", "cannot be read as an Excel workbook"),
        (b"%PDF-1.4", "PDF"),
        (b"<html>", "web page"),
    ],
)
def test_what_is_no_table_is_a_fault_in_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as raised:
        read_tables(tmp_path / "t.csv")
    assert len(raised.value.faults) == 1 and "\n" not in raised.value.faults[0]


@pytest.mark.parametrize(
    "lines",
    [
        ("slide,label,age", "S001,tumour,pending", "S002,normal,52", "S003,tumour,53"),
        ("slide,label,age", "S001,other,pending", "S002,normal,52", "S012,tumour,53"),
        ("slide,label,age", "a,tumour,pending", "b,normal,52", "c,tumour,53"),
        ("slide,label,,", "S001,x,y,z", "S002,x,w,z"),
    ],
)
def test_a_first_row_with_text_among_numbers_is_no_header(tmp_path: Path, lines: tuple[str, ...]) -> None:
    table = _read(write_text(tmp_path / "t.csv", *lines))
    assert [number for number, _ in table.rows] == list(range(2, len(lines) + 1))


def test_units_stay_out_of_the_rows_where_the_header_is_repeated(tmp_path: Path) -> None:
    page = ("id,age,size", ",years,mm", "a,40,3", "b,41,3", "c,42,3")
    assert _read(write_text(tmp_path / "t.csv", *page, *page)).column("age") == ["40", "41", "42", "years", "40", "41", "42"]
