"""The commands before training: `check`, `tile`, `extract`, `cohort`, `split`, and `unstage`."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from wsi_mil.addresses import is_url
from wsi_mil.cli.options import (
    Classes,
    Device,
    Protocol,
    ReadTimeout,
    Receipt,
    Row,
    SettingsJson,
    Sheet,
    Threads,
    config_values,
    parse_task,
    require_unique_keys,
    sheet_rows,
    slide_row,
    use_remote,
)
from wsi_mil.errors import ConfigError, SlideReadError
from wsi_mil.runtime.crash_guard import run_guarded
from wsi_mil.runtime.threads import limit_threads
from wsi_mil.wording import named

if TYPE_CHECKING:
    from wsi_mil.config import TileSettings
    from wsi_mil.records import SlideRow

commands = typer.Typer()

MAX_NAMED_COLUMNS = 20
"""Number of unused columns that are listed by name."""


@commands.command()
def check(
    config: Annotated[
        Optional[Path], typer.Argument(help="the configuration; default: standard input if piped, else config.yaml")
    ] = None,
    merged: Annotated[
        Optional[list[Path]], typer.Option(help="a file merged into the piped configuration, to be checked for repeated keys")
    ] = None,
) -> None:
    """Report every fault in a configuration and its sheet before a run."""
    from wsi_mil.check import check as check_config

    if config is None and sys.stdin.isatty():
        config = Path("config.yaml")
    require_unique_keys(merged or [])
    values = config_values(config)
    use_remote(values)
    plan = check_config(values)
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if plan.unread:
        unread = named(plan.unread, most=MAX_NAMED_COLUMNS)
        print(f"note: {plan.config.cohort}: these columns are not used: {unread}", file=sys.stderr)
    if config is None:
        json.dump(plan.as_json(), sys.stdout)  # ASCII, which every pipe accepts
    else:
        labelled = sum(bool(row.label) for row in plan.rows)
        print(f"{config}: {len(plan.rows)} slides, {labelled} labelled, {plan.n_folds} folds: no faults")


@commands.command()
def tile(
    slide: Annotated[str, typer.Option(help="the slide file or its URL: s3://…, https://…")],
    row: Row,
    settings: SettingsJson,
    receipt: Receipt,
    threads: Threads = 1,
    read_timeout_s: ReadTimeout = 300.0,
) -> None:
    """Find the tissue of a slide and divide it into tiles.

    --settings: an entry of `tilings` as "tiling", and the blocks `tissue` and `slide`, such as '{"tiling": {"mpp": 0.5}}'
    """
    limit_threads(threads)

    def parsed() -> "tuple[SlideRow, TileSettings]":
        from wsi_mil.cohort import with_overrides
        from wsi_mil.config import TileSettings, parse_settings

        parsed_row = slide_row(row, path=slide)
        values = with_overrides(json.loads(settings), parsed_row)
        return parsed_row, parse_settings(TileSettings, values, where=f"{parsed_row.slide_id}: ")

    def give_up(_: int, reason: str) -> None:
        from wsi_mil.tile import write_failure_receipt

        write_failure_receipt(*parsed(), receipt, SlideReadError(slide, reason))

    for _ in run_guarded(1, give_up, seconds=_read_limit_s([slide], read_timeout_s)):
        from wsi_mil.tile import tile_slide

        tile_slide(*parsed(), receipt, threads=threads)


def _read_limit_s(paths: list[str], read_timeout_s: float) -> float:
    """Time limit of a read; none for slides on servers, whose requests have their own (`remote.timeout_s`)."""
    return math.inf if any(is_url(path) for path in paths) else read_timeout_s


@commands.command()
def unstage(
    configfile: Annotated[
        Path | None, typer.Option(help="configuration with `remote.scratch`; default: the system's temporary folder")
    ] = None,
) -> None:
    """Remove local copies of remote slides that no running job uses."""
    from wsi_mil.slides import remove_copies, scratch_folder

    if configfile is not None:
        use_remote(config_values(configfile))
    print(f"removed {remove_copies() / 1e6:.1f} MB of copies from {scratch_folder()}")


@commands.command()
def extract(
    tiles: Annotated[list[Path], typer.Option(help="receipt of tile")],
    row: Annotated[list[str], typer.Option(help="the slide's row of the sheet, as JSON")],
    settings: SettingsJson,
    receipt: Annotated[list[Path], typer.Option(help="receipt to write (JSON); its store is written beside it")],
    threads: Threads = 1,
    device: Device = "auto",
    read_timeout_s: ReadTimeout = 300.0,
) -> None:
    """Compute the features of a slide's tiles; an interrupted run resumes where it stopped.

    --settings: an entry of `encoders`, such as '{"encoder": "uni2_h", "weights": "uni2.bin"}'

    Several slides: --tiles, --row and --receipt once for each, in the same order. If one cannot be encoded although it is
    not damaged (its file is missing, say), the others are still encoded, and the error is reported at the end.
    """
    if not len(tiles) == len(row) == len(receipt):
        counts = f"{len(tiles)}, {len(row)} and {len(receipt)}"
        raise ConfigError([f"--tiles, --row, --receipt: expected each once per slide, got {counts}"])
    limit_threads(threads)

    def give_up(item: int, reason: str) -> None:
        from wsi_mil.extract import write_failure_receipt

        write_failure_receipt(tiles[item], slide_row(row[item]), receipt[item], reason)

    paths = [str(json.loads(cells).get("path", "")) for cells in row]
    items = run_guarded(len(tiles), give_up, seconds=_read_limit_s(paths, read_timeout_s))
    # what follows runs in a child process: only it imports torch and uses a device
    from wsi_mil.config import Encoder, parse_settings
    from wsi_mil.extract import RECOVERABLE_FAULTS
    from wsi_mil.extractor import Extractor

    extractor = Extractor(parse_settings(Encoder, json.loads(settings)), device=device, threads=threads)
    faults = []
    for item in items:
        try:
            extractor.extract(tiles[item], slide_row(row[item]), receipt[item])
        except RECOVERABLE_FAULTS as error:
            faults.append(str(error))
    if faults:
        raise ConfigError(faults)


@commands.command()
def cohort(
    sheet: Sheet,
    classes: Classes,
    features: Annotated[Path, typer.Option(help="folder that has a subfolder of receipts for each encoder entry")],
    encoders: Annotated[str, typer.Option(help="encoder entries, as a JSON list")],
    status: Annotated[Path, typer.Option(help="cohort_status.csv to write")],
    threads: Threads = 1,
) -> None:
    """Collect the status of every slide."""
    limit_threads(threads)
    from wsi_mil.cohort import write_status
    from wsi_mil.cohort.status import cohort_statuses

    write_status(status, cohort_statuses([row.slide_id for row in sheet_rows(sheet, classes)], features, json.loads(encoders)))


@commands.command()
def split(
    sheet: Sheet,
    classes: Classes,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    settings: SettingsJson,
    splits: Annotated[Path, typer.Option(help="splits.csv to write")],
    frozen: Annotated[Optional[Path], typer.Option(help="existing splits.csv to use instead of drawing folds")] = None,
    protocol: Protocol = "held_out",
    threads: Threads = 1,
) -> None:
    """Split labelled slides into patient-level folds."""
    limit_threads(threads)
    from wsi_mil.cohort import ok_ids, read_status
    from wsi_mil.cohort.splits import draw_splits, fold_names, read_splits, split_faults, write_splits
    from wsi_mil.config import Split, parse_protocol, parse_settings

    task = parse_task(classes)
    usable = ok_ids(read_status(status))
    labelled = [row for row in sheet_rows(sheet, classes) if row.label]
    rows = [row for row in labelled if row.slide_id in usable]
    if frozen is not None:
        frozen_splits = read_splits(frozen).restricted_to({row.slide_id for row in rows}, task, parse_protocol(protocol))
        write_splits(splits, frozen_splits)
        return
    parsed = parse_settings(Split, json.loads(settings))
    faults = split_faults(rows, task, parsed)
    if faults:
        raise ConfigError([f"{len(rows)} labelled slides can be used: {fault}" for fault in faults])
    try:
        write_splits(splits, draw_splits(rows, task, parsed, folds=fold_names(labelled)))
    except ValueError as error:
        raise ConfigError([f"split: {error}"]) from error
