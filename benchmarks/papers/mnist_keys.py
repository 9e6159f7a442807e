"""Sparse inversion on MNIST-bags (Shin et al.): where are the nines? On the models of `mnist_bags`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.papers import keys
from benchmarks.papers.mnist_bags import TARGET, TEST_BAGS, TEST_SEED, MnistBags, Setting
from benchmarks.papers.runs import Run
from wsi_mil.explain.sparse_inversion import Domain
from wsi_mil.models import MILModel

DIGITS_ARE_BRIGHT = Domain.of_pixels(background=0.0)
KEPT_BAGS = {10: 300, 50: 80, 100: 40, 400: 16}
"""So many positive test bags are scored, the first ones; of longer bags fewer, as each costs more."""
SWEPT_BAGS = {10: 25, 50: 12, 100: 6, 400: 3}
"""So many positive validation bags try each setting of the sweep; thresholds are chosen on all of them that are scored."""
VAL_KEPT = {10: 50, 50: 40, 100: 24, 400: 8}


@dataclass(frozen=True)
class Look:
    """Key instances of one model.

    Attributes:
        setting: the model.
        sharpened: attention logits are multiplied by this: the larger, the fewer instances are attended to.
    """

    setting: Setting
    sharpened: float = 1.0

    @property
    def name(self) -> str:
        """Of the JSON file."""
        return f"mnist_keys/{self.setting.name}" + (f"-sharpened-{self.sharpened:g}" if self.sharpened != 1 else "")

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        mean = self.setting.mean
        bags = {"test": KEPT_BAGS[mean], "sweep": SWEPT_BAGS[mean], "val": VAL_KEPT[mean]}
        return {
            **self.setting.plain(),
            "sharpened": self.sharpened,
            "positive_bags": bags,
            "sweep": [[s.step, s.penalty, s.steps] for s in keys.SWEEP],
        }


def positive_bags(data: MnistBags, part: str, setting: Setting, n: int) -> list[keys.Known]:
    """The first positive bags of a part."""
    seed, n_bags = (TEST_SEED, TEST_BAGS) if part == "test" else (setting.seed, 2 * n)
    rows = data.drawn(part, setting.mean, n_bags, seed)[: 2 * n : 2]
    labels = getattr(data, part).labels
    bags = data.bags(part, setting.mean, n_bags, seed).read(range(0, 2 * n, 2))
    return [keys.Known(item.bag, labels[of_bag] == TARGET) for item, of_bag in zip(bags, rows, strict=True)]


def sharpen(model: MILModel, factor: float) -> None:
    """Multiply the attention logits, whose order stays."""
    with torch.no_grad():
        for parameter in model.attention.parameters():
            parameter.mul_(factor)


def work(data: MnistBags, look: Look) -> dict[str, Any]:
    """Figures of every score on the test bags, at thresholds of the validation bags."""
    setting, mean = look.setting, look.setting.mean
    model, _ = data.model(setting)
    val, test = (positive_bags(data, part, setting, n[mean]) for part, n in (("val", VAL_KEPT), ("test", KEPT_BAGS)))
    is_attention = "attention" in model.provides
    if is_attention:
        sharpen(model, look.sharpened)
    rows = keys.sweep(model, val[: SWEPT_BAGS[mean]], DIGITS_ARE_BRIGHT, keys.SWEEP) if is_attention else []
    inversions = keys.inversions_for(rows) if is_attention else []
    cut = keys.thresholds(keys.scored(model, val, inversions, DIGITS_ARE_BRIGHT))
    found = keys.scored(model, test, inversions, DIGITS_ARE_BRIGHT)
    return {
        "summary": keys.summary(found),
        "thresholds": cut,
        "scores": keys.figures([(bag, cut) for bag in found]),
        "sweep": rows,
        "settings": {how.name: [how.settings.step, how.settings.penalty, how.settings.steps] for how in inversions},
    }


def looks(*, fast: bool) -> list[Look]:
    """One for each model of `mnist_bags` that says something of instances by attention, and the instance baseline."""
    if fast:
        return [Look(Setting(10, 200, model, 0)) for model in ("attention", "instance_max")]
    tens = [Look(Setting(10, 200, model, seed)) for seed in range(5) for model in ("attention", "gated", "instance_max")]
    attention = ("attention", "gated")
    return tens + [Look(Setting(mean, 400, model, seed)) for mean in (50, 100) for seed in range(3) for model in attention]


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Each model is a run."""
    bags = MnistBags.read(data / "mnist")
    return [run_of(bags, look) for look in looks(fast=fast)]


def run_of(bags: MnistBags, look: Look) -> Run:
    """The run of a look."""
    return Run(look.name, look.plain(), look.setting.seed, lambda: work(bags, look))
