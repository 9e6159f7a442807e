#!/usr/bin/env python3
"""Time reading bags from feature stores, compared with numpy.load of the same features (one thread, files in page cache).

python benchmarks/bag_read.py [--slides 12] [--dim 1024] [--epochs 7]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import zarr
from numpy.typing import NDArray

from wsi_mil.store import FeatureStore, read_bag

TINY = {"slides": 2, "dim": 16, "epochs": 1}
SMALL = (300, 1280)
"""Tiles and features of a slide of the demo cohort, for which opening the store takes most of the time."""


def write_slide(folder: Path, slide_id: str, features: NDArray[np.float16], *, corrupt: int = 0) -> Path:
    """Write a slide's features as `extract` does, and as .npy; return the path of the receipt."""
    np.save(folder / f"{slide_id}.npy", features)
    n, dim = features.shape
    coords = np.stack([np.arange(n) % 100 * 448, np.arange(n) // 100 * 448], axis=1).astype(np.int64)
    with FeatureStore(folder / f"{slide_id}.zarr", coords=coords, batch_size=64, attributes={"fingerprint": slide_id}) as store:
        store.begin(dim)
        while not store.is_complete:
            shard = features[store.rows_done : store.rows_done + store.shard_rows]
            valid = np.arange(store.rows_done, store.rows_done + len(shard)) >= corrupt
            store.append_shard(shard, valid)
    return folder / f"{slide_id}.json"


def relu_features(n: int, dim: int, seed: int) -> NDArray[np.float16]:
    """Return normal features with negative values set to zero, as after a ReLU."""
    return np.maximum(np.random.default_rng(seed).standard_normal((n, dim), np.float32), 0).astype(np.float16)


def seconds(read: Callable[[Path], object], receipts: list[Path]) -> float:
    """Return the seconds of one epoch; each bag is freed before the next is read."""
    start = time.perf_counter()
    for receipt in receipts:
        read(receipt)
    return time.perf_counter() - start


def read_npy(receipt: Path) -> NDArray[np.float16]:
    """Read the same features with numpy."""
    array: NDArray[np.float16] = np.load(receipt.with_suffix(".npy"))
    return array


def medians(receipts: list[Path], epochs: int) -> tuple[float, float]:
    """Return median seconds per epoch of numpy and of `read_bag`, measured alternately after one warm-up epoch."""
    pairs = [(seconds(read_npy, receipts), seconds(read_bag, receipts)) for _ in range(epochs + 1)][1:]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


@contextmanager
def one_thread() -> Iterator[None]:
    """Make Zarr decode chunks in one thread, one after another."""
    with zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1}):
        yield


def figures(slides: int = 12, dim: int = 1024, epochs: int = 7) -> dict[str, float]:
    """Return the time of numpy divided by the time of `read_bag` (larger is better), and related figures."""
    sizes = [int(n) for n in np.linspace(3000, 20_000, slides)]
    with TemporaryDirectory() as name, one_thread():
        folder = Path(name)
        large = [write_slide(folder, f"large{i}", relu_features(n, dim, i)) for i, n in enumerate(sizes)]
        corrupt = [write_slide(folder, f"corrupt{i}", relu_features(n, dim, i), corrupt=3) for i, n in enumerate(sizes[:3])]
        small = [write_slide(folder, f"small{i}", relu_features(*SMALL, i)) for i in range(20)]
        disk = sum(file.stat().st_size for r in large for file in r.with_suffix(".zarr").rglob("*") if file.is_file())
        numpy_s, bag_s = medians(large, epochs)
        corrupt_numpy_s, corrupt_bag_s = medians(corrupt, epochs)
        small_numpy_s, small_bag_s = medians(small, epochs)
    return {
        "bag_read_vs_numpy": numpy_s / bag_s,
        "bag_read_vs_numpy with corrupt tiles": corrupt_numpy_s / corrupt_bag_s,
        "bag_read GB/s": sum(sizes) * dim * 2 / bag_s / 1e9,
        "numpy GB/s": sum(sizes) * dim * 2 / numpy_s / 1e9,
        "small bag_read ms": small_bag_s / len(small) * 1000,
        "small numpy ms": small_numpy_s / len(small) * 1000,
        "store bytes per feature byte": disk / (sum(sizes) * dim * 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slides", type=int, default=12, help="number of large slides")
    parser.add_argument("--dim", type=int, default=1024, help="length of a feature vector")
    parser.add_argument("--epochs", type=int, default=7, help="epochs measured")
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    vars(args).update(TINY if args.tiny else {})
    rounded = {name: round(value, 3) for name, value in figures(args.slides, args.dim, args.epochs).items()}
    for name, value in rounded.items():
        print(f"{name:40s} {value:10.3f}")
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
