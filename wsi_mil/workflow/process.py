"""Snakemake as a process: its lines as they come, and the signals that are passed on to it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wsi_mil.workflow.command import Request

INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a run that was interrupted."""


def run_snakemake(request: Request, on_line: Callable[[str], None]) -> int:
    """Run Snakemake and wait for it. Ctrl-C ends it as it would end Snakemake alone: running jobs are stopped, then the lock
    of the folder is released.

    Args:
        request: what to run.
        on_line: called with each line of what it prints to standard error.

    Returns:
        Its exit code; INTERRUPTED after Ctrl-C.
    """
    process = subprocess.Popen(
        request.command,
        cwd=request.folder,
        env=request.environment,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        bufsize=1,
    )
    assert process.stderr is not None
    with _signals_passed_on(process) as received, process.stderr as lines:
        for line in lines:
            on_line(line)
        code = process.wait()
    return INTERRUPTED if signal.SIGINT in received else code


@contextmanager
def _signals_passed_on(process: "subprocess.Popen[str]") -> Iterator[list[int]]:
    """Pass signals on instead of dying of them; a terminal sends Ctrl-C to both processes itself."""
    received: list[int] = []

    def pass_on(number: int, _: object) -> None:
        received.append(number)
        if not (number == signal.SIGINT and _has_terminal()):
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_terminal() -> bool:
    """Whether the process is in the foreground of a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
