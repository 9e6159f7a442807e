"""Where sparse inversion may help more: bags of 400 digits, models trained to the end, attention on few instances."""

from pathlib import Path

from benchmarks.papers.mnist_bags import LONG, TO_THE_END, MnistBags, Setting
from benchmarks.papers.mnist_bags import run_of as bags_run
from benchmarks.papers.mnist_keys import Look
from benchmarks.papers.mnist_keys import run_of as keys_run
from benchmarks.papers.runs import Run

SEEDS = range(3)


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Bag figures of the models that are trained for this, and key instances."""
    if fast:
        return []
    bags = MnistBags.read(data / "mnist")
    sharp = [keys_run(bags, Look(Setting(50, 400, "attention", seed), factor)) for factor in (3.0, 10.0) for seed in SEEDS]
    sizes, long = ((10, 200), (50, 400)), tuple(LONG.items())
    trained = [Setting(mean, n, "attention", seed, long, TO_THE_END) for mean, n in sizes for seed in SEEDS]
    trained += [Setting(400, 200, "attention", seed) for seed in SEEDS]
    return sharp + [run for setting in trained for run in (bags_run(bags, setting), keys_run(bags, Look(setting)))]
