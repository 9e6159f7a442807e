"""Options shared by several commands, and the parsing of their text."""

import json
import logging
import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from wsi_mil.addresses import is_url
from wsi_mil.errors import ConfigError

if TYPE_CHECKING:
    from wsi_mil.cohort import SheetColumns
    from wsi_mil.covariates import SlideCovariates
    from wsi_mil.ensemble import Ensemble
    from wsi_mil.records import SlideRow
    from wsi_mil.tasks import Task

log = logging.getLogger(__name__)

AGAIN_VARIABLE = "WSI_MIL_AGAIN"
"""Environment variable: rules whose results are made again although they are current, separated by spaces; set by the workflow
for `snakemake --forcerun`."""

Rows = Annotated[
    list[str],
    typer.Option("--row", help='a slide\'s row of the sheet as JSON, such as \'{"slide_id": "s1"}\'; once per slide'),
]
Record = Annotated[Optional[Path], typer.Option(help="record of the job to write (JSON), when all of its slides are done")]
TilesFolder = Annotated[Path, typer.Option("--tiles", help="folder with the receipts of tile, {slide_id}.json")]
FeaturesFolder = Annotated[Path, typer.Option("--features", help="folder with the receipts of extract, {slide_id}.json")]
ScoresFolder = Annotated[Path, typer.Option("--scores", help="folder with the receipts of explain, {slide_id}.json")]
SettingsJson = Annotated[str, typer.Option("--settings", help="settings of this stage (see config.yaml) as JSON; '{}': defaults")]
TruthJson = Annotated[str, typer.Option("--truth", help="the `truth` block of config.yaml, as JSON")]
Receipt = Annotated[Path, typer.Option(help="receipt to write (JSON); its store is written beside it")]
Threads = Annotated[int, typer.Option(min=1, help="number of threads")]
Device = Annotated[str, typer.Option(envvar="WSI_MIL_DEVICE", help="auto, cpu, cuda, cuda:N or mps")]
ReadTimeout = Annotated[
    float, typer.Option(min=0.1, envvar="WSI_MIL_READ_TIMEOUT_S", help="seconds to wait for data from a slide before giving up")
]
Sheet = Annotated[Path, typer.Option(envvar="WSI_MIL_SHEET", help="the cohort sheet")]
OptionalSheet = Annotated[
    Optional[Path], typer.Option("--sheet", envvar="WSI_MIL_SHEET", help="the cohort sheet, for a target with covariates")
]
TargetJson = Annotated[
    str, typer.Option("--target", help='an entry of `targets` as JSON, such as \'{"kind": "classes", "classes": ["a", "b"]}\'')
]
Protocol = Annotated[
    str, typer.Option(help="held_out, or as_published: epoch and threshold are chosen on the test part, and all outputs say so")
]
Bag = Annotated[str, typer.Option(help="slide, or patient: all slides of a patient are one bag")]


def parse_task(target: str) -> "Task":
    """Return what models learn for `--target`. Raises ConfigError."""
    from wsi_mil.config import parse_target
    from wsi_mil.tasks import task_of

    return task_of(parse_target(json.loads(target), where="--target: "))


def config_values(file: Path | None) -> dict[str, Any]:
    """Read a configuration file, or standard input for None. Raises ConfigError."""
    from wsi_mil.cli.yaml_text import yaml_values
    from wsi_mil.decoding import decoded

    where = str(file or "standard input")
    try:
        text = decoded(file.read_bytes() if file else sys.stdin.buffer.read())
    except (OSError, ValueError) as error:
        raise ConfigError([f"cannot read {where}: {error}"]) from error
    values = yaml_values(text, where=where)
    if not isinstance(values, dict):
        raise ConfigError([f"{where}: expected keys and values, as in the template config.yaml"])
    return values


def require_unique_keys(files: list[Path]) -> None:
    """Require that no configuration file repeats a key; files that cannot be read are reported elsewhere.

    Raises:
        ConfigError: lists every repeated key of every file.
    """
    import yaml

    from wsi_mil.cli.yaml_text import repeated_keys
    from wsi_mil.decoding import decoded

    faults = []
    for file in files:
        with suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
            faults += [f"{file}: {fault}" for fault in repeated_keys(decoded(file.read_bytes()))]
    if faults:
        raise ConfigError(faults)


