import re

from tests.benchmarks.test_tiny import BENCHMARKS, FOLDER


def test_the_readme_has_a_row_for_every_benchmark_and_no_other() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)\.py`", text, re.MULTILINE) == BENCHMARKS
