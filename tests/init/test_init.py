"""The command as a whole: what it writes passes `check`, and what it cannot do it says."""

import csv
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import tifffile
import yaml
from typer.testing import CliRunner, Result

from tests.init.files import write_slides, write_text
from wsi_mil.check import check
from wsi_mil.cli import app
from wsi_mil.config import Config, parse_settings
from wsi_mil.errors import ConfigError
from wsi_mil.init.draft import Request, draft, require_writable, write
from wsi_mil.init.writing import MODELS, config_text, flow, setup_of

ROOT = Path(__file__).parents[2]
PATIENTS = [f"P{n:02d}" for n in range(1, 13)]


def _run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["init", *map(str, arguments)], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _slides(folder: Path) -> Path:
    """Two slides of each patient but the last two, which have one."""
    names = [f"{patient}_{n}.svs" for patient in PATIENTS for n in (1, 2) if n == 1 or patient < "P11"]
    return write_slides(folder / "slides", names)


def _table(folder: Path, **columns: list[str]) -> Path:
    cells = {"patient": PATIENTS, **columns}
    return write_text(folder / "t.csv", ",".join(cells), *(",".join(row) for row in zip(*cells.values(), strict=True)))


def _checked(study: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The configuration, which must pass `check` in its folder."""
    monkeypatch.chdir(study)
    values = yaml.safe_load((study / "my.yaml").read_text(encoding="utf-8"))
    check(values)
    return dict(values)


def _rows(study: Path) -> list[dict[str, str]]:
    with (study / "cohort.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _uncommented(text: str) -> str:
    """A configuration with all targets that it offers."""
    return "\n".join(line.removeprefix("# ") if line.startswith("#   ") else line for line in text.splitlines())


def test_slides_and_a_table_give_a_sheet_and_a_configuration_that_pass_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ages = [f"{40 + n}" for n in range(12)]
    table = _table(tmp_path, diagnosis=["benign", "malignant"] * 6, grade=["1", "1", "2", "2"] * 3, age=ages)
    result = _run(_slides(tmp_path), "--table", table, "--out", tmp_path / "study")
    values = _checked(tmp_path / "study", monkeypatch)
    assert values["targets"] == {"diagnosis": {"kind": "classes", "column": "diagnosis", "classes": ["benign", "malignant"]}}
    rows = _rows(tmp_path / "study")
    assert list(rows[0]) == ["slide_id", "path", "patient_id", "diagnosis", "grade"]
    assert list(rows[1].values()) == ["P01_2", "../slides/P01_2.svs", "P01", "benign", "1"]
    assert list(rows[2].values()) == ["P02_1", "../slides/P02_1.svs", "P02", "malignant", "1"]
    assert "22 of 22 slides, 12 of 12 rows" in result.output


def test_every_commented_target_is_valid_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {
        "diagnosis": ["benign", "malignant"] * 6,
        "grade": ["G1", "G1", "G2", "G2"] * 3,
        "on, off": ["on", "off"] * 6,
        "lymphocytes": [f"{n}.5" for n in range(12)],
        "KRAS": ["0", "1"] * 6,
        "TP53": ["1", "0"] * 6,
        "Käse: x #": ["a", "b"] * 6,
    }
    rows = [";".join(row) for row in zip(PATIENTS, *columns.values(), strict=True)]
    table = write_text(tmp_path / "t.csv", ";".join(["patient", *columns]), *rows)
    _run(_slides(tmp_path), "--table", table, "--out", tmp_path / "study")
    study = tmp_path / "study"
    assert list(_checked(study, monkeypatch)["targets"]) == ["diagnosis"]
    values = yaml.safe_load(_uncommented((study / "my.yaml").read_text(encoding="utf-8")))
    assert {"diagnosis", "grade", "on_off", "lymphocytes", "kase_x", "markers"} == set(values["targets"])
    check(values)


def test_a_hospital_table_of_thirty_columns_gives_the_right_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = [
        "Lfd. Nr.",
        "Pat-ID",
        "Fallnummer",
        "Nachname",
        "Vorname",
        "Geburtsdatum",
        "Geschlecht",
        "Alter bei Diagnose",
        "Größe (cm)",
        "Gewicht (kg)",
        "BMI",
        "Raucher",
        "Station",
        "Aufnahmedatum",
        "OP-Datum",
        "Operateur",
        "Seite",
        "ICD-10",
        "Befund",
        "T",
        "N",
        "Resektionsrand",
        "Tumorgröße (mm)",
        "Hb (g/dl)",
        "CRP",
        "Chemotherapie",
        "Letzter Kontakt",
        "OS (Monate)",
        "Vitalstatus",
        "Bemerkung",
    ]
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["Export vom 1.2.2024"])
    sheet = book.create_sheet("Patienten")
    sheet.append(["Klinik für Pathologie"])
    sheet.merge_cells("A1:F1")
    sheet.append([])
    sheet.append(head)
    for n, patient in enumerate([*PATIENTS, "P77"]):
        surgery = date(2020, 1, 1) + timedelta(days=17 * n)
        yes = ["ja", "nein"][n % 2]
        person = [n + 1, patient, 1000 + n, f"Name{n}", f"Vor{n}", date(1950 + n, 3, 4), "mw"[n % 2], 40 + n, 160 + n, 60.5 + n]
        stay = [22.5 + n, yes, "AB"[n % 2], surgery, surgery, f"Dr. {n % 3}", ["links", "rechts"][n % 2], f"C50.{n % 3}"]
        tumour = [["kein Tumor", "Karzinom"][n % 2], f"T{1 + n % 3}", f"N{n % 2}", f"R{n % 2}", 10 + n, 9.5 + n]
        last = ["<5" if n % 4 else 7.5, yes, surgery + timedelta(days=300 + n), 10.5 + n, ["lebt", "verstorben"][n // 2 % 2]]
        sheet.append([*person, *stay, *tumour, *last, ""])
    book.save(tmp_path / "t.xlsx")
    result = _run(_slides(tmp_path), "--table", tmp_path / "t.xlsx", "--out", tmp_path / "study")
    values = _checked(tmp_path / "study", monkeypatch)
    assert len(head) == 30 and values["targets"] == {
        "befund": {"kind": "classes", "column": "Befund", "classes": ["kein Tumor", "Karzinom"]},
        "os": {
            "kind": "survival",
            "time": "OS (Monate)",
            "event": "Vitalstatus",
            "event_is": ["verstorben"],
            "censored_is": ["lebt"],
        },
    }
    assert "sheet 'Patienten'" in result.output and "P77 (row 16)" in result.output
    text = (tmp_path / "study" / "cohort.csv").read_text(encoding="utf-8")
    assert "Name3" not in text and "1953" not in text  # names and dates of birth are not copied


def test_named_columns_are_the_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(tmp_path, diagnosis=["benign", "malignant"] * 6, sex=["m", "m", "w", "w"] * 3)
    _run(_slides(tmp_path), "--table", table, "--out", tmp_path / "study", "--target", "sex")
    assert list(_checked(tmp_path / "study", monkeypatch)["targets"]) == ["sex"]


def test_fewer_folds_are_used_where_patients_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(tmp_path, label=["a", "a", "b"] * 4, subtype=["x", *["y"] * 11])
    result = _run(_slides(tmp_path), "--table", table, "--out", tmp_path / "study")
    values = _checked(tmp_path / "study", monkeypatch)
    assert values["split"] == {"folds": 4} and list(values["targets"]) == ["label"]
    assert "subtype: class 'x' has 1 patient, fewer than" in result.output


def test_without_a_table_the_sheet_has_a_column_to_fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = _run(_slides(tmp_path), "--out", tmp_path / "study")
    assert "fill the column 'label'" in result.output
    with pytest.raises(ConfigError, match="no slide has a label: column label must be filled"):
        _checked(tmp_path / "study", monkeypatch)
    text = (tmp_path / "study" / "cohort.csv").read_text(encoding="utf-8").splitlines()
    labels = [["negative", "positive"][int(line[1:3]) % 2] for line in text[1:]]
    filled = [line + label for line, label in zip(text[1:], labels, strict=True)]
    write_text(tmp_path / "study" / "cohort.csv", text[0], *filled)
    _checked(tmp_path / "study", monkeypatch)


def test_paths_are_relative_to_the_sheet_if_the_slides_are_near(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_slides(tmp_path / "near" / "slides", ["a b.svs"])
    _run(tmp_path / "near" / "slides", "--out", tmp_path / "near" / "study")
    _run(tmp_path / "near" / "slides", "--out", tmp_path / "far" / "deep" / "study")
    assert _rows(tmp_path / "near" / "study")[0]["path"] == "../slides/a b.svs"
    assert _rows(tmp_path / "far" / "deep" / "study")[0]["path"] == (tmp_path / "near" / "slides" / "a b.svs").as_posix()


def test_slides_without_a_resolution_are_said_and_can_be_given_one(tmp_path: Path) -> None:
    write_slides(tmp_path / "slides", ["a.svs"])
    tifffile.imwrite(tmp_path / "slides" / "b.tif", np.full((64, 96, 3), 200, np.uint8), tile=(32, 32))
    result = _run(tmp_path / "slides", "--out", tmp_path / "s1")
    assert "none in the file of 1 slide: b" in result.output and _rows(tmp_path / "s1")[1]["mpp"] == ""
    assert "on_missing_mpp" in (tmp_path / "s1" / "my.yaml").read_text(encoding="utf-8")
    _run(tmp_path / "slides", "--out", tmp_path / "s2", "--mpp", "0.25")
    assert [row["mpp"] for row in _rows(tmp_path / "s2")] == ["", "0.25"]
    assert "on_missing_mpp" not in (tmp_path / "s2" / "my.yaml").read_text(encoding="utf-8")


def test_the_tiling_is_the_one_that_suits_the_encoder(tmp_path: Path) -> None:
    write_slides(tmp_path / "slides", ["a.svs"])
    _run(tmp_path / "slides", "--out", tmp_path / "study", "--encoder", "hibou_l")
    values = yaml.safe_load((tmp_path / "study" / "my.yaml").read_text(encoding="utf-8"))
    assert values["encoders"] == {"hibou_l": {"encoder": "hibou_l", "tiling": "default"}}
    assert values["tilings"]["default"] == setup_of("hibou_l").tiling


def test_slides_too_coarse_for_the_tiling_are_said(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.full((64, 96, 3), 200, np.uint8), tile=(32, 32), resolution=(5000, 5000), resolutionunit=3
    )
    assert "raise tilings.default.mpp to 2" in _run(tmp_path / "a.tif", "--out", tmp_path / "study").output


def test_models_are_those_of_the_template() -> None:
    template = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    ours = parse_settings(Config, {**template, "models": MODELS})
    assert ours.models == parse_settings(Config, template).models


def test_files_that_exist_are_not_overwritten(tmp_path: Path) -> None:
    slides = _slides(tmp_path)
    _run(slides, "--out", tmp_path / "study")
    (tmp_path / "study" / "cohort.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"cohort\.csv and .*my\.yaml exist already"):
        _run(slides, "--out", tmp_path / "study")
    assert (tmp_path / "study" / "cohort.csv").read_text() == "mine"


def test_a_file_that_appears_while_slides_are_searched_is_kept(tmp_path: Path) -> None:
    request = Request((write_slides(tmp_path / "slides", ["a.svs"]),), None, tmp_path / "study")
    made = draft(request)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "my.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write(request, made)
    assert not (tmp_path / "study" / "cohort.csv").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        require_writable(tmp_path / "file" / "study")


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_folder_without_permission_to_write_is_refused_before_anything_is_searched(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom wsi_mil.init.draft import require_writable\n"
        "if os.getuid() == 0:\n    os.setuid(65534)\n"
        "require_writable(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(locked / "deep" / "study")]
    ran = subprocess.run(command, text=True, capture_output=True, timeout=300)
    assert ran.stderr.splitlines()[-1].endswith("no permission to write into this folder; give another one with --out")


def test_an_unknown_encoder_and_an_unknown_target_are_refused(tmp_path: Path) -> None:
    table = _table(tmp_path, label=["a", "b"] * 6)
    with pytest.raises(ConfigError, match="--encoder: timm has no model 'uni3_h'; did you mean"):
        _run(_slides(tmp_path), "--encoder", "uni3_h", "--out", tmp_path / "study")
    with pytest.raises(ConfigError, match="--target: the table has no column 'lable'; did you mean 'label'"):
        _run(_slides(tmp_path), "--table", table, "--target", "lable", "--out", tmp_path / "study")


def test_a_target_that_cannot_be_learned_is_refused_with_the_reason(tmp_path: Path) -> None:
    table = _table(tmp_path, label=["a", "b"] * 6, note=[f"text {n}" for n in range(12)], same=["x"] * 12)
    with pytest.raises(ConfigError) as raised:
        _run(_slides(tmp_path), "--table", table, "--target", "note", "--target", "same", "--out", tmp_path / "study")
    assert len(raised.value.faults) == 2 and "one value only" in raised.value.faults[1]


def test_patients_that_a_spreadsheet_has_shortened_are_refused(tmp_path: Path) -> None:
    table = write_text(tmp_path / "t.csv", "slide,patient,label", *(f"P{n:02d}_1,1.23E+11,a" for n in range(1, 13)))
    with pytest.raises(ConfigError, match=r"patient_id '1\.23E\+11' is a long number.*correct the table"):
        _run(_slides(tmp_path), "--table", table, "--out", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_nothing_is_asked_without_a_terminal(tmp_path: Path) -> None:
    write_slides(tmp_path / "slides", ["a.svs"])
    command = [sys.executable, "-m", "wsi_mil", "init", str(tmp_path / "slides"), "--out", str(tmp_path / "study")]
    ran = subprocess.run(command, input="", text=True, capture_output=True, timeout=300, cwd=tmp_path)
    assert ran.returncode == 0 and "wsi-mil run" in ran.stdout and "[Y/n]" not in ran.stdout, ran.stderr


def test_excel_without_openpyxl_names_the_extra(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.save(tmp_path / "t.xlsx")
    code = (
        "import sys; sys.modules['openpyxl'] = None\n"
        "from pathlib import Path\nfrom wsi_mil.init.tables import read_tables\nread_tables(Path(sys.argv[1]))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.xlsx")], text=True, capture_output=True, timeout=300)
    assert "pip install 'wsi_mil[excel]'" in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "1:DECEASED",
        "G1",
        "a: b",
        "x #y",
        "",
        " a",
        "null",
        "1e3",
        "0x1F",
        "2020-01-01",
        "12:30",
        "ä",
        "'",
        '"',
        "*a",
        "-",
        "007",
    ],
)
def test_text_stays_text_in_yaml(value: str) -> None:
    assert yaml.safe_load(flow({"k": [value]})) == {"k": [value]}


def test_the_configuration_is_short_and_says_where_all_settings_are() -> None:
    text = config_text(setup_of("efficientnet_lite0"), [], [])
    assert len(text.splitlines()) < 25 and "config.yaml" in text and max(map(len, text.splitlines())) <= 125


@pytest.mark.parametrize("where", ["study", "new/study"])
def test_paths_in_the_sheet_lead_to_the_slides_also_from_a_linked_folder(tmp_path: Path, where: str) -> None:
    slides = _slides(tmp_path / "data")
    store = tmp_path / "far" / "away" / "store"
    store.mkdir(parents=True)
    linked = tmp_path / "data" / Path(where).parts[0]
    linked.symlink_to(store)
    result = _run(slides, "--table", _table(tmp_path, diagnosis=["a", "b"] * 6), "--out", tmp_path / "data" / where)
    assert result.exit_code == 0
    rows = _rows(tmp_path / "data" / where)
    assert len(rows) == 22 and all((tmp_path / "data" / where / row["path"]).is_file() for row in rows)
    assert rows[0]["path"] == str(slides / "P01_1.svs")


def test_slides_behind_a_link_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_slides(tmp_path / "store" / "deep", ["x1.svs"])
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "slides").symlink_to(store)
    (tmp_path / "p" / "up").symlink_to(store.parent / "deep")
    monkeypatch.chdir(tmp_path / "p")
    assert _run("slides", "--out", "study").exit_code == 0
    assert _rows(tmp_path / "p" / "study")[0]["path"] == "../slides/x1.svs"
    assert _run("up/../deep", "--out", "other").exit_code == 0
    assert _rows(tmp_path / "p" / "other")[0]["path"] == str(store / "x1.svs")


def test_resolutions_that_differ_between_rows_are_left_empty(tmp_path: Path) -> None:
    data = np.zeros((80, 90, 3), np.uint8)
    for name in ("q1", "q2"):
        tifffile.imwrite(tmp_path / f"{name}.tif", data + ord(name[1]), photometric="rgb", tile=(32, 32))
    table = write_text(tmp_path / "t.csv", "slide,mpp", "q1,0.25", "q1.tif,0.5", "q2,0.5")
    made = draft(Request((tmp_path,), table, tmp_path / "study"))
    assert [row.split(",")[3] for row in made.files["cohort.csv"].splitlines()] == ["mpp", "", "0.5"]


def test_a_label_with_too_few_patients_is_kept_and_its_target_says_why(tmp_path: Path) -> None:
    table = _table(tmp_path, label=["b", *["a"] * 11])
    result = _run(_slides(tmp_path), "--table", table, "--out", tmp_path / "study")
    assert [row["label"] for row in _rows(tmp_path / "study")][:3] == ["b", "b", "a"]
    text = (tmp_path / "study" / "my.yaml").read_text(encoding="utf-8")
    assert "not yet: class 'b' has 1 patient" in text and "label: class 'b' has 1 patient" in result.output
    assert "fill the column" not in result.output + text and not yaml.safe_load(text)["targets"]
    targets = yaml.safe_load(_uncommented(text))["targets"]
    assert targets == {"label": {"kind": "classes", "column": "label", "classes": ["a", "b"]}}


def test_survival_that_is_not_sure_is_never_active(tmp_path: Path) -> None:
    table = _table(tmp_path, OS_months=[f"{n}.5" for n in range(12)], survival_status=["1", "0"] * 6)
    result = _run(_slides(tmp_path), "--table", table, "--out", tmp_path / "study")
    text = (tmp_path / "study" / "my.yaml").read_text(encoding="utf-8")
    assert not yaml.safe_load(text)["targets"] and "check which value of survival_status is the event" in text
    assert "none that is sure" in result.output and "os (survival)" in result.output
    check({**yaml.safe_load(_uncommented(text)), "cohort": str(tmp_path / "study" / "cohort.csv")}, needs_slides=False)


def test_a_row_of_a_slide_that_is_read_as_names_of_columns_is_refused(tmp_path: Path) -> None:
    slides = write_slides(tmp_path / "slides", ["7-A.svs", "b.svs", "c.svs", "d.svs"])
    rows = ["7-A.svs;one;?x;later", "b;two;41;1", "c;three;42;2", "d;four;43;3"]
    table = write_text(tmp_path / "t.csv", "patient;finding;age;x", *rows)
    with pytest.raises(ConfigError, match=r"row 2: has the slide 7-A\.svs, where names of columns"):
        _run(slides, "--table", table, "--out", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_results_of_another_cohort_in_the_folder_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "study" / "results").mkdir(parents=True)
    assert (
        _run(_slides(tmp_path), "--table", _table(tmp_path, diagnosis=["a", "b"] * 6), "--out", tmp_path / "study").exit_code == 0
    )
    written = yaml.safe_load((tmp_path / "study" / "my.yaml").read_text(encoding="utf-8"))
    assert written["results"] == "results_2"
