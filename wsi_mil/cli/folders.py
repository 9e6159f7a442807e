"""Which configuration a command means, and the folder where its relative paths start."""

from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from wsi_mil.errors import ConfigError

NAMES = ("my.yaml", "config.yaml")
"""Configurations that are taken if none is named, the first that exists."""

Directory = Annotated[
    Optional[Path], typer.Option(help="folder where relative paths of the configuration start; default: the configuration's")
]


def configuration(file: Path | None) -> Path:
    """Return the configuration that a command means.

    Args:
        file: as given; None: one of NAMES in the current folder.

    Raises:
        ConfigError: there is no such file; names the nearest one.
    """
    found = next((Path(name) for name in NAMES if Path(name).is_file()), Path(NAMES[0])) if file is None else file
    if found.is_file():
        return found
    usual = next((name for name in NAMES if Path(name).is_file()), None)
    if usual is not None and (found.name.startswith("-") or not found.suffix):
        raise ConfigError([f"{found}: expected the configuration first: wsi-mil run {usual} {_as_written(found)}"])
    raise ConfigError([f"{found}: no such configuration; {_instead(found)}"])


def _as_written(argument: Path) -> str:
    """A stage, or an option of Snakemake with the dashes before it."""
    return f"-- {argument}" if argument.name.startswith("-") else str(argument)


def _instead(missing: Path) -> str:
    """What to do about a missing configuration: take the nearest one, or write one."""
    folder = missing if missing.is_dir() else missing.parent
    there = [path.name for path in [*folder.glob("*.yaml"), *folder.glob("*.yml")] if _is_configuration(path)]
    there.sort(key=lambda name: (name not in NAMES, name))
    if not there:
        return "`wsi-mil init SLIDES` writes one"
    near = [] if missing.is_dir() else get_close_matches(missing.name, there, n=1)
    return f"did you mean {folder / (near or there)[0]}?"


def _is_configuration(path: Path) -> bool:
    """Whether a file has the key `cohort`, by its text alone."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return any(line.startswith("cohort:") for line in file)


def working_folder(config: Path, directory: Path | None) -> Path:
    """Return the folder where relative paths of a configuration start, absolute. Raises ConfigError if it does not exist."""
    folder = (directory or config.parent).absolute()
    if not folder.is_dir():
        raise ConfigError([f"--directory {directory}: no such folder"])
    return folder


@contextmanager
def paths_of(config: Path, values: Mapping[str, Any], directory: Path | None) -> Iterator[None]:
    """Let relative paths start where they do in a run of the configuration.

    Raises:
        ConfigError: there is no such folder, or the sheet is found from the current folder only.
    """
    folder = working_folder(config, directory)
    require_sheet_there(config, values, folder)
    with chdir(folder):
        yield


def require_sheet_there(config: Path, values: Mapping[str, Any], folder: Path) -> None:
    """Raise ConfigError if the sheet is not in the folder of a run, but is found from the current folder."""
    sheet = values.get("cohort")
    if isinstance(sheet, str) and Path(sheet).is_file() and not (folder / sheet).is_file():
        raise ConfigError(
            [
                f"{config}: cohort: {sheet} does not exist in {folder}, where its relative paths start, but in {Path.cwd()}:"
                " write it relative to the first, or run the command with --directory ."
            ]
        )
