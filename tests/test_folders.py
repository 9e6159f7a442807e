"""Which configuration a command means, and where its relative paths start."""

import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.conftest import tissue_image, write_aperio, write_cohort
from tests.targets import block_of
from wsi_mil.cli import app
from wsi_mil.errors import ConfigError

COMMANDS = (["check", "{}"], ["doctor", "--configfile", "{}"], ["run", "{}", "-n"])


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `study one` with configuration, sheet and slides; the current folder is the one above it."""
    folder = tmp_path / "study one"
    rows = []
    for number in range(8):
        write_aperio(folder / "slides" / f"s{number}.svs", tissue_image(640, 448, seed=number))
        label = ("normal", "tumour")[number % 2]
        rows.append({"slide_id": f"s{number}", "path": f"slides/s{number}.svs", "label": label, "patient_id": f"p{number}"})
    write_cohort(folder, rows)
    values = {"cohort": "cohort.csv", "targets": block_of("normal", "tumour"), "split": {"folds": 2}}
    values |= {"tilings": {"default": {"tile_px": 96}}, "encoders": {"e": {"encoder": "efficientnet_lite0"}}}
    values["models"] = {"abmil": {"model": "abmil"}}
    (folder / "my.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    return folder


def done(*arguments: str) -> str:
    ran = CliRunner().invoke(app, list(arguments))
    assert ran.exit_code == 0, (ran.output, ran.exception)
    return ran.output


def fault(*arguments: str) -> str:
    """The only fault of a command."""
    ran = CliRunner().invoke(app, list(arguments))
    assert isinstance(ran.exception, ConfigError), ran.output
    assert len(ran.exception.faults) == 1, ran.exception.faults
    (text,) = ran.exception.faults
    assert "\n" not in text
    return text


def test_check_and_doctor_take_paths_from_the_configurations_folder(study: Path) -> None:
    before = Path.cwd()
    assert "study one/my.yaml: 8 slides: no faults" in done("check", "study one/my.yaml")
    assert "8 slides: 8 ok" in done("doctor", "--configfile", "study one/my.yaml")
    assert Path.cwd() == before


def test_my_yaml_is_taken_if_no_configuration_is_named_and_else_config_yaml(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    assert "8 slides: 8 ok" in done("doctor")
    (study / "my.yaml").rename(study / "config.yaml")
    assert "8 slides: 8 ok" in done("doctor")


def test_directory_says_where_paths_start(study: Path) -> None:
    (study / "my.yaml").rename(study.parent / "elsewhere.yaml")
    assert "8 slides: no faults" in done("check", "elsewhere.yaml", "--directory", "study one")
    assert fault("check", "elsewhere.yaml", "--directory", "gone") == "--directory gone: no such folder"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_sheet_that_is_found_from_the_current_folder_only_is_told_with_what_to_do(study: Path, command: list[str]) -> None:
    (study / "configs").mkdir()
    (study / "my.yaml").rename(study / "configs" / "my.yaml")
    os.chdir(study)
    said = fault(*(argument.format("configs/my.yaml") for argument in command))
    folder = study / "configs"
    assert said == (
        f"configs/my.yaml: cohort: cohort.csv does not exist in {folder}, where its relative paths start, but in {study}:"
        " write it relative to the first, or run the command with --directory ."
    )
    assert "8 slides: no faults" in done("check", "configs/my.yaml", "--directory", ".")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_missing_configuration_is_told_with_the_nearest_or_the_command_that_writes_one(study: Path, command: list[str]) -> None:
    def said(name: str) -> str:
        return fault(*(argument.format(name) for argument in command))

    assert said("my.yaml") == "my.yaml: no such configuration; `wsi-mil init SLIDES` writes one"
    (study / "other.yaml").write_text("cohort: x.csv\n")
    (study / "profile.yaml").write_text("cores: 2\n")
    assert said("study one/me.yml") == "study one/me.yml: no such configuration; did you mean study one/my.yaml?"
    assert said("study one/prof.yaml").endswith("did you mean study one/other.yaml?")
    assert said("study one") == "study one: no such configuration; did you mean study one/my.yaml?"


def test_a_stage_or_an_option_in_place_of_the_configuration_is_told_with_the_whole_command(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    expected = "expected the configuration first: wsi-mil run my.yaml"
    assert fault("run", "heatmaps") == f"heatmaps: {expected} heatmaps"
    assert fault("run", "--", "--unlock") == f"--unlock: {expected} -- --unlock"


def test_run_without_a_configuration_says_how_to_get_one(study: Path) -> None:
    assert fault("run") == "my.yaml: no such configuration; `wsi-mil init SLIDES` writes one"


def test_a_folder_without_permission_to_write_is_told(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study.chmod(0o555)
    if os.geteuid() == 0:  # who may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != study)
    said = fault("run", "study one/my.yaml")
    study.chmod(0o755)
    assert said == f"{study}: no permission to write, but a run keeps logs there; choose a folder with --directory"


def test_demo_leaves_a_configuration_of_ones_own_alone(study: Path) -> None:
    (study / "my.yaml").rename(study / "config.yaml")
    before = (study / "config.yaml").read_bytes()
    said = fault("demo", "study one")
    assert said.endswith("choose another folder: wsi-mil demo FOLDER") and "demo/cohort.csv" in said
    assert (study / "config.yaml").read_bytes() == before and not (study / "demo").exists()


OLDER = ("models/efficientnet/abmil/fold-0/config.json", "predictions/efficientnet/abmil.csv", "metrics/efficientnet/abmil.json")


@pytest.mark.parametrize("file", OLDER)
def test_results_of_a_version_without_targets_are_not_mixed_with_new_ones(study: Path, file: str) -> None:
    made = study / "results" / file
    made.parent.mkdir(parents=True)
    made.write_text("{}")
    said = fault("check", "study one/my.yaml")
    assert said == (
        f"results: results is of an older version, which knew no targets ({file}): set results to a new folder, or delete"
        " everything in this one except tiles and features, which are used again"
    )
    newer = study / "results" / file.replace("efficientnet/", "tumour/efficientnet/")
    newer.parent.mkdir(parents=True)
    made.rename(newer)
    assert "no faults" in done("check", "study one/my.yaml")
