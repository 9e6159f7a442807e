"""An experiment of four runs; each writes a file to the data folder, and run N fails while a file `broken-N` exists there."""

from pathlib import Path
from typing import Any

from benchmarks.papers.runs import Run


def runs(data: Path, *, fast: bool) -> list[Run]:
    return [Run(f"counting/{number}", {}, number, lambda number=number: work(data, number)) for number in range(4)]


def work(data: Path, number: int) -> dict[str, Any]:
    if (data / f"broken-{number}").exists():
        raise OSError(f"run {number}: the disk is full")
    (data / f"done-{number}").touch(exist_ok=False)
    return {"number": number}
