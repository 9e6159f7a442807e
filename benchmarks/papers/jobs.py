"""Execute several runs at once, each in a process of its own."""

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
class Selection:
    """Runs to execute.

    Attributes:
        modules: names of modules with `runs(data, fast=…)`.
        data: folder of the published data.
        fast: whether only the fast subset is executed.
        results: folder of the runs' JSON files; None is the committed one.
    """

    modules: list[str]
    data: Path
    fast: bool = False
    results: Path | None = None


def execute_all(selection: Selection, *, jobs: int, threads: int = 1) -> int:
    """Execute all runs without results, in order, `jobs` at once; return their number.

    Raises:
        Exception: that of the first run that fails; runs that have started are completed, and no further one starts.
    """
    set_up_process(threads)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), set_up_process, (threads,)) as pool:
        futures = [
            pool.submit(execute_one, selection, module, run.name)
            for module in selection.modules
            for run in _open_runs(selection, module)
        ]
        log.warning("%d runs to execute", len(futures))
        for number, future in enumerate(as_completed(futures), start=1):
            if future.exception() is not None:
                for waiting in futures:
                    waiting.cancel()  # not `shutdown(wait=False)`: `with` would then not wait for started runs
            log.warning("%d of %d complete: %s", number, len(futures), future.result())
    return len(futures)


def set_up_process(threads: int) -> None:
    """Set up logging and threads of a process, before it imports a run."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    limit_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from wsi_mil.devices import keep_freed_memory, set_threads

    set_threads(threads)
    keep_freed_memory()


def _end_with_parent() -> None:
    """End this process when its parent ends: otherwise a run would continue unnoticed after its parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def execute_one(selection: Selection, module: str, name: str) -> str:
    """Execute the run of a name, and return the name."""
    from benchmarks.papers.runs import RESULTS, execute

    execute([run for run in _open_runs(selection, module) if run.name == name], selection.results or RESULTS)
    return name


def _open_runs(selection: Selection, module: str) -> "list[Run]":
    from benchmarks.papers.runs import RESULTS

    runs: list[Run] = import_module(module).runs(selection.data, fast=selection.fast)
    return [run for run in runs if not run.is_complete(selection.results or RESULTS)]
