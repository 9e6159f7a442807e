"""The commands of finer heatmaps of chosen slides: `fine-tile`, `fine-extract`, `fine-explain`, `fine-heatmap`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_mil.cli.options import (
    Bag,
    Device,
    OptionalSheet,
    ReadTimeout,
    Record,
    SettingsJson,
    TargetJson,
    Threads,
    TruthJson,
    create_ensemble,
    forget_if_forced,
    parse_task,
    read_limit_s,
    sheet_covariates,
    slide_rows,
)
from wsi_mil.runtime.crash_guard import run_guarded
from wsi_mil.runtime.threads import limit_threads

if TYPE_CHECKING:
    from wsi_mil.explain.fine_current import Fine
    from wsi_mil.results import Results
    from wsi_mil.shifts import Shift

commands = typer.Typer()

Row = Annotated[str, typer.Option("--row", help='the slide\'s row of the sheet as JSON, such as \'{"slide_id": "s1"}\'')]
Steps = Annotated[int, typer.Option(min=2, max=8, help="shifts along either axis, each by 1/steps of a tile")]
ResultsFolder = Annotated[Path, typer.Option("--results", help="the results folder")]
Tiling = Annotated[str, typer.Option(help="name of an entry of `tilings`")]
Encoder = Annotated[str, typer.Option(help="name of an entry of `encoders`")]
Entry = Annotated[str, typer.Option(help="names of target, encoder and model, such as tumour/efficientnet/abmil")]


@commands.command(name="fine-tile")
def fine_tile(
    row: Row,
    steps: Steps,
    results: ResultsFolder,
    tiling: Tiling,
    record: Record = None,
    threads: Threads = 1,
    read_timeout_s: ReadTimeout = 300.0,
) -> None:
    """Divide a slide into tiles again, from a grid that is shifted by parts of a tile.

    --row: with the `path` of the slide, and its `annotation` and `mask`
    """
    limit_threads(threads)

    def receipts() -> "dict[Shift, Path]":
        return {shift: folder.tiles_receipt(tiling, slide_rows([row])[0].slide_id) for shift, folder in _shifted(results, steps)}

    def give_up(_: int, reason: str) -> None:
        from wsi_mil.tile.shifted import write_failure

        write_failure(slide_rows([row])[0], _usual_tiles(results, tiling, row), receipts(), reason)

    for receipt in receipts().values():
        forget_if_forced("fine_tile", [row], receipt.parent)
    items = run_guarded(1, give_up, seconds=read_limit_s([row], read_timeout_s))
    from wsi_mil.jobs import write_record
    from wsi_mil.tile.shifted import outputs, tile_shifted

    for _ in items:
        tile_shifted(slide_rows([row])[0], _usual_tiles(results, tiling, row), receipts(), threads=threads)
    if record is not None:
        write_record(record, receipts().values(), (file for receipt in receipts().values() for file in outputs(receipt)))


@commands.command(name="fine-extract")
def fine_extract(
    row: Row,
    steps: Steps,
    settings: SettingsJson,
    results: ResultsFolder,
    tiling: Tiling,
    encoder: Encoder,
    record: Record = None,
    threads: Threads = 1,
    device: Device = "auto",
    read_timeout_s: ReadTimeout = 300.0,
) -> None:
    """Compute the features of a slide's shifted tiles; an interrupted run resumes where it stopped.

    --row: with the `path` of the slide

    --settings: the entry of `encoders`
    """
    limit_threads(threads)

    def receipts() -> list[tuple[Path, Path]]:
        slide_id = json.loads(row)["slide_id"]
        folders = [folder for _, folder in _shifted(results, steps)]
        return [(folder.tiles_receipt(tiling, slide_id), folder.features_receipt(encoder, slide_id)) for folder in folders]

    def give_up(item: int, reason: str) -> None:
        from wsi_mil.extract import write_failure_receipt

        tiled, receipt = receipts()[item]
        write_failure_receipt(tiled, slide_rows([row])[0], receipt, reason)

    items = run_guarded(steps * steps - 1, give_up, seconds=read_limit_s([row], read_timeout_s))
    # what follows runs in a child process: only it imports torch and uses a device
    from wsi_mil.config import Encoder as EncoderSettings
    from wsi_mil.config import parse_settings
    from wsi_mil.extract import outputs
    from wsi_mil.extractor import Extractor
    from wsi_mil.jobs import write_record

    extractor = Extractor(parse_settings(EncoderSettings, json.loads(settings)), device=device, threads=threads)
    for item in items:
        tiled, receipt = receipts()[item]
        extractor.extract(tiled, slide_rows([row])[0], receipt)
    if record is not None:
        written = [receipt for _, receipt in receipts()]
        write_record(record, written, (file for receipt in written for file in outputs(receipt)))


@commands.command(name="fine-explain")
def fine_explain(
    row: Row,
    steps: Steps,
    target: TargetJson,
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    models: Annotated[Path, typer.Option(help="folder that has a subfolder for each fold")],
    settings: SettingsJson,
    results: ResultsFolder,
    tiling: Tiling,
    entry: Entry,
    bag: Bag = "slide",
    bag_slides: Annotated[str, typer.Option(help="slides of the slide's bag, as JSON: {slide_id: [slide_id, …]}")] = "{}",
    sheet: OptionalSheet = None,
    record: Record = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Score a slide's shifted tiles, and write the mean of all its tilings on the finer grid.

    --settings: settings of `explain`, with the methods of the usual scores
    """
    limit_threads(threads)
    from wsi_mil.config import Explain, parse_settings
    from wsi_mil.explain.fine_current import fine_stamp, is_fine_current
    from wsi_mil.jobs import write_record

    slide, parsed = slide_rows([row])[0], parse_settings(Explain, json.loads(settings))
    fine = _fine(results, tiling, entry, slide.slide_id, json.loads(bag_slides).get(slide.slide_id, [slide.slide_id]), steps)
    stamp = fine_stamp(fine)
    forget_if_forced("fine_explain", [row], fine.receipt.parent)
    if not is_fine_current(fine, stamp):
        from wsi_mil.explain.fine import explain_fine

        covariates = sheet_covariates(sheet, target)
        ensemble = create_ensemble(
            models, splits, parse_task(target), bag=bag, threads=threads, device=device, covariates=covariates
        )
        explain_fine(slide, fine, ensemble, parsed, stamp=stamp)
    if record is not None:
        write_record(record, [fine.receipt, fine.cells], fine.outputs())


