#!/usr/bin/env python3
"""Measure the overhead of a job, and how much of it `slides_per_job` and job groups save.

python benchmarks/jobs.py [--slides 24] [--per-job 12] [--slurm]

A cohort of tiny slides (640 × 448 pixels) is processed from slide to heatmap, one job at a time. Snakemake records the
seconds of each job (`benchmark:`); the time of the run minus planning and these seconds is Snakemake's own, printed per job.
Extraction runs with one and with --per-job slides per job, from which follow the start-up time of a job and the time per
slide. With --slurm, heatmaps are made again on a real SLURM of one node (Debian packages) with the shipped profile: with its
job groups, and with one job per slide. The last line is JSON.
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


def measure_local(folder: Path, n: int, per_job: int) -> dict[str, float]:
    """Return figures of jobs on this machine."""
    run = make(folder / "one", n)
    planning = seconds(run, "features", "--dry-run")
    total = seconds(run, "features")
    tiles = job_seconds(run, "tile")
    extracts = job_seconds(run, "extract")
    assert (len(tiles), len(extracts)) == (n, n)
    overhead = (total - planning - sum(tiles) - sum(extracts)) / (2 * n)
    several = make(folder / "several", n, slides_per_job=per_job)
    seconds(several, "features")
    jobs = job_seconds(several, "extract")
    start = (sum(extracts) - sum(jobs)) / (n - len(jobs))
    seconds(run, "heatmaps")
    explains, heatmaps = job_seconds(run, "explain"), job_seconds(run, "heatmap")
    return {
        "snakemake_s": overhead,
        "tile_s": statistics.median(tiles),
        "extract_s": statistics.median(extracts),
        "extract_start_s": start,
        "extract_slide_s": sum(jobs) / n - start * len(jobs) / n,
        "explain_s": statistics.median(explains),
        "heatmap_s": statistics.median(heatmaps),
        f"extract_one_over_{per_job}_per_job": sum(extracts) / sum(jobs),
    }


def measure_slurm(run: Run, cluster: Slurm, *args: str) -> tuple[int, float]:
    """Make the heatmaps of a cohort again on SLURM; return the number of SLURM jobs, and seconds."""
    shutil.rmtree(run.results("scores"))
    shutil.rmtree(run.results("heatmaps"))
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
    parser.add_argument("--per-job", type=int, default=12, help="slides per job of the second extraction")
    parser.add_argument("--slurm", action="store_true", help="measure job groups on a SLURM of one node, too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure_local(Path(temporary), args.slides, args.per_job)
        if args.slurm and (reason := missing()):
            print(f"SLURM is skipped: {reason}")
        elif args.slurm:
            with slurm_cluster() as cluster:
                run = Run(Path(temporary) / "one")
                for name, options in {"grouped": [], "single": ["--group-components", "tile=1", "explain=1"]}.items():
                    figures[f"slurm_{name}_jobs"], figures[f"slurm_{name}_s"] = measure_slurm(run, cluster, *options)
    for name, value in figures.items():
        print(f"{name}: {value:.2f}")
    print(json.dumps({"slides": args.slides, **{name: round(value, 2) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
