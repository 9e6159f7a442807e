#!/usr/bin/env python3
"""Check the pipeline on demo cohorts: held-out AUROC, and every explanation method compared with the annotations.

    python benchmarks/demo.py                      run three cohorts (seeds 0, 1, 2) from slides to report
    python benchmarks/demo.py --results results    print the figures of a finished run

The exit code is 1 if a figure is below its limit: AUROC 0.9, mean tile AUROC 0.85.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
MIN_AUROC = 0.9
MIN_TILE_AUROC = 0.85


def figures(results: Path) -> dict[str, float]:
    """Return AUROC and mean tile AUROC of every model and method in a results folder."""
    auroc = {}
    for file in sorted(results.glob("metrics/*/*/*.json")):
        auroc[f"{file.parent.name}/{file.stem} auroc"] = json.loads(file.read_text())["auroc"]
    of_method = defaultdict(list)
    for path in sorted(results.glob("explanations/*/*/*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["tile_auroc"]:
                    of_method[f"{path.parent.name}/{path.stem} tile_auroc {row['method']}"].append(float(row["tile_auroc"]))
    return {**auroc, **{name: mean(values) for name, values in of_method.items()}}


def run_seed(seed: int, folder: Path) -> dict[str, float]:
    """Create a demo cohort, run the whole workflow on it, and return its figures and seconds."""
    cohort = ["wsi-mil", "demo-cohort", "demo", "--seed", str(seed)]
    snakemake = ["snakemake", "-s", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles/default")]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    start = time.monotonic()
    for command in (cohort, [*snakemake, "--configfile", str(ROOT / "config.yaml"), "--quiet", "all"]):
        subprocess.run(command, cwd=folder, env=environment, check=True, stderr=subprocess.DEVNULL)
    return {**figures(folder / "results"), "seconds": time.monotonic() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the cohorts")
    parser.add_argument("--results", type=Path, help="results folder of a finished run; no cohort is run")
    parser.add_argument("--tiny", action="store_true", help="no limits on the figures, for results of a run on few slides")
    args = parser.parse_args()
    runs = {}
    if args.results:
        runs[str(args.results)] = figures(args.results)
    for seed in [] if args.results else args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            runs[f"seed {seed}"] = run_seed(seed, Path(folder))
    flat = {f"{run} {name}": round(value, 4) for run, values in runs.items() for name, value in values.items()}
    for name, value in flat.items():
        print(f"{name:60s} {value:10.3f}")
    print(json.dumps(flat))
    low = [n for n, v in flat.items() if not args.tiny and v < (MIN_TILE_AUROC if "tile_auroc" in n else MIN_AUROC)]
    sys.exit(f"below the limit: {', '.join(low)}" if low else 0)


if __name__ == "__main__":
    main()
