"""Sizes and synthetic bags of benchmarks/train.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from wsi_mil.bags import LabelledBag
from wsi_mil.records import Bag

DIM, LATENT = 256, 8


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        bags: for training, and as many new ones.
        instances: bounds of the size of a bag.
        seeds: of the part `learning`.
        permuted_seeds: of the part `permuted`.
        cohorts: numbers of bags of the part `curves`.
        curve_instances: bounds of the size of a bag in `curves`.
        large, many, few: instances of a bag whose step is measured.
        rounds: pairs of steps that are compared.
        training: settings that shorten every training.
    """

    bags: int = 60
    instances: tuple[int, int] = (500, 1001)
    seeds: tuple[int, ...] = (0, 1, 2)
    permuted_seeds: tuple[int, ...] = tuple(range(10))
    cohorts: tuple[int, ...] = (16, 50, 150, 400)
    curve_instances: tuple[int, int] = (200, 401)
    large: int = 8000
    many: int = 100_000
    few: int = 200
    rounds: int = 7
    training: Mapping[str, object] = field(default_factory=dict)


FULL = Size()
TINY = Size(
    bags=8, instances=(5, 12), seeds=(0,), permuted_seeds=(0, 1), cohorts=(8,), curve_instances=(5, 12), large=40, many=60,
    few=20, rounds=1, training={"updates": None, "epochs": 1, "patience": 1, "min_epochs": 1},
)  # fmt: skip


def synthetic_bags(n: int, seed: int, distance: float, *, sizes: tuple[int, int], evidence: float = 0.02) -> list[LabelledBag]:
    """Return bags whose features are mixtures of a few latent directions after a ReLU, as those of an encoder.

    2 % of each bag are hard negatives, as distant as positive instances but in another direction. Positive bags have a
    share of `evidence` positive instances, at least one. Each pair of bags has the same size, so that size is
    uninformative.
    """
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(LATENT, DIM)) / np.sqrt(LATENT)
    bags = []
    size = 0
    for number in range(n):
        size = int(rng.integers(*sizes)) if number % 2 == 0 else size
        label = number % 2
        latent = rng.normal(size=(size, LATENT))
        order = rng.permutation(size)
        n_hard = round(0.02 * size)
        latent[order[:n_hard], 1] += distance
        latent[order[n_hard : n_hard + max(1, round(evidence * size))], 0] += distance * label
        features = np.maximum(latent @ mixing + 0.3 * rng.normal(size=(size, DIM)), 0).astype(np.float16)
        bags.append(LabelledBag(Bag(f"b{number}", features, np.zeros((size, 2), np.int64)), label))
    return bags
