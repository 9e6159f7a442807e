from pathlib import Path

import pytest

from tests.targets import NAME, targets_of
from wsi_mil.cohort import read_sheet
from wsi_mil.cohort.reading import read_cells
from wsi_mil.records import SlideRow

CLASSES = ("normal", "tumour")
TARGETS = targets_of(*CLASSES)
SHEET = """slide_id,path,label,patient_id,mpp
a,a b.svs,normal,Müller 1,0.5
b,"c,d.svs",tumour,p 2,0.25
"""


def read(folder: Path, data: bytes | str) -> tuple[tuple[SlideRow, ...], tuple[str, ...]]:
    (folder / "c.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    sheet = read_sheet(folder / "c.csv", TARGETS)
    return sheet.rows, sheet.faults


def semicolons(text: str) -> str:
    """As a German spreadsheet program writes it."""
    return text.replace('"c,d.svs"', "c#d.svs").replace(",", ";").replace("0.5", "0,5").replace("0.25", "0,25").replace("#", ",")


HARMLESS: dict[str, bytes] = {
    "UTF-8 with a mark": SHEET.encode("utf-8-sig"),
    "UTF-16": SHEET.encode("utf-16"),
    "UTF-16, big endian": b"\xfe\xff" + SHEET.encode("utf-16-be"),
    "UTF-32": SHEET.encode("utf-32"),
    "Windows": SHEET.replace("\n", "\r\n").encode(),
    "old Mac": SHEET.replace("\n", "\r").encode(),
    "semicolons and decimal commas": semicolons(SHEET).encode(),
    "what Excel is told": ("sep=;\r\n" + semicolons(SHEET).replace("\n", "\r\n")).encode("utf-8-sig"),
    "what Excel is told, filled up": ("sep=;;;;\n" + semicolons(SHEET)).encode(),
    "another separator": ("SEP=|\n" + semicolons(SHEET).replace(";", "|")).encode(),
    "empty columns": "\n".join(line + ",,," for line in SHEET.splitlines()).encode(),
    "row numbers, as pandas writes them": "\n".join(
        f"{n}{x}" for n, x in zip(("", "0", "1"), ("," + y for y in SHEET.splitlines()), strict=True)
    ).encode(),
    "row numbers, as R writes them": SHEET.replace("slide_id", '"",slide_id')
    .replace("a,a b", '"1",a,a b')
    .replace("\nb,", '\n"2",b,')
    .encode(),
    "empty cells": SHEET.replace("0.5\n", "0.5,,,\n").encode(),
    "an empty column in the middle": "\n".join(line.replace(",", ",,", 1) for line in SHEET.splitlines()).encode(),
    "empty rows": (",,\n\n" + SHEET.replace("\nb", "\n,,,,\n\nb") + ",\n").encode(),
    "spaces": SHEET.replace(",", " , ").replace(' "c , d.svs" ', '"c,d.svs"').encode(),
    "spaces before quotes": SHEET.replace(',"c', ', "c').encode(),
    "every cell in quotes": ('"' + SHEET.replace('"', "").replace("c,d", "c#d").replace(",", '","').replace("\n", '"\n"')[:-1])
    .replace("#", ",")
    .encode(),
    "no-break spaces": SHEET.replace("p 2", "\xa0p\u202f2\xa0").replace("label", "label\xa0").encode(),
    "invisible characters": SHEET.replace("p 2", "p\u200b 2\ufeff").replace("patient_id", "\u200bpatient\u2060_id").encode(),
    "letters in two parts": SHEET.replace("ü", "u\u0308").encode(),
}


@pytest.mark.parametrize("data", HARMLESS.values(), ids=HARMLESS)
def test_a_sheet_is_read_the_same_in_every_variant_of_csv(data: bytes, tmp_path: Path) -> None:
    rows, faults = read(tmp_path, data)
    assert not faults and [(r.slide_id, r.labels[NAME], r.patient_id, r.mpp) for r in rows] == [
        ("a", "normal", "Müller 1", 0.5),
        ("b", "tumour", "p 2", 0.25),
    ]
    assert [Path(r.path).name for r in rows] == ["a b.svs", "c,d.svs"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (SHEET.encode("latin-1"), "(row 2: byte 0xFC is no UTF-8: save it as UTF-8)"),
        (SHEET.replace("p 2", "ß").encode("cp1252"), "(rows 2, 3: byte 0xFC is no UTF-8"),
        (SHEET.replace("p 2", "p\0").encode(), "(row 3 holds a zero byte"),
        (SHEET.replace("p 2", '"p 2').encode(), "(row 3: a quoted cell begins in this row and is never closed)"),
        (SHEET.replace("p 2", '"p" 2').encode(), "(row 3: text follows a closing quote"),
        (SHEET.replace("p 2", '"p 2').replace("0.25\n", '0.25\nc,c.svs,normal,p 3",\n').encode(), ", row 3: a quoted cell"),
        (SHEET.replace("p 2", "p,2").encode(), ", row 3: 6 cells, but the header has 5: quote cells that contain ','"),
        (SHEET.replace("0.5", "0,5").encode(), ", row 2: 6 cells, but the header has 5"),
        (SHEET.replace("patient_id", "").encode(), ", column 4 has no name, but has cells in rows 2, 3: name it, or empty it"),
        (SHEET.replace("mpp", "").encode(), ", column 5 has no name, but has cells in rows 2, 3"),
        (b"\xd0\xcf\x11\xe0" + bytes(50), "a spreadsheet workbook"),
        (b"\x1f\x8b" + bytes(50), "(it is compressed: decompress it)"),
    ],
)
def test_ambiguous_text_is_one_fault_that_names_the_row(data: bytes, said: str, tmp_path: Path) -> None:
    _, faults = read(tmp_path, data)
    assert len(faults) == 1 and said in faults[0] and "c.csv" in faults[0]


