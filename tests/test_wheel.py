"""The package as a wheel, without a clone: what it holds, and that `wsi-mil demo` gives the figures of `make demo`."""

import csv
import json
import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from tests.wheels import BUNDLED, CLEAN, ROOT, copy_sources, create_environment, done

pytestmark = [pytest.mark.slow, pytest.mark.system]

SMALL = {
    "cohort": "demo/cohort.csv",
    "targets": {"tumour": {"kind": "classes", "column": "label", "classes": ["normal", "tumour"]}},
    "tilings": {"default": {"mpp": 1.0}},
    "encoders": {"efficientnet": {"encoder": "efficientnet_lite0"}},
    "split": {"folds": 2},
    "models": {"abmil": {"model": "abmil", "embed_dim": 32, "train": {"updates": 100}}},
    "predict": {"bootstrap": 100},
    "explain": {"methods": ["attention"]},
}
"""The demo with one model and two folds."""


def files_below(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts}


def test_the_wheel_holds_the_package_and_the_workflow_and_nothing_else(wheel: Path) -> None:
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {file.relative_to(ROOT).as_posix() for file in files_below(ROOT / "wsi_mil")}
    roots = [ROOT / name for name in BUNDLED]
    bundled = {file for root in roots for file in (files_below(root) if root.is_dir() else {root})}
    assert held == package | {f"wsi_mil/_bundled/{file.relative_to(ROOT).as_posix()}" for file in bundled}
    assert sum(not name.endswith(".py") for name in held) > 50, "templates, scripts, OpenSeadragon, rules"


