#!/usr/bin/env python3
"""Measure time and peak memory of cohort statistics: for ten and a hundred slides, and compared with plain numpy.

python benchmarks/cohort_statistics.py [--slides 10] [--tiles 4000] [--dim 1280] [--threads 2]

Feature stores are written to a temporary folder, 1.1 GB with the defaults. Each figure is measured in a new process; memory
is what is added after imports. Plain numpy loads all tiles as float64 and calls numpy.cov.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from wsi_mil.runtime.threads import limit_threads
from wsi_mil.store import FeatureStore

TINY = {"slides": 2, "tiles": 200, "dim": 24, "threads": 1}
FACTOR = 10
"""Ratio of the larger cohort to the smaller one."""
MIB = 1 << 20

SCRIPT = """
import json, resource, sys, time
from pathlib import Path
from wsi_mil.runtime.threads import limit_threads
method, folder, slides, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
limit_threads(threads if method == "numpy" else 1)
import numpy as np
from wsi_mil.config import Statistics
from wsi_mil.statistics import write_statistics
from wsi_mil.store import read_bag
names = [f"s{number:03d}" for number in range(slides)]
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
if method == "numpy":
    rows = np.concatenate([read_bag(folder / f"{name}.json").features for name in names]).astype(np.float64)
    np.linalg.eigh(np.cov(rows, rowvar=False))
else:
    write_statistics(names, folder, Statistics(), folder / "out" / "enc.json", threads=threads)
seconds = time.perf_counter() - start
print(json.dumps([seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]))
"""


def write_slides(folder: Path, slides: int, tiles: int, dim: int) -> None:
    """Write feature stores with random features."""
    block = np.random.default_rng(0).normal(size=(tiles, dim)).astype(np.float16)
    for number in range(slides):
        coords = np.zeros((tiles, 2), np.int64)
        attributes = {"fingerprint": "f"}
        with FeatureStore(folder / f"s{number:03d}.zarr", coords=coords, batch_size=64, attributes=attributes) as store:
            store.begin(dim)
            rows = np.roll(block, number, axis=1)
            while not store.is_complete:
                part = slice(store.rows_done, store.rows_done + store.shard_rows)
                store.append_shard(rows[part], np.ones(len(rows[part]), bool))


def measure_once(method: str, folder: Path, slides: int, threads: int) -> tuple[float, float]:
    """Return seconds, and peak memory in MiB added after imports, of a new process."""
    command = [sys.executable, "-c", SCRIPT, method, str(folder), str(slides), str(threads)]
    seconds, mib = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return seconds, mib


def measure(folder: Path, slides: int, tiles: int, dim: int, threads: int) -> dict[str, float]:
    """Return time and memory of both cohorts, of one thread, and of numpy."""
    write_slides(folder, slides * FACTOR, tiles, dim)
    measure_once("wsi_mil", folder, slides * FACTOR, threads)  # loads all files into the page cache
    few_s, few_mib = measure_once("wsi_mil", folder, slides, threads)
    many_s, many_mib = measure_once("wsi_mil", folder, slides * FACTOR, threads)
    one_thread_s, one_thread_mib = measure_once("wsi_mil", folder, slides, 1)
    numpy_s, numpy_mib = measure_once("numpy", folder, slides, threads)
    return {
        f"peak MiB, {slides} slides": few_mib,
        f"peak MiB, {slides * FACTOR} slides": many_mib,
        "features MiB, the most slides": slides * FACTOR * tiles * dim * 2 / MIB,
        "memory_ratio": many_mib / few_mib,
        f"seconds, {slides} slides": few_s,
        f"seconds, {slides * FACTOR} slides": many_s,
        "thousand tiles/s": slides * FACTOR * tiles / many_s / 1000,
        "one_thread_ratio": one_thread_s / few_s,
        f"numpy peak MiB, {slides} slides": numpy_mib,
        "memory_vs_numpy": few_mib / numpy_mib,
        "time_vs_numpy": few_s / numpy_s,
        "one thread peak MiB": one_thread_mib,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slides", type=int, default=10, help="slides of the smaller cohort")
    parser.add_argument("--tiles", type=int, default=4000, help="tiles per slide")
    parser.add_argument("--dim", type=int, default=1280, help="length of a feature vector")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    vars(args).update(TINY if args.tiny else {})
    limit_threads(args.threads)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.slides, args.tiles, args.dim, args.threads)
    figures = {name: round(value, 3) for name, value in figures.items()}
    for name, value in figures.items():
        print(f"{name:40s} {value:10.3f}")
    print(f"total time {time.perf_counter() - start:.0f} s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
