#!/usr/bin/env python3
"""What does a job cost beyond its work, and what do `slides_per_job` and groups save of it?

python benchmarks/jobs.py [--slides 24] [--per-job 12] [--slurm]

A cohort of slides of 640 × 448 pixels, whose work is next to nothing, from slide to heatmap, one job at a time. Every job
leaves its seconds (`benchmark:`); what the run took beyond those and beyond planning is Snakemake's, a job's share of it is
printed. Extraction is done with one and with --per-job slides a job: from the two follows what a job costs before its first
slide, and what a slide costs. With --slurm the heatmaps are made once more on a real SLURM of one node (Debian's packages),
with the profile that is shipped, its groups as they are and a job for each slide. The last line is JSON.
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
    """A cohort of which nothing is made yet."""
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
    """That a run took, one job at a time."""
    begin = time.perf_counter()
    run.snakemake(*args, "--cores", "1")
    return time.perf_counter() - begin


def job_seconds(run: Run, rule: str) -> list[float]:
    """Of each job of a rule, as Snakemake took them."""
    found = []
    for path in run.results("benchmarks").glob(f"{rule}/**/*.tsv"):
        with path.open(newline="") as file:
            found += [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
    return found


def local(folder: Path, n: int, per_job: int) -> dict[str, float]:
    """Of jobs on this machine."""
    run = make(folder / "one", n)
    planned = seconds(run, "features", "--dry-run")
    took = seconds(run, "features")
    tiles, extracts = job_seconds(run, "tile"), job_seconds(run, "extract")
    assert (len(tiles), len(extracts)) == (n, n)
    own = (took - planned - sum(tiles) - sum(extracts)) / (2 * n)
    several = make(folder / "several", n, slides_per_job=per_job)
    seconds(several, "features")
    jobs = job_seconds(several, "extract")
    start = (sum(extracts) - sum(jobs)) / (n - len(jobs))
    seconds(run, "heatmaps")
    explains, heatmaps = job_seconds(run, "explain"), job_seconds(run, "heatmap")
    return {
        "snakemake_s": own,
        "tile_s": statistics.median(tiles),
        "extract_s": statistics.median(extracts),
        "extract_start_s": start,
        "extract_slide_s": sum(jobs) / n - start * len(jobs) / n,
        "explain_s": statistics.median(explains),
        "heatmap_s": statistics.median(heatmaps),
        f"extract_one_over_{per_job}_per_job": sum(extracts) / sum(jobs),
    }


def submitted(run: Run, cluster: Slurm, *args: str) -> tuple[int, float]:
    """How many jobs of SLURM's the heatmaps of a cohort take, and how many seconds."""
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
    parser.add_argument("--slides", type=int, default=24)
    parser.add_argument("--per-job", type=int, default=12)
    parser.add_argument("--slurm", action="store_true", help="groups on a SLURM of one node, too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = local(Path(temporary), args.slides, args.per_job)
        if args.slurm and (reason := missing()):
            print(f"groups are not tried: {reason}")
        elif args.slurm:
            with slurm_cluster() as cluster:
                run = Run(Path(temporary) / "one")
                for name, options in {"grouped": [], "single": ["--group-components", "tile=1", "explain=1"]}.items():
                    figures[f"slurm_{name}_jobs"], figures[f"slurm_{name}_s"] = submitted(run, cluster, *options)
    for name, value in figures.items():
        print(f"{name}: {value:.2f}")
    print(json.dumps({"slides": args.slides, **{name: round(value, 2) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
