#!/usr/bin/env python3
"""Test whether the aggregators learn on synthetic bags, and measure time and memory of a training step.

    python benchmarks/train.py                     all parts but `curves`, about an hour on two cores
    python benchmarks/train.py learning memory     some of the parts
    python benchmarks/train.py --tiny              all parts but `reading` at their smallest, without limits

learning    60 bags of 500 to 1,000 instances × 256, 2 % positive, hard negatives; AUROC on 60 new bags
permuted    the same with permuted labels: the interval of AUROC over ten seeds must include 0.5
curves      learning curves: 16 to 400 bags of 200 to 400 instances, 0.5, 2 and 8 % of them positive; takes hours
steps       time of updates on 8,000 × 1,024 and on 200, as ratios; with torchmil: `pip install -e '.[bench]'`
memory      peak memory of a step: MHIM compared with TransMIL, and bags of 100,000 × 1,024
reading     an epoch over feature stores, compared with numpy.load, and with the slower of reading and computing

The exit code is 1 if a figure is outside its limits.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy import stats

from wsi_mil.models import ClassLoss

sys.path.insert(0, str(Path(__file__).parent))
import bag_read
import epoch
from train_bags import FULL, TINY, Size, synthetic_bags
from trained import Recipe, trained

from wsi_mil.bags import LabelledBag
from wsi_mil.config import MHIM, Training, parse_model
from wsi_mil.metrics import auroc
from wsi_mil.models import MILModel, create_mhim, create_model
from wsi_mil.tasks import Classes
from wsi_mil.train import predict_outputs
from wsi_mil.train.optimizers import create_optimizer

EASY, HARD = 8.0, 4.0
"""Distance of positive instances and hard negatives from the others, in standard deviations of a latent direction."""

DEFAULT_RECIPE = ("abmil", "transmil", "dsmil", "mhim")
"""Kinds of model that are trained with the package's default settings; all others with `TRAINING`."""
TRAINING = {
    **{"lr": 0.001, "epochs": 20, "patience": 20, "min_epochs": 20, "min_improvement": 0, "schedule": "cosine"},
    **{"accumulate": 1, "instance_dropout": 0.0, "min_val_bags": 1},
}
C16_TRANSMIL = {"random_ratio": 0.0, "low_ratio": 0.8, "high_ratio": 0.03, "momentum_schedule": "cosine"}
HALF_AT_RANDOM = {"random_ratio": 0.5, "high_ratio": 0.0}
"""Masked without a look at the teacher's scores; the default masking takes some of the highest besides."""
LEARNERS: dict[str, dict[str, object]] = {
    "instance_max": {"model": "instance_pool", "pool": "max", "dropout": 0.75},
    "instance_mean": {"model": "instance_pool", "pool": "mean"},
    "embedding_max": {"model": "embedding_pool", "pool": "max"},
    "embedding_mean": {"model": "embedding_pool", "pool": "mean"},
    "abmil": {"model": "abmil", "gated": False},
    "gated_abmil": {"model": "abmil"},
    "clam_sb": {"model": "clam", "embed_dim": 256},
    "clam_mb": {"model": "clam", "embed_dim": 256, "branches": "multi"},
    "dtfd_afs": {"model": "dtfd", "embed_dim": 256},
    "dtfd_maxs": {"model": "dtfd", "embed_dim": 256, "distil": "maxs"},
    "dtfd_maxmins": {"model": "dtfd", "embed_dim": 256, "distil": "maxmins"},
    "noisy_and": {"model": "kraus_pool"},
    "noisy_or": {"model": "kraus_pool", "pool": "noisy_or", "dropout": 0.75},
    "isr": {"model": "kraus_pool", "pool": "isr"},
    "generalised_mean": {"model": "kraus_pool", "pool": "generalised_mean"},
    "log_sum_exp": {"model": "kraus_pool", "pool": "log_sum_exp"},
    "dsmil": {"model": "dsmil"},
    "transmil": {"model": "transmil", "embed_dim": 128, "heads": 4},
    "mhim_gated_abmil": {"model": "mhim", "base": "gated_abmil"},
    "mhim_dsmil": {"model": "mhim", "base": "dsmil"},
    "mhim_transmil": {"model": "mhim", "base": "transmil"},
    "mhim_transmil_c16": {"model": "mhim", "base": "transmil", **C16_TRANSMIL},
    "mhim_gated_abmil_half": {"model": "mhim", "base": "gated_abmil", **HALF_AT_RANDOM},
    "mhim_dsmil_half": {"model": "mhim", "base": "dsmil", **HALF_AT_RANDOM},
    "mhim_transmil_half": {"model": "mhim", "base": "transmil", **HALF_AT_RANDOM},
}
REQUIRED = ("gated_abmil", "dsmil", "transmil", "mhim_gated_abmil", "mhim_transmil", "mhim_transmil_c16")
"""Models that must learn at both distances, and nothing from permuted labels."""
OWN_TRAINING = {name: {"instance_dropout": 0.9, "weight_decay": 0.1} for name in ("instance_max", "noisy_or")}
"""Without these settings and the dropout above, max pooling memorises single instances in about every second seed (AUROC 0.5),
and noisy-OR in every third.
"""

