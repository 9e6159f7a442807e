"""Does every run that is not done: `make papers DATA=../shared/data`, or `python -m benchmarks.papers --data ../shared/data`."""

import argparse
import logging
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from pathlib import Path

from wsi_mil.compute import limit_threads

EXPERIMENTS = {
    "mnist_bags": "mnist",
    "mnist_keys": "mnist",
    "colon": "colon",
    "colon_keys": "colon",
    "breast": "breast",
    "mnist_conditions": "mnist",
    "mhim": "lung",
    "frozen": ".",
}
"""By name, and the folder of DATA that each needs; in the order in which they are done."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist/, colon/, lung/, breast/, or some")
    parser.add_argument("--fast", action="store_true", help="a subset that takes a quarter of an hour on two cores")
    parser.add_argument("--only", choices=EXPERIMENTS, nargs="+", default=list(EXPERIMENTS), help="these experiments alone")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=cores, help="runs at a time, up to 4 GB each; as many as cores are usable")
    parser.add_argument("--threads", type=int, default=1, help="of each run; figures may differ by their number")
    arguments = parser.parse_args()
    begin(arguments.threads)
    there = [name for name in arguments.only if (arguments.data / EXPERIMENTS[name]).is_dir()]
    for name in set(arguments.only) - set(there):
        logging.warning("%s: left out, as there is no folder %s", name, arguments.data / EXPERIMENTS[name])
    do_all(there, arguments)


def do_all(experiments: list[str], arguments: argparse.Namespace) -> None:
    """All runs of some experiments that are not done, `jobs` at a time; the first that fails ends it, after those begun."""
    from benchmarks.papers.runs import RESULTS

    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, spawn, begin, (arguments.threads,)) as pool:
        left = []
        for name in experiments:
            runs = import_module(f"benchmarks.papers.{name}").runs(arguments.data, fast=arguments.fast)
            wanted = [run.name for run in runs if not run.is_done(RESULTS)]
            left += [pool.submit(do_one, name, run, arguments.data, fast=arguments.fast) for run in wanted]
        logging.warning("%d runs to do", len(left))
        for number, done in enumerate(as_completed(left), start=1):
            if done.exception() is not None:
                pool.shutdown(wait=False, cancel_futures=True)
            logging.warning("%d of %d done: %s", number, len(left), done.result())


def begin(threads: int) -> None:
    """What each process does first."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    limit_threads(threads)
    from wsi_mil.devices import keep_freed_memory, set_threads

    set_threads(threads)
    keep_freed_memory()


def do_one(experiment: str, name: str, data: Path, *, fast: bool) -> str:
    """One run, by its name, which is given back."""
    from benchmarks.papers.runs import do

    do(run for run in import_module(f"benchmarks.papers.{experiment}").runs(data, fast=fast) if run.name == name)
    return name


if __name__ == "__main__":
    main()
