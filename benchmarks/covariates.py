#!/usr/bin/env python3
"""Test whether covariates, slides and both are told apart on synthetic cohorts with a known answer.

    python benchmarks/covariates.py            ten seeds, some two hours on a busy core
    python benchmarks/covariates.py --small    one seed of 40 slides, without limits; --tiny is the same

A slide's class follows from the patient's age and sex and, in the cohort `slides add`, as much from a signal in a quarter of the
tiles; in `slides add nothing` the tiles have a signal that has nothing to do with the class. `clinical`, `abmil` and `abmil` with
`covariates: true` are trained on the same folds, and compared on the slides held out, by the paired bootstrap of the report. For
each seed: AUROC of the three, and the 95 % interval of both less clinical.

The exit code is 1 unless the slides are found to add in at least nine of ten seeds where they do, and in at most one of ten where
they do not.
"""

import argparse
import json
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from wsi_mil.bags import LabelledBag
from wsi_mil.metrics import Difference, auroc, paired_difference, patient_draws
from wsi_mil.notebook import fitted_for
from wsi_mil.records import Bag
from wsi_mil.tasks import Classes

COVARIATES = {"numbers": ["age"], "categories": ["sex"]}
ABMIL = {"model": "abmil", "embed_dim": 64, "attention_dim": 32, "train": {"min_val_bags": 3, "min_improvement": 0.0}}
MODELS: dict[str, dict[str, object]] = {
    "clinical": {"model": "clinical"},
    "slides": ABMIL,
    "both": {**ABMIL, "covariates": True},
}
COHORTS = {"slides add": 2.0, "slides add nothing": 0.0}
"""Log odds of the class for a standard deviation of the signal in the tiles."""
N_TILES, DIM, FOLDS, DRAWS = 24, 16, 4, 1000
MOST_WRONG = 0.1
"""Share of the seeds in which the answer may be wrong."""


def cohort(n: int, slope: float, seed: int) -> list[LabelledBag]:
    """Bags with age and sex, 1.2 standard deviations of log odds each at most; `slope` is that of the tiles' signal."""
    rng, bags = np.random.default_rng(seed), []
    for i in range(n):
        age, is_male, signal = rng.normal(60, 10), rng.random() < 0.5, rng.normal()
        log_odds = 1.2 * (age - 60) / 10 + (0.8 if is_male else -0.8) + slope * signal
        features = rng.normal(size=(N_TILES, DIM))
        features[: N_TILES // 4, 0] += 2 + 1.5 * signal
        cells = {"age": float(age), "sex": "m" if is_male else "f"}
        bag = Bag(f"s{i}", features.astype(np.float16), np.zeros((N_TILES, 2), np.int64), cells)
        bags.append(LabelledBag(bag, int(rng.random() < 1 / (1 + np.exp(-log_odds)))))
    return bags


def held_out(bags: list[LabelledBag], model: str) -> NDArray[np.float64]:
    """Return the probabilities `(n, 2)` of bags, by the model of the fold that held each out."""
    labels, found = np.array([bag.label for bag in bags]), np.zeros((len(bags), 2))
    fold_of = np.empty(len(bags), int)
    fold_of[np.argsort(labels, kind="stable")] = np.arange(len(bags)) % FOLDS  # so that all folds have both classes
    for fold in range(FOLDS):
        rest = np.random.default_rng(fold).permutation(np.flatnonzero(fold_of != fold))
        train, val = ([bags[i] for i in part] for part in (rest[len(rest) // 5 :], rest[: len(rest) // 5]))
        known = COVARIATES if model != "slides" else None
        fitted = fitted_for(train, val, MODELS[model], Classes.numbered(2), covariates=known)
        for i in np.flatnonzero(fold_of == fold):
            found[i] = fitted.outputs(bags[i].bag)
    return found


def difference(first: NDArray[np.float64], second: NDArray[np.float64], labels: NDArray[np.int64]) -> Difference:
    """Return the paired difference of AUROC, as the report has it."""
    draws = list(patient_draws([str(i) for i in range(len(labels))], draws=DRAWS))
    values = [[auroc(labels[rows], p[rows]) for rows in draws] for p in (first, second)]
    return paired_difference((auroc(labels, first), auroc(labels, second)), np.array(values[0]), np.array(values[1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", "--tiny", action="store_true", help="one seed of 40 slides, without limits")
    parser.add_argument("--slides", type=int, default=200, help="slides of a cohort")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10)))
    args = parser.parse_args()
    n, seeds = (40, [0]) if args.small else (args.slides, args.seeds)
    shares: dict[str, float] = {}
    print("cohort | seed | clinical | slides | both | both less clinical (95 % interval)")
    for name, slope in COHORTS.items():
        n_found = 0
        for seed in seeds:
            bags = cohort(n, slope, seed)
            labels = np.array([bag.label for bag in bags])
            of_model = {model: held_out(bags, model) for model in MODELS}
            added = difference(of_model["both"], of_model["clinical"], labels)
            n_found += added.ci95[0] > 0
            figures = " | ".join(f"{auroc(labels, p):.3f}" for p in of_model.values())
            print(f"{name} | {seed} | {figures} | {added.value:+.3f} ({added.ci95[0]:+.3f} to {added.ci95[1]:+.3f})", flush=True)
        print(f"{name}: found in {n_found} of {len(seeds)} seeds")
        shares[name] = n_found / len(seeds)
    print(json.dumps({"n_seeds": len(seeds), "found": shares}))
    is_right = shares["slides add nothing"] <= MOST_WRONG and shares["slides add"] >= 1 - MOST_WRONG
    return 0 if is_right or args.small else 1


if __name__ == "__main__":
    sys.exit(main())
