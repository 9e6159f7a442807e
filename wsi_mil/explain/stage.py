"""Stage `explain`: the scores of one slide, by the models that may speak for it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from wsi_mil.bags import rows_of
from wsi_mil.cohort.splits import parts_of
from wsi_mil.config import Explain, offered
from wsi_mil.ensemble import Ensemble
from wsi_mil.errors import ConfigError
from wsi_mil.explain.registry import CONTROL, INVERSION, Question, nothing, scores_of
from wsi_mil.receipts import TILE_IDENTITY, store_path, write_receipt
from wsi_mil.records import Bag, InstanceScores, SlidePrediction, SlideRow
from wsi_mil.store import read_attributes, remove_store, write_scores

STAGE_VERSION = 3

Receipt = dict[str, object]


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
    _refuse_not_offered(settings, ensemble)
    bag = ensemble.read_bag(row.patient_id if ensemble.unit == "patient" else row.slide_id, bag_receipts)
    placement = ensemble.splits.seen_under(ensemble.protocol).placed(row.slide_id, row.patient_id)
    about: Receipt = {"role": placement.role, "protocol": ensemble.protocol}
    if placement.is_shown(include_train=settings.include_train):
        question = _asked(ensemble, bag, placement.folds)
        scores = scores_of(question, settings)
        about |= _about_question(question)
    else:
        reason = "a training slide: its model has seen it (explain.include_train shows it all the same)"
        scores = [nothing(method, bag, reason) for method in _stored(settings)]
    own = next(path for path in bag_receipts if path.name == f"{row.slide_id}.json")
    content = _write_own_part(own, bag_receipts, bag, scores, store_path(receipt))
    write_receipt(receipt, {**content, **about, "classes": list(ensemble.classes)})


def explain_validation(fold: int, features: Path, ensemble: Ensemble, settings: Explain, receipt: Path) -> None:
    """Score the slides that chose a fold's epoch and threshold, by that fold's model; used for thresholds, never shown.

    Args:
        fold: which one.
        features: folder with the receipts of `extract`.
        ensemble: the models.
        settings: methods, each of which the models must offer.
        receipt: where to write; a store for each slide goes into the folder of its name.

    Raises:
        ConfigError: a method that the models do not offer.
    """
    _refuse_not_offered(settings, ensemble)
    content: dict[str, Receipt] = {}
    settings = settings.model_copy(update={"curve_points": 0})
    remove_store(receipt.with_suffix(""))
    for bag_id, slides in ensemble.splits.bags(fold, parts_of(ensemble.protocol)[1], ensemble.unit).items():
        bag_receipts = [features / f"{slide}.json" for slide in slides]
        question = _asked(ensemble, ensemble.read_bag(bag_id, bag_receipts), (fold,))
        scores = scores_of(question, settings)
        for own in bag_receipts:
            store = receipt.with_suffix("") / f"{own.stem}.zarr"
            content[own.stem] = {
                **_write_own_part(own, bag_receipts, question.bag, scores, store),
                **_about_question(question),
                "classes": list(ensemble.classes),
            }
    about = {"fold": fold, "protocol": ensemble.protocol, "stage_version": STAGE_VERSION}
    write_receipt(receipt, {**about, "slides": content})


def _asked(ensemble: Ensemble, bag: Bag, folds: tuple[int, ...]) -> Question:
    prediction = ensemble.predict(bag, folds)
    return Question(ensemble, bag, prediction, _target(prediction, len(ensemble.classes)))


def _write_own_part(own: Path, bag_receipts: Sequence[Path], bag: Bag, scores: Iterable[InstanceScores], store: Path) -> Receipt:
    """Write the part of a bag's scores that belongs to one of its slides; what its receipt says of them."""
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
        "methods": {s.method: _about_scores(s) for s in parts},
    }


def _refuse_not_offered(settings: Explain, ensemble: Ensemble) -> None:
    offers = ensemble.folds[0].model.offers
    missing = [method for method in settings.methods if not offered(method, offers)]
    if missing:
        kind = ensemble.folds[0].card.settings.model
        raise ConfigError([f"explain.methods: {kind} does not offer {', '.join(missing)}, only {', '.join(offers)}"])


def _target(prediction: SlidePrediction, n_classes: int) -> int:
    """The class whose evidence is shown: of two the positive one, of more the predicted one."""
    return 1 if n_classes == 2 else prediction.predicted


def _about_question(question: Question) -> Receipt:
    prediction = question.prediction
    return {
        "folds": list(prediction.folds),
        "probs": [round(p, 6) for p in prediction.probs],
        "threshold": None if prediction.threshold is None else round(prediction.threshold, 6),
        "predicted": prediction.predicted,
        "target": question.target,
    }


def _about_scores(scores: InstanceScores) -> Receipt:
    names = ("kind", "unit", "comparable", "comparable_weighed", "zero", "reason")
    return {**{name: getattr(scores, name) for name in names}, **scores.log}


def _stored(settings: Explain) -> list[str]:
    """Names of the arrays of a slide's scores."""
    return [name for method in settings.methods for name in ((INVERSION, CONTROL) if method == INVERSION else (method,))]
