#!/usr/bin/env python3
"""Print tables that compare explanation methods of every model with the annotations, for docs/explanations.md.

    python benchmarks/explanations.py results [other/results …] [--pairs abmil:best]

The figures are read from the files of `evaluate`, one table for each results folder (cohort). Entries of `models` whose names
differ only in a last number (`abmil_0`, `abmil_1`) are trainings of one model with other seeds: figures are means over them,
with the lowest and the highest mean of a training, and the slide with the lowest mean over trainings. `--pairs` prints paired
differences between a method and every other one of the model, with 95 % intervals by patient.
The last line is JSON: mean tile AUROC.
"""

import argparse
import csv
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.metrics import Difference, paired_difference, patient_draws

DRAWS = 1000
HEADER = "| model | method | tile AUROC | of the trainings | lowest slide | tile AUPRC | slide AUROC |"

BySlide = dict[str, NDArray[np.float64]]
"""Tile AUROC and AUPRC `(n_trainings, 2)` by slide."""


def read_slides(results: Path) -> tuple[dict[tuple[str, str], BySlide], dict[str, str]]:
    """Return the figures of each model and method, slide by slide, and the patient of each slide."""
    found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    patients = {}
    for path in sorted(results.glob("explanations/*/*/*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["tile_auroc"]:
                    patients[row["slide_id"]] = row["patient_id"]
                    figures = float(row["tile_auroc"]), float(row["tile_auprc"])
                    found[model_of(path.stem), row["method"]][row["slide_id"]].append(figures)
    return {key: {slide: np.array(each) for slide, each in slides.items()} for key, slides in found.items()}, patients


def model_of(entry: str) -> str:
    """Return the name of an entry without the number of its training."""
    return re.sub(r"_\d+$", "", entry)


def slide_auroc(results: Path) -> dict[str, list[float]]:
    """Return the slide AUROC of each training, by model."""
    found = defaultdict(list)
    for path in sorted(results.glob("metrics/*/*/*.json")):
        found[model_of(path.stem)].append(json.loads(path.read_text())["auroc"])
    return found


def table(figures: Mapping[tuple[str, str], BySlide], of_slides: Mapping[str, list[float]], patients: Mapping[str, str]) -> str:
    """Return a Markdown table with a row for each model and method."""
    lines = [HEADER, "|---" * HEADER.count(" | ") + "|---|"]
    for (model, method), slides in sorted(figures.items()):
        values = np.stack(list(slides.values()))  # (n_slides, n_trainings, 2)
        low, high = interval(slides, patients)
        trainings = values[:, :, 0].mean(axis=0)
        cells = [
            f"{values[:, :, 0].mean():.3f} ({low:.3f}–{high:.3f})",
            ", ".join(f"{value:.3f}" for value in trainings),
            f"{values[:, :, 0].min():.3f}",
            f"{values[:, :, 1].mean():.3f}",
            ", ".join(f"{value:.3f}" for value in of_slides.get(model, [])),
        ]
        lines.append(f"| {model} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def interval(slides: BySlide, patients: Mapping[str, str]) -> tuple[float, float]:
    """Return the 95 % interval of the mean tile AUROC over draws of patients."""
    means = np.array([values[:, 0].mean() for values in slides.values()])
    drawn = [means[rows].mean() for rows in patient_draws([patients[slide] for slide in slides], draws=DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def pairs(figures: Mapping[tuple[str, str], BySlide], patients: Mapping[str, str], model: str, subject: str) -> str:
    """Return a Markdown table of a method minus every other one of a model, on the same slides."""
    lines = [f"| {model}: {subject} minus | tile AUROC | tile AUPRC |", "|---|---|---|"]
    for (own, method), slides in sorted(figures.items()):
        if own == model and method != subject:
            lines.append(
                f"| {method} | {' | '.join(_signed(d) for d in _differences(figures[model, subject], slides, patients))} |"
            )
    return "\n".join(lines)


def _differences(first: BySlide, second: BySlide, patients: Mapping[str, str]) -> list[Difference]:
    slides = sorted(first.keys() & second.keys())
    draws = list(patient_draws([patients[slide] for slide in slides], draws=DRAWS))
    differences = []
    for column in (0, 1):
        a, b = (np.array([figures[slide][:, column].mean() for slide in slides]) for figures in (first, second))
        means = [np.array([values[rows].mean() for rows in draws]) for values in (a, b)]
        differences.append(paired_difference((float(a.mean()), float(b.mean())), *means))
    return differences


def _signed(difference: Difference) -> str:
    low, high = difference.ci95
    return f"{difference.value:+.4f} ({low:+.4f} to {high:+.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="results folders")
    parser.add_argument("--pairs", metavar="MODEL:METHOD", action="append", default=[], help="for paired differences")
    args = parser.parse_args()
    means: dict[str, float] = {}
    for results in args.results:
        figures, patients = read_slides(results)
        print(f"\n{results}\n\n{table(figures, slide_auroc(results), patients)}")
        for model, _, method in (pair.partition(":") for pair in args.pairs):
            print(f"\n{pairs(figures, patients, model, method)}")
        for (model, method), slides in figures.items():
            mean = np.stack(list(slides.values()))[:, :, 0].mean()
            means[f"{results.parent.name} {model} {method}"] = round(float(mean), 4)
    print(json.dumps(means))


if __name__ == "__main__":
    main()
