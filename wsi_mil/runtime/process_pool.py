"""Run each item in a process of its own: a crash, a kill or a hang affects that item only."""

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

from wsi_mil.wording import signal_text

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkerFailure:
    """An item without a result.

    Attributes:
        reason: why, as one line of text.
    """

    reason: str


@dataclass(frozen=True)
class _Running(Generic[Item]):
    """A process that works on an item, to be killed at `deadline` (of `time.monotonic`)."""

    item: Item
    process: BaseProcess
    deadline: float


def map_isolated(
    work: Callable[[Item], Result], items: Sequence[Item], *, processes: int, seconds: float, preload: Sequence[str] = ()
) -> Iterator[tuple[Item, Result | WorkerFailure]]:
    """Apply `work` to every item, each in a process of its own.

    Where the platform allows it, processes are forked from a server that has imported their modules already, so that
    starting one takes hundredths of a second.

    Args:
        work: a function defined in a module; it is pickled by name, items and results by value.
        items: arguments of `work`.
        processes: number of processes that run at the same time.
        seconds: time limit of an item; its process is then killed.
        preload: modules that the server imports once.

    Yields:
        Each item with its result, in the order in which they finish.
    """
    context = _context(preload)
    waiting = list(reversed(items))
    running = dict[connection.Connection, _Running[Item]]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.update([_start(context, work, waiting.pop(), seconds)])
            first = min(entry.deadline for entry in running.values())
            ready = connection.wait(list(running), timeout=max(0.0, first - time.monotonic()))
            late = [end for end, entry in running.items() if end not in ready and entry.deadline <= time.monotonic()]
            for end in late:
                yield _kill(end, running.pop(end), seconds)
            for end in [end for end in running if end in ready]:
                yield _receive(end, running.pop(end))
    finally:
        for end, entry in running.items():
            _kill(end, entry, seconds)


def _context(preload: Sequence[str]) -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def _start(
    context: BaseContext, work: Callable[[Item], Result], item: Item, seconds: float
) -> tuple[connection.Connection, _Running[Item]]:
    end, other = context.Pipe(duplex=False)
    process = context.Process(target=_run_and_send, args=(other, work, item), daemon=True)  # type: ignore[attr-defined]
    process.start()
    other.close()  # so that the end of the process ends the pipe
    return end, _Running(item, process, time.monotonic() + seconds)


def _run_and_send(end: connection.Connection, work: Callable[[Item], Result], item: Item) -> None:
    logging.disable(logging.CRITICAL)  # warnings are part of the result
    try:
        result: Result | WorkerFailure = work(item)
    except Exception as error:  # whatever goes wrong with one item must reach the caller
        result = WorkerFailure(" ".join(f"{type(error).__name__}: {error}".split()))
    end.send(result)


def _receive(end: connection.Connection, entry: _Running[Item]) -> tuple[Item, Result | WorkerFailure]:
    try:
        result: Result | WorkerFailure = end.recv()
    except EOFError:
        entry.process.join()
        result = WorkerFailure(_exit_reason(entry.process.exitcode))
    entry.process.join()
    end.close()
    return entry.item, result


def _kill(end: connection.Connection, entry: _Running[Item], seconds: float) -> tuple[Item, WorkerFailure]:
    entry.process.kill()
    entry.process.join()
    end.close()
    return entry.item, WorkerFailure(f"took longer than {seconds:g} s")


def _exit_reason(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with code {code}"
    return f"its process was killed by {signal_text(-code)}"
