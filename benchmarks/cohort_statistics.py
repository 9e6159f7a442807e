#!/usr/bin/env python3
"""What do statistics of a cohort cost? Peak memory of ten slides and of ten times as many, and time against the plain way.

python benchmarks/cohort_statistics.py [--slides 10] [--tiles 4000] [--dim 1280] [--threads 2]

Feature stores are made in a temporary folder: 1.1 GB with the defaults. Every figure is of a process of its own, started
afresh; memory is beyond what importing takes. The plain way loads all tiles as float64 and calls numpy.cov.
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

MORE = 10
MIB = 1 << 20

MEASURED = """
import json, resource, sys, time
from pathlib import Path
from wsi_mil.runtime.threads import limit_threads
way, folder, slides, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
limit_threads(threads if way == "numpy" else 1)
import numpy as np
from wsi_mil.config import Statistics
from wsi_mil.statistics import write_statistics
from wsi_mil.store import read_bag
names = [f"s{number:03d}" for number in range(slides)]
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
if way == "numpy":
    rows = np.concatenate([read_bag(folder / f"{name}.json").features for name in names]).astype(np.float64)
    np.linalg.eigh(np.cov(rows, rowvar=False))
else:
    write_statistics(names, folder, Statistics(), folder / "out" / "enc.json", threads=threads)
seconds = time.perf_counter() - start
print(json.dumps([seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]))
"""


def write_slides(folder: Path, slides: int, tiles: int, dim: int) -> None:
    """Stores of random features."""
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


def measured(way: str, folder: Path, slides: int, threads: int) -> tuple[float, float]:
    """Seconds, and MiB at the peak beyond what was there at the start."""
    command = [sys.executable, "-c", MEASURED, way, str(folder), str(slides), str(threads)]
    seconds, mib = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return seconds, mib


def figures(folder: Path, slides: int, tiles: int, dim: int, threads: int) -> dict[str, float]:
    write_slides(folder, slides * MORE, tiles, dim)
    measured("wsi_mil", folder, slides * MORE, threads)  # all files are in memory from here on
    few_s, few_mib = measured("wsi_mil", folder, slides, threads)
    many_s, many_mib = measured("wsi_mil", folder, slides * MORE, threads)
    one_s, one_mib = measured("wsi_mil", folder, slides, 1)
    plain_s, plain_mib = measured("numpy", folder, slides, threads)
    return {
        f"peak MiB, {slides} slides": few_mib,
        f"peak MiB, {slides * MORE} slides": many_mib,
        "features MiB, the most slides": slides * MORE * tiles * dim * 2 / MIB,
        "memory_ratio": many_mib / few_mib,
        f"seconds, {slides} slides": few_s,
        f"seconds, {slides * MORE} slides": many_s,
        "thousand tiles/s": slides * MORE * tiles / many_s / 1000,
        "one_thread_ratio": one_s / few_s,
        f"numpy peak MiB, {slides} slides": plain_mib,
        "memory_vs_numpy": few_mib / plain_mib,
        "time_vs_numpy": few_s / plain_s,
        "one thread peak MiB": one_mib,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slides", type=int, default=10)
    parser.add_argument("--tiles", type=int, default=4000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    limit_threads(args.threads)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = figures(Path(folder), args.slides, args.tiles, args.dim, args.threads)
    found = {name: round(value, 3) for name, value in found.items()}
    for name, value in found.items():
        print(f"{name:40s} {value:10.3f}")
    print(f"in {time.perf_counter() - start:.0f} s")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
