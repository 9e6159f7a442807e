"""Measure time and memory of a training step of each model in the table of Tang et al. (2023), a bag of 12,000 × 1,024.

A step is what training does with a bag: copy it to the device, loss, gradient, optimiser (for TransMIL every second bag) and,
for MHIM, the teacher.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_parts.device import finish, forget_peak, peak_gb, torch_device
from benchmarks.gpu_parts.rows import Row, measure_all, parsed_arguments
from wsi_mil.bags import bag_tensor
from wsi_mil.config import MHIM, Training, parse_model
from wsi_mil.devices import set_threads
from wsi_mil.models import ClassLoss, MILModel, create_mhim, create_model
from wsi_mil.records import Bag
from wsi_mil.train.optimizers import create_optimizer

ABMIL = {"model": "abmil", "embed_dim": 512, "attention_bias": False}
"""The variant in the code of MHIM's authors that has as many weights as their table says."""
TRANSMIL = {"model": "transmil", "recipe": "published"}
C16_TRANSMIL = {"random_ratio": 0.0, "low_ratio": 0.8, "high_ratio": 0.03, "momentum_schedule": "cosine"}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "ABMIL": (ABMIL, None),
    "CLAM-MB": ({"model": "clam", "branches": "multi"}, None),
    "DTFD": ({"model": "dtfd", "pseudo_bags": 5, "total": 5}, None),
    "TransMIL": (TRANSMIL, None),
    "MHIM over ABMIL": ({"model": "mhim", "base": "abmil", "recipe": "published"}, ABMIL),
    "MHIM over TransMIL": ({"model": "mhim", "base": "transmil", "recipe": "published", **C16_TRANSMIL}, TRANSMIL),
}
"""Entry and, for MHIM, that of its base; masks and pseudo-bags are those for CAMELYON16."""
FEATURES = 1024


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        instances: of the bag.
        warm_up: steps before measuring.
        least: steps that are measured, however long they take.
        most: steps after which a row ends.
        precisions: of the arithmetic.
    """

    instances: int = 12_000
    warm_up: int = 3
    least: int = 5
    most: int = 40
    precisions: tuple[str, ...] = ("float32", "bfloat16")


TINY = Size(instances=60, warm_up=1, least=2, most=2, precisions=("float32",))


def model_of(name: str) -> tuple[MILModel, Training]:
    """Return a model in training mode, and its training settings."""
    entry, base = MODELS[name]
    settings = parse_model(entry)
    torch.manual_seed(0)
    if isinstance(settings, MHIM):
        teacher, student = (create_model(parse_model(base), feature_dim=FEATURES, n_classes=2) for _ in range(2))
        return create_mhim(settings, base=teacher, student=student).train(), settings.train
    return create_model(settings, feature_dim=FEATURES, n_classes=2).train(), settings.train


def step_of(model: MILModel, training: Training, bag: Bag, precision: str) -> Callable[[], None]:
    """Return a function that trains on a bag once, as `wsi_mil.train` does."""
    device = next(model.parameters()).device
    optimizer, loss, number = create_optimizer(model, training), ClassLoss(torch.ones(2, device=device)), 0

    def step() -> None:
        nonlocal number
        number += 1
        label = torch.tensor([1], device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            of_bag = model.training_loss(bag_tensor(bag, model), label, loss)
        (of_bag / training.accumulate).backward()
        if number % training.accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            model.after_update(0.0)

    return step


def times_of(step: Callable[[], None], device: torch.device, size: Size, seconds: float) -> list[float]:
    """Return the seconds of each of several steps, after a warm-up."""
    for _ in range(size.warm_up):
        step()
    times: list[float] = []
    end = time.monotonic() + seconds
    while len(times) < size.least or (len(times) < size.most and time.monotonic() < end):
        finish(device)
        start = time.perf_counter()
        step()
        finish(device)
        times.append(time.perf_counter() - start)
    return times


@dataclass(frozen=True)
class Bench:
    """A bag, the device, and the seconds that the measured steps of a row may take."""

    bag: Bag
    device: torch.device
    size: Size
    seconds: float

    def measure(self, name: str, precision: str) -> Row:
        """Return milliseconds of a step with quartiles, and peak memory of model, optimiser, bag and step."""
        forget_peak(self.device)
        model, training = model_of(name)
        model = model.to(self.device)
        step = step_of(model, training, self.bag, precision)
        times = [1000 * t for t in times_of(step, self.device, self.size, self.seconds)]
        low, _, high = quantiles(times, n=4)
        in_tensors, reserved = peak_gb(self.device)
        figures = {"step_ms": median(times), "low_ms": low, "high_ms": high, "peak_gb": in_tensors, "reserved_gb": reserved}
        weights = sum(p.numel() for p in model.deployed.parameters())
        return {"weights": weights, "steps": len(times), **{key: round(value, 3) for key, value in figures.items()}}

    def cases(self) -> Iterator[tuple[Row, Callable[[], Row]]]:
        for precision in self.size.precisions:
            for name in MODELS:
                identity = {"model": name, "precision": precision, "instances": len(self.bag.features)}
                yield identity, partial(self.measure, name, precision)


def main() -> int:
    args = parsed_arguments(__doc__ or "")
    device = torch_device(args.device)
    if device.type == "cpu":
        set_threads(1)
    size = TINY if args.tiny else Size()
    features = np.random.default_rng(0).random((size.instances, FEATURES), np.float32).astype(np.float16)
    bag = Bag("made", features, np.zeros((size.instances, 2), np.int64))
    bench = Bench(bag, device, size, args.seconds / len(MODELS) / len(size.precisions) / 2)
    return int(not measure_all(bench.cases(), args.seconds))


if __name__ == "__main__":
    sys.exit(main())
