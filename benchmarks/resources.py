"""What jobs of finished runs took: memory and time by rule, beside what they ask for.

python benchmarks/resources.py [RESULTS ...]

Reads the files that Snakemake's `benchmark:` leaves under `benchmarks/` of the results. Memory is the most that was seen at
once, looked at twice a second at first and later every 30 s. Time on a shared machine says little, CPU time more.
"""

import argparse
import csv
import json
from pathlib import Path
from statistics import median

COLUMNS = {"s": "s", "mb": "max_rss", "cpu_s": "cpu_time"}


def measured(results: list[Path]) -> dict[str, list[dict[str, float]]]:
    """Of each rule the jobs' seconds, MB and CPU seconds; those that were over before they could be looked at left out."""
    found: dict[str, list[dict[str, float]]] = {}
    for top in (folder / "benchmarks" for folder in results):
        for path in sorted(top.rglob("*.tsv")):
            with path.open(newline="") as file:
                last = list(csv.DictReader(file, delimiter="\t"))[-1]
            if last["max_rss"] not in ("NA", "-"):
                rule = path.relative_to(top).parts[0]
                found.setdefault(rule, []).append({name: float(last[column]) for name, column in COLUMNS.items()})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, nargs="*", default=[Path("results")])
    figures: dict[str, float] = {}
    print("| rule | jobs | MB, median | MB, most | CPU s, median | CPU s, most | s, most |\n|---|---|---|---|---|---|---|")
    for rule, jobs in sorted(measured(parser.parse_args().results).items()):
        mb, cpu, seconds = ([job[name] for job in jobs] for name in ("mb", "cpu_s", "s"))
        row = (len(jobs), f"{median(mb):.0f}", f"{max(mb):.0f}", f"{median(cpu):.1f}", f"{max(cpu):.1f}", f"{max(seconds):.0f}")
        print("|", rule, "|", *(f"{cell} |" for cell in row))
        figures |= {f"{rule}_mb": round(max(mb)), f"{rule}_cpu_s": round(max(cpu), 1)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
