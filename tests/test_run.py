"""`wsi-mil run`: the same run as Snakemake's, how it ends, and what it says of jobs that fail. And the workflow as a module."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.dag import CONFIG, INSTALLED, ROOT, Run

pytestmark = pytest.mark.slow

ABMIL = CONFIG["models"]["abmil"]


@pytest.fixture
def run(finished_jobs: Path, tmp_path: Path) -> Run:
    """Results of a run by Snakemake, in a folder with a space in its name."""
    shutil.copytree(finished_jobs, tmp_path / "a study", symlinks=True)
    return Run(tmp_path / "a study")


def started(run: Run, *arguments: str) -> "subprocess.Popen[str]":
    """`wsi-mil run` in the folder above that of the configuration."""
    command = [INSTALLED, "run", "a study/c.yaml", *arguments]
    env = {**os.environ, "WSI_MIL_DEVICE": "cpu", "PATH": os.defpath}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=run.folder.parent, env=env, text=True, **pipes)


def ended(run: Run, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and messages of `wsi-mil run`."""
    process = started(run, *arguments)
    out, err = process.communicate(timeout=1200)
    return process.returncode, out, err


def test_run_and_snakemake_are_the_same_run(run: Run) -> None:
    report = f"report: {run.folder}/results/report/index.html\n"
    code, out, err = ended(run, "--cores", "2")
    assert code == 0 and "Nothing to be done" in err
    figures, *last = out.splitlines(keepends=True)
    assert figures.startswith("tumour, tiny · abmil: AUROC 0.")
    assert last == [report, "slides and heatmaps in a browser: wsi-mil view 'a study/results'\n"]
    run.config(slides_per_job="auto", heatmap={"colormap": "magma"})
    _, out, _ = ended(run, "-n")
    assert "heatmap" in out and "report" in out and "train" not in out and "report: " not in out
    code, out, err = ended(run, "--cores", "2")
    assert code == 0 and report in out and "steps (100%) done" in err
    assert "rule heatmap" not in err and "Date:" not in err
    assert run.snakemake() == {}


def test_a_target_is_made_and_no_other_and_options_are_passed_on(run: Run) -> None:
    run.config(slides_per_job="auto", models={"abmil": {**ABMIL, "dropout": 0.1}})
    code, out, _ = ended(run, "models", "-n", "--", "--forcerun", "split")
    assert code == 0 and all(f"\n{rule} " in out for rule in ("split", "train", "models"))
    assert "\npredict " not in out


def test_a_job_that_fails_is_named_with_its_log_and_the_logs_last_lines(run: Run) -> None:
    weights = run.results("models/tumour/tiny/abmil/fold-1/model.safetensors")
    weights.write_text("these are no weights")
    code, out, err = ended(run, "predictions", "--cores", "2", "--", "--forcerun", "predict", "--retries", "0")
    assert code == 1 and not out
    message = err[err.index("error: ") :].splitlines()
    assert message[0] == "error: predict failed; its log: a study/logs/predict/tumour/tiny/abmil.log"
    assert any("fold-1/model.safetensors: cannot read the weights" in line for line in message[1:])
    assert message[-1].endswith("wsi-mil run 'a study/c.yaml'") and err.count("error: predict failed") == 1


def test_a_fault_of_the_configuration_ends_before_any_job_with_exit_code_2(run: Run) -> None:
    run.config(slides_per_job="auto", heatmap={"colourmap": "magma"})
    code, out, err = ended(run)
    assert (code, out) == (2, "") and "heatmap.colourmap" in err


def test_a_locked_folder_is_told_with_the_command_that_unlocks_it(run: Run) -> None:
    run.results("report/index.html").unlink()
    lock = run.folder / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir()
    lock.write_text(f"{run.results('report/index.html')}\nresults/report/index.html\n")
    code, out, err = ended(run, "--cores", "2")
    assert code == 2 and not out
    assert err.splitlines()[-1] == (
        f"error: {run.folder}: another run is working here, or one was killed; if none is:"
        " wsi-mil run 'a study/c.yaml' -- --unlock"
    )
    code, out, _ = ended(run, "--", "--unlock")
    assert code == 0 and not out and not lock.exists()


def test_an_interrupted_run_ends_cleanly_and_leaves_no_lock(run: Run) -> None:
    process = started(run, "features", "--cores", "2", "--", "--forcerun", "extract")
    log = run.folder / "logs" / "extract" / "tiny" / "s0.log"
    before = log.stat().st_mtime_ns
    while not log.exists() or log.stat().st_mtime_ns == before:  # Snakemake removes a job's old log before it starts the job
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130 and not out
    assert err.splitlines()[-1] == "stopped; finished results are kept: wsi-mil run 'a study/c.yaml'"
    assert "Traceback" not in err and not (run.folder / ".snakemake" / "locks").exists()


MODULE = """
import yaml

module wsi_mil:
    snakefile: {snakefile!r}
    config: yaml.safe_load(open("c.yaml"))

use rule * from wsi_mil{renamed}

rule size:
    input: "results/report/index.html"
    output: "size.txt"
    shell: "wc -c < {{input}} > {{output}}"

onstart: wsi_mil.onstart()
"""


@pytest.mark.parametrize(("renamed", "prefix"), [("", ""), (" as slides_*", "slides_")])
def test_as_a_module_the_workflow_knows_the_same_run_and_its_forced_stages(run: Run, renamed: str, prefix: str) -> None:
    (run.folder / "Snakefile").write_text(MODULE.format(snakefile=str(ROOT / "workflow" / "Snakefile"), renamed=renamed))

    def snakemake(*arguments: str) -> str:
        command = ["snakemake", "--cores", "2", *arguments]
        env = {**os.environ, "WSI_MIL_DEVICE": "cpu", "PATH": f"{INSTALLED.parent}:{os.defpath}"}
        ran = subprocess.run(command, cwd=run.folder, env=env, text=True, capture_output=True, timeout=1200)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout + ran.stderr

    assert "Nothing to be done" in snakemake("-n")
    log = run.folder / "logs" / "tile" / "default" / "s0.log"
    forced = snakemake(f"{prefix}tiles", "--forcerun", f"{prefix}tile")
    assert f"rule {prefix}tile:" in forced and ": unchanged" not in log.read_text()
    run.config(slides_per_job="auto", heatmap={"colormap": "magma"})
    assert f"rule {prefix}heatmap:" in snakemake("size")
    assert int((run.folder / "size.txt").read_text()) == run.results("report/index.html").stat().st_size


def test_as_a_module_a_prefix_of_paths_is_refused(run: Run) -> None:
    text = MODULE.format(snakefile=str(ROOT / "workflow" / "Snakefile"), renamed="")
    (run.folder / "Snakefile").write_text(text.replace("    config:", '    prefix: "sub"\n    config:'))
    command = [INSTALLED.parent / "snakemake", "--cores", "1", "-n"]
    env = {**os.environ, "PATH": f"{INSTALLED.parent}:{os.defpath}"}
    ran = subprocess.run(command, cwd=run.folder, env=env, text=True, capture_output=True)
    assert ran.returncode != 0 and "set `results` in its configuration" in ran.stderr and "Traceback" not in ran.stderr


def test_the_catalogue_finds_what_it_asks_for() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"]["conda"] is True and usage["report"] is True
    assert (ROOT / "config" / "config.yaml").read_bytes() == (ROOT / "config.yaml").read_bytes()
    assert (ROOT / "config" / "README.md").is_file() and (ROOT / "workflow" / "Snakefile").is_file()
