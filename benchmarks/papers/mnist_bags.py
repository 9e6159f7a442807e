"""MNIST-bags (Ilse, Tomczak, Welling 2018), with or without a nine; LeNet is trained together with the aggregator."""

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.papers.runs import Run, load_or_train
from wsi_mil.bags import BagSet
from wsi_mil.config import parse_base
from wsi_mil.metrics import interval95, patient_draws
from wsi_mil.models import MILModel, create_model
from wsi_mil.models.instance_encoders import Standardise, lenet
from wsi_mil.records import Bag
from wsi_mil.tasks import Classes, Outcomes
from wsi_mil.train import fit, predict_outputs

TASK = Classes.numbered(2)
TARGET = 9
MEAN, STD = 0.1307, 0.3081
"""Mean and standard deviation of the intensities of MNIST."""
COLUMNS, SIDE_PX = 20, 28
"""Digits are arranged in rows of 20, as in the figure of Shin et al."""
VAL_DIGITS = 10_000
"""Number of the last training digits, from which only validation bags are drawn."""
VAL_BAGS, TEST_BAGS = 100, 1000
TEST_SEED = 1_000_000
"""Seed of the test bags, which are the same for all models and seeds."""
DRAWS = 1000

SPREADS = {10: 2, 50: 10, 100: 20, 400: 80}
"""Standard deviation of the number of digits in a bag, by its mean; called `var` in the authors' code."""

PLAIN = {"embed_dim": None, "dropout": 0.0}
MODELS: dict[str, dict[str, Any]] = {
    "instance_max": {"model": "instance_pool", "pool": "max", **PLAIN},
    "instance_mean": {"model": "instance_pool", "pool": "mean", **PLAIN},
    "embedding_max": {"model": "embedding_pool", "pool": "max", **PLAIN},
    "embedding_mean": {"model": "embedding_pool", "pool": "mean", **PLAIN},
    "attention": {"model": "abmil", "gated": False, **PLAIN},
    "gated": {"model": "abmil", "gated": True, **PLAIN},
}
TRAIN = {
    **{"optimizer": "adam", "lr": 5e-4, "weight_decay": 1e-4, "schedule": "constant", "class_weights": False},
    **{"instance_dropout": 0.0, "select": "loss", "min_epochs": 0, "min_val_bags": 1},
}
EARLY_STOPPING = {"epochs": 100, "patience": 20, "min_improvement": 0.0}
"""Early stopping on the loss of the validation bags."""
TO_THE_END = "to-the-end"
NO_STOPPING = {"epochs": 100, "patience": 100, "min_improvement": 0.0}
"""No early stopping: the epoch with the lowest loss on the training bags themselves is kept."""


@dataclass(frozen=True)
class Digits:
    """Images of digits, uint8 `(n, 28, 28)`, and their labels, int64 `(n,)`."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def part(self, rows: slice) -> "Digits":
        """Return some of the digits."""
        return Digits(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Setting:
    """Bags and model of one training.

    Attributes:
        mean: mean number of digits in a bag; the spread is in `SPREADS`.
        n_train: number of training bags.
        model: name in `MODELS`.
        seed: seed of bags, weights and order.
        train: training settings of length and selection of the epoch.
        condition: name of a special condition, or "".
    """

    mean: int
    n_train: int
    model: str
    seed: int
    train: tuple[tuple[str, Any], ...] = tuple(EARLY_STOPPING.items())
    condition: str = ""

    @property
    def name(self) -> str:
        """Path of its files, without suffix."""
        return f"mean-{self.mean}{self.condition and '-' + self.condition}/{self.model}/seed-{self.seed}"

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines its figures, as plain JSON."""
        entry = {**MODELS[self.model], "train": {**TRAIN, **dict(self.train), "seed": self.seed}}
        bags = {"mean": self.mean, "spread": SPREADS[self.mean], "train": self.n_train, "val": VAL_BAGS}
        return {
            "bags": {**bags, "val_digits": VAL_DIGITS, "target": TARGET},
            "model": parse_base(entry).model_dump(mode="json"),
        }


