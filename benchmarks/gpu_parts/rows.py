"""What the parts of `make gpu` print: a line of JSON for each row, as soon as it is measured."""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.gpu_parts.device import is_out_of_memory

Row = dict[str, Any]
NO_TIME = "not measured: the part's time was over"
OUT_OF_MEMORY = "out of memory"
MEASURED = "measured"


def parsed_arguments(description: str) -> argparse.Namespace:
    """Return the arguments that every part has: device, seconds, tiny."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=300, help="no row begins after these")
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


def print_row(row: Mapping[str, object]) -> None:
    print(json.dumps({"row": row}), flush=True)


def measure_all(cases: Iterable[tuple[Row, Callable[[], Row]]], seconds: float) -> bool:
    """Measure one case after another and print its row; return whether none failed.

    A case without enough memory or without time left is a row that says so. One that fails is a row with the reason, and
    the others are still measured.

    Args:
        cases: what identifies the row, and what measures the rest of it.
        seconds: no case begins after these.
    """
    end, is_good = time.monotonic() + seconds, True
    for name, measure in cases:
        result = NO_TIME
        figures: Row = {}
        if time.monotonic() < end:
            try:
                figures, result = measure(), MEASURED
            except Exception as error:
                result = OUT_OF_MEMORY if is_out_of_memory(error) else f"failed: {type(error).__name__}: {error}"[:300]
                is_good &= result == OUT_OF_MEMORY
        print_row({**name, "result": result, **figures})
    return is_good
