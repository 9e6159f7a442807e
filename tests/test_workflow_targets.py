"""Several targets on one cohort: what is made once, and what runs for one of them only."""

import csv
import re
import shutil
from pathlib import Path

import pytest

from tests.dag import CONFIG, Run
from wsi_mil.receipts import read_receipt

pytestmark = pytest.mark.slow

TARGETS = {**CONFIG["targets"], "grade": {"kind": "classes", "column": "grade", "classes": ["low", "high"]}}
OF_A_TARGET = {
    "split": 1,
    "train": 2,
    "predict": 1,
    "explain": 8,
    "explain-validation": 1,
    "trust": 1,
    "evaluate": 1,
    "heatmap": 8,
}
"""Jobs of one target, of two folds and eight slides with a job each."""
KINDS = {
    "markers": {"kind": "multilabel", "columns": ["er", "pr"]},
    "tmb": {"kind": "regression", "column": "tmb", "transform": "log1p"},
    "survival": {"kind": "survival", "time": "months", "event": "died"},
}
CELLS = {
    "er": ["pos", "neg", "pos", "neg", "neg", "pos", "pos", "neg", "", ""],
    "pr": ["neg", "pos", "", "", "pos", "neg", "pos", "", "pos", ""],
    "tmb": ["1,5", "3", "12.5", "0", "7", "2.25", "30", "", "", "4"],
    "months": ["10", "20", "30", "40", "15", "25", "35", "45", "", "50"],
    "died": ["1", "1", "0", "0", "1", "1", "0", "0", "", ""],
}
"""Cells of the ten slides, of which the last two cannot be used."""
OF_A_KIND = {"split": 1, "train": 2, "predict": 1, "explain": 2, "explain-validation": 1, "trust": 1, "evaluate": 1, "heatmap": 2}
"""Jobs of one target, of two folds and two jobs for all slides."""


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


def test_other_outputs_are_explained_without_training_and_only_for_the_target_that_has_them(run: Run) -> None:
    of_explanations = {"explain": 8, "explain_validation": 1, "evaluate": 1, "trust": 1, "heatmap": 8, "report": 1, "all": 1}
    for outputs in ("all", ["tumour"]):
        run.config(explain={"methods": ["attention"], "outputs": outputs})
        assert run.planned() == {"report": 1, "all": 1, "total": 2}, "of two classes the positive one is explained anyway"
    run.config(explain={"methods": ["attention"], "outputs": ["normal"]})
    assert run.planned() == {**of_explanations, "total": sum(of_explanations.values())}


def test_splits_and_their_folds_are_given_for_one_target(run: Run) -> None:
    lines = ["slide_id,patient_id,label,fold,role_0"]
    roles = ["train", "test", "train", "test", "val", "train", "val", "train"]
    lines += [f"s{n},p{n},{row['grade']},,{role}" for n, (row, role) in enumerate(zip(run.rows(), roles, strict=False))]
    (run.folder / "fixed.csv").write_text("\n".join(lines) + "\n")
    run.config(targets=TARGETS, splits={"grade": "fixed.csv"})
    assert run.snakemake("models") == {"cohort": 1, "split": 1, "train": 1}
    assert [path.name for path in run.results("models/grade/tiny/abmil").glob("fold-*")] == ["fold-0"]


@pytest.fixture
def run_of_kinds(finished_jobs: Path, command: Path, tmp_path: Path) -> Run:
    """A finished run of the target `tumour` with two jobs for all slides; the sheet has columns for targets of other kinds."""
    shutil.copytree(finished_jobs, tmp_path / "run", symlinks=True)
    run = Run(tmp_path / "run", command)
    run.write_rows([{**row, **{name: own[n] for name, own in CELLS.items()}} for n, row in enumerate(run.rows())])
    lines = [
        "slide_id,patient_id,label,fold,role_0",
        "s0,p0,1 0,,train",
        "s1,p1,0 1,,train",
        "s2,p2,1 ?,,train",
        "s3,p3,0 ?,,train",
    ]
    lines += ["s4,p4,0 1,,val", "s5,p5,1 0,,val", "s6,p6,1 1,,test", "s7,p7,0 ?,,test"]
    (run.folder / "markers.csv").write_text("\n".join(lines) + "\n")
    return run


