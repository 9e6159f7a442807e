"""The real DAG on a tiny cohort: which jobs run after which change."""

import csv
import json
import os
import re
import shutil
import time
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from tests.conftest import tissue_image, write_aperio, write_geojson
from tests.dag import CONFIG, ROOT, Run
from wsi_mil.cohort import read_status
from wsi_mil.receipts import read_receipt

pytestmark = pytest.mark.slow


@pytest.fixture
def run(finished: Path, command: Path, tmp_path: Path) -> Run:
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    return Run(tmp_path / "run", command)


def test_a_second_run_does_nothing(run: Run) -> None:
    assert run.snakemake() == {}


def test_each_job_records_its_memory_and_time_and_deleting_the_records_reruns_nothing(run: Run) -> None:
    benchmarks = run.results("benchmarks")
    counts = Counter(path.relative_to(benchmarks).parts[0] for path in benchmarks.rglob("*.tsv"))
    assert counts == {"tile": 10, "extract": 10, "cohort": 1, "split": 1, "train": 2, "predict": 1, "explain": 8} | {
        "explain_validation": 1, "trust": 1, "evaluate": 1, "heatmap": 8, "statistics": 1, "report": 1
    }  # fmt: skip
    shutil.rmtree(benchmarks)
    assert run.snakemake() == {}


