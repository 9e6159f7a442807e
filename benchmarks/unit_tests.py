#!/usr/bin/env python3
"""Test whether aggregators obey the rule of multiple instance learning: positive if and only if a positive instance is there.

    python benchmarks/unit_tests.py [--models gated_abmil transmil …] [--problems …] [--seeds 0 1 2] [--jobs 2] [--tiny]

After Raff and Holt, "Reproducibility in multiple instance learning: a case for algorithmic unit tests" (NeurIPS 2023); sizes and
distances are our own. Three problems that a model which obeys the rule solves, and in which a shortcut is easier:

one_concept      Positive bags hold 1 to 4 instances of a concept. In training every negative bag holds an instance far away
                 from all others, which positive bags lack; in the test it stands in the positive bags.
two_concepts     The same, but a positive bag holds two concepts, and a negative one at most one of them. This is more than the
                 rule: no model whose bags are positive for one positive instance can solve it.
false_frequency  A positive bag holds one instance of a concept. In training it holds many of a harmless kind besides, negative
                 bags few; in the test it is the other way round.

hard_negatives   No shortcut: the bags of benchmarks/train.py at a distance of 4, to see what obedience costs.

AUROC on new bags of the kind trained on, and on test bags. Below 0.5 on test bags the model has learned the shortcut. The last
line is JSON.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from train import DEFAULT_RECIPE, HARD, LEARNERS, OWN_TRAINING, TRAINING
from train_bags import synthetic_bags

from benchmarks.adding import AddingABMIL, NonNegativeABMIL
from benchmarks.trained import TASK, Recipe, trained
from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.config import parse_model
from wsi_mil.metrics import auroc
from wsi_mil.models import MILModel
from wsi_mil.records import Bag
from wsi_mil.train import fit, predict_outputs

DIM = 16
MENDS = {"non_negative_abmil": NonNegativeABMIL, "adding_abmil": AddingABMIL}
"""Aggregators tried as a mend, trained like gated ABMIL."""
CONCEPT, POISON = 3.0, 10.0
"""Distance of the concepts and of the poison from the origin, in standard deviations of the other instances."""
SPREAD = 0.3
"""Standard deviation of the instances of a concept, of the poison and of the harmless kind."""
MANY, FEW = (10, 21), (1, 3)
"""Bounds of the numbers of harmless instances."""


@dataclass(frozen=True)
class Size:
    """Bags to fit on, to select the epoch by, and of each test."""

    train: int = 120
    val: int = 40
    test: int = 200


def cloud(rng: np.random.Generator, n: int, axis: int, distance: float) -> NDArray[np.float64]:
    """Return `n` instances around a point on an axis, `(n, DIM)`."""
    instances = rng.normal(scale=SPREAD, size=(n, DIM))
    instances[:, axis] += distance
    return instances


def one_concept(rng: np.random.Generator, label: int, *, is_test: bool) -> list[NDArray[np.float64]]:
    """Return the instances of a bag besides the background."""
    concept = [cloud(rng, int(rng.integers(1, 5)), 0, CONCEPT)] * label
    return concept + [cloud(rng, 1, 3, -POISON)] * (label == is_test)


def two_concepts(rng: np.random.Generator, label: int, *, is_test: bool) -> list[NDArray[np.float64]]:
    """Return the instances of a bag besides the background; a negative bag has the first, the second or neither concept."""
    axes = (0, 1) if label else [(0,), (1,), ()][rng.integers(3)]
    concepts = [cloud(rng, int(rng.integers(1, 5)), axis, CONCEPT) for axis in axes]
    return concepts + [cloud(rng, 1, 3, -POISON)] * (label == is_test)


def false_frequency(rng: np.random.Generator, label: int, *, is_test: bool) -> list[NDArray[np.float64]]:
    """Return the instances of a bag besides the background."""
    harmless = cloud(rng, int(rng.integers(*(MANY if label != is_test else FEW))), 2, CONCEPT)
    return [cloud(rng, 1, 0, CONCEPT)] * label + [harmless]


SHORTCUTS: dict[str, Callable[..., list[NDArray[np.float64]]]] = {
    "one_concept": one_concept,
    "two_concepts": two_concepts,
    "false_frequency": false_frequency,
}
PROBLEMS = (*SHORTCUTS, "hard_negatives")
SIZES = (100, 300)
"""Bounds of the numbers of instances of bags without a shortcut."""


def bags_of(problem: str, n: int, seed: int, *, is_test: bool = False) -> list[LabelledBag]:
    """Return bags of 10 to 20 background instances and those of a problem, every second one positive."""
    if problem == "hard_negatives":
        return synthetic_bags(n, 2 * seed + is_test, HARD, sizes=SIZES)
    rng = np.random.default_rng([seed, is_test, sorted(SHORTCUTS).index(problem)])
    bags = []
    for number in range(n):
        label = number % 2
        parts = [rng.normal(size=(int(rng.integers(10, 21)), DIM)), *SHORTCUTS[problem](rng, label, is_test=is_test)]
        features = rng.permutation(np.concatenate(parts)).astype(np.float16)
        coords = np.stack([np.arange(len(features)), np.zeros(len(features), np.int64)], axis=1)
        bags.append(LabelledBag(Bag(f"b{number}", features, coords), label))
    return bags


def figures_of(size: Size, of_all: dict[str, object], task: tuple[str, str, int]) -> tuple[float, float]:
    """Return AUROC on new bags of the kind trained on and on test bags, for (problem, model, seed)."""
    problem, name, seed = task
    torch.set_num_threads(1)
    bags = bags_of(problem, size.train, 10 * seed), bags_of(problem, size.val, 10 * seed + 1)
    model = model_of(name, of_all, bags, seed)
    new = bags_of(problem, size.test, 10 * seed + 2), bags_of(problem, size.test, 10 * seed + 3, is_test=True)
    first, second = (auroc(np.array([b.label for b in part]), predict_outputs(model, part, TASK)) for part in new)
    return first, second


def model_of(name: str, of_all: dict[str, object], bags: tuple[list[LabelledBag], list[LabelledBag]], seed: int) -> MILModel:
    """Return a model fitted on the first bags, whose epoch the second ones select."""
    if name not in MENDS:
        entries = [each for each in LEARNERS if LEARNERS[each]["model"] not in DEFAULT_RECIPE]
        own = {each: {**TRAINING, **OWN_TRAINING.get(each, {})} for each in entries}
        return trained(name, Recipe(LEARNERS, own, of_all), bags, seed)
    torch.manual_seed(seed)
    model = MENDS[name](feature_dim=bags[0][0].bag.features.shape[1])
    settings = parse_model({"model": "abmil", "train": {**of_all, "seed": seed}}).train
    fit(model, *(BagSet.of(part) for part in bags), settings, task=TASK)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[*LEARNERS, *MENDS], default=[*LEARNERS, *MENDS], help="entries")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=[*PROBLEMS], help="problems")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of bags and trainings")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at once")
    parser.add_argument("--tiny", action="store_true", help="one seed and few bags: tests that the benchmark runs")
    args = parser.parse_args()
    size = Size(8, 4, 8) if args.tiny else Size()
    of_all: dict[str, object] = {"updates": None, "epochs": 1, "patience": 1, "min_epochs": 1} if args.tiny else {}
    tasks = [
        (problem, name, seed)
        for problem in args.problems
        for name in args.models
        for seed in args.seeds[: 1 if args.tiny else None]
    ]
    found = {}
    with ProcessPoolExecutor(args.jobs) as pool:
        for task, pair in zip(tasks, pool.map(partial(figures_of, size, of_all), tasks), strict=True):
            found[task] = pair
            print("{}, {}, seed {}: {:.3f} as trained, {:.3f} on test bags".format(*task, *pair), file=sys.stderr, flush=True)
    print("| model | " + " | ".join(f"{problem}: as trained, test" for problem in args.problems) + " |")
    print("|---" * (len(args.problems) + 1) + "|")
    figures = {}
    for name in args.models:
        cells = []
        for problem in args.problems:
            own = [found[task] for task in tasks if task[:2] == (problem, name)]
            as_trained, test = mean(a for a, _ in own), [b for _, b in own]
            cells.append(f"{as_trained:.3f}, {mean(test):.3f} ({min(test):.2f}–{max(test):.2f})")
            figures |= {f"{problem} {name} trained": round(as_trained, 4), f"{problem} {name} test": round(mean(test), 4)}
        print(f"| {name} | {' | '.join(cells)} |")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
