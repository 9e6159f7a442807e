"""Classical sets of bags (Musk1, Fox, Tiger, Elephant): accuracy of the aggregators over five times ten folds.

The settings of a training are chosen inside the training part of each fold, by the loss on a fifth of its bags.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch.nn.functional import nll_loss

from benchmarks.papers.runs import Run
from benchmarks.trained import TASK, Recipe, trained
from wsi_mil.bags import LabelledBag
from wsi_mil.records import Bag
from wsi_mil.train import predict_outputs

SETS = ("musk1", "fox", "tiger", "elephant")
MODELS: dict[str, dict[str, Any]] = {
    "instance_max": {"model": "instance_pool", "pool": "max", "embed_dim": 256},
    "embedding_mean": {"model": "embedding_pool", "pool": "mean", "embed_dim": 256},
    "embedding_max": {"model": "embedding_pool", "pool": "max", "embed_dim": 256},
    "noisy_or": {"model": "kraus_pool", "pool": "noisy_or", "embed_dim": 256},
    "attention": {"model": "abmil", "gated": False, "embed_dim": 256},
    "gated": {"model": "abmil", "embed_dim": 256},
    "dsmil": {"model": "dsmil", "embed_dim": 256},
    "clam_sb": {"model": "clam", "embed_dim": 256, "k": 2},
    "dtfd": {"model": "dtfd", "embed_dim": 256, "pseudo_bags": 2, "total": 2},
    "transmil": {"model": "transmil", "embed_dim": 128, "heads": 4},
    "mhim_gated": {"model": "mhim", "base": "gated"},
    "mhim_transmil": {"model": "mhim", "base": "transmil"},
}
TRAINING = {"updates": 1600, "min_epochs": 0, "patience": 10, "select": "auroc"}
CHOICES: tuple[dict[str, Any], ...] = (
    {"lr": 5e-4, "weight_decay": 1e-2},
    {"lr": 5e-4, "weight_decay": 1e-2, "instance_dropout": 0.3},
    {"lr": 1e-4, "weight_decay": 0.3},
)
"""Settings among which each fold chooses."""
DRAWS, FOLDS = 5, 10
INNER = 0.2
"""Share of a training part that selects epoch and settings."""


@dataclass(frozen=True)
class ClassicalSet:
    """Bags of one set.

    Attributes:
        features: float32 `(n, d)` of all instances.
        ends: last row of each bag, exclusive, `(n_bags,)`.
        labels: 1 for positive bags, `(n_bags,)`.
        train: which bags are in the training part, bool `(draws, folds, n_bags)`.
    """

    features: NDArray[np.float32]
    ends: NDArray[np.int64]
    labels: NDArray[np.int64]
    train: NDArray[np.bool_]

    @classmethod
    def read(cls, path: Path) -> "ClassicalSet":
        """Read one file of the collection."""
        with np.load(path) as arrays:
            sizes, labels = arrays["bag_sizes"], arrays["labels"].astype(np.int64)
            return cls(arrays["features"], np.cumsum(sizes), labels, arrays["train"])

    def bags(self, part: NDArray[np.bool_]) -> list[LabelledBag]:
        """Return all bags, their features standardised by the instances of the bags of a part."""
        rows = np.repeat(part, np.diff(self.ends, prepend=0))
        mean, std = self.features[rows].mean(axis=0), self.features[rows].std(axis=0)
        scaled = ((self.features - mean) / np.where(std > 0, std, 1)).astype(np.float32)
        each = np.split(scaled, self.ends[:-1])
        return [
            LabelledBag(Bag(f"b{at}", of, np.stack([np.arange(len(of)), np.zeros(len(of), np.int64)], axis=1)), int(label))
            for at, (of, label) in enumerate(zip(each, self.labels, strict=True))
        ]


@cache
def read_set(data: Path, name: str) -> ClassicalSet:
    """Return a set of the folder."""
    return ClassicalSet.read(data / "classical" / f"{name}.npz")


@dataclass(frozen=True)
class ClassicalRun:
    """One draw of ten folds of one model on one set."""

    dataset: str
    model: str
    draw: int

    @property
    def name(self) -> str:
        """Path of its JSON file, without suffix."""
        return f"classical/{self.dataset}/{self.model}/draw-{self.draw}"

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines its figures, as plain JSON."""
        names = [name for name in (MODELS[self.model].get("base"), self.model) if name]
        entries = {name: MODELS[name] for name in names}
        return {
            "set": self.dataset,
            "draw": self.draw,
            "models": entries,
            "train": TRAINING,
            "choices": list(CHOICES),
            "inner": INNER,
        }

    def work(self, data: Path) -> dict[str, Any]:
        """Return the predictions for the test bags of each fold, and which settings it chose."""
        bags = read_set(data, self.dataset)
        return {"folds": [self._fold(bags, number) for number in range(FOLDS)]}

    def _fold(self, bags: ClassicalSet, number: int) -> dict[str, Any]:
        part = bags.train[self.draw, number]
        items = bags.bags(part)
        seed = self.draw * FOLDS + number
        fit_on, choose_by = train_test_split(np.flatnonzero(part), test_size=INNER, stratify=bags.labels[part], random_state=seed)
        inner = [items[row] for row in fit_on], [items[row] for row in choose_by]
        models = [trained(self.model, Recipe(MODELS, of_all=training(choice)), inner, seed) for choice in CHOICES]
        losses = [_loss(predict_outputs(model, inner[1], TASK), bags.labels[choose_by]) for model in models]
        chosen = int(np.argmin(losses))
        test = np.flatnonzero(~part)
        probs = predict_outputs(models[chosen], [items[row] for row in test], TASK)[:, 1]
        images = {f"b{row}": {"label": int(bags.labels[row]), "prob": float(p)} for row, p in zip(test, probs, strict=True)}
        return {"chosen": chosen, "images": images}


def training(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a training; the length is given in updates also for models whose own recipe has epochs."""
    return {"epochs": None, **TRAINING, **choice}


def _loss(probs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    log_probs = torch.from_numpy(np.log(np.clip(probs, 1e-12, 1)))
    return float(nll_loss(log_probs, torch.from_numpy(labels)))


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each set, model and draw, draw by draw."""
    if fast:
        selected = [ClassicalRun("musk1", "gated", 0)]
    else:
        selected = [ClassicalRun(name, model, draw) for draw in range(DRAWS) for name in SETS for model in MODELS]
    return [
        Run(f"classical/{r.dataset}/{r.model}/draw-{r.draw}", r.as_json(), r.draw, lambda r=r: r.work(data)) for r in selected
    ]
