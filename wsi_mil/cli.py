"""The command line: one subcommand per rule of the workflow. The only place that reads YAML, picks the device and
sets exit codes. Heavy imports stand inside the commands, so that light ones stay light.
"""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from wsi_mil import __version__
from wsi_mil.compute import limit_threads
from wsi_mil.errors import ConfigError, WsiMilError

if TYPE_CHECKING:
    from wsi_mil.ensemble import Ensemble
    from wsi_mil.records import SlideRow

USER_FAULT = 2
BYTES_OF_A_GB = 10**9

app = typer.Typer(
    name="wsi-mil",
    help="Learn a label from whole slides, and show where in the slide the evidence is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Row = Annotated[str, typer.Option(help="the slide's row of the sheet, as JSON")]
SettingsJson = Annotated[str, typer.Option("--settings", help="this stage's settings, as JSON")]
TruthJson = Annotated[str, typer.Option("--truth", help="how annotations are read, as JSON")]
Receipt = Annotated[Path, typer.Option(help="receipt to write (JSON); its store goes beside it")]
Threads = Annotated[int, typer.Option(min=1, help="threads that this command may use")]
Device = Annotated[str, typer.Option(envvar="WSI_MIL_DEVICE", help="auto, cpu, cuda, cuda:N or mps")]
Sheet = Annotated[Path, typer.Option(help="the cohort sheet")]
Classes = Annotated[str, typer.Option(help="class names in order, as a JSON list")]
Protocol = Annotated[
    str, typer.Option(help="held_out, or as_published: the test part chooses epoch and threshold, and all outputs say so")
]
Bag = Annotated[str, typer.Option(help="slide, or patient: all slides of a patient are one bag")]


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def check(
    config: Annotated[Optional[Path], typer.Argument(help="without it: config.yaml, or what comes through a pipe")] = None,
) -> None:
    """Find every fault in a configuration and its sheet, before anything runs."""
    import yaml

    from wsi_mil.check import check as checked

    if config is None and sys.stdin.isatty():
        config = Path("config.yaml")
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8") if config else sys.stdin.read())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError([f"cannot read {config or 'standard input'}: {error}"]) from error
    if not isinstance(values, dict):
        raise ConfigError([f"{config or 'standard input'}: expected keys and values, see the template config.yaml"])
    plan = checked(values)
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if config is None:
        json.dump(plan.as_json(), sys.stdout, ensure_ascii=False)
    else:
        labelled = sum(bool(row.label) for row in plan.rows)
        print(f"{config}: {len(plan.rows)} slides, {labelled} labelled, {plan.n_folds} folds: nothing is wrong")


@app.command()
def tile(
    slide: Annotated[Path, typer.Option(help="the slide file")],
    row: Row,
    settings: SettingsJson,
    receipt: Receipt,
    threads: Threads = 1,
) -> None:
    """Find tissue in a slide and lay tiles over it."""
    limit_threads(threads)
    from wsi_mil.config import TileSettings, Tiling, Tissue, parse_settings
    from wsi_mil.tile import tile_slide

    values, parsed = json.loads(settings), _row(row, path=slide)
    overrides = {key.removeprefix("tissue."): value for key, value in parsed.overrides.items()}
    tissue = parse_settings(Tissue, {**values["tissue"], **overrides}, where=f"{parsed.slide_id}: tissue.")
    tile_slide(parsed, TileSettings(tiling=parse_settings(Tiling, values["tiling"]), tissue=tissue), receipt)


@app.command()
def extract(
    tiles: Annotated[Path, typer.Option(help="receipt of tile")],
    row: Row,
    settings: SettingsJson,
    receipt: Receipt,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Encode a slide's tiles; a killed run goes on where it stopped."""
    limit_threads(threads)
    from wsi_mil.config import Encoder, parse_settings
    from wsi_mil.devices import create_device, fast_dtype, set_threads
    from wsi_mil.extract import extract_slide

    def encoder() -> Any:
        from wsi_mil.encoders.encoder import create_encoder

        return create_encoder(parsed, device=where, dtype=dtype)

    parsed, where = parse_settings(Encoder, json.loads(settings)), create_device(device)
    set_threads(threads)
    dtype = fast_dtype(parsed.dtype, where)
    name = str(dtype).removeprefix("torch.")
    logging.getLogger(__name__).info("encoding on %s in %s", where, name)
    extract_slide(tiles, _row(row), parsed, receipt, dtype=name, encoder=encoder, threads=threads)


@app.command()
def cohort(
    sheet: Sheet,
    classes: Classes,
    features: Annotated[Path, typer.Option(help="folder with a folder of receipts for each encoder entry")],
    encoders: Annotated[str, typer.Option(help="encoder entries, as a JSON list")],
    status: Annotated[Path, typer.Option(help="cohort_status.csv to write")],
    threads: Threads = 1,
) -> None:
    """Gather what became of every slide."""
    limit_threads(threads)
    from wsi_mil.cohort import write_status
    from wsi_mil.gather import slide_status

    entries = json.loads(encoders)
    write_status(status, [slide_status(row.slide_id, features, entries) for row in _rows(sheet, classes)])


@app.command()
def split(
    sheet: Sheet,
    classes: Classes,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    settings: SettingsJson,
    splits: Annotated[Path, typer.Option(help="splits.csv to write")],
    frozen: Annotated[Optional[Path], typer.Option(help="splits.csv to keep to, instead of drawing")] = None,
    protocol: Protocol = "held_out",
    threads: Threads = 1,
) -> None:
    """Part the labelled slides into folds, by patient."""
    limit_threads(threads)
    from wsi_mil.cohort import ok_ids, read_status
    from wsi_mil.config import Split, parse_protocol, parse_settings
    from wsi_mil.splits import draw_splits, fold_names, read_splits, split_faults, write_splits

    names, usable = _classes(classes), ok_ids(read_status(status))
    labelled = [row for row in _rows(sheet, classes) if row.label]
    rows = [row for row in labelled if row.slide_id in usable]
    if frozen is not None:
        kept = read_splits(frozen).restricted({row.slide_id for row in rows}, names, parse_protocol(protocol))
        write_splits(splits, kept)
        return
    parsed = parse_settings(Split, json.loads(settings))
    faults = split_faults(rows, names, parsed)
    if faults:
        raise ConfigError([f"of the labelled slides {len(rows)} can be used: {fault}" for fault in faults])
    try:
        write_splits(splits, draw_splits(rows, names, parsed, folds=fold_names(labelled)))
    except ValueError as error:
        raise ConfigError([f"split: {error}"]) from error


@app.command()
def train(
    splits: Annotated[Path, typer.Option(help="splits.csv")],
    fold: Annotated[int, typer.Option(min=0, help="which fold")],
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    classes: Classes,
    settings: SettingsJson,
    model: Annotated[Path, typer.Option(help="folder for model.safetensors, config.json and history.csv")],
    base: Annotated[Optional[Path], typer.Option(help="mhim: folder of its trained base on the same fold")] = None,
    bag: Bag = "slide",
    protocol: Protocol = "held_out",
    keep_gb: Annotated[float, typer.Option(min=0, help="features kept in memory; what is beyond is read in every epoch")] = 4.0,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Train one model on one fold; a killed run goes on at its last epoch."""
    limit_threads(threads)
    from wsi_mil.config import parse_bag, parse_model, parse_protocol
    from wsi_mil.devices import create_device, make_deterministic, set_threads
    from wsi_mil.splits import read_splits
    from wsi_mil.train import Fold, train_fold

    set_threads(threads)
    make_deterministic()
    part = Fold(read_splits(splits), fold, features, _classes(classes), unit=parse_bag(bag), protocol=parse_protocol(protocol))
    where = create_device(device)
    train_fold(part, parse_model(json.loads(settings)), model, where, base=base, keep_bytes=round(keep_gb * BYTES_OF_A_GB))


@app.command()
def predict(
    sheet: Sheet,
    classes: Classes,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    models: Annotated[Path, typer.Option(help="folder with a folder for each fold")],
    settings: SettingsJson,
    predictions: Annotated[Path, typer.Option(help="table to write")],
    metrics: Annotated[Path, typer.Option(help="figures to write")],
    include_train: Annotated[bool, typer.Option(help="predict training slides of a fixed split too")] = False,
    bag: Bag = "slide",
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Predict every usable slide by models that never saw its patient."""
    limit_threads(threads)
    from wsi_mil.cohort import ok_ids, read_status
    from wsi_mil.config import Predict, parse_settings
    from wsi_mil.predict import predict_cohort, write_metrics, write_predictions

    names, usable = _classes(classes), ok_ids(read_status(status))
    rows = [row for row in _rows(sheet, classes) if row.slide_id in usable]
    ensemble = _ensemble(models, splits, names, bag=bag, threads=threads, device=device)
    predicted = predict_cohort(rows, features, ensemble, include_train=include_train)
    write_predictions(predictions, predicted, names, ensemble.protocol)
    write_metrics(metrics, predicted, names, parse_settings(Predict, json.loads(settings)), ensemble.protocol)


@app.command()
def explain(
    features: Annotated[Path, typer.Option(help="receipt of extract")],
    row: Row,
    classes: Classes,
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    models: Annotated[Path, typer.Option(help="folder with a folder for each fold")],
    settings: SettingsJson,
    receipt: Receipt,
    bag: Bag = "slide",
    bag_slides: Annotated[str, typer.Option(help="slides of its bag, as a JSON list; their receipts lie beside")] = "",
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Score every tile of a slide by each method."""
    limit_threads(threads)
    from wsi_mil.config import Explain, parse_settings
    from wsi_mil.explain import explain_slide

    ensemble = _ensemble(models, splits, _classes(classes), bag=bag, threads=threads, device=device)
    members = [features.with_name(f"{slide}.json") for slide in json.loads(bag_slides)] if bag_slides else [features]
    explain_slide(_row(row), members, ensemble, parse_settings(Explain, json.loads(settings)), receipt)


@app.command(name="explain-validation")
def explain_validation(
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    fold: Annotated[int, typer.Option(min=0, help="which fold")],
    classes: Classes,
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    models: Annotated[Path, typer.Option(help="folder with a folder for each fold")],
    settings: SettingsJson,
    receipt: Annotated[Path, typer.Option(help="receipt to write (JSON); stores go into the folder of its name")],
    bag: Bag = "slide",
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Score the validation slides of a fold, from which thresholds on scores are chosen."""
    limit_threads(threads)
    from wsi_mil.config import Explain, parse_settings
    from wsi_mil.explain import explain_validation as explained

    ensemble = _ensemble(models, splits, _classes(classes), bag=bag, threads=threads, device=device)
    explained(fold, features, ensemble, parse_settings(Explain, json.loads(settings)), receipt)


@app.command()
def evaluate(
    sheet: Sheet,
    classes: Classes,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    scores: Annotated[Path, typer.Option(help="folder with the receipts of explain")],
    tiles: Annotated[Path, typer.Option(help="folder with the receipts of tile")],
    truth: TruthJson,
    settings: Annotated[str, typer.Option(help="settings of predict, as JSON: draws of the bootstrap")],
    figures: Annotated[Path, typer.Option(help="figures to write (JSON); slide by slide beside it (CSV)")],
    validation: Annotated[Optional[Path], typer.Option(help="folder with the receipts of explain-validation")] = None,
    threads: Threads = 1,
) -> None:
    """Hold every method against the annotated truth."""
    limit_threads(threads)
    from wsi_mil.cohort import ok_ids, read_status
    from wsi_mil.config import Predict, Truth, parse_settings
    from wsi_mil.evaluate import Sources, evaluate_cohort

    usable = ok_ids(read_status(status))
    rows = [row for row in _rows(sheet, classes) if row.label and row.slide_id in usable]
    sources = Sources(scores, tiles, validation, _classes(classes), parse_settings(Truth, json.loads(truth)))
    evaluate_cohort(rows, sources, parse_settings(Predict, json.loads(settings)), figures)


@app.command()
def heatmap(
    scores: Annotated[Path, typer.Option(help="receipt of explain")],
    tiles: Annotated[Path, typer.Option(help="receipt of tile")],
    row: Row,
    method: Annotated[str, typer.Option(help="which scores")],
    settings: SettingsJson,
    image: Annotated[Path, typer.Option(help="PNG to write; .geojson, .ome.tif, .csv and .tiles.png go beside it")],
    slide: Annotated[Optional[Path], typer.Option(help="the slide file, for the gallery of tiles; it may be gone")] = None,
    cohort_scale: Annotated[Optional[Path], typer.Option(help="what heatmap-scale wrote, for scale: cohort")] = None,
    truth: TruthJson = "{}",
    threads: Threads = 1,
) -> None:
    """Draw a slide's scores over it, and write them for other viewers."""
    limit_threads(threads)
    from wsi_mil.config import Heatmap, Truth, parse_settings
    from wsi_mil.heatmaps import draw_heatmap

    parsed, about = parse_settings(Heatmap, json.loads(settings)), _row(row, path=slide or Path())
    outlined = parse_settings(Truth, json.loads(truth))
    draw_heatmap(about, scores, tiles, method, parsed, image, cohort_scale=cohort_scale, truth=outlined)


@app.command(name="heatmap-scale")
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
    write_cohort_scale([row for row in _rows(sheet, classes) if row.slide_id in usable], scores, scale)


@app.command()
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

    parsed = parse_settings(Config, json.loads(config))
    write_report(read_sheet(parsed.cohort, parsed.classes).rows, parsed, page)


@app.command(name="demo-cohort")
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
    """Entry point: faults of the user, and faults that name their mend, are one line each and exit code 2."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    try:
        app()
    except ConfigError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr)
        sys.exit(USER_FAULT)
    except WsiMilError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_FAULT)


def _classes(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _rows(sheet: Path, classes: str) -> "tuple[SlideRow, ...]":
    from wsi_mil.cohort import read_sheet

    found = read_sheet(sheet, _classes(classes))
    if found.faults:
        raise ConfigError(list(found.faults))
    return found.rows


def _row(text: str, *, path: Path = Path()) -> "SlideRow":
    from wsi_mil.cohort import row_from_json

    return row_from_json(json.loads(text), path=path)


def _ensemble(models: Path, splits: Path, classes: tuple[str, ...], *, bag: str, threads: int, device: str) -> "Ensemble":
    from wsi_mil.config import parse_bag
    from wsi_mil.devices import create_device, set_threads
    from wsi_mil.ensemble import Ensemble
    from wsi_mil.splits import read_splits

    set_threads(threads)
    return Ensemble(models, read_splits(splits), classes, create_device(device), unit=parse_bag(bag))
