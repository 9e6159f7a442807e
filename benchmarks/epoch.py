#!/usr/bin/env python3
"""Time an epoch of training over feature stores, compared with the larger of reading alone and computing alone.

python benchmarks/epoch.py [--bags 12] [--most 20000] [--dim 1024] [--rounds 7]

Needs two idle cores: on a busy machine reading takes time from computing, and no figure of wall time means anything. The figures
with `cpu` are those of the thread that computes: what an epoch costs it in CPU time, compared with computing alone.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import bag_read

from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.config import parse_model
from wsi_mil.models import create_model
from wsi_mil.store import read_bag
from wsi_mil.tasks import Classes
from wsi_mil.train import fit

KINDS = ("reading", "computing", "held", "disk", "cached")
"""What is timed in each round: reading files that are not in memory, and an epoch on bags in memory, on stores that are kept, on
stores whose files are not in memory, and on stores whose files the system has in memory.
"""


@dataclass(frozen=True)
class Cohort:
    """Feature stores of the training bags; every third validates, too."""

    receipts: list[Path]

    def bags(self, receipts: list[Path], keep_bytes: int) -> BagSet:
        """Return bags that are read from their stores."""
        return BagSet([i % 2 for i in range(len(receipts))], lambda i: read_bag(receipts[i]), keep_bytes=keep_bytes)

    def parts(self, keep_bytes: int) -> tuple[BagSet, BagSet]:
        """Return training and validation bags."""
        return self.bags(self.receipts, keep_bytes), self.bags(self.receipts[::3], keep_bytes)

    def in_memory(self) -> tuple[BagSet, BagSet]:
        """Return training and validation bags that need no reading."""
        bags = [LabelledBag(read_bag(receipt), i % 2) for i, receipt in enumerate(self.receipts)]
        validation = [LabelledBag(bag.bag, i % 2) for i, bag in enumerate(bags[::3])]
        return BagSet.of(bags), BagSet.of(validation)

    def forget(self) -> None:
        """Have the system drop its copies of the files, where it can (Linux)."""
        for file in (f for receipt in self.receipts for f in receipt.with_suffix(".zarr").rglob("*") if f.is_file()):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return the wall time of some work, and the CPU time of this thread in it."""
    start, cpu = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - start, time.thread_time() - cpu


TINY = {"n_bags": 3, "most": 40, "dim": 16, "rounds": 1}


def figures(n_bags: int = 12, most: int = 20_000, dim: int = 1024, rounds: int = 7) -> dict[str, float]:
    """Return the time of an epoch of ABMIL by that of the slower of its parts, medians over rounds after a warm-up."""
    with TemporaryDirectory() as name:
        sizes = np.linspace(max(1, most // 7), most, n_bags).astype(int).tolist()
        features = [bag_read.relu_features(n, dim, i) for i, n in enumerate(sizes)]
        cohort = Cohort([bag_read.write_slide(Path(name), f"s{i}", values) for i, values in enumerate(features)])
        times = [_round(cohort, dim) for _ in range(rounds + 1)][1:]
    found = {}
    for kind, reading in (("held", 0.0), ("disk", 1.0), ("cached", 0.0)):
        wall = [t[kind][0] / max(reading * t["reading"][0], t["computing"][0]) for t in times]
        found[f"train_epoch_vs_bound_{kind}"] = statistics.median(wall)
        found[f"train_epoch_cpu_{kind}"] = statistics.median(t[kind][1] / t["computing"][1] for t in times)
    return {**found, **{f"{kind} s": statistics.median(t[kind][0] for t in times) for kind in KINDS}}


def _round(cohort: Cohort, dim: int) -> dict[str, tuple[float, float]]:
    """Time everything once."""
    memory, disk, held = cohort.in_memory(), cohort.parts(0), cohort.parts(10**12)
    for part in held:
        list(part)
    cohort.forget()
    times = {"reading": seconds(lambda: [None for part in disk for _ in part])}
    for kind, parts in (("computing", memory), ("held", held), ("disk", disk), ("cached", disk)):
        if kind == "disk":
            cohort.forget()
        times[kind] = seconds(_epoch(parts, dim))
    return times


def _epoch(parts: tuple[BagSet, BagSet], dim: int) -> Callable[[], object]:
    """Return a function that trains for an epoch, validation included."""
    settings = parse_model({"model": "abmil", "train": {"epochs": 1, "select": "last"}})
    torch.manual_seed(0)
    model = create_model(settings, feature_dim=dim, n_classes=2)
    return lambda: fit(model, *parts, settings.train, task=Classes.numbered(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bags", type=int, default=12, help="number of training bags")
    parser.add_argument("--most", type=int, default=20_000, help="instances of the largest bag; the smallest has a seventh")
    parser.add_argument("--dim", type=int, default=1024, help="length of a feature vector")
    parser.add_argument("--rounds", type=int, default=7, help="rounds measured")
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = figures(**TINY) if args.tiny else figures(args.bags, args.most, args.dim, args.rounds)
    rounded = {name: round(value, 3) for name, value in found.items()}
    for name, value in rounded.items():
        print(f"{name:40s} {value:10.3f}")
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