FULL_SIZE: dict[str, dict[str, object]] = {
    "abmil": {"model": "abmil", "embed_dim": 512, "dropout": 0.0},
    "dsmil": {"model": "dsmil", "embed_dim": 512},
    "transmil": {"model": "transmil", "attention": "nystrom"},
    "transmil_exact": {"model": "transmil", "attention": "exact"},
}
CURVES = ("gated_abmil", "transmil", "mhim_gated_abmil", "dsmil")
SHARES = (0.005, 0.02, 0.08)
"""Share of positive instances in a positive bag."""
LIMITS: dict[str, tuple[float, float]] = {
    "mhim_transmil_time": (0, 0.8),
    "mhim_transmil_memory": (0, 0.6),
    "abmil_vs_torchmil": (0, 1.0),
    "transmil_vs_torchmil": (0, 1.0),
    "exact_vs_nystrom_200": (0, 0.3),
    "dsmil_vs_torchmil": (0, 1.0),
    "transmil_100k_gb": (0, 6),
    "abmil_100k_gb": (0, 3),
    "bag_read_vs_numpy": (0.5, np.inf),
    "train_epoch_vs_bound_held": (0, 1.1),
    "train_epoch_vs_bound_disk": (0, 1.1),
}


def train_model(name: str, bags: list[LabelledBag], seed: int, size: Size) -> MILModel:
    """Train a model on three quarters of the bags, the rest selecting the epoch."""
    n_train = len(bags) * 3 // 4 // 2 * 2
    training = {
        each: {**TRAINING, **OWN_TRAINING.get(each, {})} for each in LEARNERS if LEARNERS[each]["model"] not in DEFAULT_RECIPE
    }
    return trained(name, Recipe(LEARNERS, training, size.training), (bags[:n_train], bags[n_train:]), seed)


def learning_auroc(size: Size, task: tuple[str, int, float, bool]) -> float:
    """Return the AUROC on new bags, for (model, seed, distance, whether labels are permuted)."""
    name, seed, distance, is_permuted = task
    torch.set_num_threads(1)
    bags, new = (synthetic_bags(size.bags, 10 * seed + k, distance, sizes=size.instances) for k in (1, 2))
    if is_permuted:
        labels = np.random.default_rng(seed).permutation([b.label for b in (*bags, *new)])
        permuted_bags = [LabelledBag(b.bag, int(label)) for b, label in zip((*bags, *new), labels, strict=True)]
        bags, new = permuted_bags[: size.bags], permuted_bags[size.bags :]
    return auroc_on(train_model(name, bags, seed, size), new)


def auroc_on(model: MILModel, bags: list[LabelledBag]) -> float:
    """Return the AUROC of a model on bags."""
    return auroc(np.array([b.label for b in bags]), predict_outputs(model, bags, Classes.numbered(2)))


def learning(size: Size) -> dict[str, float]:
    """Measure AUROC on new bags of every model."""
    tasks = [(name, seed, distance, False) for distance in (EASY, HARD) for name in LEARNERS for seed in size.seeds]
    tasks.sort(key=lambda task: "transmil" not in task[0])
    start = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        values = dict(zip(tasks, pool.map(partial(learning_auroc, size), tasks), strict=True))
    print(f"{'AUROC on new bags':24s}{f'distance {EASY:g}, by seed':>32s}{f'distance {HARD:g}, by seed':>32s}")
    figures = {}
    for name in LEARNERS:
        rows = {d: [values[name, seed, d, False] for seed in size.seeds] for d in (EASY, HARD)}
        print(f"{name:24s}" + "".join(f"{'  '.join(f'{v:.3f}' for v in row):>32s}" for row in rows.values()))
        figures |= {f"{name}_auroc_min": min(rows[EASY]), f"{name}_hard_auroc_mean": mean(rows[HARD])}
        if name in REQUIRED:
            figures[f"{name}_hard_auroc_min"] = min(rows[HARD])
    return {**figures, "learning_seconds": time.monotonic() - start}


