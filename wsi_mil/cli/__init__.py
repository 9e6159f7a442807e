"""The command line: one subcommand per rule of the workflow. The only place that reads YAML, picks the device and
sets exit codes. Heavy imports stand inside the commands, so that light ones stay light.
"""

import errno
import io
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from wsi_mil import __version__
from wsi_mil.cli import encoders, interchange, learn, preflight, prepare, show, view
from wsi_mil.errors import ClusterError, ConfigError, DeviceMemoryError, UnreachableError, WsiMilError

USER_FAULT = 2
MACHINE_FAULT = 1

CANNOT_WRITE = {
    errno.ENOSPC: "no room is left on the disk",
    errno.EDQUOT: "no room is left in the disk quota",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission",
}
"""Faults of the machine that need no traceback."""

PANELS = {
    "Before a run": ("check", "doctor", "inspect", "encoders", "demo-cohort"),
    "Features from other tools, and for them": ("import-features", "export-features"),
    "After a run, finished or not": ("view", "verify", "unstage"),
}
"""Headings of `--help` and what stands under them; all others are stages."""

STAGES = "Stages, in their order; Snakemake calls them"


def _panel(command: str) -> str:
    return next((panel for panel, names in PANELS.items() if command in names), STAGES)


app = typer.Typer(
    name="wsi-mil",
    help="Learn a label from whole slides, and show where in the slide the evidence is.",
    epilog="A whole cohort: `wsi-mil check my.yaml`, then `snakemake --configfile my.yaml`. What each stage reads, writes and"
    " can be told, and how to run it alone, stands in docs/.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (encoders, prepare, learn, show, preflight, view, interchange):  # panels stand in the order of their first command
    for command in part.commands.registered_commands:
        command.rich_help_panel = _panel(command.name or getattr(command.callback, "__name__", ""))
    app.add_typer(part.commands)


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(name="demo-cohort", rich_help_panel=_panel("demo-cohort"))
def demo_cohort(
    out: Annotated[Path, typer.Argument(help="folder to make")],
    slides: Annotated[int, typer.Option(min=4, help="how many slides, half of them with a lesion")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="same seed, same bytes")] = 0,
    texture: Annotated[
        Optional[Path], typer.Option(help="slide to take the texture from; without it a public one is fetched")
    ] = None,
) -> None:
    """Make a cohort of slides with known lesions from real tissue."""
    from wsi_mil.demo import create_demo_cohort

    create_demo_cohort(out, n_slides=slides, seed=seed, texture=texture)


@app.command(hidden=True)
def schema() -> None:
    """Print the JSON Schema of config.yaml, for editors."""
    from wsi_mil.config import Config

    print(json.dumps(Config.model_json_schema(), indent=1))


def main() -> None:
    """Entry point: faults of the user, and faults that name their mend, are one line each and exit code 2; a full disk 1.

    What a terminal's encoding lacks is replaced, and where nobody reads on (`wsi-mil encoders | head -1`) the command ends.
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
        print(f"error: {CANNOT_WRITE[error.errno]}{where}; what is finished is kept: mend it and run again", file=sys.stderr)
        sys.exit(MACHINE_FAULT)


def _run_app() -> None:
    """With all output written, or known not to be, while faults can still be told."""
    out = sys.stdout
    try:
        app()
    finally:
        has_reader = sys.stdout is out  # typer puts another in its place where a pipe is closed, and ends with 1
        try:
            if out is not None:
                out.flush()
        except BrokenPipeError:
            has_reader = False
        if not has_reader:
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # or the interpreter tries again, and complains
            sys.exit(128 + signal.SIGPIPE)
