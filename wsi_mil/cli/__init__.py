"""The command line, with one subcommand for each rule of the workflow. It alone reads YAML, chooses the device and sets
exit codes. Heavy imports are inside the commands, so that light commands start fast.
"""

import io
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from wsi_mil.cli import encoders, fine, init, interchange, learn, preflight, prepare, run, show, splits, view
from wsi_mil.errors import CANNOT_WRITE, ClusterError, ConfigError, DeviceMemoryError, UnreachableError, WsiMilError
from wsi_mil.version import __version__

USER_FAULT = 2
MACHINE_FAULT = 1

PANELS = {
    "Run": ("run", "demo"),
    "Before a run": ("init", "check", "doctor", "inspect", "encoders", "demo-cohort"),
    "Import and export": ("import-features", "export-features", "import-splits", "export-splits"),
    "During and after a run": ("view", "verify", "unstage"),
}
"""Headings of `--help` with their commands; all other commands are stages."""

STAGES = "Stages, in order (run by Snakemake)"


def _panel(command: str) -> str:
    return next((panel for panel, names in PANELS.items() if command in names), STAGES)


app = typer.Typer(
    name="wsi-mil",
    help="Train classifiers on labelled whole-slide images, and show where in each slide the evidence is.",
    epilog="To run a whole cohort: `wsi-mil check my.yaml`, then `wsi-mil run my.yaml`. The pages in docs/ describe"
    " the inputs, outputs and settings of each stage, and how to run it alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (
    run,
    init,
    encoders,
    prepare,
    learn,
    show,
    fine,
    preflight,
    view,
    interchange,
    splits,
):  # panels appear in order of their first command
    for command in part.commands.registered_commands:
        command.rich_help_panel = _panel(command.name or getattr(command.callback, "__name__", ""))
    app.add_typer(part.commands)


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(name="demo-cohort", rich_help_panel=_panel("demo-cohort"))
def demo_cohort(
    out: Annotated[Path, typer.Argument(help="folder to create")],
    slides: Annotated[int, typer.Option(min=4, help="number of slides; half of them have a lesion")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="random seed; the same seed gives identical files")] = 0,
    texture: Annotated[
        Optional[Path], typer.Option(help="slide that the texture is taken from; default: a public slide, downloaded")
    ] = None,
) -> None:
    """Create a demo cohort: synthetic slides of real tissue with known lesions."""
    from wsi_mil.demo import create_demo_cohort
    from wsi_mil.runtime.threads import usable_cores

    create_demo_cohort(out, n_slides=slides, seed=seed, texture=texture, processes=usable_cores())


@app.command(hidden=True)
def schema() -> None:
    """Print the JSON schema of config.yaml, for editors."""
    from wsi_mil.config import Config

    print(json.dumps(Config.model_json_schema(), indent=1))


def main() -> None:
    """Entry point: report errors of the user in one line each with exit code 2, those of the machine with exit code 1.

    Characters that the terminal's encoding lacks are replaced. The command ends when its pipe is closed
    (`wsi-mil encoders | head -1`).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    try:
        _run_app()
    except ConfigError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr)
        sys.exit(USER_FAULT)
    except WsiMilError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MACHINE_FAULT if isinstance(error, ClusterError | DeviceMemoryError | UnreachableError) else USER_FAULT)
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {CANNOT_WRITE[error.errno]}{where}; finished results are kept: fix it and run again", file=sys.stderr)
        sys.exit(MACHINE_FAULT)


def _run_app() -> None:
    """Run the command and flush its output while errors can still be reported."""
    out = sys.stdout
    try:
        app()
    finally:
        has_reader = sys.stdout is out  # typer replaces it when a pipe is closed, and exits with 1
        try:
            if out is not None:
                out.flush()
        except BrokenPipeError:
            has_reader = False
        if not has_reader:
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # otherwise the interpreter flushes again and complains
            sys.exit(128 + signal.SIGPIPE)