def permuted(size: Size) -> dict[str, float]:
    """Measure the interval of AUROC over seeds after training on permuted labels."""
    tasks = [(name, seed, EASY, True) for name in REQUIRED for seed in size.permuted_seeds]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        values = dict(zip(tasks, pool.map(partial(learning_auroc, size), tasks), strict=True))
    figures = {}
    for name in REQUIRED:
        own = [value for task, value in values.items() if task[0] == name]
        low, high = stats.t.interval(0.95, len(own) - 1, mean(own), stats.sem(own))
        print(f"{name:24s}permuted labels, {len(own)} seeds: mean AUROC {mean(own):.3f}, 95 % interval {low:.3f} to {high:.3f}")
        figures |= {f"{name}_permuted_low": float(low), f"{name}_permuted_high": float(high)}
    return figures


def curve_auroc(size: Size, task: tuple[str, int, float, int]) -> float:
    """Return the AUROC on new bags, for (model, number of bags, share of positive instances, seed)."""
    name, n, evidence, seed = task
    torch.set_num_threads(1)
    sizes = size.curve_instances
    bags, new = (synthetic_bags(m, 10 * seed + k, HARD, evidence=evidence, sizes=sizes) for k, m in ((1, n), (2, size.bags)))
    return auroc_on(train_model(name, bags, seed, size), new)


def curves(size: Size) -> dict[str, float]:
    """Measure AUROC by number of bags and share of positive instances."""
    tasks = [(name, n, evidence, seed) for n in size.cohorts for evidence in SHARES for name in CURVES for seed in size.seeds]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        values = dict(zip(tasks, pool.map(partial(curve_auroc, size), tasks), strict=True))
    for evidence in SHARES:
        print(f"{f'evidence {evidence:.1%}':24s}" + "".join(f"{f'{n} bags':>12s}" for n in size.cohorts))
        for name in CURVES:
            means = [mean(values[name, n, evidence, seed] for seed in size.seeds) for n in size.cohorts]
            print(f"{name:24s}" + "".join(f"{value:12.3f}" for value in means))
    return {f"{name}_{n}_{evidence:g}": value for (name, n, evidence, seed), value in values.items() if seed == size.seeds[0]}


def full_size(name: str) -> tuple[MILModel, Training]:
    """Return a model of the usual width, and its training settings; MHIM masks as published for CAMELYON16."""
    settings = parse_model({"model": "mhim", "base": "transmil", **C16_TRANSMIL} if name == "mhim" else FULL_SIZE[name])
    torch.manual_seed(0)
    if isinstance(settings, MHIM):
        base, student = (create_model(parse_model(FULL_SIZE["transmil"]), feature_dim=1024, n_classes=2) for _ in range(2))
        return create_mhim(settings, base=base, student=student).train(), settings.train
    return create_model(settings, feature_dim=1024, n_classes=2).train(), settings.train


