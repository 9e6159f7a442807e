#!/usr/bin/env python3
"""Measure the CPU time of `mean_linear` on all folds, compared with reading all features once.

python benchmarks/mean_linear.py [--slides 100] [--tiles 5000] [--dim 1024] [--folds 5] [--rounds 3]

Feature stores are written to a temporary folder, 1 GB with the defaults. Each figure is the CPU time (user and system) of a
process of its own after its imports, least of the rounds, which take turns; files are in the system's memory. "read" copies
every bag into memory, as an epoch of any model does; "convert" also makes float32 of it, as every model needs it; "describe"
reads and sums it in float64, once; "train" fits every fold.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from wsi_mil.store import FeatureStore

TINY = {"slides": 12, "tiles": 40, "dim": 16, "folds": 2, "rounds": 1}
METHODS = ("read", "convert", "describe", "train")

SCRIPT = """
import json, os, sys, time
from pathlib import Path
import torch
import sklearn.linear_model
from wsi_mil.cohort.splits import draw_splits
from wsi_mil.config import Split, parse_model
from wsi_mil.records import SlideRow
from wsi_mil.store import read_bag
from wsi_mil.tasks import Classes
from wsi_mil.train import Fold, train_fold
from wsi_mil.train.slide_statistics import statistics_of_bag
method, folder, slides, folds, statistics, out = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5]), *sys.argv[5:7]
torch.set_num_threads(1)
rows = [SlideRow(f"s{i:04d}", Path("x"), ("normal", "tumour")[i % 2], f"p{i:04d}") for i in range(slides)]
receipts = [folder / f"{row.slide_id}.json" for row in rows]
splits, task = draw_splits(rows, Classes(("normal", "tumour")), Split(folds=folds)), Classes(("normal", "tumour"))
settings = parse_model({"model": "mean_linear", "statistics": statistics})
start = time.process_time()
if method in ("read", "convert"):
    for receipt in receipts:
        bag = torch.from_numpy(read_bag(receipt).features)
        bag = bag.float() if method == "convert" else bag
elif method == "describe":
    for receipt in receipts:
        statistics_of_bag("", [receipt], None)
else:
    for fold in range(folds):
        own = Fold(splits, fold, folder, task, statistics=Path(out) / "kept")
        train_fold(own, settings, Path(out) / f"fold-{fold}", torch.device("cpu"))
print(json.dumps(time.process_time() - start))
"""


def write_slides(folder: Path, slides: int, tiles: int, dim: int) -> None:
    """Write feature stores of random features; those of every second slide are a little higher."""
    rng = np.random.default_rng(0)
    block = rng.normal(size=(tiles, dim)).astype(np.float32)
    for number in range(slides):
        features = (block + rng.normal(size=dim) / 10 + (number % 2) / 30).astype(np.float16)
        about = {"encoder": "e", "weights_hash": "h", "mpp": 0.5, "tile_px": 224, "fingerprint": f"{number} {tiles} {dim}"}
        coords = np.zeros((tiles, 2), np.int64)
        with FeatureStore(folder / f"s{number:04d}.zarr", coords=coords, batch_size=64, attributes=about) as store:
            store.begin(dim)
            while not store.is_complete:
                part = slice(store.rows_done, store.rows_done + store.shard_rows)
                store.append_shard(features[part], np.ones(len(features[part]), bool))


def cpu_seconds(method: str, folder: Path, args: argparse.Namespace, statistics: str = "mean") -> float:
    """Return the CPU time of a method, in a new process."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", SCRIPT, method, str(folder), str(args.slides), str(args.folds), statistics, out]
        return float(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def measure(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Return the figures."""
    write_slides(folder, args.slides, args.tiles, args.dim)
    runs = [(method, "mean") for method in METHODS] + [("train", "mean_std")]
    found: dict[tuple[str, str], list[float]] = {run: [] for run in runs}
    for _ in range(args.rounds):
        for run in runs:
            found[run].append(cpu_seconds(run[0], folder, args, run[1]))
    read, convert, describe, train, both = (min(found[run]) for run in runs)
    return {
        "read_s": read,
        "convert_s": convert,
        "describe_s": describe,
        "train_s": train,
        "train_mean_std_s": both,
        "train_vs_describe": train / describe,
        "train_mean_std_vs_describe": both / describe,
        "train_vs_convert": train / convert,
        "train_vs_read": train / read,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--tiles", type=int, default=5000, help="tiles per slide")
    parser.add_argument("--dim", type=int, default=1024, help="length of a feature vector")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    vars(args).update(TINY if args.tiny else {})
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        figures = {name: round(value, 3) for name, value in measure(Path(folder), args).items()}
    for name, value in figures.items():
        print(f"{name:28s} {value:10.3f}")
    print(f"total time {time.perf_counter() - start:.0f} s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