def use_remote(values: Mapping[str, Any]) -> None:
    """Apply the `remote` block of a configuration, unless the environment overrides it; a block with faults is ignored."""
    from wsi_mil.config import REMOTE_VARIABLE, Remote, parse_settings

    try:
        settings = parse_settings(Remote, values.get("remote") or {})
    except ConfigError:
        return  # reported with all other faults
    os.environ.setdefault(REMOTE_VARIABLE, settings.model_dump_json())


def sheet_rows(sheet: Path, target: str, columns: "SheetColumns | None" = None) -> "tuple[SlideRow, ...]":
    """Read the whole sheet, with the labels of `--target`. Raises ConfigError with all of its faults."""
    name = "target"
    return tuple(row.for_target(name) for row in rows_of_targets(sheet, {name: json.loads(target)}, columns))


def rows_of_targets(sheet: Path, targets: Mapping[str, object], columns: "SheetColumns | None" = None) -> "tuple[SlideRow, ...]":
    """Read the whole sheet, with the labels of all targets. Raises ConfigError with all of its faults."""
    from wsi_mil.cohort import SheetColumns, read_sheet
    from wsi_mil.config import parse_target

    parsed = {name: parse_target(values, where=f"targets.{name}.") for name, values in targets.items()}
    read = read_sheet(sheet, parsed, needs_path=False, columns=columns or SheetColumns())  # `check` has required paths
    if read.faults:
        raise ConfigError(list(read.faults))
    return read.rows


def slide_rows(texts: list[str]) -> "list[SlideRow]":
    """Parse every `--row`."""
    from wsi_mil.cohort import row_from_json

    return [row_from_json(json.loads(text)) for text in texts]


def forget_if_forced(stage: str, rows: list[str], folder: Path, name: str = "{slide_id}.json") -> None:
    """Remove the receipts of a stage that `snakemake --forcerun` names, so that no slide is skipped.

    To be called once, before slides are worked on in a child process that may be started again.

    Args:
        stage: name of the rule.
        rows: the slides.
        folder: folder with the receipts.
        name: pattern of their names.
    """
    if stage in os.environ.get(AGAIN_VARIABLE, "").split():
        for row in rows:
            for receipt in folder.glob(name.format(slide_id=json.loads(row)["slide_id"])):
                receipt.unlink(missing_ok=True)


def read_limit_s(rows: list[str], read_timeout_s: float) -> float:
    """Return the time limit of a read; none for slides on servers, whose requests have their own (`remote.timeout_s`)."""
    return math.inf if any(is_url(str(json.loads(row).get("path", ""))) for row in rows) else read_timeout_s


def receipts_of(rows: "list[SlideRow]", folder: Path) -> dict[str, Path]:
    """Return the receipt of each slide in the folder of a stage."""
    return {row.slide_id: folder / f"{row.slide_id}.json" for row in rows}


def sheet_covariates(sheet: Path | None, target: str) -> "SlideCovariates | None":
    """Read the covariates of `--target` from the sheet; None if it has none. Raises ConfigError with all faults of the sheet."""
    from wsi_mil.config import parse_target
    from wsi_mil.covariates import SlideCovariates

    settings = parse_target(json.loads(target), where="--target: ").covariates
    if settings is None:
        return None
    if sheet is None:
        raise ConfigError(["--target has covariates, which are columns of the cohort sheet: add --sheet, or WSI_MIL_SHEET"])
    return SlideCovariates(settings, {row.slide_id: row.covariates for row in sheet_rows(sheet, target)})


def create_ensemble(
    models: Path,
    splits: Path,
    task: "Task",
    *,
    bag: str,
    threads: int,
    device: str,
    covariates: "SlideCovariates | None" = None,
) -> "Ensemble":
    """Load the trained folds for `explain` and `predict` on the chosen device."""
    from wsi_mil.cohort.splits import read_splits
    from wsi_mil.config import parse_bag
    from wsi_mil.devices import create_device, set_threads
    from wsi_mil.ensemble import Ensemble

    set_threads(threads)
    log.info("reading the models in %s", models)
    return Ensemble(models, read_splits(splits), task, create_device(device), unit=parse_bag(bag), covariates=covariates)