def step_of(name: str, bags: torch.Tensor) -> Callable[[], None]:
    """Return a function that does a full update of our model: loss, gradient, optimiser (Adam for all), teacher."""
    model, training = full_size(name)
    optimizer = create_optimizer(model, training.model_copy(update={"optimizer": "adam"}))

    def step() -> None:
        loss = model.training_loss(bags, torch.tensor([1]), ClassLoss(torch.ones(2)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.after_update(0.0)

    return step


def torchmil_step_of(name: str, bags: torch.Tensor) -> Callable[[], None]:
    """Return a function that does a full update of torchmil's model of the same width.

    Its TransMIL has neither output layers nor a convolution of the values.
    """
    from torchmil import models

    torch.manual_seed(0)
    embedding = torch.nn.Sequential(torch.nn.Linear(1024, 512), torch.nn.ReLU())
    model = {
        "abmil": lambda: models.ABMIL(in_shape=(1024,), att_dim=128, gated=True, feat_ext=embedding),
        "dsmil": lambda: models.DSMIL(in_shape=(1024,), att_dim=128, nonlinear_q=True, feat_ext=embedding),
        "transmil": lambda: models.TransMIL(in_shape=(1024,), att_dim=512, n_heads=8, n_landmarks=256, dropout=0.1),
    }[name]().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)

    def step() -> None:
        _, losses = model.compute_loss(torch.tensor([1.0]), bags)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def in_turn(first: Callable[[], None], second: Callable[[], None], *, rounds: int) -> float:
    """Return the time of the first divided by that of the second: median over alternating rounds, after a warm-up."""
    times = [[_seconds(first), _seconds(second)] for _ in range(rounds + 1)][1:]
    return median(a / b for a, b in times)


def _seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def steps(size: Size) -> dict[str, float]:
    """Measure ratios of the time of an update."""
    bags = torch.rand(1, size.large, 1024, generator=torch.Generator().manual_seed(0))
    few, rounds = bags[:, : size.few], size.rounds
    figures = {
        "mhim_transmil_time": in_turn(step_of("mhim", bags), step_of("transmil", bags), rounds=rounds),
        "exact_vs_nystrom_200": in_turn(step_of("transmil_exact", few), step_of("transmil", few), rounds=rounds),
    }
    if importlib.util.find_spec("torchmil") is None:
        print("torchmil is skipped: it is not installed (pip install -e '.[bench]')")
        names: tuple[str, ...] = ()
    else:
        names = ("abmil", "transmil", "dsmil")
    for name in names:
        figures[f"{name}_vs_torchmil"] = in_turn(step_of(name, bags), torchmil_step_of(name, bags), rounds=rounds)
    for key, value in figures.items():
        print(f"{key:32s}{value:8.3f}")
    return figures


def memory(size: Size) -> dict[str, float]:
    """Measure the peak memory of an update."""
    added = {name: _in_child(name, size.large)[1] for name in ("mhim", "transmil")}
    figures = {"mhim_transmil_memory": added["mhim"] / added["transmil"]}
    for name in ("transmil", "abmil"):
        figures[f"{name}_100k_gb"] = _in_child(name, size.many)[0]
    print(
        f"a step on {size.large:,} × 1,024 adds {added['transmil']:.2f} GB with TransMIL,"
        f" {added['mhim']:.2f} GB with MHIM over it"
    )
    for key, value in figures.items():
        print(f"{key:32s}{value:8.3f}")
    return figures


def _in_child(name: str, n: int) -> tuple[float, float]:
    """Return the peak memory of a process that does two updates, and what the updates added, in GB."""
    command = [sys.executable, __file__, "--measure", name, "--instances", str(n)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak, added = json.loads(done.stdout.splitlines()[-1])
    return peak, added


def measure(name: str, n: int) -> None:
    """Do two updates and print the peak memory, and what they added, in GB."""
    torch.set_num_threads(1)
    step = step_of(name, torch.rand(1, n, 1024))
    before = _memory_gb("VmRSS")
    for _ in range(2):
        step()
    print(json.dumps([_memory_gb("VmHWM"), _memory_gb("VmHWM") - before]))


def _memory_gb(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e9


def reading(size: Size) -> dict[str, float]:
    """Measure reading feature stores, alone and while a model is trained."""
    is_tiny = size == TINY
    found = bag_read.figures(**(bag_read.TINY if is_tiny else {})) | epoch.figures(**(epoch.TINY if is_tiny else {}))
    figures = {name: found[name] for name in ("bag_read_vs_numpy", "train_epoch_vs_bound_held", "train_epoch_vs_bound_disk")}
    for key, value in figures.items():
        print(f"{key:32s}{value:8.3f}")
    return figures


PARTS: dict[str, Callable[[Size], dict[str, float]]] = {
    "learning": learning,
    "permuted": permuted,
    "curves": curves,
    "steps": steps,
    "memory": memory,
    "reading": reading,
}


def violations(figures: dict[str, float]) -> Iterator[str]:
    """Yield a message for each figure outside its limits."""
    for name, (low, high) in LIMITS.items():
        if name in figures and not low <= figures[name] <= high:
            yield f"{name} is {figures[name]:.3f}, expected from {low} to {high}"
    for name, value in figures.items():
        minimum = 0.95 if name.partition("_auroc")[0].removesuffix("_hard") in REQUIRED else 0.9
        if name.endswith("_min") and value < minimum:
            yield f"{name} is {value:.3f}, expected at least {minimum}"
        stem, is_low, _ = name.partition("_permuted_low")
        if is_low and not value <= 0.5 <= figures[f"{stem}_permuted_high"]:
            yield f"{stem} is better or worse than chance on permuted labels"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"parts to run: {', '.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch for the part `steps`")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, to see that it runs; without limits")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--instances", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.instances)
        return
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; expected {', '.join(PARTS)}")
    torch.set_num_threads(args.threads)
    figures: dict[str, float] = {}
    left_out = "reading" if args.tiny else "curves"
    for name in args.parts or [name for name in PARTS if name != left_out]:
        print(f"--- {name}")
        figures |= PARTS[name](TINY if args.tiny else FULL)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    faults = [] if args.tiny else list(violations(figures))
    sys.exit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()