@commands.command(name="fine-heatmap")
def fine_heatmap(
    row: Row,
    method: Annotated[list[str], typer.Option(help="explanation method whose scores are drawn; repeat it for several methods")],
    settings: SettingsJson,
    results: ResultsFolder,
    entry: Entry,
    cohort_scale: Annotated[Path | None, typer.Option(help="output of heatmap-scale, for scale: cohort")] = None,
    trust: Annotated[Path | None, typer.Option(help="output of trust, for the trust lines")] = None,
    truth: TruthJson = "{}",
    record: Record = None,
    threads: Threads = 1,
) -> None:
    """Draw the finer heatmaps of a slide beside its usual ones, and export them; heatmaps that are current are skipped.

    --settings: settings of `heatmap`; there is no gallery of tiles
    """
    limit_threads(threads)
    from wsi_mil.config import Heatmap, Truth, fine_name, parse_settings
    from wsi_mil.heatmaps import CohortFiles
    from wsi_mil.heatmaps.current import draw_stale, drawn, outputs
    from wsi_mil.jobs import write_record
    from wsi_mil.results import Results

    slide, (target, encoder, model) = slide_rows([row])[0], entry.split("/")
    fine = Results(results).fine.target(target)
    scores, cells = (receipt(encoder, model, slide.slide_id) for receipt in (fine.scores_receipt, fine.cells_receipt))
    folder = Results(results).target(target).heatmaps(encoder, model) / slide.slide_id
    parsed = parse_settings(Heatmap, {**json.loads(settings), "gallery": 0})
    names = [fine_name(name) for name in method]
    parsed_truth = parse_settings(Truth, json.loads(truth))
    forget_if_forced("fine_heatmap", [row], folder.parent, "{slide_id}/*.fine*.json")
    cohort = CohortFiles(cohort_scale, trust)
    draw_stale(slide, scores, cells, names, parsed, folder, cohort=cohort, truth=parsed_truth)
    if record is not None:
        receipts = drawn(scores, names, folder)
        write_record(record, receipts, (file for receipt in receipts for file in outputs(receipt, parsed)))


def _shifted(results: Path, steps: int) -> "list[tuple[Shift, Results]]":
    """The shifts, each with the results of its tiling."""
    from wsi_mil.results import Results
    from wsi_mil.shifts import shifts

    return [(shift, Results(results).shifted(shift.name)) for shift in shifts(steps)]


def _usual_tiles(results: Path, tiling: str, row: str) -> Path:
    """Receipt of `tile` of a slide's usual tiling."""
    from wsi_mil.results import Results

    return Results(results).tiles_receipt(tiling, json.loads(row)["slide_id"])


def _fine(results: Path, tiling: str, entry: str, slide_id: str, bag: list[str], steps: int) -> "Fine":
    """The receipts of a slide's finer scores by a target, encoder and model."""
    from wsi_mil.explain.fine_current import Fine
    from wsi_mil.results import Results

    usual, (target, encoder, model) = Results(results), entry.split("/")
    return Fine(
        usual=usual.target(target).scores_receipt(encoder, model, slide_id),
        tiles=usual.tiles_receipt(tiling, slide_id),
        bag=[usual.features_receipt(encoder, member) for member in bag],
        features={shift: folder.features_receipt(encoder, slide_id) for shift, folder in _shifted(results, steps)},
        receipt=usual.fine.target(target).scores_receipt(encoder, model, slide_id),
        cells=usual.fine.target(target).cells_receipt(encoder, model, slide_id),
    )
