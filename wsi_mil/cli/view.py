"""The command `view`."""

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from wsi_mil.cli.options import config_values, use_remote
from wsi_mil.errors import ConfigError
from wsi_mil.runtime.threads import limit_threads

if TYPE_CHECKING:
    from wsi_mil.view import Catalogue

NEEDED = ("starlette", "uvicorn")
CONFIGS = ("*.yaml", "*.yml")

log = logging.getLogger(__name__)
commands = typer.Typer()


@commands.command()
def view(
    results: Annotated[Path, typer.Argument(help="results folder; the run may be unfinished")],
    configfile: Annotated[
        Optional[Path],
        typer.Option(help="configuration of the run; default: the one in this folder or beside RESULTS that names RESULTS"),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on; if in use, the next free one")] = 8000,
    host: Annotated[str, typer.Option(help="address to listen on; 127.0.0.1: reachable from this machine only")] = "127.0.0.1",
) -> None:
    """Show slides, heatmaps and the cohort in a browser."""
    limit_threads(1)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError([f"view needs the packages {', '.join(missing)}; pip install 'wsi_mil[view]'"])
    if not results.is_dir():
        raise ConfigError([f"{results}: no such folder; expected the results folder of a run"])
    from wsi_mil.view import serve

    serve(_catalogue(results.resolve(), configfile), host=host, port=port)


def _catalogue(results: Path, configfile: Path | None) -> "Catalogue":
    """Catalogue of the results folder, with the run's sheet and settings if they can be found.

    Raises:
        ConfigError: the configuration named on the command line has faults; those of one found automatically are shown as
            notes on the pages.
    """
    from wsi_mil.config import Config, parse_settings
    from wsi_mil.tasks import task_of
    from wsi_mil.view import Catalogue

    candidates = [(configfile, Path())] if configfile else _configs_of(results)
    if len(candidates) != 1:
        names = " and ".join(str(path) for path, _ in candidates)
        problem = f"both {names} name {results}" if names else f"no configuration in this folder or beside {results} names it"
        note = f"{problem}: slides and annotations are not shown; choose the configuration with --configfile"
        return Catalogue(results, notes=(note,))
    path, folder = candidates[0]
    log.info("configuration: %s", path)
    try:
        values = config_values(path)
        use_remote(values)
        config = parse_settings(Config, values)
        rows, faults = _rows(folder, config)
    except ConfigError as error:
        if configfile is not None:
            raise
        log.warning("%s: %s", path, error)
        return Catalogue(results, notes=(f"slides and annotations are not shown, because {path} has faults:", *error.faults))
    tasks = {name: task_of(target) for name, target in config.targets.items()}
    return Catalogue(results, tasks, rows, config.truth, config.heatmap, tuple(faults))


def _rows(folder: Path, config: Any) -> tuple[dict[str, Any], list[str]]:
    """Rows of the sheet by slide_id, and its faults; rows without faults are shown all the same."""
    from wsi_mil.cohort import read_sheet

    sheet = read_sheet(folder / config.cohort, config.targets, needs_path=False)
    for fault in sheet.faults:
        log.warning("%s", fault)
    return {row.slide_id: row for row in sheet.rows}, list(sheet.faults)


def _configs_of(results: Path) -> list[tuple[Path, Path]]:
    """Configurations that name the folder, each with the folder that its paths are relative to: where snakemake was run."""
    configs: dict[Path, Path] = {}
    for folder in (Path.cwd(), results.parent):
        for path in sorted(path for pattern in CONFIGS for path in folder.glob(pattern)):
            if _names_results(path) and (folder / _names_results(path)).resolve() == results:
                configs.setdefault(path.resolve(), folder)
    return list(configs.items())


def _names_results(path: Path) -> str:
    """The results folder that a configuration names; "" if the file is no configuration."""
    try:
        values = config_values(path)
    except ConfigError:
        return ""
    return str(values.get("results", "results")) if "cohort" in values else ""
