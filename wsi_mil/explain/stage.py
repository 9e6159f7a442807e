"""Stage `explain`: the scores of one slide, by the models that may speak for it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.bags import bag_tensor, rows_of
from wsi_mil.config import Explain, offered
from wsi_mil.ensemble import Ensemble, FoldModel
from wsi_mil.errors import ConfigError
from wsi_mil.explain import attention, sparse_inversion
from wsi_mil.records import Bag, InstanceScores, SlidePrediction, SlideRow
from wsi_mil.store import read_attributes, store_path, write_receipt, write_scores

STAGE_VERSION = 2


def explain_slide(row: SlideRow, bag_receipts: Sequence[Path], ensemble: Ensemble, settings: Explain, receipt: Path) -> None:
    """Score every instance of a slide by every method, and write store and receipt.

    A slide of the fold's held-out patients gets that fold's scores; one of a new patient the mean over all folds.
    Training slides get none unless `include_train`.

    Args:
        row: the slide.
        bag_receipts: receipts of `extract` of all slides of its bag, in the order of the bag; its own among them.
        ensemble: the models.
        settings: methods, each of which the models must offer.
        receipt: where to write.

    Raises:
        ConfigError: a method that the models do not offer.
    """
    own = next(path for path in bag_receipts if path.name == f"{row.slide_id}.json")
    bag, rows = ensemble.read_bag(row.slide_id, bag_receipts), rows_of(own, bag_receipts)
    _refuse_not_offered(settings, ensemble)
    placement = ensemble.splits.seen_under(ensemble.protocol).placed(row.slide_id, row.patient_id)
    content: dict[str, object] = {"slide_id": row.slide_id, "stage_version": STAGE_VERSION, "classes": list(ensemble.classes)}
    if placement.is_shown(include_train=settings.include_train):
        prediction = ensemble.predict(bag, placement.folds)
        target = _target(prediction, len(ensemble.classes))
        scores = [SCORERS[method](ensemble, bag, prediction, target, settings).of_rows(rows) for method in settings.methods]
        content |= _about(prediction, target)
    else:
        reason = "a training slide: its model has seen it (explain.include_train shows it all the same)"
        scores = [_nothing(method, bag, reason).of_rows(rows) for method in settings.methods]
    coords, features = bag.coords[rows], read_attributes(store_path(own))
    content |= {key: features[key] for key in ("mpp", "tile_px", "tile_px_level0", "slide_mpp")}
    content |= {"role": placement.role, "protocol": ensemble.protocol, "bag_instances": len(bag.coords)}
    content |= {"n_instances": len(coords), "methods": {s.method: _about_scores(s) for s in scores}}
    write_scores(store_path(receipt), coords, scores, {"slide_id": row.slide_id})
    write_receipt(receipt, content)


def _refuse_not_offered(settings: Explain, ensemble: Ensemble) -> None:
    offers = ensemble.folds[0].model.offers
    missing = [method for method in settings.methods if not offered(method, offers)]
    if missing:
        kind = ensemble.folds[0].card.settings.model
        raise ConfigError([f"explain.methods: {kind} does not offer {', '.join(missing)}, only {', '.join(offers)}"])


def _target(prediction: SlidePrediction, n_classes: int) -> int:
    """The class whose evidence is shown: of two the positive one, of more the predicted one."""
    return 1 if n_classes == 2 else prediction.predicted


def _about(prediction: SlidePrediction, target: int) -> dict[str, object]:
    return {
        "folds": list(prediction.folds),
        "probs": [round(p, 6) for p in prediction.probs],
        "threshold": None if prediction.threshold is None else round(prediction.threshold, 6),
        "predicted": prediction.predicted,
        "target": target,
    }


def _about_scores(scores: InstanceScores) -> dict[str, object]:
    names = ("kind", "unit", "comparable", "zero", "reason")
    return {**{name: getattr(scores, name) for name in names}, **scores.log}


def _nothing(method: str, bag: Bag, reason: str, log: dict[str, object] | None = None) -> InstanceScores:
    values = np.full(len(bag.coords), np.nan, np.float32)
    return InstanceScores(method, values, kind="", unit="", comparable=False, reason=reason, log=log or {})


def _attention(ensemble: Ensemble, bag: Bag, prediction: SlidePrediction, target: int, settings: Explain) -> InstanceScores:
    members = [ensemble.folds[fold].model for fold in prediction.folds]
    values = [attention.attention_scores(model, bag_tensor(bag, model), target) for model in members]
    return InstanceScores("attention", _mean(values), kind=attention.KIND, unit="share", comparable=False)


def _sparse_inversion(
    ensemble: Ensemble, bag: Bag, prediction: SlidePrediction, target: int, settings: Explain
) -> InstanceScores:
    if prediction.predicted != target:
        return _nothing("sparse_inversion", bag, "predicted negative: sparse inversion finds no key instances")
    values, logs = [], {}
    for fold in prediction.folds:
        scored, logs[str(fold)] = _invert(ensemble.folds[fold], bag, target, settings)
        if scored is not None:
            values.append(scored)
    log: dict[str, object] = {"folds": logs}
    if not values:
        reasons = {str(entry["reason"]) for entry in logs.values()}
        return _nothing("sparse_inversion", bag, "; ".join(sorted(reasons)), log)
    score = sparse_inversion.read_off(ensemble.folds[0].model, settings.sparse_inversion)
    kind, unit = sparse_inversion.KIND[score], sparse_inversion.UNIT[score]
    return InstanceScores("sparse_inversion", _mean(values), kind=kind, unit=unit, comparable=False, log=log)


def _invert(member: FoldModel, bag: Bag, target: int, settings: Explain) -> tuple[NDArray[np.float64] | None, dict[str, object]]:
    """One fold's scores, or None where its prediction does not hold from the first to the last step."""
    refined = sparse_inversion.refine(member.model, bag_tensor(bag, member.model), target, settings.sparse_inversion)
    reason = refined.reason
    if not reason and not _holds(member, refined, 0, target):
        reason = "this fold's model predicts otherwise"
    elif not reason and not _holds(member, refined, -1, target):
        reason = "the prediction flipped while the bag was refined"
    log: dict[str, object] = {
        "log_prob": [round(v, 6) for v in refined.log_prob],
        "nonzero": [round(v, 6) for v in refined.nonzero],
        "reason": reason,
    }
    if reason:
        return None, log
    name = sparse_inversion.read_off(member.model, settings.sparse_inversion)
    return sparse_inversion.refined_scores(member.model, refined.features, target, name), log


def _holds(member: FoldModel, refined: sparse_inversion.Refinement, step: int, target: int) -> bool:
    """Whether the bag is still predicted as `target` at a step."""
    if member.card.threshold is None:
        return refined.predicted[step] == target
    return bool(np.exp(refined.log_prob[step]) >= member.card.threshold)


def _mean(values: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    return np.asarray(np.mean(values, axis=0), np.float32)


SCORERS = {"attention": _attention, "sparse_inversion": _sparse_inversion}
"""One for each name that `explain.methods` may hold."""
