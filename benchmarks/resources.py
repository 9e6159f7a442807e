"""Print memory and time that jobs of finished runs used, by rule.

python benchmarks/resources.py [RESULTS ...]

The figures are read from the files of Snakemake's `benchmark:` in `benchmarks/` of each results folder. Memory is the peak
of samples taken twice a second at first and later every 30 s. On a shared machine, CPU time is more reliable than time.
"""

import argparse
import csv
import json
from pathlib import Path
from statistics import median

COLUMNS = {"s": "s", "mb": "max_rss", "cpu_s": "cpu_time"}


def read_jobs(results: list[Path]) -> dict[str, list[dict[str, float]]]:
    """Return seconds, MB and CPU seconds of each rule's jobs; jobs too short to be sampled are left out."""
    jobs: dict[str, list[dict[str, float]]] = {}
    for top in (folder / "benchmarks" for folder in results):
        for path in sorted(top.rglob("*.tsv")):
            with path.open(newline="") as file:
                last = list(csv.DictReader(file, delimiter="\t"))[-1]
            if last["max_rss"] not in ("NA", "-"):
                rule = path.relative_to(top).parts[0]
                jobs.setdefault(rule, []).append({name: float(last[column]) for name, column in COLUMNS.items()})
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, nargs="*", default=[Path("results")], help="results folders")
    figures: dict[str, float] = {}
    print("| rule | jobs | MB, median | MB, max | CPU s, median | CPU s, max | s, max |\n|---|---|---|---|---|---|---|")
    for rule, jobs in sorted(read_jobs(parser.parse_args().results).items()):
        mb, cpu, seconds = ([job[name] for job in jobs] for name in ("mb", "cpu_s", "s"))
        row = (len(jobs), f"{median(mb):.0f}", f"{max(mb):.0f}", f"{median(cpu):.1f}", f"{max(cpu):.1f}", f"{max(seconds):.0f}")
        print("|", rule, "|", *(f"{cell} |" for cell in row))
        figures |= {f"{rule}_mb": round(max(mb)), f"{rule}_cpu_s": round(max(cpu), 1)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
