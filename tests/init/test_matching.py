from pathlib import Path

import pytest

from tests.init.files import write_slide, write_slides, write_text
from wsi_mil.errors import ConfigError
from wsi_mil.init.matching import Asked, Matched, match, without_table
from wsi_mil.init.slides import find_slides
from wsi_mil.init.tables import read_tables


def _match(folder: Path, slides: list[str], *lines: str, asked: Asked | None = None) -> Matched:
    found = find_slides([write_slides(folder / "slides", slides)])
    return match(read_tables(write_text(folder / "t.csv", *lines)), found.slides, asked or Asked())


def _labels(matched: Matched, column: str) -> dict[str, list[str]]:
    assert matched.table is not None
    cells = matched.table.column(column)
    return {slide_id: [cells[at] for at in rows] for slide_id, rows in matched.rows.items()}


@pytest.mark.parametrize("spelling", ["a1.svs", "a1", "A1", r"D:\scans\x\a1.svs", "x/a1.svs", "a1.tif"])
def test_a_row_names_its_slide_in_any_spelling(tmp_path: Path, spelling: str) -> None:
    matched = _match(tmp_path, ["x/a1.svs", "y/b2.svs"], "file,y", f"{spelling},1", "b2.svs,0", "c3,1")
    assert _labels(matched, "y") == {"a1": ["1"], "b2": ["0"]} and matched.unused_rows == (2,)


def test_rows_of_patients_match_all_of_their_slides(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["P1_HE.svs", "P1-2.svs", "P12.svs", "P3.svs"], "patient,y", "P1,a", "P12,b", "P4,c")
    assert _labels(matched, "y") == {"P1_HE": ["a"], "P1-2": ["a"], "P12": ["b"], "P3": []}
    assert matched.patients == {"P1_HE": "P1", "P1-2": "P1", "P12": "P12", "P3": "P3"}


def test_of_two_patients_that_a_name_begins_with_the_longer_counts(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["P1-2-HE.svs", "P1-HE.svs"], "patient,y", "P1,a", "P1-2,b")
    assert _labels(matched, "y") == {"P1-2-HE": ["b"], "P1-HE": ["a"]}


def test_folders_can_be_the_patients(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["0012/HE.svs", "0013/HE.svs", "0013/IHC.svs"], "case,y", "0012,a", "0013,b")
    assert matched.patients == {"0012_HE": "0012", "0013_HE": "0013", "IHC": "0013"}
    assert _labels(matched, "y")["IHC"] == ["b"]


def test_folders_of_batches_are_no_patients(tmp_path: Path) -> None:
    slides = [f"batch {n % 2}/x{n}.svs" for n in range(12)]
    matched = _match(tmp_path, slides, "charge,code,y", *(f"batch {n % 2},x{n},a" for n in range(10)))
    assert matched.key is not None and matched.key.column == "code" and len(set(matched.patients.values())) == 12


def test_leading_zeros_that_a_spreadsheet_removed_are_said(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["0007_a.svs", "0010_a.svs"], "patient,y", "7,a", "10,b")
    assert _labels(matched, "y") == {"0007_a": ["a"], "0010_a": ["b"]}
    assert any("leading zeros" in note for note in matched.notes)


@pytest.mark.parametrize(
    ("slides", "column", "cells"),
    [
        (["001_HE.svs", "010_HE.svs", "100_HE.svs"], "Patient", ["1", "10", "100"]),
        (["P-001.svs", "P-010.svs", "P-100.svs"], "slide", ["P-1", "P-10", "P-100"]),
        (["A001/HE.svs", "A010/HE.svs", "A100/HE.svs"], "Patient", ["A1", "A10", "A100"]),
        (["x/0001.svs", "x/0010.svs", "x/1000.svs"], "slide", ["x/1", "x/10.svs", "x/1000"]),
    ],
)
def test_zeros_are_missing_only_where_there_were_some(tmp_path: Path, slides: list[str], column: str, cells: list[str]) -> None:
    rows = [f"{cell},{label}" for cell, label in zip(cells, "abc", strict=True)]
    matched = _match(tmp_path, slides, f"{column},y", *rows, "A7,d")
    assert list(_labels(matched, "y").values()) == [["a"], ["b"], ["c"]] and matched.unused_rows == (3,)
    (note,) = (note for note in matched.notes if "leading zeros" in note)
    assert note == (
        f"{cells[0]}, {cells[1]} in column {column!r} fit the slides only without leading zeros and marks: check the pairs in"
        " cohort.csv"
    )
    if column == "Patient":
        assert list(matched.patients.values()) == cells


