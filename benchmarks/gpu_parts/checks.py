"""Run the tests marked `gpu`, in one process, and print a row for each."""

import os
import sys
from pathlib import Path

from benchmarks.gpu_parts.rows import parsed_arguments, print_row

ROOT = Path(__file__).resolve().parents[2]
MARK = "mark." + "gpu"
DEVICE_VARIABLE = "WSI_MIL_TEST_DEVICE"
"""Device of the tests in tests/gpu; without it `cuda`."""
FEW = "memory_and_dtype or (says_the_same and clam)"
"""Tests of the tiny size."""


def test_files(folder: Path = ROOT / "tests") -> list[str]:
    """Return the files with tests marked `gpu`; collecting only these saves time and needs fewer libraries."""
    return sorted(str(path) for path in folder.rglob("test_*.py") if MARK in path.read_text(encoding="utf-8"))


class Rows:
    """Pytest plugin that prints a row for each test."""

    def __init__(self) -> None:
        self.passed = 0

    def pytest_runtest_logreport(self, report: object) -> None:
        when, outcome = report.when, report.outcome  # type: ignore[attr-defined]
        if when == "call" or (outcome != "passed" and when == "setup"):
            self.passed += outcome == "passed"
            seconds = round(report.duration, 1)  # type: ignore[attr-defined]
            print()  # pytest is in the middle of a line
            print_row({"test": report.nodeid, "result": outcome, "seconds": seconds})  # type: ignore[attr-defined]


def main() -> int:
    args = parsed_arguments(__doc__ or "")
    import pytest

    os.environ[DEVICE_VARIABLE] = args.device
    rows = Rows()
    # warnings of a torch, a driver or a library that no test has met are shown, not errors
    options = ["-m", "gpu", "-o", "filterwarnings=default", "-p", "no:cacheprovider", "-p", "no:xdist", "-v", "-ra"]
    options += ["-o", "faulthandler_timeout=60"]  # a test that hangs says where
    options += ["-k", FEW] if args.tiny else []
    code = int(pytest.main([*options, *test_files()], plugins=[rows]))
    return code or int(not rows.passed)


if __name__ == "__main__":
    sys.exit(main())