def configure(run: Run, *, models: object = CONFIG["models"], **changes: object) -> None:
    """Write a configuration with a target of each kind."""
    targets = {**CONFIG["targets"], **KINDS, **changes}
    run.config(targets=targets, models=models, splits={"markers": "markers.csv"}, slides_per_job="auto")


def test_targets_of_all_kinds_run_to_the_report_and_each_by_itself(run_of_kinds: Run) -> None:
    run = run_of_kinds
    configure(run)
    added = {stage: 3 * n - (stage == "train") for stage, n in OF_A_KIND.items()}
    assert run.snakemake() == {"cohort": 1, **added, "report": 1}, "one fold of markers is given"
    pages = {path.name for path in run.results("report").glob("*.html")}
    assert pages == {"index.html", *(f"{name}{page}" for name in ("tumour", *KINDS) for page in (".html", ".tiles.html"))}
    columns = {"markers": {"prob_er", "predicted_pr"}, "tmb": {"value"}, "survival": {"time", "event", "risk", "cutoff"}}
    for name, own in columns.items():
        with run.results(f"predictions/{name}/tiny/abmil.csv").open() as file:
            assert own <= set(next(csv.DictReader(file)))
        assert read_receipt(run.results(f"metrics/{name}/tiny/abmil.json"))["n_slides"] == {"markers": 2, "tmb": 7}.get(name, 8)
        assert pictures(run, name) == expected_pictures(run, name)
    assert run.snakemake() == {}

    planned = {**{stage.replace("-", "_"): n for stage, n in OF_A_KIND.items()}, "report": 1, "all": 1}
    cells = {"tmb": (0, "tmb", "1,75"), "survival": (3, "months", "41"), "tumour": (2, "label", "")}
    before = run.rows()
    for name, (row, column, cell) in cells.items():
        run.write_rows([{**own, column: cell} if n == row else own for n, own in enumerate(before)])
        assert run.planned() == {**planned, "total": sum(planned.values())}, name
        assert set(re.findall(r"wildcards: target=(\w+)", run.output)) == {name}, "a changed cell runs its own target"
    run.write_rows(before)
    kinds = {name: {**target, "models": ["abmil"]} for name, target in KINDS.items()}
    configure(run, **kinds, models={**CONFIG["models"], "sb": {"model": "clam"}})
    of_model = {stage: n for stage, n in planned.items() if stage != "split"}
    assert run.planned() == {**of_model, "total": sum(of_model.values())}
    assert set(re.findall(r"target=(\w+), encoder=tiny, model=(\w+)", run.output)) == {("tumour", "sb")}, "it learns classes only"
    configure(run, survival={**KINDS["survival"], "loss": "cox"})
    assert run.snakemake() == {**{stage: n for stage, n in OF_A_KIND.items() if stage != "split"}, "report": 1}
    assert all("survival" in call for call in run.calls if not call.startswith("report"))
    card = read_receipt(run.results("models/survival/tiny/abmil/fold-0/config.json"))
    assert card["task"]["loss"] == "cox"


def pictures(run: Run, target: str) -> set[str]:
    """Heatmaps of a target, as slide/method."""
    folder = run.results(f"heatmaps/{target}/tiny/abmil")
    return {f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.png") if not path.stem.endswith(".tiles")}


def expected_pictures(run: Run, target: str) -> set[str]:
    """One for each usable slide, and one more for each positive label but the most probable one."""
    with run.results(f"predictions/{target}/tiny/abmil.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = {f"s{n}/attention" for n in range(8)}
    for row in rows if target == "markers" else ():
        positive = sorted((label for label in ("er", "pr") if row[f"predicted_{label}"] == "1"), key=lambda c: row[f"prob_{c}"])
        expected |= {f"{row['slide_id']}/attention@{label}" for label in positive[:-1]}
    return expected
