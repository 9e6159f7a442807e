"""Stage `explain`: the scores of one slide, by the models of the folds that held its patient out."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wsi_mil.bags import bag_tensor, rows_of, scalar
from wsi_mil.cohort.splits import protocol_roles
from wsi_mil.config import Explain, explains, further_name, resolved, supports
from wsi_mil.ensemble import Ensemble
from wsi_mil.errors import ConfigError
from wsi_mil.explain.agreement import with_permuted_weights
from wsi_mil.explain.current import STAGE_VERSION, models_fingerprint
from wsi_mil.explain.registry import CONTROL, INVERSION, ExplainRequest, empty_scores, scores_of, with_randomisation
from wsi_mil.metrics import spearman
from wsi_mil.receipts import TILE_IDENTITY, store_path, write_receipt
from wsi_mil.records import Bag, InstanceScores, SlidePrediction, SlideRow
from wsi_mil.store import read_attributes, remove_store, write_scores
from wsi_mil.tasks import chosen_outputs

log = logging.getLogger(__name__)

Receipt = dict[str, object]


def explain_slide(
    row: SlideRow,
    bag_receipts: Sequence[Path],
    ensemble: Ensemble,
    settings: Explain,
    receipt: Path,
    *,
    stamp: Mapping[str, str] | None = None,
) -> None:
    """Score every instance of a slide by every method, and write store and receipt.

    If several outputs are explained (`explain.outputs`), the first has the names of the methods, others `{method}@{output}`.

    A slide of the fold's held-out patients gets that fold's scores; one of a new patient the mean over all folds.
    Training slides get none unless `include_train`.

    Args:
        row: the slide.
        bag_receipts: receipts of `extract` of all slides of its bag, in the order of the bag; its own among them.
        ensemble: the models.
        settings: methods, each of which the models must support.
        receipt: where to write.
        stamp: what the scores are made from, see `explain_stamp`; kept in the receipt.

    Raises:
        ConfigError: a method that the models do not support.
    """
    settings = _settings_for(ensemble, settings)
    receipt.unlink(missing_ok=True)  # it describes earlier scores
    bag = ensemble.read_bag(row.patient_id if ensemble.unit == "patient" else row.slide_id, bag_receipts)
    placement = ensemble.splits.as_trained(ensemble.protocol).placement(row.slide_id, row.patient_id)
    content: Receipt = {"role": placement.role, "protocol": ensemble.protocol}
    if placement.is_shown(include_train=settings.include_train):
        prediction = ensemble.predict(bag, placement.folds)
        outputs = chosen_outputs(ensemble.task, prediction, settings.outputs)
        scores = _scores(ensemble, bag, prediction, outputs, settings)
        content |= _prediction_content(ensemble, prediction, outputs[0]) | _streams_content(ensemble, bag, prediction, outputs)
        content |= _covariates_content(ensemble, bag, prediction, outputs[0])
    else:
        reason = "a training slide: its model has seen it (explain.include_train shows it all the same)"
        scores = [empty_scores(method, bag, reason) for method in _stored(settings)]
    own = next(path for path in bag_receipts if path.name == f"{row.slide_id}.json")
    own_part = _write_own_part(own, bag_receipts, bag, scores, store_path(receipt))
    write_receipt(receipt, {**own_part, **content, **ensemble.task.stamp(), **(stamp or {})})


def explain_validation(fold: int, features: Path, ensemble: Ensemble, settings: Explain, receipt: Path) -> None:
    """Score the slides that chose a fold's epoch and threshold, by that fold's model; never shown.

    Score thresholds are chosen on them, and the methods are tested: by their curves, and by the model with permuted weights.

    Args:
        fold: which one.
        features: folder with the receipts of `extract`.
        ensemble: the models.
        settings: methods, each of which the models must support.
        receipt: where to write; a store for each slide goes into the folder of its name.

    Raises:
        ConfigError: a method that the models do not support.
    """
    settings = _settings_for(ensemble, settings)
    content: dict[str, Receipt] = {}
    permuted = with_permuted_weights(ensemble.folds[fold].model)
    remove_store(receipt.with_suffix(""))
    for bag_id, slides in ensemble.splits.bags(fold, protocol_roles(ensemble.protocol)[1], ensemble.unit).items():
        bag_receipts = [features / f"{slide}.json" for slide in slides]
        bag = ensemble.read_bag(bag_id, bag_receipts)
        prediction = ensemble.predict(bag, (fold,))
        outputs = chosen_outputs(ensemble.task, prediction, settings.outputs)
        scores = _scores(ensemble, bag, prediction, outputs, settings)
        request = ExplainRequest(ensemble, bag, prediction, outputs[0])
        scores = with_randomisation(request, permuted, scores, settings.sparse_inversion)
        for own in bag_receipts:
            store = receipt.with_suffix("") / f"{own.stem}.zarr"
            content[own.stem] = {
                **_write_own_part(own, bag_receipts, bag, scores, store),
                **_prediction_content(ensemble, prediction, outputs[0]),
                **_covariates_content(ensemble, bag, prediction, outputs[0]),
                **ensemble.task.stamp(),
            }
    about = {"fold": fold, "protocol": ensemble.protocol, "stage_version": STAGE_VERSION}
    write_receipt(receipt, {**about, "slides": content})


def _scores(
    ensemble: Ensemble, bag: Bag, prediction: SlidePrediction, outputs: Sequence[int], settings: Explain
) -> list[InstanceScores]:
    """Scores for every output that is explained, the first under the names of the methods."""
    first, *further = outputs
    scores = scores_of(ExplainRequest(ensemble, bag, prediction, first), settings)
    for output in further:
        label = ensemble.task.output_name(output)
        own = scores_of(ExplainRequest(ensemble, bag, prediction, output), settings)
        scores += [replace(s, method=further_name(s.method, label)) for s in own]
    return scores


def _write_own_part(own: Path, bag_receipts: Sequence[Path], bag: Bag, scores: Iterable[InstanceScores], store: Path) -> Receipt:
    """Write the part of a bag's scores that belongs to one of its slides, and return the content of its receipt."""
    rows, features = rows_of(own, bag_receipts), read_attributes(store_path(own))
    coords, parts = bag.coords[rows], [s.of_rows(rows) for s in scores]
    write_scores(store, coords, parts, {"slide_id": own.stem})
    content = {key: features[key] for key in ("mpp", "tile_px", "tile_px_level0", "slide_mpp")}
    content |= {"tiles": {key: features[key] for key in TILE_IDENTITY}}
    content |= {"slide_id": own.stem, "bag": bag.slide_id, "bag_instances": len(bag.coords)}
    return {
        **content,
        "stage_version": STAGE_VERSION,
        "n_instances": len(coords),
        "methods": {s.method: _scores_content(s) for s in parts},
    }


