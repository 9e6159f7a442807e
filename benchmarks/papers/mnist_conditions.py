"""Conditions that may favour sparse inversion: bags of 400 digits, no early stopping, attention on few instances."""

from pathlib import Path

from benchmarks.papers.mnist_bags import NO_STOPPING, TO_THE_END, MnistBags, Setting
from benchmarks.papers.mnist_bags import run_of as bags_run
from benchmarks.papers.mnist_keys import KeySetting
from benchmarks.papers.mnist_keys import run_of as keys_run
from benchmarks.papers.runs import Run

SEEDS = range(3)


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return runs of bag figures for models that only these conditions need, and of key instances."""
    if fast:
        return []
    bags = MnistBags.read(data / "mnist")
    sharp = [keys_run(bags, KeySetting(Setting(50, 400, "attention", seed), factor)) for factor in (3.0, 10.0) for seed in SEEDS]
    no_stopping = tuple(NO_STOPPING.items())
    settings = [Setting(mean, n, "attention", s, no_stopping, TO_THE_END) for mean, n in ((10, 200), (50, 400)) for s in SEEDS]
    settings += [Setting(400, 200, "attention", seed) for seed in SEEDS]
    return sharp + [run for setting in settings for run in (bags_run(bags, setting), keys_run(bags, KeySetting(setting)))]
