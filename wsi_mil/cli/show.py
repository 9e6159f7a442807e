"""What is looked at: heatmap, heatmap-scale, statistics, report."""

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from wsi_mil.cli.options import Classes, Row, SettingsJson, Sheet, Threads, TruthJson, sheet_rows, slide_row
from wsi_mil.runtime.threads import limit_threads

commands = typer.Typer()


@commands.command()
def heatmap(
    scores: Annotated[Path, typer.Option(help="receipt of explain")],
    tiles: Annotated[Path, typer.Option(help="receipt of tile")],
    row: Row,
    method: Annotated[str, typer.Option(help="which scores")],
    settings: SettingsJson,
    image: Annotated[Path, typer.Option(help="PNG to write; .geojson, .ome.tif, .csv and .tiles.png go beside it")],
    slide: Annotated[str, typer.Option(help="the slide file or its address, for the gallery of tiles; it may be gone")] = "",
    cohort_scale: Annotated[Optional[Path], typer.Option(help="what heatmap-scale wrote, for scale: cohort")] = None,
    truth: TruthJson = "{}",
    threads: Threads = 1,
) -> None:
    """Draw a slide's scores over it, and write them for other viewers."""
    limit_threads(threads)
    from wsi_mil.config import Heatmap, Truth, parse_settings
    from wsi_mil.heatmaps import draw_heatmap

    parsed, about = parse_settings(Heatmap, json.loads(settings)), slide_row(row, path=slide)
    outlined = parse_settings(Truth, json.loads(truth))
    draw_heatmap(about, scores, tiles, method, parsed, image, cohort_scale=cohort_scale, truth=outlined)


@commands.command(name="heatmap-scale")
def heatmap_scale(
    sheet: Sheet,
    classes: Classes,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    scores: Annotated[Path, typer.Option(help="folder with the receipts of explain")],
    scale: Annotated[Path, typer.Option(help="JSON to write")],
    threads: Threads = 1,
) -> None:
    """Find one range of the colour bar for all slides, from the labelled ones."""
    limit_threads(threads)
    from wsi_mil.cohort import ok_ids, read_status
    from wsi_mil.heatmaps import write_cohort_scale

    usable = ok_ids(read_status(status))
    write_cohort_scale([row for row in sheet_rows(sheet, classes) if row.slide_id in usable], scores, scale)


@commands.command()
def statistics(
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    settings: SettingsJson,
    receipt: Annotated[Path, typer.Option(help="receipt to write (JSON); store and tables go beside it")],
    threads: Threads = 1,
) -> None:
    """Mean, variance and principal components of all slides' features."""
    limit_threads(1)  # slides run side by side, each on one thread
    from wsi_mil.cohort import ok_ids, read_status
    from wsi_mil.config import Statistics, parse_settings
    from wsi_mil.statistics import write_statistics

    parsed = parse_settings(Statistics, json.loads(settings))
    write_statistics(ok_ids(read_status(status)), features, parsed, receipt, threads=threads)


@commands.command()
def report(
    config: Annotated[str, typer.Option(help="the whole configuration, as JSON")],
    page: Annotated[Path, typer.Option(help="HTML page to write")],
    threads: Threads = 1,
) -> None:
    """Put the whole cohort on one self-contained page."""
    limit_threads(threads)
    from wsi_mil.cohort import read_sheet
    from wsi_mil.config import Config, parse_settings
    from wsi_mil.report import write_report
    from wsi_mil.tasks import task_of

    parsed = parse_settings(Config, json.loads(config))
    write_report(read_sheet(parsed.cohort, task_of(parsed), needs_path=False).rows, parsed, page)
