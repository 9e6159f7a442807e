"""Key instances on MNIST-bags (Shin et al.): localise the nines with the models of `mnist_bags`."""

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
TEST_POSITIVES = {10: 300, 50: 80, 100: 40, 400: 16}
"""Number of positive test bags that are scored, by mean number of digits; longer bags take more time."""
SWEEP_POSITIVES = {10: 25, 50: 12, 100: 6, 400: 3}
"""Number of positive validation bags on which settings are compared."""
VAL_POSITIVES = {10: 50, 50: 40, 100: 24, 400: 8}
"""Number of positive validation bags on which thresholds are selected."""


@dataclass(frozen=True)
class KeySetting:
    """Setting of key instances of one model.

    Attributes:
        setting: setting of the model.
        sharpened: factor of the attention logits; a larger one concentrates attention on fewer instances.
    """

    setting: Setting
    sharpened: float = 1.0

    @property
    def name(self) -> str:
        """Path of its JSON file, without suffix."""
        return f"mnist_keys/{self.setting.name}" + (f"-sharpened-{self.sharpened:g}" if self.sharpened != 1 else "")

    def as_json(self) -> dict[str, Any]:
        """Return everything that determines its figures, as plain JSON."""
        mean = self.setting.mean
        bags = {"test": TEST_POSITIVES[mean], "sweep": SWEEP_POSITIVES[mean], "val": VAL_POSITIVES[mean]}
        return {
            **self.setting.as_json(),
            "sharpened": self.sharpened,
            "positive_bags": bags,
            "sweep": [[s.step, s.penalty, s.steps] for s in keys.SWEEP],
        }


def positive_bags(data: MnistBags, part: str, setting: Setting, n: int) -> list[keys.AnnotatedBag]:
    """Return the first `n` positive bags of a part."""
    seed, n_bags = (TEST_SEED, TEST_BAGS) if part == "test" else (setting.seed, 2 * n)
    rows = data.bag_rows(part, setting.mean, n_bags, seed)[: 2 * n : 2]
    labels = getattr(data, part).labels
    bags = data.bags(part, setting.mean, n_bags, seed).read(range(0, 2 * n, 2))
    return [keys.AnnotatedBag(item.bag, labels[of_bag] == TARGET) for item, of_bag in zip(bags, rows, strict=True)]


def sharpen(model: MILModel, factor: float) -> None:
    """Multiply the attention logits by a factor, in place; their order does not change."""
    with torch.no_grad():
        for parameter in model.attention.parameters():
            parameter.mul_(factor)


def work(data: MnistBags, key_setting: KeySetting) -> dict[str, Any]:
    """Return the figures of every score on the test bags, at thresholds selected on validation bags."""
    setting = key_setting.setting
    mean = setting.mean
    model, _ = data.model(setting)
    val = positive_bags(data, "val", setting, VAL_POSITIVES[mean])
    test = positive_bags(data, "test", setting, TEST_POSITIVES[mean])
    has_attention = "attention" in model.provides
    if has_attention:
        sharpen(model, key_setting.sharpened)
    rows = keys.sweep(model, val[: SWEEP_POSITIVES[mean]], DIGITS_ARE_BRIGHT, keys.SWEEP) if has_attention else []
    inversions = keys.inversions_for(rows) if has_attention else []
    thresholds = keys.thresholds(keys.score_bags(model, val, inversions, DIGITS_ARE_BRIGHT))
    bags = keys.score_bags(model, test, inversions, DIGITS_ARE_BRIGHT)
    return {
        "summary": keys.summary(bags),
        "thresholds": thresholds,
        "scores": keys.figures([(bag, thresholds) for bag in bags]),
        "sweep": rows,
        "settings": {i.name: [i.settings.step, i.settings.penalty, i.settings.steps] for i in inversions},
    }


def key_settings(*, fast: bool) -> list[KeySetting]:
    """Return a setting for each attention model of `mnist_bags`, and for the instance-level baseline."""
    if fast:
        return [KeySetting(Setting(10, 200, model, 0)) for model in ("attention", "instance_max")]
    tens = [KeySetting(Setting(10, 200, model, seed)) for seed in range(5) for model in ("attention", "gated", "instance_max")]
    attention = ("attention", "gated")
    more = [KeySetting(Setting(mean, 400, model, seed)) for mean in (50, 100) for seed in range(3) for model in attention]
    return tens + more


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each setting."""
    bags = MnistBags.read(data / "mnist")
    return [run_of(bags, key_setting) for key_setting in key_settings(fast=fast)]


def run_of(bags: MnistBags, key_setting: KeySetting) -> Run:
    """Return the run of a setting."""
    return Run(key_setting.name, key_setting.as_json(), key_setting.setting.seed, lambda: work(bags, key_setting))
