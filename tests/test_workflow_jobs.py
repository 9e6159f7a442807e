"""The real DAG with several slides per job: receipts are the unit of truth, and a job does only what is missing."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import tissue_image, write_aperio, write_geojson
from tests.dag import CONFIG, Run

pytestmark = pytest.mark.slow


@pytest.fixture
def run(finished_jobs: Path, command: Path, tmp_path: Path) -> Run:
    """A finished run with jobs of up to five slides."""
    shutil.copytree(finished_jobs, tmp_path / "run", symlinks=True)
    return Several(tmp_path / "run", command)


class Several(Run):
    """A run with `slides_per_job: auto`."""

    def config(self, **changes: object) -> None:
        super().config(**{"slides_per_job": "auto", **changes})


def worked_on(run: Run, stage: str, said: str = r"^INFO (?:extract )?(\w+): (?!unchanged|all \d)") -> set[str]:
    """Slides on which the jobs of a stage did some work, by their logs."""
    logs = [path.read_text() for path in run.folder.glob(f"logs/{stage}/**/*.log")]
    return {slide for text in logs for slide in re.findall(said, text, re.MULTILINE)}


def times(run: Run, pattern: str) -> dict[str, int]:
    """When each file was last written."""
    return {str(path.relative_to(run.folder)): path.stat().st_mtime_ns for path in run.folder.glob(f"results/{pattern}")}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """Stems of the files that were written since."""
    return {Path(name).name.split(".")[0] for name in after if before.get(name) != after[name]}


def test_jobs_of_several_slides_give_the_same_results_as_jobs_of_one(run: Run, finished: Path) -> None:
    """Also the bytes, but for the pages and tables that name how the run was configured."""
    for kind in ("tiles", "features", "scores", "heatmaps", "models", "predictions", "metrics", "explanations"):
        found = (path for path in (finished / "results" / kind).rglob("*") if path.is_file() and path.suffix != ".lock")
        files = {path.relative_to(finished): path for path in found}
        assert files
        for name, path in files.items():
            assert (run.folder / name).read_bytes() == path.read_bytes(), name


def test_a_second_run_does_nothing_also_under_other_names_and_elsewhere(run: Run) -> None:
    assert run.snakemake() == {}
    run.sheet.rename(run.sheet.with_name("renamed.csv"))
    run.config(cohort="co hort/renamed.csv")
    assert run.snakemake() == {"report": 1}, "it names the sheet"
    (run.folder / "c.yaml").rename(run.folder / "d.yaml")
    assert run.snakemake(configfile="d.yaml") == {}
    (run.folder / "results").rename(run.folder / "moved")
    run.config(cohort="co hort/renamed.csv", results="moved")
    assert set(run.snakemake()) <= {"report"}


def test_a_sheet_that_moves_with_its_slides_trains_nothing(run: Run) -> None:
    (run.folder / "co hort").rename(run.folder / "cohort")
    before = times(run, "features/tiny/*.zarr/features/**/*") | times(run, "scores/tumour/tiny/abmil/*.json")
    run.config(cohort="cohort/cohort.csv")
    counts = run.snakemake()
    assert not {"split", "train"} & set(counts)
    after = times(run, "features/tiny/*.zarr/features/**/*") | times(run, "scores/tumour/tiny/abmil/*.json")
    assert after == before and run.snakemake() == {}


def test_a_new_slide_gets_a_job_of_its_own(run: Run) -> None:
    before = times(run, "jobs/*/*/*.json")
    run.add("new", "", patient_id="p3")
    counts = run.snakemake()
    assert counts == dict.fromkeys(("tile", "extract", "cohort", "predict", "explain", "heatmap", "statistics", "report"), 1)
    assert changed(before, times(run, "jobs/*/*/*.json")) == {"new"}
    assert "note: 1 slide is new" in run.output and run.snakemake() == {}


def test_a_labelled_new_slide_extracts_only_itself_and_explains_all(run: Run) -> None:
    run.add("new", "tumour")
    counts = run.snakemake()
    assert (counts["tile"], counts["extract"], counts["split"], counts["train"]) == (1, 1, 1, 2)
    assert (counts["explain"], counts["heatmap"]) == (3, 3)


def test_what_changes_for_one_slide_of_a_job_is_done_for_it_alone(run: Run) -> None:
    before = {kind: times(run, f"{kind}/**/*.json") for kind in ("tiles", "features", "scores", "heatmaps")}
    rows = run.rows()
    write_geojson(run.sheet.parent / "truth" / "s3.geojson", (310, 90, 440, 260))
    assert run.snakemake() == {"heatmap": 1, "evaluate": 1, "report": 1}
    assert {Path(name).parent.name for name in _written(before, run, "heatmaps")} == {"s3"}
    assert not any(_written(before, run, kind) for kind in ("tiles", "features", "scores"))
    run.write_rows([{**row, "mpp": "0.45" if row["slide_id"] == "s5" else ""} for row in rows])
    counts = run.snakemake("features")
    assert (counts["tile"], counts["extract"], counts["train"]) == (1, 1, 0)
    assert {Path(name).name for name in _written(before, run, "tiles") if "zarr" not in name} == {"s5.json"}


def _written(before: dict[str, dict[str, int]], run: Run, kind: str) -> list[str]:
    return [name for name, when in times(run, f"{kind}/**/*.json").items() if before[kind].get(name) != when]


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ("tiles/default/s2.png", {"tile": 1, "extract": 1, "cohort": 1}),
        ("features/tiny/s2.zarr", {"extract": 1, "cohort": 1}),
        ("cohort_features/tiny/usable.json", {"cohort": 1}),
        ("cohort_features/tiny/labelled/tumour.json", {"cohort": 1}),
        ("scores/tumour/tiny/abmil/s2.zarr", {"explain": 1}),
        ("heatmaps/tumour/tiny/abmil/s2/attention.tiles.png", {"heatmap": 1}),
        ("heatmaps/tumour/tiny/abmil/s2/attention.png", {"heatmap": 1}),
        ("predictions/tumour/tiny/abmil.csv", {"predict": 1}),
        ("models/tumour/tiny/abmil/fold-1/model.safetensors", {"train": 1}),
    ],
)
def test_a_deleted_result_is_noticed_by_a_plain_run_and_made_again(run: Run, lost: str, expected: dict[str, int]) -> None:
    path = run.results(lost)
    before = _content(path)
    _delete(path)
    counts = run.snakemake()
    assert expected.items() <= counts.items() and _content(path) == before
    if not lost.startswith("models"):
        assert not {"train", "split"} & set(counts)
    assert run.snakemake() == {}


def _content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {str(file): file.read_bytes() for file in files}


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def test_a_deleted_slide_file_stops_neither_its_job_nor_later_stages(run: Run) -> None:
    (run.folder / "co hort" / "s2.svs").unlink()
    run.config(heatmap={"colormap": "magma"})
    counts = run.snakemake()
    assert counts["heatmap"] == 2 and not {"train", "explain", "split"} & set(counts)
    write_aperio(run.folder / "co hort" / "s3.svs", tissue_image(640, 448, seed=77))
    counts = run.snakemake()
    assert counts["tile"] == 1 and "s3" in worked_on(run, "tile") and "s2" not in worked_on(run, "tile")


def test_a_damaged_slide_costs_the_others_of_its_job_nothing(run: Run) -> None:
    """Its features are gone and its file is missing: the job fails, the others are done, and the next run does only the rest."""
    shutil.rmtree(run.results("features"))
    shutil.rmtree(run.results("jobs/extract"))
    kept = (run.folder / "co hort" / "s2.svs").rename(run.folder / "kept.svs")
    run.snakemake("features", "--retries", "0", expected=1)
    there = {path.stem for path in run.results("features/tiny").glob("*.json")}
    assert there == {f"s{n}" for n in range(8) if n != 2} | {"text", "glass"}
    assert "s2.svs: no such file" in (run.folder / "logs/extract/tiny/s0.log").read_text()
    before = times(run, "features/tiny/*/zarr.json")
    kept.rename(run.folder / "co hort" / "s2.svs")
    run.snakemake("features")
    after = times(run, "features/tiny/*/zarr.json")
    assert {Path(name).parent.stem for name in after if before.get(name) != after[name]} == {"s2"}


def test_a_killed_job_loses_the_slide_in_hand_only(run: Run) -> None:
    """Receipts that were written before the kill are not written again."""
    shutil.rmtree(run.results("jobs/explain"))
    for slide in ("s3", "s4"):
        run.results(f"scores/tumour/tiny/abmil/{slide}.json").unlink()
    before = times(run, "scores/tumour/tiny/abmil/*.json")
    assert run.snakemake("scores") == {"explain": 2}
    assert changed(before, times(run, "scores/tumour/tiny/abmil/*.json")) == {"s3", "s4"}


def test_forced_rules_do_everything_again(run: Run) -> None:
    before = times(run, "scores/tumour/tiny/abmil/*.json") | times(run, "heatmaps/tumour/tiny/abmil/*/attention.json")
    counts = run.snakemake("--forcerun", "explain")
    assert counts["explain"] == 2
    after = times(run, "scores/tumour/tiny/abmil/*.json") | times(run, "heatmaps/tumour/tiny/abmil/*/attention.json")
    assert changed(before, after) == {f"s{n}" for n in range(8)}, "scores are made again, and pictures of equal scores are not"


def test_one_slide_and_another_method_can_be_asked_for_by_name(run: Run) -> None:
    png = run.results("heatmaps/tumour/tiny/abmil/s3/attention.png")
    first = png.read_bytes()
    png.unlink()
    assert run.snakemake("results/heatmaps/tumour/tiny/abmil/s3/attention.png") == {"heatmap": 1}
    assert png.read_bytes() == first
    before = times(run, "scores/tumour/tiny/abmil/*.json")
    assert run.snakemake("results/heatmaps/tumour/tiny/abmil/s3/evidence.png") == {"explain": 1, "heatmap": 1}
    assert run.results("heatmaps/tumour/tiny/abmil/s3/evidence.geojson").exists()
    assert times(run, "scores/tumour/tiny/abmil/*.json") == before
    assert set(run.snakemake()) <= {"heatmap", "report"}, "the job that lost a picture has its record again"
    assert png.read_bytes() == first


def test_a_picture_by_another_method_goes_when_the_slides_heatmaps_are_drawn_again(run: Run) -> None:
    run.snakemake("results/heatmaps/tumour/tiny/abmil/s3/evidence.png")
    run.config(heatmap={"colormap": "magma"})
    assert run.snakemake() == {"heatmap": 2, "report": 1}
    names = {path.name.split(".")[0] for path in run.results("heatmaps/tumour/tiny/abmil/s3").iterdir()}
    assert names == {"attention"}


def test_what_one_slide_got_under_other_settings_is_put_right_by_a_plain_run(run: Run) -> None:
    path = run.results("heatmaps/tumour/tiny/abmil/s3/attention.png")
    first = path.read_bytes()
    run.config(heatmap={"colormap": "magma"})
    assert run.snakemake("--force", "results/heatmaps/tumour/tiny/abmil/s3/attention.png") == {"heatmap": 1}
    assert path.read_bytes() != first
    run.config()
    assert run.snakemake() == {"heatmap": 1, "report": 1} and path.read_bytes() == first


def test_a_heatmap_asked_for_by_name_waits_for_the_scores_of_new_settings(run: Run) -> None:
    run.config(explain={"methods": ["attention"], "curve_points": 3})
    assert run.snakemake("--force", "results/heatmaps/tumour/tiny/abmil/s3/attention.png") == {"explain": 1, "heatmap": 1}


def test_a_truncated_receipt_is_noticed(run: Run) -> None:
    receipt = run.results("scores/tumour/tiny/abmil/s2.json")
    whole = receipt.read_bytes()
    receipt.write_bytes(whole[:40])
    assert run.snakemake()["explain"] == 1 and receipt.read_bytes() == whole


def test_without_snakemakes_records_a_new_slide_is_predicted_and_a_changed_one_trained_on(run: Run) -> None:
    """As after a results folder was moved: Snakemake knows no parameters of the last run then."""
    shutil.rmtree(run.folder / ".snakemake")
    run.add("new", "", patient_id="p3")
    counts = run.snakemake()
    assert (counts["predict"], counts["explain"] >= 1) == (1, True)
    assert "new," in run.results("predictions/tumour/tiny/abmil.csv").read_text()
    shutil.rmtree(run.folder / ".snakemake")
    write_aperio(run.folder / "co hort" / "s3.svs", tissue_image(640, 448, seed=77))
    counts = run.snakemake()
    assert counts["train"] == 2 and counts["explain"] >= 2


def test_a_slide_can_be_made_again_from_its_tiles_by_name(run: Run) -> None:
    targets = ["results/tiles/default/s3.json", "results/features/tiny/s3.json"]
    before = times(run, "features/tiny/*.json")
    os.utime(run.folder / "co hort" / "s3.svs")
    assert run.snakemake("--force", *targets) == {"tile": 1, "extract": 1}
    assert changed(before, times(run, "features/tiny/*.json")) == {"s3"}


def test_a_fixed_number_divides_the_slides_again_and_does_no_work(run: Run) -> None:
    before = times(run, "features/tiny/*/zarr.json")
    run.config(slides_per_job=2)
    counts = run.snakemake()
    assert (counts["tile"], counts["extract"], counts["explain"], counts["heatmap"], counts["train"]) == (5, 5, 4, 4, 0)
    assert times(run, "features/tiny/*/zarr.json") == before
    division = json.loads(run.results("jobs/slides.json").read_text())
    assert [len(ids) for ids in division.values()] == [2] * 5
    assert run.snakemake() == {}


def test_the_first_run_says_what_comes_after_the_checkpoint(run: Run) -> None:
    shutil.rmtree(run.results(""))
    models = {**CONFIG["models"], "pool": {"model": "instance_pool"}}
    run.config(models=models, explain={"methods": ["attention"]})
    run.planned()
    assert "note: 4 jobs of explain and heatmap are added to the steps" in run.output, "two jobs of slides, and a model"
