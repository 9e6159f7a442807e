"""Execute all runs without results: `make papers DATA=../shared/data`, or `python -m benchmarks.papers --data ../shared/data`."""

import argparse
import logging
from pathlib import Path

from benchmarks.papers.jobs import Selection, execute_all, set_up_process
from wsi_mil.runtime.threads import usable_cores

EXPERIMENTS = {
    "mnist_bags": "mnist",
    "mnist_keys": "mnist",
    "colon": "colon",
    "colon_keys": "colon",
    "colon_stopping": "colon",
    "colon_nuclei": "colon",
    "breast": "breast",
    "mnist_conditions": "mnist",
    "mhim": "lung",
    "mhim_defaults": "lung",
    "epoch_choice": "lung",
    "frozen": ".",
    "nested": ".",
    "classical": "classical",
}
"""Experiments and the folder of DATA that each needs, in order of execution."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist/, colon/, lung/, breast/, or some of them")
    parser.add_argument("--fast", action="store_true", help="a subset that takes a quarter of an hour on two cores")
    parser.add_argument("--only", choices=EXPERIMENTS, nargs="+", default=list(EXPERIMENTS), help="these experiments only")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="runs at once, up to 4 GB each; default one per core")
    parser.add_argument("--threads", type=int, default=1, help="threads per run; results may depend on their number")
    arguments = parser.parse_args()
    set_up_process(arguments.threads)
    available = [name for name in arguments.only if (arguments.data / EXPERIMENTS[name]).is_dir()]
    for name in [name for name in arguments.only if name not in available]:
        logging.warning("%s: skipped, there is no folder %s", name, arguments.data / EXPERIMENTS[name])
    selection = Selection([f"benchmarks.papers.{name}" for name in available], arguments.data, arguments.fast)
    execute_all(selection, jobs=arguments.jobs, threads=arguments.threads)


if __name__ == "__main__":
    main()
