"""Does every run that is not done: `make papers DATA=../shared/data`, or `python -m benchmarks.papers --data ../shared/data`."""

import argparse
import logging
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
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    limit_threads(arguments.threads)
    from benchmarks.papers.runs import do
    from wsi_mil.devices import keep_freed_memory, set_threads

    set_threads(arguments.threads)
    keep_freed_memory()
    for name in arguments.only:
        folder = arguments.data / EXPERIMENTS[name]
        if not folder.is_dir():
            logging.warning("%s: left out, as there is no folder %s", name, folder)
            continue
        do(import_module(f"benchmarks.papers.{name}").runs(arguments.data, fast=arguments.fast))


if __name__ == "__main__":
    main()
