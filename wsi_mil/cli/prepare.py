"""The commands before training: `check`, `tile`, `extract`, `cohort`, `split`, and `unstage`."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from wsi_mil.cli.folders import Directory, configuration, paths_of
from wsi_mil.cli.options import (
    Device,
    FeaturesFolder,
    Protocol,
    ReadTimeout,
    Record,
    Rows,
    SettingsJson,
    Sheet,
    TargetJson,
    Threads,
    TilesFolder,
    config_values,
    forget_if_forced,
    parse_task,
    read_limit_s,
    receipts_of,
    require_unique_keys,
    rows_of_targets,
    sheet_rows,
    slide_rows,
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
        Optional[Path], typer.Argument(help="the configuration; default: standard input if piped, else my.yaml or config.yaml")
    ] = None,
    merged: Annotated[
        Optional[list[Path]], typer.Option(help="a file merged into the piped configuration, to be checked for repeated keys")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="jobs that can run at the same time, among which slides are divided")] = 1,
    directory: Directory = None,
) -> None:
    """Report every fault in a configuration and its sheet before a run."""
    if config is not None or sys.stdin.isatty():
        config = configuration(config)
    require_unique_keys(merged or [])
    values = config_values(config)
    use_remote(values)
    with paths_of(config, values, directory) if config else nullcontext():
        _check(config, values, parallel)


def _check(config: Path | None, values: "dict[str, Any]", parallel: int) -> None:
    """Check, in the folder of the run; print the plan for a configuration from standard input, else what was found."""
    from wsi_mil.check import check as check_config
    from wsi_mil.jobs import lost_text

    plan = check_config(values, parallel=parallel)
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if plan.unread:
        unread = named(plan.unread, most=MAX_NAMED_COLUMNS)
        print(f"note: {plan.config.cohort}: these columns are not used: {unread}", file=sys.stderr)
    if lost := plan.incomplete_records():
        print(f"note: {lost_text(lost)}", file=sys.stderr)
    for note in plan.notes() if config is None else []:
        print(f"note: {note}", file=sys.stderr)
    if config is None:
        json.dump(plan.as_json(), sys.stdout)  # ASCII, which every pipe accepts
    else:
        print(f"{config}: {len(plan.rows)} slides: no faults")
        for name, n_folds in plan.n_folds.items():
            labelled = sum(name in row.labels for row in plan.rows)
            print(f"target {name}: {labelled} slides labelled, {n_folds} {'fold' if n_folds == 1 else 'folds'}")


@commands.command()
def tile(
    row: Rows,
    settings: SettingsJson,
    tiles: TilesFolder,
    record: Record = None,
    threads: Threads = 1,
    read_timeout_s: ReadTimeout = 300.0,
) -> None:
    """Find the tissue of slides and divide it into tiles; slides that have not changed are skipped.

    --row: with the `path` of the slide, a file or URL (s3://…, https://…), and what the sheet sets for it

    --settings: an entry of `tilings` as "tiling", and the blocks `tissue` and `slide`, such as '{"tiling": {"mpp": 0.5}}'
    """
    limit_threads(threads)

    def parsed(item: int) -> "tuple[SlideRow, TileSettings]":
        from wsi_mil.cohort import with_overrides
        from wsi_mil.config import TileSettings, parse_settings

        parsed_row = slide_rows([row[item]])[0]
        values = with_overrides(json.loads(settings), parsed_row)
        return parsed_row, parse_settings(TileSettings, values, where=f"{parsed_row.slide_id}: ")

    def give_up(item: int, reason: str) -> None:
        from wsi_mil.tile import write_failure_receipt

        parsed_row, parsed_settings = parsed(item)
        error = SlideReadError(parsed_row.path, reason)
        write_failure_receipt(parsed_row, parsed_settings, tiles / f"{parsed_row.slide_id}.json", error)

    forget_if_forced("tile", row, tiles)
    items = run_guarded(len(row), give_up, seconds=read_limit_s(row, read_timeout_s))
    from wsi_mil.jobs import process_slides, write_record
    from wsi_mil.tile import outputs, tile_slide

    receipts = receipts_of(slide_rows(row), tiles)

    def work(item: int) -> None:
        parsed_row, parsed_settings = parsed(item)
        tile_slide(parsed_row, parsed_settings, receipts[parsed_row.slide_id], threads=threads)

    process_slides(list(receipts), items, work)
    if record is not None:
        write_record(record, receipts.values(), (file for receipt in receipts.values() for file in outputs(receipt)))


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
    row: Rows,
    settings: SettingsJson,
    tiles: TilesFolder,
    features: FeaturesFolder,
    record: Record = None,
    threads: Threads = 1,
    device: Device = "auto",
    read_timeout_s: ReadTimeout = 300.0,
) -> None:
    """Compute the features of the tiles of slides; an interrupted run resumes where it stopped.

    --row: with the `path` of the slide

    --settings: an entry of `encoders`, such as '{"encoder": "uni2_h", "weights": "uni2.bin"}'
    """
    limit_threads(threads)

    def give_up(item: int, reason: str) -> None:
        from wsi_mil.extract import write_failure_receipt

        given_up = slide_rows([row[item]])[0]
        name = f"{given_up.slide_id}.json"
        write_failure_receipt(tiles / name, given_up, features / name, reason)

    items = run_guarded(len(row), give_up, seconds=read_limit_s(row, read_timeout_s))
    # what follows runs in a child process: only it imports torch and uses a device
    from wsi_mil.config import Encoder, parse_settings
    from wsi_mil.extract import outputs
    from wsi_mil.extractor import Extractor
    from wsi_mil.jobs import process_slides, write_record

    extractor = Extractor(parse_settings(Encoder, json.loads(settings)), device=device, threads=threads)
    rows = slide_rows(row)
    tiled, receipts = receipts_of(rows, tiles), receipts_of(rows, features)

    def work(item: int) -> None:
        slide_id = rows[item].slide_id
        extractor.extract(tiled[slide_id], rows[item], receipts[slide_id])

    process_slides(list(receipts), items, work)
    if record is not None:
        write_record(record, receipts.values(), (file for receipt in receipts.values() for file in outputs(receipt)))


@commands.command()
def cohort(
    sheet: Sheet,
    targets: Annotated[str, typer.Option(help="the `targets` block of config.yaml, as JSON")],
    features: Annotated[Path, typer.Option(help="folder that has a subfolder of receipts for each encoder entry")],
    encoders: Annotated[str, typer.Option(help="encoder entries, as a JSON list")],
    status: Annotated[Path, typer.Option(help="cohort_status.csv to write")],
    versions: Annotated[
        Optional[Path],
        typer.Option(help="folder for hashes of the features of usable slides, and of each target's labelled ones"),
    ] = None,
    threads: Threads = 1,
) -> None:
    """Collect the status of every slide."""
    limit_threads(threads)
    from wsi_mil.cohort import ok_ids, write_status
    from wsi_mil.cohort.status import cohort_statuses, write_feature_versions

    parsed = json.loads(targets)
    rows = rows_of_targets(sheet, parsed)
    statuses = cohort_statuses([row.slide_id for row in rows], features, json.loads(encoders))
    if versions is not None:
        labelled = {name: {row.slide_id for row in rows if name in row.labels} for name in parsed}
        for encoder in json.loads(encoders):
            write_feature_versions(versions / encoder, features / encoder, ok_ids(statuses), labelled)
    write_status(status, statuses)


@commands.command()
def split(
    sheet: Sheet,
    target: TargetJson,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    settings: SettingsJson,
    splits: Annotated[Path, typer.Option(help="splits.csv to write")],
    frozen: Annotated[Optional[Path], typer.Option(help="existing splits.csv to use instead of drawing folds")] = None,
    protocol: Protocol = "held_out",
    threads: Threads = 1,
) -> None:
    """Split the slides that have a label into patient-level folds."""
    limit_threads(threads)
    from wsi_mil.cohort import SheetColumns, ok_ids, read_status
    from wsi_mil.cohort.groups import group_faults, with_external
    from wsi_mil.cohort.splits import draw_splits, fold_names, read_splits, split_faults, write_splits
    from wsi_mil.config import Split, parse_protocol, parse_settings

    task, parsed = parse_task(target), parse_settings(Split, json.loads(settings))
    usable = ok_ids(read_status(status))
    labelled = [row for row in sheet_rows(sheet, target, SheetColumns.of(parsed, None)) if row.label]
    rows = [row for row in labelled if row.slide_id in usable]
    if frozen is not None:
        given = with_external(read_splits(frozen), rows, parsed)
        write_splits(splits, given.restricted_to({row.slide_id for row in rows}, task, parse_protocol(protocol)))
        return
    faults = split_faults(rows, task, parsed) + (group_faults(rows, task, parsed) if parsed.group else [])
    if faults:
        raise ConfigError([f"{len(rows)} labelled slides can be used: {fault}" for fault in faults])
    try:
        write_splits(splits, draw_splits(rows, task, parsed, folds=fold_names(labelled, parsed)))
    except ValueError as error:
        raise ConfigError([f"split: {error}"]) from error