def test_a_row_that_is_too_long_is_not_checked_further(tmp_path: Path) -> None:
    rows, faults = read(tmp_path, SHEET.replace("a,a b.svs,normal", "a,a b.svs,normal,tumour"))
    assert [row.slide_id for row in rows] == ["b"] and len(faults) == 1


def test_under_an_invalid_header_rows_are_not_reported_as_too_long(tmp_path: Path) -> None:
    _, faults = read(tmp_path, "# slides of 2024\n" + SHEET)
    assert [fault.partition("column ")[2].partition(" is missing")[0] for fault in faults] == ["slide_id", "path", "label"]


def test_rows_are_counted_as_a_spreadsheet_program_counts_them(tmp_path: Path) -> None:
    text = SHEET.replace("b,", '\n\nx,"of two\nlines",normal,p,\nb,').replace("0.25", "20x")
    _, (fault,) = read(tmp_path, text)
    assert "row 6: mpp '20x'" in fault
    _, (fault,) = read(tmp_path, "sep=;\n" + semicolons(SHEET).replace("0,25", "20x"))
    assert "row 3: mpp '20x'" in fault, "Excel hides the line that tells it the separator"


def test_a_cell_of_several_lines_in_an_unused_column_is_no_fault(tmp_path: Path) -> None:
    lines = SHEET.splitlines()
    text = "\n".join([lines[0] + ",note", lines[1] + ',"good;\nbut pale, at the rim"', lines[2] + ","])
    rows, faults = read(tmp_path, text)
    assert len(rows) == 2 and not faults


def test_cells_are_named_by_their_columns_and_short_rows_are_filled(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("slide_id;;note\na;;\n;;\nb\n")
    cells = read_cells(tmp_path / "c.csv")
    assert cells.columns == ("slide_id", "note")
    assert cells.rows == ((2, {"slide_id": "a", "note": ""}), (4, {"slide_id": "b", "note": ""}))


NOTED = """slide_id,path,note,label
a,a.svs,pale,normal
b,b.svs,"pale at the rim,tumour
c,c.svs,good",tumour
d,d.svs,good,normal
"""


@pytest.mark.parametrize("between", ["", "x,x.svs,good,normal\ny,y.svs,good,tumour\n"])
def test_rows_swallowed_by_two_open_quotes_are_reported(between: str, tmp_path: Path) -> None:
    rows, (fault,) = read(tmp_path, NOTED.replace("c,c.svs", f"{between}c,c.svs"))
    assert "row 3: a quoted cell seems to contain the rows below" in fault and [row.slide_id for row in rows] == ["a", "d"]
