"""Progress of long work: a bar on a terminal, elsewhere a log line every few seconds."""

import logging
import sys
import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0


class ProgressMeter:
    """Count `unit`s out of `total` and show the rate and the time left.

    Units done before this run (`already`) count towards the total, not towards the rate.
    """

    def __init__(self, name: str, *, total: int, unit: str, already: int = 0):
        self.name, self.total, self.unit, self.already = name, total, unit, already
        self.done = already
        self._start = self._last_line = time.monotonic()
        self._note = ""
        self._bar = _bar() if sys.stderr.isatty() else None

    def __enter__(self) -> "ProgressMeter":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self.name, total=self.total, completed=self.already, rate="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None:
            log.info("%s: %d %s in %.1f s (%s)", self.name, self.done - self.already, self.unit, self.seconds(), self._rate())

    def advance(self, n: int, note: str = "", *, left: str = "") -> None:
        """Count `n` more units; `note` is shown after the rate from now on, `left` in place of the time left by that rate."""
        self.done += n
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=self._rate())
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            left = left or f"{self._left()} left"
            log.info("%s: %d of %d %s, %s, %s", self.name, self.done, self.total, self.unit, self._rate(), left)

    def seconds(self) -> float:
        """Seconds since the meter was created."""
        return max(time.monotonic() - self._start, 1e-9)

    def _rate(self) -> str:
        rate = f"{(self.done - self.already) / self.seconds():.1f} {self.unit}/s"
        return f"{rate}, {self._note}" if self._note else rate

    def _left(self) -> str:
        done = self.done - self.already
        seconds = (self.total - self.done) * self.seconds() / done if done else 0.0
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _bar() -> Progress:
    from rich.console import Console

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}% {task.fields[rate]}"))
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
