#!/usr/bin/env python3
"""Measure how long Snakemake plans a large cohort with this workflow, compared with a bare DAG of a job for each file.

make scale, or python benchmarks/scale.py [--slides 1000] [--rounds 2] [--tiny]

Slides × 1 encoder × 3 models × 3 methods. Nothing is computed: outputs of all stages are written as small files (receipts
with status ok), and `snakemake --touch` records them as complete. Then, alternately, for the workflow and for a bare
Snakefile with a job for each slide and nothing else: a dry run of a new cohort (the workflow plans only up to its checkpoint,
the bare one plans everything), a run with nothing to do, and a dry run that explains all slides again. `jobs` is the number
of jobs of the whole DAG. The last line is JSON, with medians of the ratios of each round. The exit code is 1 if a figure is
above its limit, for 1000 slides or more.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from wsi_mil.jobs import divide, write_record
from wsi_mil.receipts import write_receipt
from wsi_mil.results import Results

ROOT = Path(__file__).resolve().parents[1]
ENCODERS = ("a",)
MODELS = ("m1", "m2", "m3")
TARGET = "tumour"
FOLDS = range(5)
METHODS = ("attention", "evidence", "standardised_sum")
CORES = 2
MAX_RATIO = 2.0
MAX_JOBS = 1000
"""For 1,000 slides."""

BARE = """
SLIDES = {slides}
ENCODERS, MODELS, METHODS, FOLDS = {encoders}, {models}, {methods}, range({folds})
R = "results"

rule all:
    default_target: True
    input: R + "/report/index.html"

rule tile:
    input: "slides/{{s}}.png"
    output: R + "/tiles/default/{{s}}.json"
    shell: "touch {{output}}"

rule extract:
    input: R + "/tiles/default/{{s}}.json"
    output: R + "/features/{{e}}/{{s}}.json"
    shell: "touch {{output}}"

rule cohort:
    input: expand(R + "/features/{{e}}/{{s}}.json", e=ENCODERS, s=SLIDES)
    output: R + "/cohort_status.csv"
    shell: "touch {{output}}"

rule split:
    input: R + "/cohort_status.csv"
    output: R + "/splits.csv"
    shell: "touch {{output}}"

rule train:
    input: R + "/splits.csv", lambda w: expand(R + "/features/{{e}}/{{s}}.json", e=w.e, s=SLIDES)
    output: R + "/models/{{e}}/{{m}}/fold-{{k}}/model.safetensors", R + "/models/{{e}}/{{m}}/fold-{{k}}/config.json"
    shell: "touch {{output}}"

def models(w):
    return expand(R + "/models/{{e}}/{{m}}/fold-{{k}}/{{f}}", e=w.e, m=w.m, k=FOLDS, f=["model.safetensors", "config.json"])

rule predict:
    input: models, R + "/splits.csv", lambda w: expand(R + "/features/{{e}}/{{s}}.json", e=w.e, s=SLIDES)
    output: R + "/predictions/{{e}}/{{m}}.csv", R + "/metrics/{{e}}/{{m}}.json"
    shell: "touch {{output}}"

rule explain:
    input: models, R + "/splits.csv", R + "/features/{{e}}/{{s}}.json"
    output: R + "/scores/{{e}}/{{m}}/{{s}}.json"
    shell: "touch {{output}}"

rule heatmap:
    input: R + "/scores/{{e}}/{{m}}/{{s}}.json", R + "/trust/{{e}}/{{m}}.json"
    output: R + "/heatmaps/{{e}}/{{m}}/{{s}}/{{method}}.png"
    shell: "touch {{output}}"

rule trust:
    input: lambda w: expand(R + "/scores/{{e}}/{{m}}/{{s}}.json", e=w.e, m=w.m, s=SLIDES), R + "/splits.csv"
    output: R + "/trust/{{e}}/{{m}}.json"
    shell: "touch {{output}}"

rule evaluate:
    input: lambda w: expand(R + "/scores/{{e}}/{{m}}/{{s}}.json", e=w.e, m=w.m, s=SLIDES), R + "/cohort_status.csv"
    output: R + "/explanations/{{e}}/{{m}}.json"
    shell: "touch {{output}}"

rule statistics:
    input: lambda w: expand(R + "/features/{{e}}/{{s}}.json", e=w.e, s=SLIDES), R + "/cohort_status.csv"
    output: R + "/statistics/{{e}}.json"
    shell: "touch {{output}}"

