"""One set of versions: pyproject.toml says what may be, constraints.txt what is, envs/*.yaml the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from wsi_mil.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = [Requirement(text) for text in PROJECT["dependencies"] + EXTRAS["workflow"] + EXTRAS["survival"] + EXTRAS["tensorboard"]]
DEV = [Requirement(text) for text in EXTRAS["dev"] + EXTRAS["slurm"] if not text.startswith("wsi_mil")]


def pins(lines: list[str]) -> dict[str, str]:
    found = (re.fullmatch(r"([\w.\-]+)==([\w.+]+)", line.strip()) for line in lines)
    return {canonicalize_name(match[1]): match[2] for match in found if match}


CONSTRAINTS = pins((ROOT / "envs/constraints.txt").read_text().splitlines())


def test_every_dependency_has_an_exact_pin_that_pyproject_allows() -> None:
    wrong = [r for r in NEEDED + DEV if not r.specifier.contains(CONSTRAINTS.get(canonicalize_name(r.name), "0"))]
    assert len(NEEDED) > 20 and not wrong


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_conda_environments_hold_the_same_versions(name: str) -> None:
    content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())
    have = pins(next(part["pip"] for part in content["dependencies"] if isinstance(part, dict)))
    assert have == {canonicalize_name(r.name): CONSTRAINTS[canonicalize_name(r.name)] for r in NEEDED}


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_conda_environments_end_with_the_package_and_change_with_its_version(name: str) -> None:
    """Snakemake creates an environment again if its file has changed. What pip makes of the last line: test_wheel.py."""
    text = (ROOT / f"envs/{name}.yaml").read_text()
    assert text.partition("\n")[0].endswith(f" of wsi_mil {__version__}.")
    assert text.splitlines()[-1] == "      - ${WSI_MIL_REQUIREMENT}"


def test_all_installs_every_extra_that_a_user_may_want() -> None:
    (line,) = EXTRAS["all"]
    assert Requirement(line).extras == set(EXTRAS) - {"all", "bench", "dev", "docs"}


def test_the_torch_that_has_no_torchvision_is_never_pinned() -> None:
    assert CONSTRAINTS["torch"] != "2.13.0"
    assert not next(r for r in NEEDED if r.name == "torch").specifier.contains("2.13.0")
