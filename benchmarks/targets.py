#!/usr/bin/env python3
"""Test whether models learn survival, a value and several labels, on a made cohort with a known answer, by the real DAG.

    python benchmarks/targets.py               both parts, N hours on two cores
    python benchmarks/targets.py learning      one of them
    python benchmarks/targets.py --tiny        both at their smallest, without limits

learning    300 patients, bags of 200 to 800 × 256; hazard, value and three labels follow the shares of two kinds of tiles
            (2 to 30 %), 30 % of the patients are censored: figures of held-out patients for ABMIL, TransMIL and MHIM over
            ABMIL, and tile AUROC of the tiles that drive the outcome
permuted    120 of these patients with the outcomes of others, ten times: the mean must be that of chance

c_gap_*        Harrell's C of the true risk, minus that of the model
r2_share_*     R² of the model, divided by that of the value without its noise
auroc_*        AUROC, mean over the labels
tile_auroc_*   of the best method, mean over slides
The exit code is 1 if a figure is outside its limits.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml
from scipy import stats
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parent))
from targets_cohort import FULL, TINY, Cohort, Size, permuted, write_cohort, write_sheet

from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.results import Results
from wsi_mil.store import read_scores

ROOT = Path(__file__).resolve().parents[1]
TARGETS: dict[str, dict[str, object]] = {
    "discrete": {"kind": "survival", "time": "months", "event": "died"},
    "cox": {"kind": "survival", "time": "months", "event": "died", "loss": "cox"},
    "value": {"kind": "regression", "column": "value"},
    "labels": {"kind": "multilabel", "columns": ["one", "two", "both"]},
}
MAIN = {"discrete": "c_harrell", "cox": "c_harrell", "value": "r2", "labels": "auroc"}
"""Main figure of each target."""
CHANCE = {"discrete": 0.5, "cox": 0.5, "value": 0.0, "labels": 0.5}
MODELS: dict[str, dict[str, object]] = {
    "abmil": {"model": "abmil"},
    "transmil": {"model": "transmil", "embed_dim": 128, "heads": 4},
    "mhim": {"model": "mhim", "base": "abmil"},
}
METHODS = ["attention", "evidence", "standardised_sum", "gradient_input"]
DRIVING = {"one": (1,), "two": (2,), "both": (1, 2)}
"""Kinds of tiles that drive each label; all other outcomes are driven by both."""
LIMITS: dict[str, tuple[float, float]] = {
    **{f"c_gap_{target}_{model}": (-1, 0.03 if model == "abmil" else 0.08) for target in ("discrete", "cox") for model in MODELS},
    **{f"r2_share_{model}": (0.8 if model == "abmil" else 0.75, 2) for model in MODELS},
    **{f"auroc_{model}": (0.95 if model == "abmil" else 0.9, 1) for model in MODELS},
    **{f"tile_auroc_{target}": (0.9, 1) for target in TARGETS},
}


def run_dag(folder: Path, sheet: Path, changes: Mapping[str, object], *goals: str) -> Results:
    """Run Snakemake with the targets on imported features, and return its results."""
    config = {
        "cohort": str(sheet),
        "results": str(folder / "results"),
        "encoders": {"made": {"features": "imported"}},
        "targets": TARGETS,
        "explain": {"methods": METHODS, "curve_points": 0},
        "device": "cpu",
        **changes,
    }
    file = folder / f"{sheet.stem}.yaml"
    file.write_text(yaml.safe_dump(config))
    command = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles" / "default")]
    done = subprocess.run(
        [*command, "--quiet", "all", "--cores", "2", "--configfile", str(file), "--", *goals],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stdout[-4000:])
    return Results(folder / "results")


def import_features(folder: Path, results: Path) -> None:
    """Import the features of all slides, as `wsi-mil import-features` does."""
    command = ["wsi-mil", "import-features", str(folder), "--encoder", "made", "--results", str(results)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def models_with(training: Mapping[str, object] | None) -> dict[str, dict[str, object]]:
    """Return the entries of `models`, all of them shortened."""
    return {name: {**entry, **({"train": dict(training)} if training else {})} for name, entry in MODELS.items()}


def learning(folder: Path, size: Size) -> dict[str, float]:
    """Figures of every target and model, and of their explanations."""
    (folder / "features").mkdir(parents=True)
    cohort = write_cohort(folder / "features", size)
    write_sheet(folder / "cohort.csv", cohort.rows)
    import_features(folder / "features", folder / "results")
    changes = {"models": models_with(size.training), "split": {"folds": size.folds}}
    results = run_dag(folder, folder / "cohort.csv", changes, "predictions", "scores")
    figures = {"c_of_true_risk": true_concordance(cohort)}
    for target, name in MAIN.items():
        for model in MODELS:
            value = read_receipt(results.target(target).metrics("made", model))[name]
            value = np.nan if value is None else float(value)
            if name == "c_harrell":
                figures[f"c_gap_{target}_{model}"] = figures["c_of_true_risk"] - value
            elif name == "r2":
                figures[f"r2_share_{model}"] = value / cohort.ceiling
            else:
                figures[f"auroc_{model}"] = value
        figures |= tile_figures(results, target, cohort)
    return figures


def true_concordance(cohort: Cohort) -> float:
    """Harrell's C of the log hazard that the times were drawn from."""
    from wsi_mil.survival import harrell_c

    time = np.array([float(str(row["months"])) for row in cohort.rows])
    event = np.array([bool(row["died"]) for row in cohort.rows])
    return float(harrell_c(time, event, cohort.risk))