def test_without_zeros_only_what_is_left_over_is_matched(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["1_HE.svs", "001_HE.svs", "20_HE.svs"], "patient,y", "1,a", "020,b", "20,c")
    assert _labels(matched, "y") == {"1_HE": ["a"], "20_HE": ["c"], "001_HE": []}, "1 and 20 are matched, 1_HE and 20_HE too"
    assert matched.patients["001_HE"] == "001_HE" and not any("zeros" in note for note in matched.notes)


@pytest.mark.parametrize("slides", [["A01_HE.svs", "A001_HE.svs", "A20_HE.svs"], ["A01/x.svs", "A001/y.svs", "A20/z.svs"]])
def test_a_patient_that_is_left_over_fits_none_if_there_are_several_but_for_zeros(tmp_path: Path, slides: list[str]) -> None:
    matched = _match(tmp_path, slides, "patient,y", "A1,t", "A20,n")
    assert sorted(_labels(matched, "y").values()) == [[], [], ["n"]]
    assert any(note.startswith("A1 fit slides of several patients if zeros") for note in matched.notes)


def test_two_patients_that_are_left_over_for_one_slide_leave_it_without_a_label(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["001_HE.svs", "100_HE.svs"], "patient,y", "1,a", "01,a", "100,b")
    assert _labels(matched, "y") == {"001_HE": [], "100_HE": ["b"]} and matched.patients["001_HE"] == "001_HE"
    assert any("1 slide has rows of several patients" in note for note in matched.notes)


def test_whole_numbers_may_have_the_decimals_of_pandas(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["4711_a.svs", "4712_a.svs"], "patient,y", "4711.0,a", "4712.0,b")
    assert _labels(matched, "y") == {"4711_a": ["a"], "4712_a": ["b"]} and matched.patients["4711_a"] == "4711"


def test_the_id_column_is_found_whatever_its_name(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["x17-1.svs", "x18-1.svs"], "age,Kennzeichen Pseudo,y", "17,x17,a", "18,x18,b")
    assert matched.key is not None and matched.key.column == "Kennzeichen Pseudo"


def test_ages_are_no_ids_although_slides_have_numbers(tmp_path: Path) -> None:
    slides = [f"{n}.svs" for n in range(40, 46)]
    with pytest.raises(ConfigError, match="no row fits a slide"):
        _match(tmp_path, slides, "code,age", *(f"c{n},{40 + n % 3}" for n in range(6)))


def test_patients_are_read_beside_names_of_slides(tmp_path: Path) -> None:
    lines = ["Pat-Nr,slide,y", "007,a.svs,0", "007,b.svs,0", "012,c.svs,1"]
    matched = _match(tmp_path, ["a.svs", "b.svs", "c.svs"], *lines)
    assert matched.patients == {"a": "007", "b": "007", "c": "012"} and "Pat-Nr" in matched.patient_source


@pytest.mark.parametrize("asked", [Asked(), Asked(slide="slide"), Asked(patient="patient")])
def test_slides_without_a_row_of_their_own_get_the_patient_but_no_label(tmp_path: Path, asked: Asked) -> None:
    lines = ["patient,slide,y", "P1,P1_a.svs,0", "P2,P2_a.svs,1", "P3,,1"]
    matched = _match(tmp_path, ["P1_a.svs", "P1_b.svs", "P2_a.svs", "P3_x.svs"], *lines, asked=asked)
    assert _labels(matched, "y") == {"P1_a": ["0"], "P1_b": [], "P2_a": ["1"], "P3_x": []}
    assert matched.patients == {"P1_a": "P1", "P1_b": "P1", "P2_a": "P2", "P3_x": "P3"}
    assert any("2 slides have no row of their own" in note and "P1_b, P3_x" in note for note in matched.notes)


@pytest.mark.parametrize("barcode", ["TCGA-A1-A0SB", "TCGA-A1-A0SB-01", "TCGA-A1-A0SB-01A-11R", "tcga-a1-a0sb"])
def test_barcodes_of_tcga_match_by_patient_or_sample(tmp_path: Path, barcode: str) -> None:
    slides = ["TCGA-A1-A0SB-01Z-00-DX1.B34C.svs", "TCGA-A1-A0SD-01Z-00-DX1.AAAA.svs"]
    matched = _match(tmp_path, slides, "sample,y", f"{barcode},1", "TCGA-A1-A0SD-01,0")
    assert list(_labels(matched, "y").values()) == [["1"], ["0"]]
    assert list(matched.patients.values()) == ["TCGA-A1-A0SB", "TCGA-A1-A0SD"]


