#!/usr/bin/env python3
"""Print tables that compare explanation methods of every model with the annotations, for docs/explanations.md.

    python benchmarks/explanations.py results [other/results …] [--pairs abmil]

The figures are read from the files of `evaluate`, one table for each results folder (cohort). For an entry of `models`,
`--pairs` prints the paired differences between sparse inversion and every other method, with 95 % intervals by patient.
The last line is JSON: mean tile AUROC.
"""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from wsi_mil.metrics import Difference, paired_difference, patient_draws

FIGURES = {
    "tile_auroc": "tile AUROC",
    "tile_auprc": "tile AUPRC",
    "f1": "F1",
    "f1_oracle": "F1, oracle",
    "froc_mean": "FROC",
    "deletion_gain": "deletion gain",
}
DRAWS = 1000
SUBJECT = "sparse_inversion"


def table(results: Path) -> str:
    """Return a Markdown table with a row for each model and method."""
    lines = [f"| model | method | {' | '.join(FIGURES.values())} | not shown |", "|---" * (len(FIGURES) + 3) + "|"]
    for path in sorted(results.glob("explanations/*/*/*.json")):
        for method, figures in json.loads(path.read_text())["methods"].items():
            cells = [_cell(figures, name) for name in FIGURES]
            lines.append(f"| {path.stem} | {method} | {' | '.join(cells)} | {figures.get('n_not_shown', '–')} |")
    return "\n".join(lines)


def mean_auroc(results: Path) -> dict[str, float]:
    """Return the mean tile AUROC by model and method."""
    figures = {}
    for path in sorted(results.glob("explanations/*/*/*.json")):
        for method, of_method in json.loads(path.read_text())["methods"].items():
            if of_method.get("tile_auroc") is not None:
                figures[f"{path.stem} {method}"] = round(of_method["tile_auroc"], 4)
    return figures


def pairs(results: Path, model: str) -> str:
    """Return a Markdown table of sparse inversion minus every other method, on the same slides."""
    (path,) = results.glob(f"explanations/*/*/{model}.csv")
    values: dict[str, dict[str, tuple[str, float, float]]] = defaultdict(dict)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["tile_auroc"]:
                figures = float(row["tile_auroc"]), float(row["tile_auprc"])
                values[row["method"]][row["slide_id"]] = (row["patient_id"], *figures)
    lines = [f"| {SUBJECT} minus | tile AUROC | tile AUPRC |", "|---|---|---|"]
    for method in values:
        if method != SUBJECT:
            lines.append(f"| {method} | {' | '.join(_signed(d) for d in _differences(values[SUBJECT], values[method]))} |")
    return "\n".join(lines)


def _differences(first: dict[str, tuple[str, float, float]], second: dict[str, tuple[str, float, float]]) -> list[Difference]:
    slides = sorted(first.keys() & second.keys())
    draws = list(patient_draws([first[s][0] for s in slides], draws=DRAWS))
    differences = []
    for column in (1, 2):
        a, b = (np.array([figures[s][column] for s in slides]) for figures in (first, second))
        means = [np.array([values[rows].mean() for rows in draws]) for values in (a, b)]
        differences.append(paired_difference((float(a.mean()), float(b.mean())), *means))
    return differences


def _signed(difference: Difference) -> str:
    low, high = difference.ci95
    return f"{difference.value:+.4f} ({low:+.4f} to {high:+.4f})"


def _cell(figures: dict[str, object], name: str) -> str:
    value, interval = figures.get(name), figures.get(f"{name}_ci95")
    if value is None:
        return "–"
    return f"{value:.3f} ({interval[0]:.3f}–{interval[1]:.3f})" if interval and interval[0] is not None else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="results folders")
    parser.add_argument("--pairs", metavar="MODEL", help="entry of `models` for paired differences")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    for results in args.results:
        print(f"\n{results}\n\n{table(results)}")
        figures |= {f"{results.name}/{name}": value for name, value in mean_auroc(results).items()}
        if args.pairs:
            print(f"\n{args.pairs}\n\n{pairs(results, args.pairs)}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
