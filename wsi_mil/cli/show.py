"""The commands that present results: `heatmap`, `heatmap-scale`, `statistics`, `report`."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from wsi_mil.cli.options import (
    ReadTimeout,
    Record,
    Rows,
    ScoresFolder,
    SettingsJson,
    Sheet,
    TargetJson,
    Threads,
    TilesFolder,
    TruthJson,
    forget_if_forced,
    read_limit_s,
    sheet_rows,
    slide_rows,
)
from wsi_mil.runtime.crash_guard import run_guarded
from wsi_mil.runtime.threads import limit_threads

log = logging.getLogger(__name__)

commands = typer.Typer()


@commands.command()
def heatmap(
    row: Rows,
    method: Annotated[list[str], typer.Option(help="explanation method whose scores are drawn; repeat it for several methods")],
    settings: SettingsJson,
    scores: ScoresFolder,
    tiles: TilesFolder,
    heatmaps: Annotated[
        Path,
        typer.Option(help="folder to write to: {slide_id}/{method}.png and .geojson, .ome.tif, .csv, .tiles.png"),
    ],
    cohort_scale: Annotated[Optional[Path], typer.Option(help="output of heatmap-scale, for scale: cohort")] = None,
    trust: Annotated[Optional[Path], typer.Option(help="output of trust, for the trust lines")] = None,
    truth: TruthJson = "{}",
    record: Record = None,
    threads: Threads = 1,
    read_timeout_s: ReadTimeout = 300.0,
) -> None:
    """Draw the heatmaps of slides, and export their scores for other viewers; heatmaps that are current are skipped.

    --row: with `path`, the slide file or URL, for the tile gallery; the file may be missing
    """
    limit_threads(threads)

    def draw(item: int, *, is_readable: bool = True) -> None:
        from wsi_mil.config import Heatmap, Truth, parse_settings
        from wsi_mil.heatmaps import CohortFiles
        from wsi_mil.heatmaps.current import draw_stale, drawn, remove_others
        from wsi_mil.records import NO_PATH

        slide = slide_rows([row[item]])[0]
        is_drawn = draw_stale(
            slide if is_readable else replace(slide, path=NO_PATH),
            scores / f"{slide.slide_id}.json",
            tiles / f"{slide.slide_id}.json",
            method,
            parse_settings(Heatmap, json.loads(settings)),
            heatmaps / slide.slide_id,
            cohort=CohortFiles(cohort_scale, trust),
            truth=parse_settings(Truth, json.loads(truth)),
        )
        if is_drawn and record is not None:  # all methods of the configuration
            folder, own = heatmaps / slide.slide_id, scores / f"{slide.slide_id}.json"
            remove_others(folder, drawn(own, method, folder), own)

    forget_if_forced("heatmap", row, heatmaps, "{slide_id}/*.json")
    items = run_guarded(len(row), lambda item, _: draw(item, is_readable=False), seconds=read_limit_s(row, read_timeout_s))
    from wsi_mil.config import Heatmap, parse_settings
    from wsi_mil.heatmaps.current import drawn, outputs
    from wsi_mil.jobs import process_slides, write_record

    slide_ids = [slide.slide_id for slide in slide_rows(row)]
    process_slides(slide_ids, items, draw)
    if record is not None:
        parsed = parse_settings(Heatmap, json.loads(settings))
        receipts = [r for slide in slide_ids for r in drawn(scores / f"{slide}.json", method, heatmaps / slide)]
        write_record(record, receipts, (file for receipt in receipts for file in outputs(receipt, parsed)))


@commands.command(name="heatmap-scale")
def heatmap_scale(
    sheet: Sheet,
    target: TargetJson,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    scores: Annotated[Path, typer.Option(help="folder with the receipts of explain")],
    scale: Annotated[Path, typer.Option(help="JSON to write")],
    threads: Threads = 1,
) -> None:
    """Compute one colour scale for all slides from the scores of the labelled ones."""
    limit_threads(threads)
    from wsi_mil.cohort import ok_ids, read_status
    from wsi_mil.heatmaps import write_cohort_scale

    usable = ok_ids(read_status(status))
    write_cohort_scale([row for row in sheet_rows(sheet, target) if row.slide_id in usable], scores, scale)


@commands.command()
def statistics(
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    settings: SettingsJson,
    receipt: Annotated[Path, typer.Option(help="receipt to write (JSON); store and tables are written beside it")],
    threads: Threads = 1,
) -> None:
    """Compute mean, variance and principal components of the features of all slides."""
    limit_threads(1)  # slides are processed in parallel, each on one thread
    from wsi_mil.cohort import ok_ids, read_status
    from wsi_mil.config import Statistics, parse_settings
    from wsi_mil.statistics import write_statistics

    parsed = parse_settings(Statistics, json.loads(settings))
    slide_ids = ok_ids(read_status(status))
    log.info("reading the features of %d slides", len(slide_ids))
    write_statistics(slide_ids, features, parsed, receipt, threads=threads)


@commands.command()
def report(
    config: Annotated[str, typer.Option(help="the whole configuration, as JSON")],
    folder: Annotated[Path, typer.Option(help="folder to write to: index.html, {target}.html and {target}.tiles.html")],
    threads: Threads = 1,
) -> None:
    """Write the report: an overview of the cohort and a page for each target, all self-contained."""
    limit_threads(threads)
    values = json.loads(config)
    seconds = values.get("read_timeout_s", 300.0)
    # An item for each row of the sheet, which is not read yet.
    readable = run_guarded(sys.maxsize, lambda _, reason: log.error("its tiles are left out: %s", reason), seconds=seconds)
    from wsi_mil.cohort import SheetColumns, read_sheet
    from wsi_mil.config import Config, parse_settings
    from wsi_mil.report import write_report

    parsed = parse_settings(Config, values)
    log.info("reading the results in %s", parsed.results)
    columns = SheetColumns.of(parsed.split, parsed.recalibrate)
    sheet = read_sheet(parsed.cohort, parsed.targets, needs_path=False, columns=columns)
    write_report(sheet.rows, parsed, folder, readable=readable)
