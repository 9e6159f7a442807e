#!/usr/bin/env python3
"""Measure the overhead of a job, and how much of it `slides_per_job: auto` saves.

python benchmarks/jobs.py [--slides 24] [--slurm] [--tiny]

A cohort of tiny slides (640 × 448 pixels) is processed from slide to heatmap, one job at a time. Snakemake records the
seconds of each job (`benchmark:`); the time of the run minus planning and these seconds is Snakemake's own, printed per job.
Each stage runs with one slide per job and with several, from which follow the start-up time of a job and the time per slide.
With --slurm, heatmaps are made again on a real SLURM of one node (Debian packages) with the shipped profile: with one job
per slide, and with several slides per job. The last line is JSON.
"""

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.cluster.slurm import Slurm, missing, slurm_cluster
from tests.conftest import tissue_image, write_aperio
from tests.dag import BIN, ROOT, Run

COLUMNS = ("slide_id", "path", "label", "patient_id", "annotation")


def make(folder: Path, n: int, **settings: object) -> Run:
    """Create a cohort of `n` slides that no stage has run on."""
    run = Run(folder)
    run.sheet.parent.mkdir(parents=True)
    rows = []
    for number in range(n):
        write_aperio(run.sheet.parent / f"s{number}.svs", tissue_image(640, 448, seed=number))
        row = (f"s{number}", f"s{number}.svs", ("normal", "tumour")[number % 2], f"p{number}", "")
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    run.write_rows(rows)
    run.config(**settings)
    return run


def seconds(run: Run, *args: str) -> float:
    """Return the seconds of a run, one job at a time."""
    begin = time.perf_counter()
    run.snakemake(*args, "--cores", "1")
    return time.perf_counter() - begin


def job_seconds(run: Run, rule: str) -> list[float]:
    """Return the seconds of each job of a rule, as Snakemake recorded them."""
    times = []
    for path in run.results("benchmarks").glob(f"{rule}/**/*.tsv"):
        with path.open(newline="") as file:
            times += [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
    return times


def measure_local(folder: Path, n: int) -> dict[str, float]:
    """Return figures of jobs on this machine: with one slide each, and with `slides_per_job: auto` on one core."""
    run, several = make(folder / "one", n, slides_per_job=1), make(folder / "several", n, slides_per_job="auto")
    figures: dict[str, float] = {}
    for stage, target in {"tile": "tiles", "extract": "features", "explain": "scores", "heatmap": "heatmaps"}.items():
        if stage == "explain":
            run.snakemake("models", "--cores", "1")
            several.snakemake("models", "--cores", "1")
        planning = seconds(run, target, "--dry-run")
        total = seconds(run, target)
        single = job_seconds(run, stage)
        seconds(several, target)
        jobs = job_seconds(several, stage)
        start = (sum(single) - sum(jobs)) / max(1, len(single) - len(jobs))
        figures |= {
            f"{stage}_snakemake_s": (total - planning - sum(single)) / len(single),
            f"{stage}_s": statistics.median(single),
            f"{stage}_start_s": start,
            f"{stage}_slide_s": (sum(jobs) - start * len(jobs)) / len(single),
            f"{stage}_one_vs_several": sum(single) / sum(jobs),
        }
    return figures


def measure_slurm(run: Run, cluster: Slurm, *args: str) -> tuple[int, float]:
    """Make the heatmaps of a cohort again on SLURM; return the number of SLURM jobs, and seconds."""
    for name in ("scores", "heatmaps", "jobs/explain", "jobs/heatmap"):
        shutil.rmtree(run.results(name))
    options = ["--slurm-status-command=squeue", "--slurm-init-seconds-before-status-checks=1", "--cores=2"]
    options += ["--seconds-between-status-checks=1", "--latency-wait=5", *args]
    before, begin = len(cluster.jobs()), time.perf_counter()
    env = {**cluster.env, "PATH": f"{BIN}:{cluster.env['PATH']}", "WSI_MIL_DEVICE": "cpu"}
    command = ["snakemake", "heatmaps", "-s", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles/slurm"), *options]
    done = subprocess.run([*command, "--configfile", "c.yaml"], cwd=run.folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:] + cluster.logs())
    return len(cluster.jobs()) - before, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slides", type=int, default=24, help="slides of the cohort")
    parser.add_argument("--slurm", action="store_true", help="measure jobs on a SLURM of one node, too")
    parser.add_argument("--tiny", action="store_true", help="eight slides, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    if args.tiny:
        args.slides = 8
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure_local(Path(temporary), args.slides)
        if args.slurm and (reason := missing()):
            print(f"SLURM is skipped: {reason}")
        elif args.slurm:
            with slurm_cluster() as cluster:
                for name in ("one", "several"):
                    run = Run(Path(temporary) / name)
                    figures[f"slurm_{name}_jobs"], figures[f"slurm_{name}_s"] = measure_slurm(run, cluster)
    for name, value in figures.items():
        print(f"{name}: {value:.2f}")
    print(json.dumps({"slides": args.slides, **{name: round(value, 2) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