def _settings_for(ensemble: Ensemble, settings: Explain) -> Explain:
    """Settings with the model's best method by its name; all methods must be supported."""
    best = ensemble.folds[0].card.architecture.best
    settings = settings.model_copy(update={"methods": resolved(settings.methods, best)})
    provides, task = ensemble.folds[0].model.provides, ensemble.task
    unfit = [method for method in settings.methods if not explains(method, task.kind)]
    if unfit:
        raise ConfigError([f"explain.methods: {', '.join(unfit)} cannot explain a target of kind {task.kind}"])
    missing = [method for method in settings.methods if not supports(provides, method)]
    if missing:
        kind = ensemble.folds[0].card.settings.model
        raise ConfigError([f"explain.methods: {kind} does not support {', '.join(missing)}; it provides {', '.join(provides)}"])
    return settings


def _prediction_content(ensemble: Ensemble, prediction: SlidePrediction, output: int) -> Receipt:
    return {
        "folds": list(prediction.folds),
        "models": models_fingerprint(ensemble.folder, ensemble.splits.n_folds),
        "outputs": _outputs(prediction),
        **ensemble.task.prediction_stamp(prediction),
        "output": output,
        "asked_by_prediction": list(ensemble.task.explained(prediction)),
    }


def _outputs(prediction: SlidePrediction) -> list[float]:
    return [float(f"{value:.9g}") for value in prediction.outputs]


def _streams_content(ensemble: Ensemble, bag: Bag, prediction: SlidePrediction, outputs: Sequence[int]) -> Receipt:
    """Agreement of the instance stream with the bag stream for each explained output, with a warning where they contradict."""
    models = [ensemble.folds[fold].model.at(bag.covariates) for fold in prediction.folds]
    found: dict[str, float | None] = {}
    for output in outputs:
        streams = [streams for model in models if (streams := model.streams(bag_tensor(bag, model), output)) is not None]
        if not streams:
            return {}
        correlation = float(np.mean([spearman(*(of_tiles.cpu().numpy() for of_tiles in pair)) for pair in streams]))
        name = ensemble.task.output_name(output)
        found[name] = None if math.isnan(correlation) else round(correlation, 6)
        if correlation < 0:
            text = "the instance stream ranks the tiles against the bag stream"
            of = f" for {name}" if len(outputs) > 1 else ""
            log.warning("%s: %s%s (rank correlation %.2f): do not use `probability`", bag.slide_id, text, of, correlation)
    return {"streams_rank_correlations": found}


def _covariates_content(ensemble: Ensemble, bag: Bag, prediction: SlidePrediction, output: int) -> Receipt:
    """Covariates of the bag, and what they add to the explained quantity, mean over models; {} if the models use none.

    The share is the difference from the same bag with the mean covariates of the training part. `slides_alone` has what is
    predicted of that bag, by which `trust` tells whether the heatmaps, which are of the instances only, show anything.
    """
    models = [ensemble.folds[fold].model for fold in prediction.folds]
    if bag.covariates is None or models[0].coding is None:
        return {}
    pairs = [(scalar(model.at(bag.covariates), bag, output), scalar(model.at_mean(), bag, output)) for model in models]
    total, without = np.mean(pairs, axis=0)
    figures = {"total": float(f"{total:.6g}"), "share": float(f"{total - without:.6g}")}
    alone = ensemble.predict(bag, prediction.folds, at_mean=True)
    of_slides = {"outputs": _outputs(alone), "predicted": alone.predicted}
    return {"covariates": {"cells": dict(bag.covariates), **figures, "slides_alone": of_slides}}


def _scores_content(scores: InstanceScores) -> Receipt:
    return {
        "kind": scores.kind,
        "unit": scores.unit,
        "comparable": scores.comparable,
        "comparable_weighed": scores.comparable_weighted,
        "zero": scores.zero,
        "reason": scores.reason,
        "output": scores.output,
        **scores.log,
    }


def _stored(settings: Explain) -> list[str]:
    """Names of the arrays in a slide's store of scores."""
    return [name for method in settings.methods for name in ((INVERSION, CONTROL) if method == INVERSION else (method,))]
