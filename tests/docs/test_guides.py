"""Each guide is followed in a copy of the project: what it tells to change is changed, and what it tells to run is run there."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, changed

pytestmark = [pytest.mark.slow, pytest.mark.system]

LEFT_OUT = ("__pycache__", ".*", "demo", "results", "logs", "*.egg-info")
"""What of the project's folder is not copied: what was made in it, and what git and caches keep."""

SCHEMA = "workflow/schemas/config.schema.json"


class Copy:
    """A copy of the project."""

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.copytree(ROOT, folder, ignore=lambda at, names: set(_left_out(Path(at), names)))

    def follow(self, guide: str) -> tuple[set[str], set[str]]:
        """Make a guide's changes, and then run `make schema`.

        Returns:
            Files that were made or changed by hand, those to try the result left out; and those that `make schema` changed.
        """
        before, page = self._files(), ROOT / "docs" / guide
        for name, text in blocks(page, "python"):
            assert not (self.folder / name).exists(), name
            (self.folder / name).write_text(text, encoding="utf-8")
        for name, diff in blocks(page, "diff"):
            file = self.folder / name
            file.write_text(changed(file.read_text(encoding="utf-8"), diff), encoding="utf-8")
        by_hand = self._files()
        (self.folder / SCHEMA).write_text(self.run("-m", "wsi_mil", "schema"), encoding="utf-8")
        self.run("-m", "tests.docs.tables")
        return _differing(before, by_hand), _differing(by_hand, self._files())

    def run(self, *arguments: str) -> str:
        """What Python prints; it must succeed."""
        env = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        ran = subprocess.run([sys.executable, *arguments], cwd=self.folder, env=env, text=True, capture_output=True, timeout=1200)
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
        return ran.stdout

    def passes(self, *tests: str) -> int:
        """How many tests of the copy pass; all that are named must."""
        printed = self.run("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests)
        return int(printed.rsplit(" passed", 1)[0].split()[-1])

    def is_clean(self, files: set[str]) -> None:
        code = [name for name in files if name.endswith(".py")]
        self.run("-m", "ruff", "check", "--no-cache", *code)
        self.run("-m", "ruff", "format", "--no-cache", "--check", *code)

    def _files(self) -> dict[str, bytes]:
        files = (file for file in self.folder.rglob("*") if file.is_file() and not file.name.startswith("try_"))
        return {file.relative_to(self.folder).as_posix(): file.read_bytes() for file in files if ".ruff" not in str(file)}


def _left_out(at: Path, names: list[str]) -> list[str]:
    """Names in a folder that are not copied; `demo` and the like are left out of the project's own folder only."""
    patterns = LEFT_OUT if at == ROOT else LEFT_OUT[:2]
    return [name for name in names if any(Path(name).match(pattern) for pattern in patterns)]


def _differing(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name, content in after.items() if before.get(name) != content}


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "project")


def stated(guide: str) -> int:
    """How many files a guide says that it takes."""
    (number,) = re.findall(r"It takes \*\*(\d+) files?\*\*", (ROOT / "docs" / guide).read_text(encoding="utf-8"))
    return int(number)


def figure(printed: str) -> float:
    return float(printed.strip().rsplit(": ", 1)[1])


@dataclass(frozen=True)
class Guide:
    """A guide to what has records.

    Attributes:
        pages: of the documentation, whose tables `make schema` writes.
        most: files that it may take.
        script: that it ends with.
        least: what the number exceeds that the script prints.
        tests: of what was added.
    """

    pages: tuple[str, ...]
    most: int
    script: str
    least: float
    tests: tuple[str, ...]


GUIDES = {
    "add_an_aggregator.md": Guide(
        ("train.md", "explain.md"), 4, "try_topk.py", 0.9, ("models/test_topk.py", "models/test_models.py")
    ),
    "add_an_explanation.md": Guide(
        ("explain.md",), 4, "try_contrast.py", 0.9, ("explain/test_contrast.py", "explain/test_registry.py")
    ),
    "add_a_slide_reader.md": Guide(
        ("tile.md",), 5, "try_numpy.py", 30, ("slides/test_numpy_reader.py", "slides/test_formats.py")
    ),
}


@pytest.mark.parametrize("name", GUIDES)
def test_the_guide_takes_as_few_files_as_it_says_and_all_tests_of_the_documentation_pass(copy: Copy, name: str) -> None:
    guide = GUIDES[name]
    by_hand, generated = copy.follow(name)
    assert len(by_hand) == stated(name) <= guide.most
    assert generated == {SCHEMA, "config.yaml", *(f"docs/{page}" for page in guide.pages)}
    copy.is_clean(by_hand)
    assert figure(copy.run(guide.script)) > guide.least
    tests = [f"tests/{test}" for test in (*guide.tests, "test_records.py", "test_config.py", "test_layers.py")]
    assert copy.passes(*tests) > 50
    assert copy.passes("tests/docs", "--ignore=tests/docs/test_guides.py") > 40


def test_the_guide_to_encoders_ends_with_the_features_of_the_network(copy: Copy) -> None:
    by_hand, generated = copy.follow("add_an_encoder.md")
    assert len(by_hand) == stated("add_an_encoder.md") == 1 and generated == {"docs/encoders.md"}
    table = (copy.folder / "docs/encoders.md").read_text(encoding="utf-8")
    assert "| `mylab_vit_tiny` | My lab's ViT-Tiny | 384 | class token, mean | 224 | 0.5 µm × 224 px (also 1) |" in table
    copy.is_clean(by_hand)
    assert figure(copy.run("try_encoder.py")) < 0.01, "float16"
    assert copy.passes("tests/encoders/test_catalogue.py", "-k", "mylab or gated") == 3


def test_a_change_whose_place_is_not_there_is_refused() -> None:
    assert changed("a\nb\nc\n", " a\n-b\n+x\n+y\n c\n@@\n c\n+d\n") == "a\nx\ny\nc\nd\n"
    with pytest.raises(ValueError, match="0 times"):
        changed("a\nb\n", "-c\n+d\n")
    with pytest.raises(ValueError, match="2 times"):
        changed("a\na\n", " a\n+b\n")
