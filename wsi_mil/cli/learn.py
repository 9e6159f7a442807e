"""The commands that train or apply models: `train`, `predict`, `explain`, `explain-validation`, `evaluate`."""

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from wsi_mil.cli.options import (
    Bag,
    Classes,
    Device,
    Protocol,
    Receipt,
    Row,
    SettingsJson,
    Sheet,
    Threads,
    TruthJson,
    create_ensemble,
    parse_task,
    sheet_rows,
    slide_row,
)
from wsi_mil.runtime.threads import limit_threads

commands = typer.Typer()


@commands.command()
def train(
    splits: Annotated[Path, typer.Option(help="splits.csv")],
    fold: Annotated[int, typer.Option(min=0, help="number of the fold")],
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    classes: Classes,
    settings: SettingsJson,
    model: Annotated[Path, typer.Option(help="folder for model.safetensors, config.json and history.csv")],
    base: Annotated[Optional[Path], typer.Option(help="mhim: folder of its base model, trained on the same fold")] = None,
    bag: Bag = "slide",
    protocol: Protocol = "held_out",
    keep_gb: Annotated[
        str,
        typer.Option(envvar="WSI_MIL_KEEP_GB", help="GB of features kept in memory between epochs, or auto; changes no result"),
    ] = "auto",
    trainings: Annotated[
        Optional[int],
        typer.Option(min=1, envvar="WSI_MIL_TRAININGS", help="for auto: trainings that the run starts at once, at most"),
    ] = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Train one model on one fold; an interrupted run resumes at its last epoch.

    --settings: an entry of `models`, such as '{"model": "abmil"}'
    """
    limit_threads(threads)
    from wsi_mil.cohort.splits import read_splits
    from wsi_mil.config import parse_bag, parse_keep_gb, parse_model, parse_protocol
    from wsi_mil.devices import create_device, make_deterministic, set_threads
    from wsi_mil.train import Fold, Keep, train_fold, trainings_at_once

    set_threads(threads)
    make_deterministic()
    part = Fold(read_splits(splits), fold, features, parse_task(classes), unit=parse_bag(bag), protocol=parse_protocol(protocol))
    parsed = parse_model(json.loads(settings))
    gb = parse_keep_gb(keep_gb)
    claimed = create_device(device)
    keep = Keep(gb, at_once=trainings_at_once(claimed, threads, trainings))
    train_fold(part, parsed, model, claimed, base=base, keep=keep)


@commands.command()
def predict(
    sheet: Sheet,
    classes: Classes,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    models: Annotated[Path, typer.Option(help="folder that has a subfolder for each fold")],
    settings: SettingsJson,
    predictions: Annotated[Path, typer.Option(help="table to write (CSV)")],
    metrics: Annotated[Path, typer.Option(help="metrics to write (JSON)")],
    include_train: Annotated[bool, typer.Option(help="also predict the training slides of a fixed split")] = False,
    bag: Bag = "slide",
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Predict every usable slide with models that never saw its patient."""
    limit_threads(threads)
    from wsi_mil.cohort import ok_ids, read_status
    from wsi_mil.config import Predict, parse_settings
    from wsi_mil.predict import predict_cohort, write_metrics, write_predictions

    task = parse_task(classes)
    usable = ok_ids(read_status(status))
    rows = [row for row in sheet_rows(sheet, classes) if row.slide_id in usable]
    ensemble = create_ensemble(models, splits, task, bag=bag, threads=threads, device=device)
    predicted = predict_cohort(rows, features, ensemble, include_train=include_train)
    write_predictions(predictions, predicted, task, ensemble.protocol)
    write_metrics(metrics, predicted, task, parse_settings(Predict, json.loads(settings)), ensemble.metadata)


@commands.command()
def explain(
    features: Annotated[Path, typer.Option(help="receipt of extract")],
    row: Row,
    classes: Classes,
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    models: Annotated[Path, typer.Option(help="folder that has a subfolder for each fold")],
    settings: SettingsJson,
    receipt: Receipt,
    bag: Bag = "slide",
    bag_slides: Annotated[str, typer.Option(help="slides of its bag, as a JSON list; receipts in the same folder")] = "",
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Score every tile of a slide with each explanation method."""
    limit_threads(threads)
    from wsi_mil.config import Explain, parse_settings
    from wsi_mil.explain import explain_slide

    ensemble = create_ensemble(models, splits, parse_task(classes), bag=bag, threads=threads, device=device)
    members = [features.with_name(f"{slide}.json") for slide in json.loads(bag_slides)] if bag_slides else [features]
    explain_slide(slide_row(row), members, ensemble, parse_settings(Explain, json.loads(settings)), receipt)


@commands.command(name="explain-validation")
def explain_validation(
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    fold: Annotated[int, typer.Option(min=0, help="number of the fold")],
    classes: Classes,
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    models: Annotated[Path, typer.Option(help="folder that has a subfolder for each fold")],
    settings: SettingsJson,
    receipt: Annotated[Path, typer.Option(help="receipt to write (JSON); stores are written to the folder of the same name")],
    bag: Bag = "slide",
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Score the tiles of a fold's validation slides, on which score thresholds are chosen."""
    limit_threads(threads)
    from wsi_mil.config import Explain, parse_settings
    from wsi_mil.explain import explain_validation as explained

    ensemble = create_ensemble(models, splits, parse_task(classes), bag=bag, threads=threads, device=device)
    explained(fold, features, ensemble, parse_settings(Explain, json.loads(settings)), receipt)


@commands.command()
def evaluate(
    sheet: Sheet,
    classes: Classes,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    scores: Annotated[Path, typer.Option(help="folder with the receipts of explain")],
    tiles: Annotated[Path, typer.Option(help="folder with the receipts of tile")],
    truth: TruthJson,
    settings: Annotated[str, typer.Option(help="settings of predict, as JSON: number of bootstrap samples")],
    figures: Annotated[Path, typer.Option(help="figures to write (JSON), with a table of slides beside it (CSV)")],
    validation: Annotated[Optional[Path], typer.Option(help="folder with the receipts of explain-validation")] = None,
    threads: Threads = 1,
) -> None:
    """Evaluate every explanation method against the annotations."""
    limit_threads(threads)
    from wsi_mil.cohort import ok_ids, read_status
    from wsi_mil.config import Predict, Truth, parse_settings
    from wsi_mil.evaluate import Sources, evaluate_cohort

    usable = ok_ids(read_status(status))
    rows = [row for row in sheet_rows(sheet, classes) if row.label and row.slide_id in usable]
    sources = Sources(scores, tiles, validation, parse_task(classes), parse_settings(Truth, json.loads(truth)))
    evaluate_cohort(rows, sources, parse_settings(Predict, json.loads(settings)), figures)