def test_jobs_request_more_for_larger_input_and_at_each_attempt(run: Run) -> None:
    def asked(rule: str, slide_id: str, *args: str) -> tuple[int, int]:
        run.planned("--forcerun", "tile", "extract", "explain", *args)
        lines = rf"rule {rule}:\n(?:    .*\n)*?    wildcards: .*job={slide_id}\n(?:    .*\n)*?    resources: (.*)"
        found = re.search(lines, run.output)[1]
        return int(re.search(r"mem_mb=(\d+)", found)[1]), int(re.search(r"runtime=(\d+)", found)[1])

    assert asked("tile", "s0") > asked("tile", "s2")
    n_tiles = 50_000
    receipt = run.results("tiles/default/s2.json")
    receipt.write_text(json.dumps({**json.loads(receipt.read_text()), "n_tiles": n_tiles}))
    assert asked("extract", "s2") == (6000, 15 + n_tiles // 1000)
    assert asked("extract", "s2", "--attempt", "2") == (2 * 6000, 2 * (15 + n_tiles // 1000))


def test_the_default_profile_uses_the_gpus_and_memory_of_the_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.folder / "bin").mkdir(exist_ok=True)
    (run.folder / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: one'\necho 'GPU 1: two'\necho 'GPU 2: three'\n")
    (run.folder / "bin" / "nvidia-smi").chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def provided() -> tuple[int, int]:
        (run.results("report") / "index.html").unlink()
        assert run.snakemake() == {"report": 1}
        found = re.search(r"Provided resources: (.*)", run.output)[1]
        return tuple(int(re.search(rf'Resource\("{name}", (\d+)\)', found)[1]) for name in ("gpu", "mem_mb"))

    gpus, memory_mb = provided()
    assert gpus == 3 and 0 < memory_mb < 1e-6 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert provided()[0] == 2


def test_snakemakes_own_report_contains_the_page_and_the_status(run: Run) -> None:
    assert run.snakemake("--report", "run.zip") == {}
    with ZipFile(run.folder / "run.zip") as archive:
        held = {Path(name).name: archive.read(name) for name in archive.namelist()}
    assert held["index.html"] == run.results("report/index.html").read_bytes()
    assert held["cohort_status.csv"] == run.results("cohort_status.csv").read_bytes()


def test_the_diagram_in_the_documentation_matches_snakemakes_graph(run: Run) -> None:
    """Every rule stands in it, and what waits for what is the same; a drawing leaves out arrows that follow from others."""
    assert run.snakemake("--rulegraph") == {}
    names = dict(re.findall(r"(\d+)\[label = \"(\w+)\"", run.output))
    of_snakemake = {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", run.output)}
    drawing = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("```mermaid")[2].partition("```")[0]
    drawn = set(re.findall(r"^  (\w+)(?:\[.*?\])? --(?:.*?--)?> (\w+)", drawing, re.MULTILINE))
    ends = {"sheet", "page", "all"}
    rules = {name for arrow in drawn for name in arrow} - ends
    assert rules == set(names.values()) - ends
    assert len(drawn) > 10 and _reach(drawn, rules) == _reach(of_snakemake, rules)
    assert all(f"  {name}[" in drawing for name in rules | {"heatmap_scale"})


def _reach(arrows: set[tuple[str, str]], among: set[str]) -> set[tuple[str, str]]:
    """Who comes before whom, directly or not."""
    found = {(a, b) for a, b in arrows if {a, b} <= among}
    while more := {(a, d) for a, b in found for c, d in found if b == c} - found:
        found |= more
    return found


def test_bad_slides_have_a_status_and_a_reason_and_the_rest_goes_on(run: Run) -> None:
    with run.results("cohort_status.csv").open(newline="") as file:
        statuses = {row["slide_id"]: row for row in csv.DictReader(file)}
    assert [statuses[s]["status"] for s in ("s1", "text", "glass")] == ["ok", "failed", "empty"]
    assert "cannot open" in statuses["text"]["reason"] and statuses["glass"]["reason"] == "tiny: no tissue found"
    page = run.report()
    assert "cannot open" in page and "no tissue found" in page
    assert (page.count('<img alt="" src="data:image/webp'), page.count("data:image/jpeg")) == (8, 29), (
        "heatmaps; masks and the 20 highest tiles"
    )
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_another_colour_map_redraws_only(run: Run) -> None:
    run.config(heatmap={"colormap": "magma"})
    assert run.snakemake() == {"heatmap": 8, "report": 1}


@pytest.mark.system
def test_a_cohort_scale_uses_labelled_slides_and_rescores_nothing(run: Run) -> None:
    run.config(heatmap={"scale": "cohort"})
    assert run.snakemake() == {"heatmap-scale": 1, "heatmap": 8, "report": 1}
    assert read_receipt(run.results("heatmaps/tumour/tiny/abmil/cohort_scale.json"))["n_labelled"] == 8
    run.add("new", "")
    counts = run.snakemake()
    assert (counts["heatmap-scale"], counts["explain"], counts["heatmap"]) == (0, 1, 1)
    run.config(heatmap={"scale": "percentile"})
    assert run.snakemake() == {"heatmap": 9, "report": 1}


def test_a_deleted_slide_does_not_stop_later_stages(run: Run) -> None:
    (run.folder / "co hort" / "s2.svs").unlink()
    run.config(heatmap={"colormap": "magma"})
    assert run.snakemake() == {"heatmap": 8, "report": 1}
    assert "warning: slide s2" in run.output


def test_an_older_file_in_place_of_a_slide_is_tiled_and_encoded(run: Run) -> None:
    """As `cp -p`, `rsync -a` and `unzip` leave it."""
    path = run.folder / "co hort" / "s2.svs"
    write_aperio(path, tissue_image(640, 448, seed=77))
    os.utime(path, (1.5e9, 1.5e9))
    counts = run.snakemake()
    assert (counts["tile"], counts["extract"], counts["train"]) == (1, 1, 2)
    assert run.snakemake() == {}


def test_another_model_setting_never_extracts(run: Run) -> None:
    changed = {**CONFIG["models"]["abmil"], "dropout": 0.1}
    run.config(models={"abmil": changed})
    explained = {"explain": 8, "explain-validation": 1, "trust": 1, "evaluate": 1, "heatmap": 8}
    assert run.snakemake() == {"train": 2, "predict": 1, **explained, "report": 1}


def test_an_unlabelled_new_slide_trains_nothing(run: Run) -> None:
    run.add("new", "", patient_id="p3")
    counts = run.snakemake()
    assert counts == dict.fromkeys(("tile", "extract", "cohort", "predict", "explain", "heatmap", "statistics", "report"), 1)
    assert all("new" in call for call in run.calls if call.split()[0] in ("tile", "extract", "explain", "heatmap"))
    with run.results("predictions/tumour/tiny/abmil.csv").open() as file:
        folds = {row["slide_id"]: row["fold"] for row in csv.DictReader(file)}
    assert folds["new"] == folds["s3"] != "mean"


def test_a_copy_of_a_slide_is_reported_everywhere_and_retrains_nothing(run: Run) -> None:
    run.add("copy", "", patient_id="p9")
    shutil.copy(run.sheet.parent / "s3.svs", run.sheet.parent / "copy.svs")
    counts = run.snakemake()
    assert counts == dict.fromkeys(("tile", "extract", "cohort", "predict", "explain", "heatmap", "statistics", "report"), 1)
    warnings = {status.slide_id: status.warnings for status in read_status(run.results("cohort_status.csv"))}
    said = {slide_id: text for slide_id, text in warnings.items() if "same content" in text}
    assert said == {"s3": "same content as slide copy", "copy": "same content as slide s3"}
    page = run.report()
    assert "2 slides are the same file under different names; they count as 2 patients, so one can be used to train" in page
    assert "slides s3, copy have the same content" in (run.folder / "logs" / "cohort.log").read_text()
    assert run.snakemake() == {}


def test_a_labelled_new_slide_extracts_only_itself(run: Run) -> None:
    run.add("new", "tumour")
    counts = run.snakemake()
    assert (counts["tile"], counts["extract"], counts["split"], counts["train"]) == (1, 1, 1, 2)
    assert (counts["explain"], counts["heatmap"], counts["statistics"], counts["report"]) == (9, 9, 1, 1)


def test_another_mask_with_the_same_tiles_changes_the_report_and_encodes_nothing(run: Run) -> None:
    run.config(tissue={**CONFIG["tissue"], "max_hole_um2": 19_000})
    assert run.snakemake() == {"tile": 10, "extract": 10, "cohort": 1, "report": 1}
    assert "encoded already" in (run.folder / "logs/extract/tiny/s0.log").read_text()


def test_a_touched_slide_encodes_and_trains_nothing(run: Run) -> None:
    store = run.results("features/tiny/s0.zarr/features")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in store.rglob("*") if p.is_file()}
    os.utime(run.folder / "co hort" / "s0.svs")
    counts = run.snakemake()
    assert counts == {"tile": 1, "extract": 1, "cohort": 1}
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in store.rglob("*") if p.is_file()}
    assert "encoded already" in (run.folder / "logs/extract/tiny/s0.log").read_text()


def test_a_slide_whose_content_changed_is_encoded_and_trained_on_again(run: Run) -> None:
    first = read_receipt(run.results("features/tiny/s0.json"))["fingerprint"]
    write_aperio(run.folder / "co hort" / "s0.svs", tissue_image(2400, 1800, seed=99))
    counts = run.snakemake()
    assert (counts["tile"], counts["extract"], counts["split"], counts["train"]) == (1, 1, 0, 2)
    assert read_receipt(run.results("features/tiny/s0.json"))["fingerprint"] != first


def test_a_changed_label_splits_and_trains_but_tiles_and_extracts_nothing(run: Run) -> None:
    rows = run.rows()
    rows[8]["label"] = ""  # the text file: not usable, so nothing depends on it
    run.write_rows(rows)
    assert run.snakemake() == {}
    rows[0]["label"], rows[1]["label"] = "tumour", "normal"
    run.write_rows(rows[::-1])
    counts = run.snakemake()
    assert (counts["tile"], counts["extract"], counts["split"], counts["train"]) == (0, 0, 1, 2)
    assert (counts["statistics"], counts["report"]) == (0, 1)


def test_a_scanner_in_the_sheet_changes_only_the_report(run: Run) -> None:
    page = run.report()
    assert "Not plotted: by scanner: there is only one (aperio)." in page and "Slides grouped by" in page
    run.write_rows([{**row, "scanner": ("left", "right & wrong")[n % 4 < 2]} for n, row in enumerate(run.rows())])
    assert run.snakemake() == {"report": 1}
    page = run.report()
    assert "right &amp; wrong (4)" in page and page.count("<b>by scanner</b>") >= 1
    run.config(statistics={"components": 3})
    assert run.snakemake() == {"statistics": 1, "report": 1}
    assert len(read_receipt(run.results("statistics/tiny.json"))["explained"]) == 3


@pytest.mark.system
def test_every_encoder_runs_with_every_model_and_targets_go_by_name(run: Run) -> None:
    abmil = CONFIG["models"]["abmil"]
    models = {"abmil": abmil, "mhim": {"model": "mhim", "base": "abmil", "train": {"epochs": 2, "lr": 0.001}}}
    encoders = {**CONFIG["encoders"], "big": {**CONFIG["encoders"]["tiny"], "batch_size": 32}}
    run.config(models=models, encoders=encoders)
    assert run.snakemake("tiles") == {}
    assert run.snakemake("features") == {"extract": 10}
    assert run.snakemake("models") == {"cohort": 1, "train": 6}
    trained = [call.split("--model=")[1].split()[0] for call in run.calls if call.startswith("train")]
    assert trained.index("results/models/tumour/big/abmil/fold-0") < trained.index("results/models/tumour/big/mhim/fold-0")
    assert run.snakemake("predictions") == {"predict": 3}
    planned = run.planned("heatmaps")
    assert (planned["explain"], planned["heatmap"]) == (24, 24)
    assert run.planned()["explain_validation"] == 3 and run.planned()["evaluate"] == 3
    assert run.snakemake("results/heatmaps/tumour/big/mhim/s1/attention.png") == {"explain": 1, "heatmap": 1}
    run.config(models=models, encoders=encoders, explain={"methods": []})
    assert run.snakemake() == {"statistics": 1, "report": 1}, "nothing is explained where no method is asked for"
    page = run.report()
    assert "Model comparison" in page and "tiny · mhim" in page
    run.config(models={**models, "mhim": {**models["mhim"], "momentum": 0.9}}, encoders=encoders)
    assert run.planned("models")["train"] == 4
    run.config(models={**models, "abmil": {**abmil, "dropout": 0.1}}, encoders=encoders)
    assert run.planned("models")["train"] == 8, "a base that changed teaches anew"


def test_a_patients_slides_are_one_bag_and_the_protocol_is_stamped(run: Run) -> None:
    roles = ["test", "train", "train", "train", "test", "val", "train", "test", "train", "train"]
    rows = [{**row, "split": role} for row, role in zip(run.rows(), roles, strict=True)]
    rows[4]["patient_id"] = "p0"
    run.write_rows(rows)
    models = {**CONFIG["models"], "pool": {"model": "instance_pool", "embed_dim": 16, "train": {"epochs": 2}}}
    run.config(bag="patient", protocol="as_published", models=models)
    counts = run.snakemake()
    assert (counts["extract"], counts["split"], counts["train"], counts["explain"]) == (0, 1, 2, 8)
    assert "models.pool: does not support attention, which is skipped for it" in run.output
    with run.results("predictions/tumour/tiny/abmil.csv").open() as file:
        table = {row["slide_id"]: row for row in csv.DictReader(file)}
    assert {slide: row["bag"] for slide, row in table.items()} == {"s0": "p0", "s4": "p0", "s7": "p7"}, "validation was fitted on"
    assert table["s0"]["prob_tumour"] == table["s4"]["prob_tumour"]
    assert {row["protocol"] for row in table.values()} == {"as_published"}
    figures = json.loads(run.results("metrics/tumour/tiny/abmil.json").read_text())
    assert figures["protocol"] == "as_published" and (figures["n_slides"], figures["n_bags"]) == (3, 2)
    about = read_receipt(run.results("scores/tumour/tiny/abmil/s4.json"))
    assert about["bag_instances"] > about["n_instances"] and about["protocol"] == "as_published"
    assert "as published" in run.report()
    assert "as_published" in run.results("heatmaps/tumour/tiny/abmil/s4/attention.geojson").read_text()
    assert run.snakemake() == {}


def test_trained_models_predict_other_slides(run: Run) -> None:
    other = Run(run.folder / "other", run.command)
    (other.folder / "co hort").mkdir(parents=True)
    for name in ("a", "b", "c"):
        write_aperio(other.sheet.parent / f"{name}.svs", tissue_image(640, 448, seed=70))
    rows = [{"slide_id": n, "path": f"{n}.svs", "label": lab} for n, lab in (("a", "tumour"), ("b", "normal"), ("c", ""))]
    other.write_rows(rows)
    other.config(trained="../results")
    expected = {"tile": 3, "extract": 3, "cohort": 1, "predict": 1, "explain": 3, "evaluate": 1, "heatmap": 3}
    expected |= {"trust": 1, "statistics": 1, "report": 1}
    assert other.snakemake() == expected
    known, earlier = (read_receipt(each.results("trust/tumour/tiny/abmil.json")) for each in (other, run))
    assert known["model"]["n_slides"] == 2 and not known["model"]["is_earlier"], (
        "models are judged on the labelled slides of this run"
    )
    assert known["methods"] == earlier["methods"] and known["models"] == earlier["models"]
    figures = json.loads(other.results("metrics/tumour/tiny/abmil.json").read_text())
    assert figures["n_slides"] == 2 and not other.results("models").exists()


def test_a_fixed_split_shows_its_test_slides(run: Run) -> None:
    roles = ["train", "train", "train", "train", "test", "test", "val", "val", "train", "train"]
    run.write_rows([{**row, "split": role} for row, role in zip(run.rows(), roles, strict=True)])
    counts = run.snakemake()
    assert (counts["extract"], counts["split"], counts["train"]) == (0, 1, 1)
    with run.results("predictions/tumour/tiny/abmil.csv").open() as file:
        shown = {row["slide_id"]: row["role"] for row in csv.DictReader(file)}
    assert shown == {"s4": "test", "s5": "test", "s6": "val", "s7": "val"}
    about = read_receipt(run.results("scores/tumour/tiny/abmil/s0.json"))
    assert "training slide" in about["methods"]["attention"]["reason"]


def test_an_edited_annotation_redraws_its_heatmap_and_reruns_the_evaluation(run: Run) -> None:
    before = json.loads(run.results("explanations/tumour/tiny/abmil.json").read_text())
    write_geojson(run.sheet.parent / "truth" / "s3.geojson", (900, 110, 990, 240))
    assert run.snakemake() == {"heatmap": 1, "evaluate": 1, "report": 1}
    assert ['"s3"' in call for call in run.calls if call.startswith("heatmap")] == [True]
    after = json.loads(run.results("explanations/tumour/tiny/abmil.json").read_text())
    assert (before["n_with_truth"], after["n_with_truth"]) == (8, 7) and list(after["notes"]) == ["s3"]
    assert "outside the slide" in run.report()


def test_only_tiles_that_depend_on_an_annotation_follow_it(run: Run) -> None:
    run.write_rows([{**row, "tissue.method": "annotation" if row["slide_id"] == "s3" else ""} for row in run.rows()])
    assert run.snakemake("tiles") == {"tile": 1}
    assert run.planned("tiles")["tile"] == 0
    for slide in ("s1", "s3"):
        write_geojson(run.sheet.parent / "truth" / f"{slide}.geojson", (310, 90, 440, 260))
    assert run.planned("tiles")["tile"] == 1


def test_tiles_follow_the_mask_and_excluded_classes_only(run: Run) -> None:
    mask, rows = run.sheet.parent / "s1.png", run.rows()
    labels = np.zeros((180, 240), np.uint8)
    labels[20:160, 30:220] = 1
    Image.fromarray(labels).save(mask)
    run.write_rows([{**row, "mask": "s1.png" if row["slide_id"] == "s1" else ""} for row in rows])
    assert run.snakemake("tiles") == {"tile": 1} and run.planned("tiles")["tile"] == 0
    labels[:80] = 0
    Image.fromarray(labels).save(mask)
    assert run.snakemake("tiles") == {"tile": 1}
    cut = [{**row, "tissue.exclude_classes": "Fold|Ink" if row["slide_id"] == "s3" else ""} for row in run.rows()]
    run.write_rows(cut)
    assert run.snakemake("tiles") == {"tile": 1} and run.planned("tiles")["tile"] == 0
    for slide in ("s0", "s3"):
        write_geojson(run.sheet.parent / "truth" / f"{slide}.geojson", (310, 90, 440, 260))
    assert run.planned("tiles")["tile"] == 1


def test_the_first_annotation_of_a_cohort_reruns_only_the_evaluation(run: Run) -> None:
    rows = run.rows()
    run.write_rows([{**row, "annotation": ""} for row in rows])
    assert run.snakemake() == {"heatmap": 4, "evaluate": 1, "report": 1}
    run.write_rows([{**row, "annotation": row["annotation"] if row["slide_id"] == "s3" else ""} for row in rows])
    assert run.snakemake() == {"heatmap": 1, "evaluate": 1, "report": 1}


def test_errors_of_the_user_stop_the_run_before_any_job(run: Run) -> None:
    rows = run.rows()
    rows[0]["label"], rows[1]["path"] = "tumor", "{x}.svs"
    run.write_rows(rows)
    run.config(modles={})
    assert run.snakemake(expected=2) == {}
    for fault in ("modles: unknown key; did you mean 'models'?", "did you mean 'tumour'?", "reads as a wildcard"):
        assert fault in run.output


def test_repeated_keys_in_a_merged_file_stop_the_run(run: Run) -> None:
    text = (run.folder / "c.yaml").read_text()
    (run.folder / "c.yaml").write_text(text + "\nsplit: {folds: 2}\n")
    assert run.snakemake(expected=2) == {}
    assert "c.yaml: split is set 2 times, in lines" in run.output and "Traceback" not in run.output


def test_a_job_that_fails_names_its_log(run: Run) -> None:
    run.config(heatmap={"colormap": "magma"})
    run.results("scores/tumour/tiny/abmil/s1.zarr/attention/zarr.json").write_text("{}")
    counts = run.snakemake("--retries", "0", expected=1)
    assert counts == {"heatmap": 8}
    assert "logs/heatmap/tumour/tiny/abmil/s1.log" in run.output
    log = run.folder / "logs/heatmap/tumour/tiny/abmil/s1.log"
    assert "s1.zarr: array 'attention' cannot be read" in log.read_text()


def test_after_a_killed_snakemake_the_next_run_completes(run: Run) -> None:
    """Killed while a job that has written its receipts is held up, so that it has not ended."""
    shutil.rmtree(run.results("features"))
    (run.folder / "hold").touch()
    killed = run.popen("features")
    while not list(run.results("features/tiny").glob("*.json")):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    killed.stdout.close()
    (run.folder / "hold").unlink()
    assert run.snakemake(expected=1) == {} and "--unlock" in run.output
    run.snakemake("--unlock")
    assert run.snakemake()["extract"] >= 1
    assert run.snakemake() == {}