rule report:
    input:
        R + "/cohort_status.csv", R + "/splits.csv",
        expand(R + "/tiles/default/{{s}}.json", s=SLIDES),
        expand(R + "/predictions/{{e}}/{{m}}.csv", e=ENCODERS, m=MODELS),
        expand(R + "/metrics/{{e}}/{{m}}.json", e=ENCODERS, m=MODELS),
        expand(R + "/explanations/{{e}}/{{m}}.json", e=ENCODERS, m=MODELS),
        expand(R + "/heatmaps/{{e}}/{{m}}/{{s}}/{{method}}.png", e=ENCODERS, m=MODELS, s=SLIDES, method=METHODS),
        expand(R + "/statistics/{{e}}.json", e=ENCODERS),
    output: R + "/report/index.html"
    shell: "touch {{output}}"
"""


def make(folder: Path, slides: list[str]) -> None:
    """Write slides (links to one small file), their sheet, and the configuration of both workflows."""
    (folder / "slides").mkdir(parents=True)
    (folder / "one.png").write_bytes(b"\x89PNG not read by anything here")
    for slide in slides:
        os.link(folder / "one.png", folder / "slides" / f"{slide}.png")
    with (folder / "cohort.csv").open("w", newline="") as file:
        rows = [[s, f"slides/{s}.png", ("normal", "tumour")[i % 2], 0.5] for i, s in enumerate(slides)]
        csv.writer(file).writerows([["slide_id", "path", "label", "mpp"], *rows])
    entry = {"encoder": "test_vit", "weights": "random"}
    config = {
        "cohort": "cohort.csv",
        "targets": {TARGET: {"kind": "classes", "classes": ["normal", "tumour"]}},
        "encoders": dict.fromkeys(ENCODERS, entry),
        "models": {name: {"model": "abmil"} for name in MODELS},
        "split": {"folds": len(FOLDS)},
        "explain": {"methods": list(METHODS)},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    (folder / "Bare").write_text(BARE.format(slides=slides, encoders=ENCODERS, models=MODELS, methods=METHODS, folds=len(FOLDS)))


def write_outputs(folder: Path, slides: list[str]) -> int:
    """Write the outputs of all stages that Snakemake looks at; return the number of files."""
    results = folder / "results"
    n = 0

    def put(path: str, text: str = "{}") -> None:
        nonlocal n
        (results / path).parent.mkdir(parents=True, exist_ok=True)
        (results / path).write_text(text)
        n += 1

    ok = json.dumps({"status": "ok", "reason": "", "n_tiles": 100, "dim": 192})
    for slide in slides:
        put(f"tiles/default/{slide}.json", ok)
        for encoder in ENCODERS:
            put(f"features/{encoder}/{slide}.json", ok)
    put("cohort_status.csv", "slide_id,status,reason\n" + "".join(f"{slide},ok,\n" for slide in slides))
    put(f"splits/{TARGET}.csv")
    for encoder in ENCODERS:
        put(f"cohort_features/{encoder}/usable.json")
        put(f"cohort_features/{encoder}/labelled/{TARGET}.json")
        put(f"statistics/{encoder}.json")
        for model in MODELS:
            for fold in FOLDS:
                put(f"models/{TARGET}/{encoder}/{model}/fold-{fold}/model.safetensors")
                put(f"models/{TARGET}/{encoder}/{model}/fold-{fold}/config.json")
            for name in (
                f"predictions/{TARGET}/{encoder}/{model}.csv",
                f"metrics/{TARGET}/{encoder}/{model}.json",
                f"explanations/{TARGET}/{encoder}/{model}.json",
                f"trust/{TARGET}/{encoder}/{model}.json",
            ):
                put(name)
            for slide in slides:
                put(f"scores/{TARGET}/{encoder}/{model}/{slide}.json")
                for method in METHODS:
                    put(f"heatmaps/{TARGET}/{encoder}/{model}/{slide}/{method}.png")
    put("report/index.html")
    put(f"report/{TARGET}.html")
    put(f"report/{TARGET}.tiles.html")
    return n + write_records(Results(results), slides)


def write_records(results: Results, slides: list[str]) -> int:
    """Write the records of all jobs, as the stages do; return their number."""
    division = divide(slides, {}, None, parallel=CORES)
    write_receipt(results.division, division)
    n = 1
    for encoder in ENCODERS:
        for model in MODELS:
            validation = [results.target(TARGET).validation_scores(encoder, model, fold) for fold in FOLDS]
            for receipt in validation:
                write_receipt(receipt, {})
            write_record(results.record("explain_validation", TARGET, encoder, model), validation, [])
            n += 1 + len(validation)
    for job, ids in division.items():
        tiles = {slide: results.tiles_receipt("default", slide) for slide in ids}
        write_record(results.record("tile", "default", job), tiles.values(), [])
        for encoder in ENCODERS:
            features = {slide: results.features_receipt(encoder, slide) for slide in ids}
            write_record(results.record("extract", encoder, job), features.values(), [])
            for model in MODELS:
                scores = {slide: results.target(TARGET).scores_receipt(encoder, model, slide) for slide in ids}
                write_record(results.record("explain", TARGET, encoder, model, job), scores.values(), [])
                pictures = [results.target(TARGET).heatmap(encoder, model, slide, method) for slide in ids for method in METHODS]
                write_record(results.record("heatmap", TARGET, encoder, model, job), scores.values(), pictures)
        n += 1 + len(ENCODERS) * (1 + 2 * len(MODELS))
    return n


WORKFLOW = ["-s", str(ROOT / "Snakefile"), "--configfile", "c.yaml"]
CASES = ("dry", "nothing", "anew")
COMMANDS = {"ours": WORKFLOW, "bare": ["-s", "Bare"]}


def snakemake(folder: Path, *args: str) -> tuple[float, float, str]:
    """Run Snakemake; return seconds, peak memory in MB, and its output."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "WSI_MIL_DEVICE": "cpu"}
    begin = time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "--cores", str(CORES), "--quiet", "rules", *args]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - begin
        output.seek(0)
        text = output.read()
    if status:
        raise SystemExit(text[-3000:])
    return elapsed, usage.ru_maxrss / 1e3, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slides", type=int, default=1000, help="slides of the cohort")
    parser.add_argument("--rounds", type=int, default=2, help="repetitions of each measurement")
    parser.add_argument("--tiny", action="store_true", help="20 slides, once: tests that the benchmark runs")
    args = parser.parse_args()
    if args.tiny:
        args.slides, args.rounds = 20, 1
    seconds: dict[str, list[float]] = {f"{case}_{workflow}": [] for case in CASES for workflow in COMMANDS}
    memory_mb = dict[str, float]()
    with tempfile.TemporaryDirectory() as temporary:
        folders = {workflow: Path(temporary) / workflow for workflow in COMMANDS}
        slides = [f"s{number:05d}" for number in range(args.slides)]
        for folder in folders.values():
            make(folder, slides)
        for _ in range(args.rounds):
            for workflow, command in COMMANDS.items():
                seconds[f"dry_{workflow}"].append(snakemake(folders[workflow], *command, "--dry-run")[0])
        for workflow, command in COMMANDS.items():
            files = write_outputs(folders[workflow], slides)
            elapsed, *_ = snakemake(folders[workflow], *command, "--touch")
            print(f"{workflow}: {files} files recorded in {elapsed:.0f} s", flush=True)
        for _ in range(args.rounds):
            for workflow, command in COMMANDS.items():
                elapsed, memory_mb[workflow], output = snakemake(folders[workflow], *command)
                assert "Finished jobid" not in output, output[-3000:]
                seconds[f"nothing_{workflow}"].append(elapsed)
                elapsed, *_ = snakemake(folders[workflow], *command, "--dry-run", "--forcerun", "explain")
                seconds[f"anew_{workflow}"].append(elapsed)
        dag = snakemake(folders["ours"], *COMMANDS["ours"], "--dag")[2]
    n_jobs = dag.count("[label = ")
    ratios = {
        case: statistics.median(a / b for a, b in zip(seconds[f"{case}_ours"], seconds[f"{case}_bare"], strict=True))
        for case in CASES
    }
    for name, times in seconds.items():
        print(f"{name}: {', '.join(f'{s:.1f}' for s in times)} s")
    print(", ".join(f"{workflow}: {mb:.0f} MB" for workflow, mb in memory_mb.items()))
    figures = {"slides": args.slides, "jobs": n_jobs, "files": files, "mb": round(memory_mb["ours"])}
    print(json.dumps({**figures, **{f"{case}_ratio": round(ratio, 2) for case, ratio in ratios.items()}, "most": MAX_RATIO}))
    sys.exit(args.slides >= 1000 and (max(ratios.values()) > MAX_RATIO or n_jobs > MAX_JOBS * args.slides / 1000))


if __name__ == "__main__":
    main()