def test_without_a_table_patients_are_those_of_tcga_barcodes(tmp_path: Path) -> None:
    slides = ["TCGA-A1-A0SB-01Z-00-DX1.B34C.svs", "TCGA-A1-A0SB-01Z-00-DX2.B34D.svs", "other.svs"]
    matched = without_table(find_slides([write_slides(tmp_path, slides)]).slides)
    assert list(matched.patients.values()) == ["other", "TCGA-A1-A0SB", "TCGA-A1-A0SB"]
    assert matched.patient_source == "TCGA barcodes"


def test_a_name_of_slides_in_several_folders_matches_none_of_them(tmp_path: Path) -> None:
    slides = ["a/1x.svs", "b/1x.svs", "a/2x.svs"]
    matched = _match(tmp_path, slides, "file,y", "1x.svs,0", "2x.svs,1")
    assert _labels(matched, "y") == {"2x": ["1"], "a_1x": [], "b_1x": []}
    assert any("'1x.svs'" in note or "1x.svs fit several" in note for note in matched.notes)
    with_folders = _match(tmp_path / "more", slides, "file,y", "a/1x.svs,0", "b/1x.svs,1", "2x.svs,1")
    assert _labels(with_folders, "y") == {"2x": ["1"], "a_1x": ["0"], "b_1x": ["1"]}


def test_a_table_that_fits_nothing_shows_the_closest_pairs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"row 2 probe 'SX01' and slide S-01.*--slide-column") as raised:
        _match(tmp_path, ["S-01.svs", "S-02.svs"], "probe,y", "SX01,0", "SX02,1")
    assert len(raised.value.faults) == 1


def test_a_table_without_a_header_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"its first row names slide S-01.svs: write the names of the columns"):
        _match(tmp_path, ["S-01.svs", "S-02.svs"], "S-01.svs,0", "S-02.svs,1")


def test_a_named_column_is_used_and_a_misspelt_one_refused(tmp_path: Path) -> None:
    lines = ["alpha,beta,y", "a,b,0", "b,a,1"]
    matched = _match(tmp_path, ["a.svs", "b.svs"], *lines, asked=Asked(slide="beta"))
    assert _labels(matched, "y") == {"a": ["1"], "b": ["0"]}
    with pytest.raises(ConfigError, match="no column 'betta'; did you mean 'beta'"):
        _match(tmp_path, ["a.svs", "b.svs"], *lines, asked=Asked(patient="betta"))


def test_the_sheet_that_fits_the_slides_is_taken(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["code", "meaning"])
    book.active.append(["1", "yes"])
    book.create_sheet("Cases").append(["slide", "y"])
    book["Cases"].append(["a", 1])
    book.save(tmp_path / "t.xlsx")
    found = find_slides([write_slides(tmp_path / "slides", ["a.svs"])])
    matched = match(read_tables(tmp_path / "t.xlsx"), found.slides)
    assert matched.table is not None and "'Cases'" in matched.table.title
    assert any("--sheet" in note for note in matched.notes)


@pytest.mark.parametrize("rows", [("hospital_alpha/001.svs,t", "B/001.svs,n"), ("B/001.svs,n", r"D:\alpha\001.svs,t")])
def test_rows_of_slides_in_other_folders_match_none(tmp_path: Path, rows: tuple[str, ...]) -> None:
    matched = _match(tmp_path, ["B/001.svs", "B/002.svs"], "slide,y", *rows, "alpha/002,t")
    assert _labels(matched, "y") == {"001": ["n"], "002": []}
    assert any("2 rows name slides of other folders" in note for note in matched.notes)


def test_a_table_of_other_folders_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"A/x1\.svs, A/x2\.svs have names of slides, but other folders"):
        _match(tmp_path, ["B/x1.svs", "B/x2.svs"], "slide,y", "A/x1.svs,0", "A/x2.svs,1")


def test_folders_above_the_given_one_count_only_to_choose_among_rows(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["x1.svs", "x2.svs"], "slide,y", "/old/x1.svs,0", "/old/x2.svs,1", "/new/slides/x2.svs,2")
    assert _labels(matched, "y") == {"x1": ["0"], "x2": ["2"]}
    assert any("1 rows matched by the file's name only" in note and "/old/x1.svs" in note for note in matched.notes)


def test_a_row_may_name_a_copy_in_another_folder(tmp_path: Path) -> None:
    for folder in ("A", "B"):
        write_slide(tmp_path / "slides" / folder / "c7.svs", "same")
    found = find_slides([write_slides(tmp_path / "slides", ["A/d8.svs"])])
    table = read_tables(write_text(tmp_path / "t.csv", "slide,y", "B/c7.svs,0", "B/d8.svs,1"))
    assert _labels(match(table, found.slides), "y") == {"c7": ["0"], "d8": []}


