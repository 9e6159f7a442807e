"""What the guides tell to change is changed in a copy of the package, and what they tell to run runs there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, changed

pytestmark = [pytest.mark.slow, pytest.mark.system]

COPIED = ("wsi_mil", "tests", "config.yaml", "pyproject.toml", "workflow/schemas", "docs/encoders.md")
SCHEMA = "workflow/schemas/config.schema.json"


class Copy:
    """A copy of what a change to the package touches."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in COPIED:
            source, to = ROOT / name, folder / name
            to.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, to)

    def follow(self, guide: str) -> list[str]:
        """Make a guide's changes; the files of the package and its tests that were made or changed."""
        page, touched = ROOT / "docs" / guide, []
        for name, text in blocks(page, "python"):
            (self.folder / name).write_text(text, encoding="utf-8")
            touched.append(name)
        for name, diff in blocks(page, "diff"):
            file = self.folder / name
            file.write_text(changed(file.read_text(encoding="utf-8"), diff), encoding="utf-8")
            touched.append(name)
        (self.folder / SCHEMA).write_text(self.run("-m", "wsi_mil", "schema"))
        return [name for name in touched if name.endswith(".py")]

    def run(self, *arguments: str) -> str:
        """What Python prints; it must succeed."""
        env = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        ran = subprocess.run([sys.executable, *arguments], cwd=self.folder, env=env, text=True, capture_output=True, timeout=600)
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
        return ran.stdout

    def passes(self, *tests: str) -> int:
        """How many tests of the copy pass; all that are named must."""
        said = self.run("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests)
        return int(said.rsplit(" passed", 1)[0].split()[-1])

    def is_clean(self, files: list[str]) -> None:
        self.run("-m", "ruff", "check", "--no-cache", *files)
        self.run("-m", "ruff", "format", "--no-cache", "--check", *files)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def figure(said: str) -> float:
    return float(said.strip().rsplit(": ", 1)[1])


LAWS = {
    "aggregator": ("try_topk.py", "models/test_models.py", "top"),
    "explanation": ("try_contrast.py", "explain/test_registry.py", "permutation or points or scale"),
}
"""Of a guide: what it ends with, and the tests that hold for every entry of its table, those of the new one."""


@pytest.mark.parametrize("what", LAWS)
def test_the_guide_ends_with_an_entry_that_learns_or_finds_the_lesion(copy: Copy, what: str) -> None:
    tried, laws, chosen = LAWS[what]
    files = copy.follow(f"add_an_{what}.md")
    assert len(files) == 6
    copy.is_clean(files)
    assert figure(copy.run(tried)) > 0.9
    assert copy.passes(f"tests/{laws}", "tests/test_config.py", "-k", f"{chosen} or template or schema") > 10


def test_the_guide_to_encoders_ends_with_the_features_of_the_network(copy: Copy) -> None:
    files = copy.follow("add_an_encoder.md")
    assert len(files) == 2
    copy.is_clean(files)
    assert figure(copy.run("try_encoder.py")) < 0.01, "float16"
    table = copy.run("-m", "wsi_mil", "encoders", "--markdown")
    assert "| `mylab_vit_tiny` | My lab's ViT-Tiny | 384 | class token, mean | 224 | 0.5 µm × 224 px (also 1) |" in table
    assert copy.passes("tests/encoders/test_catalogue.py", "-k", "mylab or gated") == 3


def test_a_change_whose_place_is_not_there_is_refused() -> None:
    assert changed("a\nb\nc\n", " a\n-b\n+x\n+y\n c\n@@\n c\n+d\n") == "a\nx\ny\nc\nd\n"
    with pytest.raises(ValueError, match="0 times"):
        changed("a\nb\n", "-c\n+d\n")
    with pytest.raises(ValueError, match="2 times"):
        changed("a\na\n", " a\n+b\n")