def test_the_wheel_says_whose_it_is_and_what_can_be_installed_with_it(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        head = archive.read(name).decode().partition("\n\n")[0].splitlines()
    assert "Author: wsi_mil maintainers" in head and "License-Expression: Apache-2.0" in head
    extras = {line.removeprefix("Provides-Extra: ") for line in head if line.startswith("Provides-Extra: ")}
    assert extras >= {"all", "workflow", "slurm", "view", "interchange", "survival", "cluster", "remote", "excel"}
    assert sum(line.startswith("Project-URL: ") for line in head) == 4


def test_the_wheel_is_found_as_an_installed_package_with_its_workflow(installed: Path, tmp_path: Path) -> None:
    where = done(installed / "python", "-c", "import wsi_mil; print(wsi_mil.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(installed.parent)
    version = done(installed / "python", "-c", "import wsi_mil; print(wsi_mil.__version__)", cwd=tmp_path)
    assert done(installed / "wsi-mil", "--version", cwd=tmp_path) == version
    program = "from wsi_mil import bundled as b; print(b.snakefile(), b.requirement(), sep='\\n')"
    snakefile, requirement = done(installed / "python", "-c", program, cwd=tmp_path).splitlines()
    assert Path(snakefile).is_relative_to(installed.parent) and Path(snakefile).is_file()
    assert requirement == f"wsi_mil=={version.strip()}"


def test_an_editable_install_takes_the_workflow_from_the_clone_and_holds_no_copy(tmp_path: Path) -> None:
    copy_sources(tmp_path / "a clone")
    bin_folder = create_environment(tmp_path / "environment")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed")
    done(bin_folder / "python", "-m", "pip", "install", *options, "-e", "./a clone", cwd=tmp_path)
    said = done(bin_folder / "python", "-c", "from wsi_mil import bundled; print(bundled.snakefile())", cwd=tmp_path)
    assert Path(said.strip()) == tmp_path / "a clone" / "Snakefile"
    assert not list((tmp_path / "environment").rglob("_bundled"))


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_the_last_requirement_of_a_conda_environment_is_the_package_of_the_run(tmp_path: Path, name: str) -> None:
    """Conda gives the list to pip as a file of requirements; pip fills in the variable."""
    copy_sources(tmp_path / "a clone")
    content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())
    pip = next(part["pip"] for part in content["dependencies"] if isinstance(part, dict))
    (tmp_path / "requirements.txt").write_text(pip[-1] + "\n")
    bin_folder = create_environment(tmp_path / "environment")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed")
    command = (bin_folder / "python", "-m", "pip", "install", *options, "-r", "requirements.txt")
    done(*command, cwd=tmp_path, WSI_MIL_REQUIREMENT=f'-e "{tmp_path / "a clone"}"')
    said = done(bin_folder / "python", "-c", "import wsi_mil; print(wsi_mil.__file__)", cwd=tmp_path)
    assert Path(said.strip()) == tmp_path / "a clone" / "wsi_mil" / "__init__.py"


def test_the_script_of_the_containers_installs_everything_into_a_bare_environment(tmp_path: Path) -> None:
    """With borrowed packages: pip finds all others at the versions of envs/constraints.txt, and downloads none."""
    copy_sources(tmp_path / "sources")
    shutil.copytree(ROOT / "containers", tmp_path / "sources" / "containers")
    bin_folder = create_environment(tmp_path / "environment")
    env = {"PATH": f"{bin_folder}:/usr/bin:/bin", "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    env["PIP_IGNORE_INSTALLED"] = "0"

    def ran(*arguments: str) -> "subprocess.CompletedProcess[str]":
        script = str(tmp_path / "sources/containers/install.sh")
        return subprocess.run([script, *arguments], cwd=tmp_path, env=env, text=True, capture_output=True, timeout=600)

    assert ran().returncode == 2 and "cpu|gpu" in ran().stderr
    installed = ran("cpu")
    assert installed.returncode == 0, installed.stdout[-2000:] + installed.stderr[-3000:]
    assert (bin_folder / "wsi-mil").is_file() and not list((tmp_path / "environment").rglob("torch"))


def test_without_snakemake_run_names_the_extra(wheel: Path, tmp_path: Path) -> None:
    """In an environment with what `run` needs to get that far: typer."""
    done(shutil.which("python3") or "python3", "-m", "zipfile", "-e", str(wheel), str(tmp_path / "package"), cwd=tmp_path)
    program = (
        "import sys, importlib.util as u; find = u.find_spec;"
        "u.find_spec = lambda name, *more: None if name == 'snakemake' else find(name, *more);"
        f"sys.path.insert(0, {str(tmp_path / 'package')!r}); sys.argv = ['wsi-mil', 'run'];"
        "from wsi_mil.__main__ import program; program()"
    )
    import sys

    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=CLEAN, text=True, capture_output=True)
    assert ran.returncode == 2
    assert ran.stderr == "error: this command needs Snakemake, which is not installed; pip install 'wsi_mil[workflow]'\n"


def figures(results: Path) -> dict[str, object]:
    """The figures of models and methods, and the predictions."""
    found: dict[str, object] = {}
    for file in sorted([*results.glob("metrics/*/*/*.json"), *results.glob("explanations/*/*/*.json")]):
        found[file.relative_to(results).as_posix()] = json.loads(file.read_text())
    for file in sorted(results.glob("predictions/*/*/*.csv")):
        with file.open(newline="") as table:
            found[file.relative_to(results).as_posix()] = list(csv.DictReader(table))
    return found


def test_the_demo_of_the_wheel_in_an_empty_folder_gives_the_figures_of_make_demo(installed: Path, tmp_path: Path) -> None:
    """Small: twelve slides, one model; with the clone there is nothing left to do in the same folder, and the other way round.

    Then `init` on the same slides with a clinical table, and `run`: the same predictions.
    """
    alone, clone = tmp_path / "an empty folder", tmp_path / "clone"
    clone.mkdir()
    alone.mkdir()
    (alone / "config.yaml").write_text(yaml.safe_dump(SMALL))
    said = done(installed / "wsi-mil", "demo", alone, "--slides", "12", "--cores", "2", cwd=tmp_path)
    page = alone / "results" / "report" / "index.html"
    assert said.splitlines()[-2] == f"report: {page}" and page.stat().st_size > 100_000
    shutil.copy(ROOT / "Makefile", clone)
    shutil.copy(alone / "config.yaml", clone)
    shutil.copytree(alone / "demo", clone / "demo")
    made = done("make", "--old-file", ".venv/.ready", "demo", "CORES=2", cwd=clone)
    assert f"report: {clone / 'results/report/index.html'}" in made
    expected = figures(clone / "results")
    assert len(expected) == 3 and figures(alone / "results") == expected
    snakemake = (
        "snakemake",
        "--snakefile",
        ROOT / "Snakefile",
        "--profile",
        ROOT / "profiles/default",
        "--configfile",
        "config.yaml",
    )
    for folder in (alone, clone):
        ran = subprocess.run([*snakemake, "-n"], cwd=folder, env=CLEAN, text=True, capture_output=True)
        assert "Nothing to be done" in ran.stdout + ran.stderr
        again = subprocess.run([installed / "wsi-mil", "demo", folder], cwd=tmp_path, env=CLEAN, text=True, capture_output=True)
        assert "Nothing to be done" in again.stderr and "report: " in again.stdout
    write_clinical_table(alone / "demo" / "cohort.csv", tmp_path / "clinical.csv")
    told = done(
        installed / "wsi-mil",
        "init",
        alone / "demo" / "slides",
        "--table",
        tmp_path / "clinical.csv",
        "--out",
        tmp_path / "study",
        cwd=tmp_path,
    )
    assert "matched     13 of 13 slides" in told and "positive: tumour" in told
    written = yaml.safe_load((tmp_path / "study" / "my.yaml").read_text())
    assert list(written["targets"]) == ["diagnosis"], "the only target that is sure"
    small = {key: value for key, value in SMALL.items() if key not in ("cohort", "targets")}
    (tmp_path / "study" / "my.yaml").write_text(yaml.safe_dump({**written, **small}))
    ended = done(installed / "wsi-mil", "run", tmp_path / "study" / "my.yaml", "--cores", "2", cwd=tmp_path)
    assert "report: " in ended
    of_study, of_demo = (predictions(folder / "results") for folder in (tmp_path / "study", alone))
    assert len(of_demo) == 13 and of_study == of_demo


def predictions(results: Path) -> list[dict[str, str]]:
    """The predictions of the only model."""
    (file,) = results.glob("predictions/*/*/*.csv")
    with file.open(newline="") as table:
        return list(csv.DictReader(table))


def write_clinical_table(sheet: Path, table: Path) -> None:
    """Write the labels of a cohort sheet among thirty columns, as a hospital exports it: a title, decimal commas."""
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    patients = sorted({row["patient_id"] for row in rows})
    others = {
        "Age": lambda n: str(40 + n),
        "Sex": lambda n: "mf"[n % 2],
        "Hospital": lambda n: "AB"[n % 2],
        "Date of birth": lambda n: f"{1 + n}.3.1950",
        "Surname": lambda n: f"Name{n}",
        **{f"Laboratory {k}": (lambda n, k=k: f"{n * k % 17},{k}") for k in range(20)},
        "Remarks": lambda n: "see letter" if n % 3 else "",
    }
    with table.open("w", newline="", encoding="cp1252") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerows([["Export of the tumour registry (Köln)"], [], ["No.", "Scan", "Patient ID", *others, "Diagnosis"]])
        for number, row in enumerate(rows):
            of_patient = patients.index(row["patient_id"])
            cells = [make(of_patient) for make in others.values()]
            writer.writerow([number, f"{row['slide_id']}.svs", row["patient_id"], *cells, row["label"]])
