"""The command that Snakemake is started with, and the profiles."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from wsi_mil import bundled
from wsi_mil.errors import ConfigError
from wsi_mil.workflow import Request, profile_folder, require_snakemake
from wsi_mil.workflow.command import MADE_BY_STAGE

ROOT = Path(__file__).resolve().parents[2]


def test_in_a_clone_the_files_are_those_at_its_root() -> None:
    assert bundled.snakefile() == ROOT / "Snakefile" and bundled.demo_config() == ROOT / "config.yaml"
    assert (bundled.profile("default") / "profile.yaml").is_file() and (bundled.profile("slurm") / "partitions.yaml").is_file()
    assert bundled.requirement() == f'-e "{ROOT}"'


def test_targets_stand_first_and_options_of_the_user_last() -> None:
    request = Request(Path("/s t/my.yaml"), Path("/s t"), ("heatmaps", "a b.png"), cores="3", options=("x.txt", "-R", "heatmap"))
    command = request.command
    assert command[:5] == [sys.executable, "-m", "snakemake", "heatmaps", "a b.png"]
    assert command[command.index("--configfile") + 1] == "my.yaml" and command[command.index("--cores") + 1] == "3"
    assert command[-5:] == ["--workflow-profile", str(ROOT / "profiles/default"), "x.txt", "-R", "heatmap"]


def test_a_stage_stands_for_what_it_makes_and_every_such_rule_exists() -> None:
    request = Request(Path("/a/my.yaml"), Path("/a"), ("predict", "report", "results/x.png"))
    assert request.command[3:6] == ["predictions", "report", "results/x.png"]
    text = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    rules = set(re.findall(r"^ *rule (\w+):", text, flags=re.MULTILINE))
    assert set(MADE_BY_STAGE) | set(MADE_BY_STAGE.values()) <= rules


def test_a_configuration_elsewhere_is_named_from_the_folder_of_the_run() -> None:
    command = Request(Path("/a/configs/my.yaml"), Path("/a/run")).command
    assert command[command.index("--configfile") + 1] == "../configs/my.yaml"


def test_a_profile_default_beside_the_configuration_takes_the_place_of_the_packaged_one(tmp_path: Path) -> None:
    (tmp_path / "profiles" / "default").mkdir(parents=True)
    assert Request(tmp_path / "my.yaml", tmp_path).command[-1] == str(tmp_path / "profiles" / "default")


def test_rules_find_the_running_installation_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/elsewhere")
    first, *others = Request(Path("/a/my.yaml"), Path("/a")).environment["PATH"].split(":")
    assert (Path(first) / "wsi-mil").is_file() and others == ["/elsewhere"]


def test_the_report_is_named_unless_something_else_was_asked_for() -> None:
    def made(**changes: object) -> bool:
        return Request(Path("/a/my.yaml"), Path("/a"), **changes).makes_the_report

    assert made() and made(options=("-R", "heatmap"))
    assert not made(targets=("tiles",)) and not made(dry_run=True) and not made(options=("--config", "results=other"))


def test_the_slurm_profile_is_copied_once_to_be_edited(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"profiles/slurm: .* edit its partitions.yaml"):
        profile_folder("slurm", tmp_path)
    own = tmp_path / "profiles" / "slurm"
    assert (own / "profile.yaml").read_bytes() == (ROOT / "profiles/slurm/profile.yaml").read_bytes()
    (own / "partitions.yaml").write_text("partitions: {mine: {}}\n")
    assert profile_folder("slurm", tmp_path) == own
    assert (own / "partitions.yaml").read_text() == "partitions: {mine: {}}\n"


def test_a_profile_is_a_name_beside_the_configuration_or_a_folder(tmp_path: Path) -> None:
    for place in ("run/profiles/lab", "elsewhere/lab two"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "profile.v9+.yaml").write_text("cores: 3\n")
    assert profile_folder("default", tmp_path / "run") is None
    assert profile_folder("lab", tmp_path / "run") == tmp_path / "run/profiles/lab"
    assert profile_folder(str(tmp_path / "elsewhere/lab two"), tmp_path / "run") == tmp_path / "elsewhere/lab two"
    with pytest.raises(ConfigError, match=r"--profile elsewhere: no such profile; expected default, slurm, or a folder"):
        profile_folder("elsewhere", tmp_path / "run")


def test_an_executor_that_is_not_installed_is_named_with_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "profile.yaml").write_text("jobs: 4\nexecutor: no-such-cluster\n")
    with pytest.raises(ConfigError, match="pip install snakemake-executor-plugin-no-such-cluster"):
        profile_folder(str(tmp_path), tmp_path)


def test_without_snakemake_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_snakemake()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'wsi_mil\[workflow\]'"):
        require_snakemake()