@pytest.mark.parametrize("second", ["S01", "S0100", "S01.tif", "slides/S01.svs"])
def test_all_rows_that_name_a_slide_count(tmp_path: Path, second: str) -> None:
    for name in ("S01.svs", "S0100.svs"):
        write_slide(tmp_path / "slides" / name, "same")
    found = find_slides([write_slides(tmp_path / "slides", ["S02.svs"])])
    table = read_tables(write_text(tmp_path / "t.csv", "slide,y", "S01.svs,t", f"{second},n", "S02.svs,n"))
    assert _labels(match(table, found.slides), "y") == {"S01": ["t", "n"], "S02": ["n"]}


def test_patients_that_differ_in_zeros_only_leave_the_slide_without_a_label(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["0012_1.svs", "0100_1.svs"], "patient,y", "12,n", "012,t", "100,t")
    assert _labels(matched, "y") == {"0012_1": [], "0100_1": ["t"]} and matched.patients["0012_1"] == "0012_1"
    assert any("1 slide has rows of several patients" in note for note in matched.notes)


def test_a_patient_that_fits_slides_of_two_patients_but_for_zeros_fits_none(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["012_1.svs", "12_1.svs", "0100_1.svs"], "patient,y", "0012,n", "100,t")
    assert _labels(matched, "y") == {"12_1": [], "012_1": [], "0100_1": ["t"]}
    assert any(note.startswith("0012 fit slides of several patients") for note in matched.notes)


@pytest.mark.parametrize("folders", [("1", "2"), ("2020", "2021")])
def test_numbered_folders_of_batches_are_no_patients(tmp_path: Path, folders: tuple[str, str]) -> None:
    first, second = folders
    slides = [f"{first}/1_HE.svs", f"{first}/7_HE.svs", f"{second}/2_HE.svs", f"{second}/77_HE.svs"]
    matched = _match(tmp_path, slides, "patient_id,y", "1,a", "2,b", "7,c", "2020,x", "2021,x")
    assert _labels(matched, "y") == {"1_HE": ["a"], "2_HE": ["b"], "7_HE": ["c"], "77_HE": []}
    assert matched.patients["77_HE"] == "77_HE"


@pytest.mark.parametrize("slide", ["1_HE.svs", "0001_HE.svs"])
def test_numbered_folders_are_no_patients_if_names_of_slides_begin_with_patients(tmp_path: Path, slide: str) -> None:
    matched = _match(tmp_path, [f"1/{slide}", "2021/77_HE.svs"], "patient_id,y", "1,a", "2021,x")
    assert _labels(matched, "y") == {slide.removesuffix(".svs"): ["a"], "77_HE": []}


def test_other_folders_than_numbers_are_patients_of_slides_without_a_patient_in_their_name(tmp_path: Path) -> None:
    slides = ["P1/P1_HE.svs", "P1/P2_HE.svs", "P1/scan.svs", "P3/P3_HE.svs", "P3/scan 2.svs"]
    matched = _match(tmp_path, slides, "patient,y", "P1,a", "P2,b", "P3,c")
    assert _labels(matched, "y") == {"P1_HE": ["a"], "P2_HE": ["b"], "P3_HE": ["c"], "scan": [], "scan_2": ["c"]}


def test_numbered_folders_are_patients_only_if_most_patients_have_one(tmp_path: Path) -> None:
    rows = [f"{n},a" for n in range(1, 9)]
    matched = _match(tmp_path, [f"{n}/x{n % 2}.svs" for n in range(1, 8)], "patient_id,y", *rows)
    assert sorted(matched.patients.values()) == ["1", "2", "3", "4", "5", "6", "7"]
    with pytest.raises(ConfigError, match="no row fits"):
        _match(tmp_path / "two", ["1/xa.svs", "1/xb.svs", "2/xc.svs"], "patient_id,y", *rows)


def test_rows_of_two_patients_for_a_slide_leave_it_without_a_label(tmp_path: Path) -> None:
    lines = ["patient,slide,y", "P1,S01,t", "P99,S01,t", "P2,S02,n"]
    matched = _match(tmp_path, ["S01.svs", "S02.svs"], *lines)
    assert _labels(matched, "y") == {"S01": [], "S02": ["n"]} and matched.patients == {"S01": "S01", "S02": "P2"}
    assert any("1 slide has rows of several patients in column 'patient', and no label: S01" in note for note in matched.notes)