def read_digits(folder: Path, part: str) -> Digits:
    """Read the digits of the files `{part}-images-idx3-ubyte.gz` and `{part}-labels-idx1-ubyte.gz`.

    Raises:
        ValueError: a file is not in IDX format.
    """
    return Digits(
        read_idx(folder / f"{part}-images-idx3-ubyte.gz"), read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an array in IDX format: two zero bytes, 8 for uint8, number of axes, their lengths (big endian), values."""
    content = gzip.decompress(path.read_bytes())
    kind, n_axes = struct.unpack_from(">HxB", content)[0], content[3]
    if kind or content[2] != 8:
        raise ValueError(f"{path}: expected an IDX file of bytes that starts with 000008, found {content[:4].hex()}")
    shape = struct.unpack_from(f">{n_axes}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def draw_bags(
    labels: NDArray[np.int64], n_bags: int, *, mean: float, spread: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw the digits of each bag with replacement; bags 0, 2, … contain the target, bags 1, 3, … do not.

    The number of digits is drawn from Normal(mean, spread), rounded down, at least 1. A positive bag is drawn again until
    it contains the target; in a negative bag, targets are replaced until there is none.

    Returns:
        For each bag the rows of its digits.
    """
    bags = []
    for number in range(n_bags):
        length = max(1, int(rng.normal(mean, spread)))
        rows = rng.integers(len(labels), size=length)
        if number % 2 == 0:
            while not (labels[rows] == TARGET).any():
                rows = rng.integers(len(labels), size=length)
        while number % 2 and (wrong := labels[rows] == TARGET).any():
            rows[wrong] = rng.integers(len(labels), size=wrong.sum())
        bags.append(rows)
    return bags


def bag_set(digits: Digits, bags: list[NDArray[np.int64]]) -> BagSet:
    """Return bags of images; the images of a bag are collected when it is read, since digits are in many bags."""

    def load(number: int) -> Bag:
        images = digits.images[bags[number]][:, None].astype(np.float32) / 255
        index = np.arange(len(images))
        return Bag(f"bag-{number}", images, np.stack([index % COLUMNS, index // COLUMNS], axis=1) * SIDE_PX)

    return BagSet([int((digits.labels[rows] == TARGET).any()) for rows in bags], load, keep_bytes=0)


@dataclass(frozen=True)
class MnistBags:
    """Digits of which the bags of all settings consist.

    Attributes:
        train: digits of the training bags.
        val: digits of the validation bags.
        test: digits of the test bags.
    """

    train: Digits
    val: Digits
    test: Digits

    @classmethod
    def read(cls, folder: Path) -> "MnistBags":
        """Read the four files as published."""
        digits = read_digits(folder, "train")
        return cls(digits.part(slice(-VAL_DIGITS)), digits.part(slice(-VAL_DIGITS, None)), read_digits(folder, "t10k"))

    def bag_rows(self, part: str, mean: int, n_bags: int, seed: int) -> list[NDArray[np.int64]]:
        """Return the rows of the digits of each bag of a part; each part and mean has its own random draws."""
        rng = np.random.default_rng([seed, mean, ("train", "val", "test").index(part)])
        return draw_bags(getattr(self, part).labels, n_bags, mean=mean, spread=SPREADS[mean], rng=rng)

    def bags(self, part: str, mean: int, n_bags: int, seed: int) -> BagSet:
        """Return the bags of a part."""
        return bag_set(getattr(self, part), self.bag_rows(part, mean, n_bags, seed))

    def model(self, setting: Setting) -> tuple[MILModel, dict[str, Any]]:
        """Return the trained model of a setting, and facts about its training."""
        entry = parse_base(setting.as_json()["model"])
        torch.manual_seed(setting.seed)
        encoder, dim = lenet()
        encoder.insert(0, Standardise([MEAN], [STD]))
        model = create_model(entry, feature_dim=dim, n_classes=2, instance_encoder=encoder)
        model.to(memory_format=torch.channels_last)  # a quarter faster on a CPU

        def train(untrained: MILModel) -> dict[str, Any]:
            bags = self.bags("train", setting.mean, setting.n_train, setting.seed)
            val = bags if setting.condition == TO_THE_END else self.bags("val", setting.mean, VAL_BAGS, setting.seed)
            history, best = fit(untrained, bags, val, entry.train, task=TASK)
            curve = {name: [round(getattr(e, name), 5) for e in history] for name in ("train_loss", "val_loss", "val_figure")}
            return {"epochs": len(history), "epoch_kept": best + 1, "curve": curve}

        return model, load_or_train(f"mnist_bags/{setting.name}", setting.as_json(), model, train)

    def work(self, setting: Setting) -> dict[str, Any]:
        """Return the figures of a setting's model on the test bags, and facts about its training."""
        model, training = self.model(setting)
        test = self.bags("test", setting.mean, TEST_BAGS, TEST_SEED)
        return {**bag_figures(test.truth.labels, predict_outputs(model, test, TASK)), "training": training}


def bag_figures(truth: NDArray[np.int64], probs: NDArray[np.float64]) -> dict[str, Any]:
    """Return the figures of bags at the threshold 0.5, with intervals over bags."""
    outcomes = Outcomes(truth, probs, (probs[:, 1] >= 0.5).astype(np.int64))
    bags = [f"{number:05d}" for number in range(len(truth))]
    draws = [TASK.point_figures(outcomes.rows(rows)) for rows in patient_draws(bags, draws=DRAWS)]
    points = TASK.point_figures(outcomes)
    return points | {f"{name}_ci95": interval95(np.array([draw[name] for draw in draws])) for name in ("auroc", "accuracy")}


def settings(*, fast: bool) -> list[Setting]:
    """Return the settings of all runs, the shortest first."""
    if fast:
        return [Setting(10, 200, model, 0) for model in ("attention", "gated", "instance_max")]
    tens = [Setting(10, 200, model, seed) for seed in range(5) for model in MODELS]
    more = [Setting(mean, 400, model, seed) for mean in (50, 100) for seed in range(3) for model in ("attention", "gated")]
    return tens + more


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each setting."""
    bags = MnistBags.read(data / "mnist")
    return [run_of(bags, setting) for setting in settings(fast=fast)]


def run_of(bags: MnistBags, setting: Setting) -> Run:
    """Return the run of a setting."""
    settings = {**setting.as_json(), "test_bags": TEST_BAGS}
    return Run(f"mnist_bags/{setting.name}", settings, setting.seed, lambda: bags.work(setting))
