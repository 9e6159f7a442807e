"""The commands `run` and `demo`: the whole workflow, by Snakemake."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from wsi_mil.cli.folders import Directory, configuration, require_sheet_there, working_folder
from wsi_mil.cli.options import config_values
from wsi_mil.errors import ConfigError

if TYPE_CHECKING:
    from wsi_mil.workflow import FailedJob, Messages, Request

USER_FAULT = 2
FAILED = 1
LAST_LINES = 8
"""Lines of a failed job's log that are shown."""
ELSEWHERE = "choose another folder: wsi-mil demo FOLDER"
NAMED_JOBS = 10
"""Failed jobs that are shown."""

Cores = Annotated[Optional[str], typer.Option(help="number of cores, or all; default: all, or as the profile has it")]

commands = typer.Typer()


@commands.command()
def run(
    config: Annotated[Optional[Path], typer.Argument(help="the configuration; default: my.yaml, else config.yaml")] = None,
    rest: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="TARGET",
            help="what to make: tiles, features, models, predictions, scores, verdicts, explanations, heatmaps, fine_heatmaps,"
            " cohort_statistics, report, a stage (predict for predictions), or files; default: all; options of Snakemake stand"
            " after --",
        ),
    ] = None,
    profile: Annotated[str, typer.Option(help="default: this machine; slurm; or the folder of a profile")] = "default",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="count the jobs that would run, and run none")] = False,
    cores: Cores = None,
    directory: Directory = None,
) -> None:
    """Run the workflow, or what is missing or has changed; print the report's address, or which jobs failed and why."""
    from wsi_mil.workflow import Request, profile_folder, require_snakemake

    require_snakemake()
    file = configuration(config)
    values = config_values(file)
    folder = working_folder(file, directory)
    require_sheet_there(file, values, folder)
    _require_writable(folder)
    given = rest or []
    n_targets = next((number for number, text in enumerate(given) if text.startswith("-")), len(given))
    request = Request(
        file.absolute(),
        folder,
        tuple(given[:n_targets]),
        profile=profile_folder(profile, folder),
        cores=cores,
        dry_run=dry_run,
        options=tuple(given[n_targets:]),
    )
    raise typer.Exit(_run(request, folder / str(values.get("results", "results"))))


@commands.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="folder for configuration, slides and results")] = Path(),
    slides: Annotated[int, typer.Option(min=12, help="number of slides to create; half of them have a lesion")] = 24,
    cores: Cores = None,
    texture: Annotated[
        Optional[Path], typer.Option(help="slide that the texture is taken from; default: a public slide, downloaded")
    ] = None,
) -> None:
    """Create a small cohort with known lesions and run the whole workflow on it; slides that exist are kept."""
    from wsi_mil import bundled
    from wsi_mil.demo import create_demo_cohort
    from wsi_mil.runtime.threads import usable_cores
    from wsi_mil.workflow import Request, require_snakemake

    require_snakemake()
    folder.mkdir(parents=True, exist_ok=True)
    _require_writable(folder.absolute())
    config = folder / "config.yaml"
    own = [name for name in ("my.yaml", "results") if (folder / name).exists()]
    if own and ("my.yaml" in own or not config.exists()):
        raise ConfigError([f"{folder / own[0]}: a study is here already, whose results the demo would replace; {ELSEWHERE}"])
    if not config.exists():
        shutil.copyfile(bundled.demo_config(), config)
    values = config_values(config)
    sheet = config_values(bundled.demo_config())["cohort"]
    if values.get("cohort") != sheet:
        raise ConfigError([f"{config}: expected the demo's, with cohort: {sheet}; {ELSEWHERE}"])
    if not (folder / sheet).exists():
        create_demo_cohort((folder / sheet).parent, n_slides=slides, texture=texture, processes=usable_cores())
    request = Request(config.absolute(), folder.absolute(), cores=cores)
    raise typer.Exit(_run(request, folder.absolute() / str(values.get("results", "results"))))


def _require_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError([f"{folder}: no permission to write, but a run keeps logs there; choose a folder with --directory"])


def _run(request: "Request", results: Path) -> int:
    """Run Snakemake, print how it ended, and return the exit code."""
    from wsi_mil.workflow import Messages, run_snakemake

    messages = Messages()

    def show(line: str) -> None:
        if (shown := messages.read(line)) or request.is_verbose:
            print(line.rstrip("\n") if request.is_verbose else shown, file=sys.stderr, flush=True)

    code = run_snakemake(request, show)
    if code == 0:
        _print_report(request, results, messages)
        return 0
    return _print_failure(request, messages, code)


def _print_report(request: "Request", results: Path, messages: "Messages") -> None:
    page = results / "report" / "index.html"
    if request.makes_the_report and messages.is_complete and page.is_file():
        view = f"slides and heatmaps in a browser: wsi-mil view {shlex.quote(_short(results))}"
        print(*_figures(request.folder / "logs" / "report.log"), f"report: {page}", view, sep="\n")


def _figures(log: Path) -> list[str]:
    """The line with the figures of each target and model in the log of the report."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return [line.removeprefix("INFO ") for line in lines if line.startswith("INFO ") and "reading the results" not in line]


def _print_failure(request: "Request", messages: "Messages", code: int) -> int:
    """Say on one line, or a few for each failed job, why a run ended; return the exit code."""
    from wsi_mil.workflow.process import INTERRUPTED

    again = f"wsi-mil run {shlex.quote(_short(request.config))}"
    if code == INTERRUPTED:
        print(f"stopped; finished results are kept: {again}", file=sys.stderr)
        return code
    if messages.is_locked:
        print(
            f"error: {request.folder}: another run is working here, or one was killed; if none is: {again} -- --unlock",
            file=sys.stderr,
        )
        return USER_FAULT
    for job in messages.failed[:NAMED_JOBS]:
        _print_job(job, request.folder)
    if more := len(messages.failed) - NAMED_JOBS:
        print(f"{more} more jobs failed" if more > 0 else "", end="\n" if more > 0 else "", file=sys.stderr)
    if messages.failed:
        print(f"finished results are kept; what is missing is made by the next run: {again}", file=sys.stderr)
    return USER_FAULT if code == USER_FAULT else FAILED


def _print_job(job: "FailedJob", folder: Path) -> None:
    """A failed job with its log and the log's last lines."""
    logs = [folder / log for log in job.logs]
    print(f"error: {job.rule} failed; its log: {', '.join(map(_short, logs)) or 'none'}", file=sys.stderr)
    for log in filter(Path.is_file, logs):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]:
            print(f"    {line}", file=sys.stderr)


def _short(path: Path) -> str:
    """A path relative to the current folder if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
