"""The commands that train or apply models: `train`, `predict`, `explain`, `explain-validation`, `trust`, `evaluate`."""

import json
import logging
from pathlib import Path
from typing import Annotated, Optional

import typer

from wsi_mil.cli.options import (
    Bag,
    Device,
    FeaturesFolder,
    OptionalSheet,
    Protocol,
    Record,
    Rows,
    ScoresFolder,
    SettingsJson,
    Sheet,
    TargetJson,
    Threads,
    TruthJson,
    create_ensemble,
    forget_if_forced,
    parse_task,
    receipts_of,
    sheet_covariates,
    sheet_rows,
    slide_rows,
)
from wsi_mil.runtime.threads import limit_threads

log = logging.getLogger(__name__)

commands = typer.Typer()


@commands.command()
def train(
    splits: Annotated[Path, typer.Option(help="splits.csv")],
    fold: Annotated[int, typer.Option(min=0, help="number of the fold")],
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    target: TargetJson,
    settings: SettingsJson,
    model: Annotated[Path, typer.Option(help="folder for model.safetensors, config.json and history.csv")],
    base: Annotated[Optional[Path], typer.Option(help="mhim: folder of its base model, trained on the same fold")] = None,
    bag: Bag = "slide",
    protocol: Protocol = "held_out",
    slide_statistics: Annotated[
        Optional[Path],
        typer.Option(help="mean_linear: folder that keeps the mean and variance of each slide's features for other folds"),
    ] = None,
    keep_gb: Annotated[
        str,
        typer.Option(envvar="WSI_MIL_KEEP_GB", help="GB of features kept in memory between epochs, or auto; changes no result"),
    ] = "auto",
    trainings: Annotated[
        Optional[int],
        typer.Option(min=1, envvar="WSI_MIL_TRAININGS", help="for auto: trainings that the run starts at once, at most"),
    ] = None,
    sheet: OptionalSheet = None,
    log_to: Annotated[
        str,
        typer.Option(
            "--log",
            envvar="WSI_MIL_TRAIN_LOG",
            help="none, or tensorboard: the curve as event files, too; no effect on the model",
        ),
    ] = "none",
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Train one model on one fold; an interrupted run resumes at its last epoch.

    --settings: an entry of `models`, such as '{"model": "abmil"}'
    """
    limit_threads(threads)
    from wsi_mil.cohort.splits import read_splits
    from wsi_mil.config import parse_bag, parse_curve_log, parse_keep_gb, parse_model, parse_protocol
    from wsi_mil.devices import create_device, make_deterministic, set_threads
    from wsi_mil.train import Fold, Keep, train_fold, trainings_at_once

    set_threads(threads)
    make_deterministic()
    part = Fold(
        read_splits(splits),
        fold,
        features,
        parse_task(target),
        unit=parse_bag(bag),
        protocol=parse_protocol(protocol),
        covariates=sheet_covariates(sheet, target),
        statistics=slide_statistics,
    )
    parsed = parse_model(json.loads(settings))
    gb, curve_log = parse_keep_gb(keep_gb), parse_curve_log(log_to)
    claimed = create_device(device)
    keep = Keep(gb, at_once=trainings_at_once(claimed, threads, trainings))
    train_fold(part, parsed, model, claimed, base=base, keep=keep, log_to=curve_log)


@commands.command()
def predict(
    sheet: Sheet,
    target: TargetJson,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    models: Annotated[Path, typer.Option(help="folder that has a subfolder for each fold")],
    settings: SettingsJson,
    predictions: Annotated[Path, typer.Option(help="table to write (CSV)")],
    metrics: Annotated[Path, typer.Option(help="metrics to write (JSON)")],
    include_train: Annotated[bool, typer.Option(help="also predict the training slides of a fixed split")] = False,
    group: Annotated[str, typer.Option(help="column of groups, each of which gets its own figures")] = "",
    recalibrate: Annotated[str, typer.Option(help="the `recalibrate` block of config.yaml, as JSON; null: none")] = "null",
    bag: Bag = "slide",
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Predict every usable slide with models that never saw its patient."""
    limit_threads(threads)
    from wsi_mil.cohort import SheetColumns, ok_ids, read_status
    from wsi_mil.cohort.splits import read_splits
    from wsi_mil.config import Predict, Recalibrate, parse_settings
    from wsi_mil.predict import (
        covariate_facts,
        fitted_again,
        predict_cohort,
        recalibrated_figures,
        task_with_horizons,
        write_metrics,
        write_predictions,
    )

    task = task_with_horizons(parse_task(target), read_splits(splits))
    usable = ok_ids(read_status(status))
    again = (
        None if json.loads(recalibrate) is None else parse_settings(Recalibrate, json.loads(recalibrate), where="recalibrate.")
    )
    columns = SheetColumns(group, again.column if again else "")
    rows = [row for row in sheet_rows(sheet, target, columns) if row.slide_id in usable]
    covariates = sheet_covariates(sheet, target)
    ensemble = create_ensemble(models, splits, task, bag=bag, threads=threads, device=device, covariates=covariates)
    log.info("predicting %d slides", len(rows))
    calibration = again.value if again else ""
    predicted = predict_cohort(rows, features, ensemble, include_train=include_train, calibration=calibration)
    fitted = fitted_again(predicted, task, again) if again else None
    write_predictions(predictions, predicted, task, ensemble.protocol, fitted)
    parsed = parse_settings(Predict, json.loads(settings))
    recalibrated = {"recalibrated": recalibrated_figures(predicted, fitted, parsed)} if fitted else {}
    facts = {**ensemble.metadata, **covariate_facts(predicted, ensemble), **recalibrated}
    write_metrics(metrics, predicted, task, parsed, facts)


@commands.command()
def explain(
    row: Rows,
    target: TargetJson,
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    models: Annotated[Path, typer.Option(help="folder that has a subfolder for each fold")],
    settings: SettingsJson,
    features: FeaturesFolder,
    scores: ScoresFolder,
    bag: Bag = "slide",
    bag_slides: Annotated[
        str, typer.Option(help="slides of the bag of each slide that shares one with others, as JSON: {slide_id: [slide_id, …]}")
    ] = "{}",
    sheet: OptionalSheet = None,
    record: Record = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Score every tile of slides with each explanation method; slides whose scores are current are skipped."""
    limit_threads(threads)
    from wsi_mil.cohort.splits import read_splits
    from wsi_mil.config import Explain, parse_bag, parse_settings
    from wsi_mil.explain.current import explain_stamp, is_explained, outputs
    from wsi_mil.jobs import process_slides, write_record

    parsed, task, parsed_splits = parse_settings(Explain, json.loads(settings)), parse_task(target), read_splits(splits)
    rows, bags = slide_rows(row), json.loads(bag_slides)
    receipts = receipts_of(rows, scores)

    forget_if_forced("explain", row, scores)
    members = {s.slide_id: [features / f"{m}.json" for m in bags.get(s.slide_id, [s.slide_id])] for s in rows}
    covariates = sheet_covariates(sheet, target)
    known = {s: covariates.of(slides[0].stem) if covariates else None for s, slides in members.items()}
    stamps = {
        s.slide_id: explain_stamp(s, members[s.slide_id], models, parsed_splits, task, parsed, parse_bag(bag), known[s.slide_id])
        for s in rows
    }
    stale = [item for item, s in enumerate(rows) if not is_explained(receipts[s.slide_id], stamps[s.slide_id])]
    log.info("%d of %d slides are unchanged", len(rows) - len(stale), len(rows))
    if stale:
        from wsi_mil.explain.stage import explain_slide

        ensemble = create_ensemble(models, splits, task, bag=bag, threads=threads, device=device, covariates=covariates)
        log.info("%d models of %s", len(ensemble.folds), ensemble.folder)  # faults of models concern all slides

        def work(item: int) -> None:
            slide_id = rows[item].slide_id
            explain_slide(rows[item], members[slide_id], ensemble, parsed, receipts[slide_id], stamp=stamps[slide_id])

        process_slides(list(receipts), stale, work)
    if record is not None:
        write_record(record, receipts.values(), (file for receipt in receipts.values() for file in outputs(receipt)))


@commands.command(name="explain-validation")
def explain_validation(
    features: Annotated[Path, typer.Option(help="folder with the receipts of extract")],
    target: TargetJson,
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    models: Annotated[Path, typer.Option(help="folder that has a subfolder for each fold")],
    settings: SettingsJson,
    validation: Annotated[Path, typer.Option(help="folder to write to: fold-0.json, … with stores in the folder of that name")],
    bag: Bag = "slide",
    sheet: OptionalSheet = None,
    record: Record = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Score the tiles of the validation slides of each fold, on which score thresholds are chosen."""
    limit_threads(threads)
    from wsi_mil.config import Explain, parse_settings
    from wsi_mil.explain.stage import explain_validation as explained
    from wsi_mil.jobs import write_record

    covariates = sheet_covariates(sheet, target)
    ensemble = create_ensemble(models, splits, parse_task(target), bag=bag, threads=threads, device=device, covariates=covariates)
    parsed = parse_settings(Explain, json.loads(settings))
    receipts = [validation / f"fold-{fold}.json" for fold in range(ensemble.splits.n_folds)]
    for fold, receipt in enumerate(receipts):
        explained(fold, features, ensemble, parsed, receipt)
    if record is not None:
        write_record(record, receipts, filter(Path.exists, (receipt.with_suffix("") for receipt in receipts)))


@commands.command()
def trust(
    sheet: Sheet,
    target: TargetJson,
    status: Annotated[Path, typer.Option(help="cohort_status.csv")],
    splits: Annotated[Path, typer.Option(help="splits.csv of the models")],
    scores: Annotated[Path, typer.Option(help="folder with the receipts of explain")],
    settings: Annotated[str, typer.Option(help="settings of predict, as JSON: number of bootstrap samples")],
    trust: Annotated[Path, typer.Option(help="JSON to write")],
    validation: Annotated[Optional[Path], typer.Option(help="folder with the receipts of explain-validation")] = None,
    earlier: Annotated[Optional[Path], typer.Option(help="the JSON of the run that trained the models")] = None,
    group: Annotated[str, typer.Option(help="column of groups within which the model is judged")] = "",
    threads: Threads = 1,
) -> None:
    """Find out whether a model is better than chance, and each of its methods better than random order."""
    limit_threads(threads)
    from wsi_mil.cohort import SheetColumns, ok_ids, read_status
    from wsi_mil.cohort.splits import read_splits
    from wsi_mil.config import Predict, parse_settings
    from wsi_mil.trust import TrustSources, write_trust

    usable = ok_ids(read_status(status))
    rows = [row for row in sheet_rows(sheet, target, SheetColumns(group)) if row.label and row.slide_id in usable]
    sources = TrustSources(scores, validation, read_splits(splits), parse_task(target), earlier)
    write_trust(rows, sources, trust, draws=parse_settings(Predict, json.loads(settings)).bootstrap)


@commands.command()
def evaluate(
    sheet: Sheet,
    target: TargetJson,
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
    rows = [row for row in sheet_rows(sheet, target) if row.label and row.slide_id in usable]
    sources = Sources(scores, tiles, validation, parse_task(target), parse_settings(Truth, json.loads(truth)))
    log.info("comparing the scores of %d slides with their annotations", len(rows))
    evaluate_cohort(rows, sources, parse_settings(Predict, json.loads(settings)), figures)
