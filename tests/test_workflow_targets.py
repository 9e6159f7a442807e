"""Several targets on one cohort: what is made once, and what runs for one of them only."""

import csv
import shutil
from pathlib import Path

import pytest

from tests.dag import CONFIG, Run
from wsi_mil.receipts import read_receipt

pytestmark = pytest.mark.slow

TARGETS = {**CONFIG["targets"], "grade": {"kind": "classes", "column": "grade", "classes": ["low", "high"]}}
OF_A_TARGET = {"split": 1, "train": 2, "predict": 1, "explain": 8, "explain-validation": 1, "evaluate": 1, "heatmap": 8}
"""Jobs of one target, of two folds and eight slides with a job each."""


@pytest.fixture
def run(finished: Path, command: Path, tmp_path: Path) -> Run:
    """A finished run of the target `tumour`, whose sheet has a column for another one."""
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    run = Run(tmp_path / "run", command)
    grades = ["low", "low", "high", "high", "low", "low", "high", "high", "low", ""]
    run.write_rows([{**row, "grade": grade} for row, grade in zip(run.rows(), grades, strict=True)])
    return run


def test_a_new_target_runs_itself_alone_and_a_changed_cell_its_own_target(run: Run) -> None:
    assert run.snakemake() == {}, "a column that no target reads"
    before = {path: path.read_bytes() for path in run.results("models/tumour").rglob("*.safetensors")}
    run.config(targets=TARGETS)
    assert run.snakemake() == {"cohort": 1, **OF_A_TARGET, "report": 1}
    assert before == {path: path.read_bytes() for path in before} and len(before) == 2
    assert run.results("report/grade.html").is_file() and run.results("report/tumour.html").is_file()
    with run.results("predictions/grade/tiny/abmil.csv").open() as file:
        assert next(csv.DictReader(file)).keys() >= {"prob_low", "prob_high"}
    assert set(read_receipt(run.results("cohort_features/tiny/labelled/grade.json"))) == {f"s{n}" for n in range(8)}
    assert run.snakemake() == {}

    rows = run.rows()
    rows[0]["grade"], rows[2]["grade"] = "high", "low"
    run.write_rows(rows)
    assert run.snakemake() == {**OF_A_TARGET, "report": 1}
    assert not [call for call in run.calls if "tumour" in call and not call.startswith("report")]

    run.config()
    assert run.snakemake() == {"cohort": 1, "report": 1}, "the results of a target that is gone are left"
    assert run.results("models/grade").is_dir()


def test_splits_and_their_folds_are_given_for_one_target(run: Run) -> None:
    lines = ["slide_id,patient_id,label,fold,role_0"]
    roles = ["train", "test", "train", "test", "val", "train", "val", "train"]
    lines += [f"s{n},p{n},{row['grade']},,{role}" for n, (row, role) in enumerate(zip(run.rows(), roles, strict=False))]
    (run.folder / "fixed.csv").write_text("\n".join(lines) + "\n")
    run.config(targets=TARGETS, splits={"grade": "fixed.csv"})
    assert run.snakemake("models") == {"cohort": 1, "split": 1, "train": 1}
    assert [path.name for path in run.results("models/grade/tiny/abmil").glob("fold-*")] == ["fold-0"]
