"""A command's work in a child process, so that a slide whose decoder crashes or hangs becomes a status, not the end of the run.

A parent that has imported next to nothing waits. The child does the work, and tells through shared memory which item it is
at and which reads it is in. Where the child is ended by a fault of its own (a segmentation fault in a C library, say), or
one read does not end, the item is tried once more, and given up the second time.
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
"""Signals that a process earns by what it does itself; others come from outside, and are no fault of the data."""

POLL_S = 0.25
"""Between two looks at the child."""

_LAYOUT = struct.Struct("=qqq")
"""Item, reads begun, reads ended."""
_PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


class _SharedProgress:
    """What a child tells its parent."""

    def __init__(self) -> None:
        self._memory, self._lock = mmap.mmap(-1, _LAYOUT.size), threading.Lock()
        self._begun = self._ended = self._item = 0

    def look(self) -> tuple[int, int, int]:
        """As the child wrote it last."""
        item, begun, ended = _LAYOUT.unpack_from(self._memory)
        return item, begun, ended

    def write(self, *, item: int | None = None, begun: int = 0, ended: int = 0) -> None:
        """From the child: the item it is at, or reads that began or ended."""
        with self._lock:
            self._item = self._item if item is None else item
            self._begun, self._ended = self._begun + begun, self._ended + ended
            _LAYOUT.pack_into(self._memory, 0, self._item, self._begun, self._ended)


_shared: _SharedProgress | None = None
_is_program = False


def enable_fork() -> None:
    """For the program's entry point: who calls a command in a process of their own must not find themselves in a child."""
    global _is_program
    _is_program = True


@contextmanager
def reading() -> Iterator[None]:
    """Around what a decoder does; tells the parent, where there is one."""
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
    """The items to work on, one after the other; whoever asks for them goes on in a child process.

    The parent does not come back from here: it exits as the child does. Call it before threads are started, which large
    imports do, or a device is used. On systems other than Linux, and where `enable_fork` was not called, there is no child, and a
    crash ends the command.

    Args:
        n: number of items.
        give_up: called in the parent with an item's index and the reason, in words.
        seconds: that no read may take, while none other ends either.

    Returns:
        Indices of the items that are not given up. After a crash all of those come again.
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
    """Return in a child, with what is given up; in the parent, look after children until one comes to its end."""
    global _shared
    given_up, blamed = set[int](), -1
    while True:
        shared = _SharedProgress()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        alive, held = os.pipe()  # the end that the child holds is closed when it ends, however that comes
        child = os.fork()
        if child == 0:
            os.close(alive)
            _die_with(parent)
            _shared = shared
            return given_up
        os.close(held)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the child has it too
        reason, code = _watch(child, alive, shared, seconds)
        signal.signal(signal.SIGINT, before)
        os.close(alive)
        if not reason:
            raise SystemExit(code)
        item = shared.look()[0]
        if item == blamed:
            log.error("%s, twice: it is given up", reason)
            give_up(item, reason)
            given_up.add(item)
            blamed = -1
        else:
            log.error("%s; it is tried once more", reason)
            blamed = item


def _watch(child: int, alive: int, shared: _SharedProgress, seconds: float) -> tuple[str, int]:
    """Wait for a child. The reason, in words, where its end is the data's fault; else "" and the code to exit with."""
    idle, last = 0.0, (0, 0, 0)
    while True:
        if select.select([alive], [], [], POLL_S)[0]:
            return _end_of(os.waitpid(child, 0)[1], shared)
        now = shared.look()
        idle = idle + POLL_S if now == last and now[1] > now[2] else 0.0  # own steps: a suspended machine counts no time
        last = now
        if idle >= seconds:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"nothing of it came for {seconds:g} s", 0


def _end_of(status: int, shared: _SharedProgress) -> tuple[str, int]:
    if not os.WIFSIGNALED(status):
        return "", os.WEXITSTATUS(status)
    ended_by = signal.Signals(os.WTERMSIG(status))
    _, begun, ended = shared.look()
    if ended_by in CRASHES and begun > ended:
        return f"the process crashes while it is read ({ended_by.name})", 0
    log.error("the process was killed by %s", signal_text(ended_by))
    return "", 128 + ended_by


def _die_with(parent: int) -> None:
    """End this process where the parent is gone, which may have been before this was said."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
