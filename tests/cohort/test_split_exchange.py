"""Splits of CLAM, STAMP and Patho-Bench, read and written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from wsi_mil.cohort.split_exchange import import_splits
from wsi_mil.cohort.split_layouts import SPLIT_LAYOUTS, SPLIT_WRITERS, read_shared
from wsi_mil.cohort.splits import Splits, draw_splits, read_splits, write_splits
from wsi_mil.config import Split
from wsi_mil.errors import ConfigError
from wsi_mil.records import NO_PATH, Role, SlideRow
from wsi_mil.tasks import Classes

TASK = Classes(("normal", "tumour"))
TRAIN, VAL, TEST = Role.TRAIN, Role.VAL, Role.TEST
PATIENT_OF = {"a1": "a", "a2": "a", "b": "b", "c": "c", "d": "d", "e": "e", "f": "f"}


def row(slide_id: str, label: str | None = None) -> SlideRow:
    """Patients a, c and e have tumours; patient a has two slides."""
    patient = PATIENT_OF.get(slide_id, slide_id)
    return SlideRow(slide_id, NO_PATH, ("tumour" if patient in "ace" else "normal") if label is None else label, patient)


ROWS = [row(slide_id) for slide_id in PATIENT_OF]
PARTS = {"a1": TRAIN, "a2": TRAIN, "b": TRAIN, "c": VAL, "d": VAL, "e": TEST, "f": TEST}
OTHER = {"a1": TEST, "a2": TEST, "b": TEST, "c": TRAIN, "d": TRAIN, "e": VAL, "f": VAL}


def imported(path: Path, rows: list[SlideRow] = ROWS, **options: bool) -> tuple[Splits, list[str]]:
    return import_splits(read_shared(path), rows, TASK, Split(), **options)


def refused(path: Path, rows: list[SlideRow] = ROWS, **options: bool) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        imported(path, rows, **options)
    assert all("\n" not in fault for fault in caught.value.faults)
    return caught.value.faults


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


CLAM_0 = ",train,val,test\n0,a1,c,e\n1,a2,d,f\n2,b,,\n"
CLAM_0_BOOL = ",train,val,test\na1,True,False,False\na2,True,False,False\nb,True,False,False\n" + "".join(
    f"{name},False,{mark}\n"
    for name, mark in (("c", "True,False"), ("d", "True,False"), ("e", "False,True"), ("f", "False,True"))
)
CLAM_1 = "train,val,test\nc,e,a1\nd,f,a2\n,,b\n"
STAMP = {
    "splits": [
        {"train_patients": ["d", "a", "c", "b"], "test_patients": ["f", "e"]},
        {"train_patients": ["c", "d", "e", "f"], "test_patients": ["a", "b"]},
    ]
}
PATHO_BENCH = "case_id\tslide_id\tgrade\tfold_1\tfold_0\n" + "".join(
    f"{PATIENT_OF[s]}\t{s}\t0\t{OTHER[s]}\t{PARTS[s]}\n" for s in PATIENT_OF
)


def test_clams_files_are_folds_with_the_slides_of_each_part(tmp_path: Path) -> None:
    write(tmp_path / "splits_0.csv", CLAM_0)
    write(tmp_path / "splits_0_bool.csv", CLAM_0_BOOL)
    write(tmp_path / "splits_0_descriptor.csv", ",train,val,test\nnormal,1,1,1\n")
    write(tmp_path / "splits_1.csv", CLAM_1)
    splits, notes = imported(tmp_path)
    assert splits.roles == (PARTS, OTHER) and notes == []
    assert splits.patients == PATIENT_OF and splits.labels["c"] == "tumour"
    (tmp_path / "splits_0.csv").unlink()
    assert imported(tmp_path)[0] == splits, "the table of true and false says the same"
    assert imported(write(tmp_path / "other.csv", CLAM_1))[0].roles == (OTHER,), "a single file is one fold"


def test_clams_tenth_fold_comes_after_its_ninth(tmp_path: Path) -> None:
    for k in range(11):
        write(tmp_path / f"splits_{k}.csv", CLAM_0 if k == 10 else CLAM_1)
    assert imported(tmp_path)[0].roles == (OTHER,) * 10 + (PARTS,)


def test_numbers_that_pandas_wrote_with_a_decimal_point_are_the_slides_of_the_sheet(tmp_path: Path) -> None:
    names = {"a1": "101", "a2": "102", "b": "103", "c": "104", "d": "105", "e": "106", "f": "107"}
    rows = [SlideRow(names[r.slide_id], NO_PATH, r.label, r.patient_id) for r in ROWS]
    splits, _ = imported(
        write(tmp_path / "splits_0.csv", ",train,val,test\n0,101,104.0,106.0\n1,102,105.0,107.0\n2,103,,\n"), rows
    )
    assert splits.roles == ({names[s]: role for s, role in PARTS.items()},)


def test_stamps_patients_are_all_their_slides_and_a_validation_part_is_drawn(tmp_path: Path) -> None:
    path = write(tmp_path / "splits.json", json.dumps(STAMP))
    splits, (note,) = imported(tmp_path)
    assert splits == imported(path)[0] and splits.n_folds == 2
    for fold, (train, test) in enumerate((({"a", "b", "c", "d"}, {"e", "f"}), ({"c", "d", "e", "f"}, {"a", "b"}))):
        of_role = {role: {PATIENT_OF[s] for s in splits.slides(fold, role)} for role in (TRAIN, VAL, TEST)}
        assert of_role[TRAIN] | of_role[VAL] == train and of_role[TEST] == test
        assert {splits.labels[s] for s in splits.slides(fold, VAL)} == {"normal", "tumour"}, "one patient of each class"
    assert note.endswith("no validation part, so 20 % of the training patients were drawn for it (split.validation, split.seed)")
    assert note.startswith(f"{path}, split 0, {path}, split 1: ")


def test_patho_benchs_folds_are_columns_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path / "k=all.tsv", PATHO_BENCH)
    splits, notes = imported(tmp_path)
    assert splits.roles == (PARTS, OTHER) and notes == []
    write(tmp_path / "k=all.tsv", PATHO_BENCH.replace("val", "train"))
    splits, (note,) = imported(tmp_path)
    assert {PATIENT_OF[s] for s in splits.slides(0, TEST)} == {"e", "f"} and len(splits.slides(0, VAL)) >= 2
    assert f"{tmp_path}/k=all.tsv, column fold_0" in note


@pytest.mark.parametrize("layout", SPLIT_LAYOUTS)
@pytest.mark.parametrize(
    "settings",
    [
        Split(folds=3),
        Split(folds=2, repeats=3, validation=0.4),
        Split(folds=2, group="site", external=("W",)),
        Split(folds=3, group="site", external=("W",), whole_groups=False),
    ],
)
def test_there_and_back_nothing_changes(tmp_path: Path, layout: str, settings: Split) -> None:
    """Lopsided: patients have one to three slides. The last ones are of group W, one of them without a label."""
    rows = [
        SlideRow(f"s{p}_{i}", NO_PATH, ("normal", "tumour")[p % 2], f"p{p}", group="UVW"[p // 7])
        for p in range(17)
        for i in range(1 + (p % 3) * (p % 2))
    ]
    rows[-1] = replace(rows[-1], label="")
    splits = draw_splits(rows[:-1], TASK, settings)
    files = SPLIT_WRITERS[layout](tmp_path / "out", splits, "tumour")
    assert all(file.is_file() for file in files)
    back, notes = import_splits(read_shared(tmp_path / "out"), rows, TASK, settings.model_copy(update={"seed": 5}))
    assert back == splits and notes == []
    write_splits(tmp_path / "splits.csv", back)
    assert read_splits(tmp_path / "splits.csv") == splits


def test_written_files_are_those_that_the_tools_read(tmp_path: Path) -> None:
    splits = Splits(PATIENT_OF, {r.slide_id: r.label for r in ROWS}, (PARTS, OTHER))
    for layout in SPLIT_LAYOUTS:
        SPLIT_WRITERS[layout](tmp_path / layout, splits, "tumour")
    assert (tmp_path / "clam/splits_0.csv").read_text() == CLAM_0
    assert (tmp_path / "clam/splits_0_bool.csv").read_text() == CLAM_0_BOOL
    content = json.loads((tmp_path / "stamp/splits.json").read_text())["splits"][0]
    assert content == {"train_patients": ["a", "b", "c", "d"], "test_patients": ["e", "f"], "val_patients": ["c", "d"]}
    lines = (tmp_path / "patho-bench/k=all.tsv").read_text().splitlines()
    assert lines[:2] == ["case_id\tslide_id\ttumour\tfold_0\tfold_1", "a\ta1\ttumour\ttrain\ttest"] and len(lines) == 8


def test_a_patient_in_two_parts_is_named_with_fold_and_slides(tmp_path: Path) -> None:
    write(tmp_path / "splits_0.csv", CLAM_0)
    second = write(tmp_path / "splits_1.csv", "train,val,test\nc,e,a1\nd,f,b\na2,,\n")
    assert refused(tmp_path) == [
        f"{second}: patient 'a' is in test (slide a1) and in train (slide a2): all slides of a patient must be in one part"
    ]


def test_a_patient_of_stamp_in_both_parts_is_named(tmp_path: Path) -> None:
    leak = {"splits": [{"train_patients": ["a", "b", "c"], "test_patients": ["c", "d", "e", "f"]}]}
    (found,) = refused(write(tmp_path / "splits.json", json.dumps(leak)))
    assert found == f"{tmp_path}/splits.json, split 0: patient c is in both the training and the test part"


def test_slides_that_only_one_of_them_has_are_named_and_can_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "splits_0.csv", CLAM_0.replace("2,b,,", "2,b,x,y\n3,g,,"))
    rows = [*ROWS, row("g", ""), row("h"), row("i", "")]
    assert refused(tmp_path, rows) == [
        f"{path}: slides that the sheet does not have: x, y; add them to the sheet, or leave them out with --subset",
        f"{path}: no part for labelled slides of the sheet: h; add them to the file, or leave them out with --subset",
    ]
    splits, notes = imported(tmp_path, rows, subset=True)
    assert splits.roles == (PARTS,)
    assert notes == [
        f"{path}: slides that the sheet does not have: x, y: left out",
        f"{path}: no part for labelled slides of the sheet: h: left out",
        f"{path}: without a label in the sheet, so in no part here: g",
    ]


def test_slides_of_external_groups_that_have_a_part_are_named_and_can_be_left_out(tmp_path: Path) -> None:
    """A patient of an external group is external with all slides, those that the file lacks too."""
    path = write(tmp_path / "splits_0.csv", CLAM_0.replace("2,b,,", "2,b,,w"))
    rows = [*ROWS, *(replace(row(name), group="W") for name in ("v", "w")), replace(row("u", ""), group="W")]
    settings = Split(group="site", external=("W",))
    with pytest.raises(ConfigError) as caught:
        import_splits(read_shared(path), rows, TASK, settings)
    assert caught.value.faults == [
        f"{path}: slides of groups that split.external names: w; take them out of the file, or the groups out of split.external,"
        " or leave them out with --subset"
    ]
    splits, notes = import_splits(read_shared(path), rows, TASK, settings, subset=True)
    assert splits.roles == ({**PARTS, "v": Role.EXTERNAL, "w": Role.EXTERNAL},)
    assert notes == [f"{path}: slides of groups that split.external names: w: left out"]


def test_a_slide_without_a_part_in_some_fold_is_a_fault(tmp_path: Path) -> None:
    """CLAM's splits with a share of the labels leave training slides out, others in each fold."""
    write(tmp_path / "splits_0.csv", CLAM_0)
    second = write(tmp_path / "splits_1.csv", "train,val,test\nc,e,a1\n,f,a2\n,,b\n")
    assert refused(tmp_path) == [f"{second}: has no part for d, which other folds have; give each a part in every fold"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "splits_0.csv",
            ",train,val,test\n0,a1,c,e\n1,b,d,a1\n",
            "row 3: slide a1 is in test, and in train by row 2; remove one",
        ),
        ("splits_0.csv", "slide,part\na1,train\n", "expected the columns train, val and test, found slide, part"),
        ("splits_0.csv", ",train,val,test\n", "has no rows"),
        (
            "splits_0_bool.csv",
            "train,val,test\nTrue,False,False\nFalse,False,True\n",
            "expected a column of slides beside train, val, test, which hold true and false only",
        ),
        ("splits_0.csv", ",train,val,test\n0,a1\n", "row 2 has another number of cells than the header"),
        ("splits_1.csv", CLAM_0, "has no splits_0.csv, so fold 0 is missing"),
        ("splits.json", "{}", 'expected {"splits": [{"train_patients"'),
        ("splits.json", '{"splits": []}', "has no splits"),
        ("splits.json", '{"splits": [{"train_patients": ["a"]}]}', "split 0: has no test_patients"),
        ("splits.json", '{"splits": [{"train_patients": [true], "test_patients": ["b"]}]}', "True is no patient"),
        ("splits.json", "not json", 'expected {"splits"'),
        ("k=all.tsv", "slide_id\tlabel\na1\t0\n", "expected the columns slide_id and fold_0, fold_1, …, found slide_id, label"),
        ("k=all.tsv", "slide_id\tfold_0\na1\ttraining\n", "row 2: fold_0 is 'training', expected train, val or test"),
        ("k=all.tsv", "slide_id\tfold_0\na1\ttrain\na1\ttest\n", "row 3: slide a1 is in test, and in train by row 2"),
        ("other.txt", "x", "expected splits_0.csv, … (CLAM), splits.json (STAMP) or k=all.tsv (Patho-Bench)"),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, name: str, text: str, said: str) -> None:
    write(tmp_path / name, text)
    (found,) = refused(tmp_path)
    assert found.startswith(str(tmp_path)) and said in found


def test_two_files_of_clam_that_disagree_are_named(tmp_path: Path) -> None:
    write(tmp_path / "splits_0.csv", CLAM_0)
    other = write(tmp_path / "splits_0_bool.csv", CLAM_0_BOOL.replace("f,False,False,True", "f,False,True,False"))
    assert refused(tmp_path) == [f"{other}: disagrees with splits_0.csv about f; delete the one that is wrong"]


def test_a_fold_needs_training_and_test_slides_and_enough_to_draw_a_validation_part_from(tmp_path: Path) -> None:
    path = write(tmp_path / "splits_0.csv", ",train,val,test\n" + "".join(f"{i},{s},,\n" for i, s in enumerate(PATIENT_OF)))
    assert refused(tmp_path) == [f"{path}: has no test slide that is labelled in the sheet"]
    write(path, ",train,val,test\n0,a1,,c\n1,a2,,d\n2,b,,e\n3,f,,\n")
    (found,) = refused(tmp_path)
    reason = "has no validation part, and its training part one patient of class 'tumour', a: two are needed to draw one"
    assert found == f"{path}: {reason}"
