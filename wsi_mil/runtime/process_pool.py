"""Work in processes of its own: one that crashes, is killed or hangs takes nothing else along."""

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
    """Work that came to no result.

    Attributes:
        reason: why, in words, one line.
    """

    reason: str


@dataclass(frozen=True)
class _Running(Generic[Item]):
    """A process at work on an item until `deadline` (of `time.monotonic`)."""

    item: Item
    process: BaseProcess
    deadline: float


def map_isolated(
    work: Callable[[Item], Result], items: Sequence[Item], *, processes: int, seconds: float, preload: Sequence[str] = ()
) -> Iterator[tuple[Item, Result | WorkerFailure]]:
    """Do `work` on every item, each in a process of its own.

    Where the platform can, processes are forked from a server that has imported what they need, so that one costs
    hundredths of a second.

    Args:
        work: a function of a module; it travels by name, items and results by pickle.
        items: what it is done on.
        processes: at most so many at once.
        seconds: after which an item's process is killed.
        preload: modules that the server imports once.

    Yields:
        Each item with its result, as they come.
    """
    context = _context(preload)
    waiting, running = list(reversed(items)), dict[connection.Connection, _Running[Item]]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.update([_started(context, work, waiting.pop(), seconds)])
            first = min(entry.deadline for entry in running.values())
            ready = connection.wait(list(running), timeout=max(0.0, first - time.monotonic()))
            late = [end for end, entry in running.items() if end not in ready and entry.deadline <= time.monotonic()]
            for end in late:
                yield _kill(end, running.pop(end), seconds)
            for end in [end for end in running if end in ready]:
                yield _received(end, running.pop(end))
    finally:
        for end, entry in running.items():
            _kill(end, entry, seconds)


def _context(preload: Sequence[str]) -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def _started(
    context: BaseContext, work: Callable[[Item], Result], item: Item, seconds: float
) -> tuple[connection.Connection, _Running[Item]]:
    end, other = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(other, work, item), daemon=True)  # type: ignore[attr-defined]
    process.start()
    other.close()  # so that the end of the process ends the pipe
    return end, _Running(item, process, time.monotonic() + seconds)


def _answer(end: connection.Connection, work: Callable[[Item], Result], item: Item) -> None:
    logging.disable(logging.CRITICAL)  # what is worth a word comes back with the result
    try:
        answer: Result | WorkerFailure = work(item)
    except Exception as error:  # a fault of one item, whatever it is, must reach whoever asked
        answer = WorkerFailure(" ".join(f"{type(error).__name__}: {error}".split()))
    end.send(answer)


def _received(end: connection.Connection, entry: _Running[Item]) -> tuple[Item, Result | WorkerFailure]:
    try:
        answer: Result | WorkerFailure = end.recv()
    except EOFError:
        entry.process.join()
        answer = WorkerFailure(_end_of(entry.process.exitcode))
    entry.process.join()
    end.close()
    return entry.item, answer


def _kill(end: connection.Connection, entry: _Running[Item], seconds: float) -> tuple[Item, WorkerFailure]:
    entry.process.kill()
    entry.process.join()
    end.close()
    return entry.item, WorkerFailure(f"took longer than {seconds:g} s")


def _end_of(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with code {code}"
    return f"its process was killed by {signal_text(-code)}"
