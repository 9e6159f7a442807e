"""Run a command's work in a child process, so that a slide whose decoder crashes or hangs gets a status and the run goes on.

The parent imports next to nothing and waits. The child does the work and reports through shared memory which item it
works on and whether a read is in progress. If the child crashes (with a segmentation fault in a C library, say) or a read
does not return, the item is retried once, then given up.
"""

import ctypes
import logging
import mmap
import os
import select
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wsi_mil.wording import signal_text

CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
"""Signals raised by a crash in the process itself; any other signal was sent from outside, so the data are not to blame."""

POLL_S = 0.25
"""Seconds between two checks of the child."""

_LAYOUT = struct.Struct("=qqq")
"""Shared memory: index of the item, number of reads begun, number of reads ended."""
_PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


class _SharedProgress:
    """Progress of the child, in memory that it shares with its parent."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _LAYOUT.size)
        self._lock = threading.Lock()
        self._begun = self._ended = self._item = 0

    def read(self) -> tuple[int, int, int]:
        """Return (item, reads begun, reads ended), as last written by the child."""
        item, begun, ended = _LAYOUT.unpack_from(self._memory)
        return item, begun, ended

    def write(self, *, item: int | None = None, begun: int = 0, ended: int = 0) -> None:
        """Set the current item, or count reads that began or ended; called by the child."""
        with self._lock:
            self._item = self._item if item is None else item
            self._begun, self._ended = self._begun + begun, self._ended + ended
            _LAYOUT.pack_into(self._memory, 0, self._item, self._begun, self._ended)


_shared: _SharedProgress | None = None
_is_program = False


def enable_fork() -> None:
    """Allow `run_guarded` to fork.

    Called by the console entry point only: code that calls a command in-process must not be forked.
    """
    global _is_program
    _is_program = True


@contextmanager
def reading() -> Iterator[None]:
    """Report a read to the parent, if there is one; wraps every call of a decoder."""
    shared = _shared
    if shared is None:
        yield
        return
    shared.write(begun=1)
    try:
        yield
    finally:
        shared.write(ended=1)


def run_guarded(n: int, give_up: Callable[[int, str], None], *, seconds: float) -> Iterator[int]:
    """Yield the items to work on, in order; the caller goes on in a child process.

    The parent never returns from here: it exits with the child's exit code. Call this before threads are started (which
    large imports do) and before a device is used. On systems other than Linux, or if `enable_fork` was not called, there
    is no child, and a crash ends the command.

    Args:
        n: number of items.
        give_up: called in the parent with the index of an item and the reason, as text.
        seconds: time limit of a read; the clock restarts whenever any read begins or ends.

    Returns:
        Indices of the items that are not given up. After a crash all of them are yielded again.
    """
    given_up = _become_child(give_up, seconds) if _is_program and sys.platform == "linux" else set[int]()
    return _items(n, given_up)


def _items(n: int, given_up: set[int]) -> Iterator[int]:
    for item in range(n):
        if item not in given_up:
            if _shared is not None:
                _shared.write(item=item)
            yield item


def _become_child(give_up: Callable[[int, str], None], seconds: float) -> set[int]:
    """Return in a child, with the items given up so far; in the parent, restart the child after a crash until it exits."""
    global _shared
    given_up = set[int]()
    crashed_item = -1
    while True:
        shared = _SharedProgress()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        read_end, write_end = os.pipe()  # the child's end is closed when the child ends, for whatever reason
        child = os.fork()
        if child == 0:
            os.close(read_end)
            _exit_with_parent(parent)
            _shared = shared
            return given_up
        os.close(write_end)
        previous_handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child, too
        reason, code = _wait_for(child, read_end, shared, seconds)
        signal.signal(signal.SIGINT, previous_handler)
        os.close(read_end)
        if not reason:
            raise SystemExit(code)
        item = shared.read()[0]
        if item == crashed_item:
            log.error("%s, for the second time: it is given up", reason)
            give_up(item, reason)
            given_up.add(item)
            crashed_item = -1
        else:
            log.error("%s; it is retried once", reason)
            crashed_item = item


def _wait_for(child: int, read_end: int, shared: _SharedProgress, seconds: float) -> tuple[str, int]:
    """Wait for a child; return the reason if the data ended it, else "" and the exit code."""
    idle = 0.0
    last = (0, 0, 0)
    while True:
        if select.select([read_end], [], [], POLL_S)[0]:
            return _exit_reason(os.waitpid(child, 0)[1], shared)
        now = shared.read()
        idle = idle + POLL_S if now == last and now[1] > now[2] else 0.0  # counts polls: a suspended machine adds no time
        last = now
        if idle >= seconds:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"no data came from it for {seconds:g} s", 0


def _exit_reason(status: int, shared: _SharedProgress) -> tuple[str, int]:
    if not os.WIFSIGNALED(status):
        return "", os.WEXITSTATUS(status)
    killed_by = signal.Signals(os.WTERMSIG(status))
    _, begun, ended = shared.read()
    if killed_by in CRASHES and begun > ended:
        return f"the process crashes while reading it ({killed_by.name})", 0
    log.error("the process was killed by %s", signal_text(killed_by))
    return "", 128 + killed_by


def _exit_with_parent(parent: int) -> None:
    """Have this process killed when its parent ends; exit at once if the parent is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
