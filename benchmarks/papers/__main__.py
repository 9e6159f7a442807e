"""Does every run that is not done: `make papers DATA=../shared/data`, or `python -m benchmarks.papers --data ../shared/data`."""

import argparse
import logging
from pathlib import Path

from benchmarks.papers.jobs import Wanted, begin, do_all
from wsi_mil.runtime.threads import usable_cores

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
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="runs at a time, up to 4 GB each; else one a core")
    parser.add_argument("--threads", type=int, default=1, help="of each run; figures may differ by their number")
    arguments = parser.parse_args()
    begin(arguments.threads)
    there = [name for name in arguments.only if (arguments.data / EXPERIMENTS[name]).is_dir()]
    for name in [name for name in arguments.only if name not in there]:
        logging.warning("%s: left out, as there is no folder %s", name, arguments.data / EXPERIMENTS[name])
    wanted = Wanted([f"benchmarks.papers.{name}" for name in there], arguments.data, arguments.fast)
    do_all(wanted, jobs=arguments.jobs, threads=arguments.threads)


if __name__ == "__main__":
    main()