@pytest.mark.parametrize("mark", ["-", ".", "_"])
def test_samples_of_tcga_match_slides_of_their_type_only(tmp_path: Path, mark: str) -> None:
    slides = ["TCGA-A1-0001-01Z-00-DX1.svs", "TCGA-A1-0001-11A-01-TS1.svs", "TCGA-A1-0002-01Z-00-DX1.svs"]
    rows = ["TCGA-A1-0001-01A,t", "TCGA-A1-0001-11A,n", "TCGA-A1-0002-11A,n", "TCGA-A1-0002-06A,m"]
    matched = _match(tmp_path, slides, "sample,y", *(row.replace("-", mark) for row in rows))
    assert list(_labels(matched, "y").values()) == [["t"], ["n"], []]
    assert list(matched.patients.values()) == ["TCGA-A1-0001", "TCGA-A1-0001", "TCGA-A1-0002"]


@pytest.mark.parametrize("barcode", ["TCGA-A1-0001", "TCGA.A1.0001"])
def test_normal_tissue_gets_no_label_of_its_patient(tmp_path: Path, barcode: str) -> None:
    slides = ["TCGA-A1-0001-01Z-00-DX1.svs", "TCGA-A1-0001-11A-01-TS1.svs"]
    matched = _match(tmp_path, slides, "patient,y", f"{barcode},MSI")
    assert list(_labels(matched, "y").values()) == [["MSI"], []] and len(set(matched.patients.values())) == 1
    assert any("1 slide is normal tissue by barcode, without labels" in note for note in matched.notes)
    assert "1 slide is normal tissue" in without_table(find_slides([tmp_path / "slides"]).slides).notes[0]


@pytest.mark.parametrize("names", ["case_id,patient_id", "Fallnummer,Pat-Nr", "patient,Fallnummer"])
def test_cases_of_one_patient_are_one_patient(tmp_path: Path, names: str) -> None:
    rows = ["C01,P7,a", "C02,P7,a", "C03,P8,b"] if not names.startswith("patient") else ["P7,C01,a", "P7,C02,a", "P8,C03,b"]
    matched = _match(tmp_path, ["C01_1.svs", "C02_1.svs", "C03_1.svs"], f"{names},y", *rows)
    assert matched.patients == {"C01_1": "P7", "C02_1": "P7", "C03_1": "P8"}
    assert list(_labels(matched, "y").values()) == [["a"], ["a"], ["b"]]


def test_a_case_of_two_patients_gets_no_label(tmp_path: Path) -> None:
    lines = ["case_id,patient_id,y", "C01,P7,a", "C01,P8,a", "C02,P7,a"]
    matched = _match(tmp_path, ["C01_1.svs", "C02_1.svs"], *lines)
    assert _labels(matched, "y") == {"C01_1": [], "C02_1": ["a"]}


def test_an_empty_patient_cell_is_no_patient_of_its_own(tmp_path: Path) -> None:
    lines = ["patient,slide,y", "P1,S01,a", ",S02,a", "P2,S03,b", ",P2_x,b"]
    matched = _match(tmp_path, ["S01.svs", "S02.svs", "S03.svs", "P2_x.svs"], *lines)
    assert _labels(matched, "y") == {"P2_x": ["b"], "S01": ["a"], "S02": [], "S03": ["b"]}
    assert matched.patients["P2_x"] == "P2"
    assert any("1 matched slide has an empty patient cell" in note and "row 3" in note for note in matched.notes)


def test_one_patient_in_two_spellings_is_one(tmp_path: Path) -> None:
    matched = _match(tmp_path, ["a.svs", "b.svs"], "patient,slide,y", "p1,a,0", "P1,b,1")
    assert matched.patients == {"a": "p1", "b": "p1"}


def test_rows_of_patients_that_name_a_slide_are_of_that_slide_only(tmp_path: Path) -> None:
    lines = ["patient,slide,y", "P1,P1_a,t", "P2,,n", "P3,,t", "P4,P4_gone,n"]
    matched = _match(tmp_path, ["P1_a.svs", "P1_b.svs", "P2_a.svs", "P3_a.svs", "P4_a.svs"], *lines)
    assert _labels(matched, "y") == {"P1_a": ["t"], "P1_b": [], "P2_a": ["n"], "P3_a": ["t"], "P4_a": []}
    assert matched.patients["P1_b"] == "P1"
    assert any("2 slides get no label, as the rows of their patients name other slides: P1_b, P4_a" in n for n in matched.notes)