def tile_figures(results: Results, target: str, cohort: Cohort) -> dict[str, float]:
    """AUROC of the tiles that drive a target, mean over slides: of each model by each method, and the best of them."""
    found: dict[str, float] = {}
    for model in MODELS:
        values: dict[str, list[float]] = {}
        for slide_id, kinds in cohort.kinds.items():
            receipt = results.target(target).scores_receipt("made", model, slide_id)
            content = read_receipt(receipt)
            for method in content["methods"]:
                scores = read_scores(store_path(receipt), method)[1]
                label = content["methods"][method].get("name", "")
                is_driving = np.isin(kinds, DRIVING.get(label, (1, 2)))
                if np.isfinite(scores).all():
                    values.setdefault(method.partition("@")[0], []).append(roc_auc_score(is_driving, scores))
        found |= {f"tile_auroc_{target}_{model}_{method}": mean(own) for method, own in values.items()}
    return {**found, f"tile_auroc_{target}": max(found.values())}


def permutations(folder: Path, size: Size) -> dict[str, float]:
    """Main figure of ABMIL on permuted outcomes, mean over seeds, and its 95 % interval."""
    (folder / "features").mkdir(parents=True)
    cohort = write_cohort(folder / "features", Size(size.permuted_patients, size.tiles), seed=1)
    values: dict[str, list[float]] = {target: [] for target in TARGETS}
    models = {"abmil": models_with(size.training)["abmil"]}
    for seed in range(size.permuted_seeds):
        run = folder / f"seed-{seed}"
        run.mkdir()
        write_sheet(run / "cohort.csv", permuted(cohort.rows, seed=seed))
        import_features(folder / "features", run / "results")
        results = run_dag(run, run / "cohort.csv", {"models": models, "split": {"folds": 3, "seed": seed}}, "predictions")
        for target, name in MAIN.items():
            value = read_receipt(results.target(target).metrics("made", "abmil"))[name]
            values[target].append(np.nan if value is None else float(value))
    return permuted_figures(values)


def permuted_figures(values: Mapping[str, list[float]]) -> dict[str, float]:
    """Mean over seeds, and how far chance is outside of the mean's 95 % interval (t distribution); 0: inside."""
    figures = {}
    for target, own in values.items():
        low, high = stats.t.interval(0.95, len(own) - 1, loc=mean(own), scale=stats.sem(own))
        figures[f"permuted_{target}"] = mean(own)
        figures[f"permuted_{target}_beyond"] = float(max(low - CHANCE[target], CHANCE[target] - high, 0.0))
    return figures


PARTS = {"learning": learning, "permuted": permutations}


def main() -> None:
    """Run the parts, print their figures, and exit with 1 if one is outside its limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", choices=[*PARTS, []], help=f"{' or '.join(PARTS)}; default: both")
    parser.add_argument("--tiny", action="store_true", help="the smallest size, without limits")
    arguments = parser.parse_args()
    size = TINY if arguments.tiny else FULL
    figures: dict[str, float] = {}
    for part in arguments.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            figures |= PARTS[part](Path(folder) / part, size)
    outside = [] if arguments.tiny else [name for name in figures if not is_within(name, figures[name])]
    for name, value in figures.items():
        print(f"{name:50} {value:8.3f}{'  outside of its limits' if name in outside else ''}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    sys.exit(bool(outside))


def is_within(name: str, value: float) -> bool:
    """Whether a figure is within its limits; without any, it is."""
    if name.endswith("_beyond"):
        return value == 0
    low, high = LIMITS.get(name, (-np.inf, np.inf))
    return low <= value <= high


if __name__ == "__main__":
    main()
