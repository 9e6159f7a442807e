"""Several runs at a time, each in a process of its own."""

import logging
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_mil.runtime.threads import limit_threads

if TYPE_CHECKING:
    from benchmarks.papers.runs import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is to be done.

    Attributes:
        modules: names of modules with `runs(data, fast=…)`.
        data: folder of the published data.
        fast: the subset alone.
        results: folder of the runs' JSON files, or None: that which is committed.
    """

    modules: list[str]
    data: Path
    fast: bool = False
    results: Path | None = None


def do_all(wanted: Wanted, *, jobs: int, threads: int = 1) -> int:
    """All runs that are not done, in their order, `jobs` at a time; how many those were.

    Raises:
        Exception: that of the first run that fails, once those that had begun are done; no further one begins.
    """
    begin(threads)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), begin, (threads,)) as pool:
        left = [pool.submit(do_one, wanted, module, run.name) for module in wanted.modules for run in _left(wanted, module)]
        log.warning("%d runs to do", len(left))
        for number, done in enumerate(as_completed(left), start=1):
            if done.exception() is not None:
                for waiting in left:
                    waiting.cancel()  # after `shutdown(wait=False)` the end of `with` would wait for nobody
            log.warning("%d of %d done: %s", number, len(left), done.result())
    return len(left)


def begin(threads: int) -> None:
    """What each process does before it imports a run."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    limit_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from wsi_mil.devices import keep_freed_memory, set_threads

    set_threads(threads)
    keep_freed_memory()


def _end_with_parent() -> None:
    """A run whose parent was killed would go on unseen otherwise."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def do_one(wanted: Wanted, module: str, name: str) -> str:
    """One run, by its name, which is given back."""
    from benchmarks.papers.runs import RESULTS, do

    do([run for run in _left(wanted, module) if run.name == name], wanted.results or RESULTS)
    return name


def _left(wanted: Wanted, module: str) -> "list[Run]":
    from benchmarks.papers.runs import RESULTS

    runs: list[Run] = import_module(module).runs(wanted.data, fast=wanted.fast)
    return [run for run in runs if not run.is_done(wanted.results or RESULTS)]
