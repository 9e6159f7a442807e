"""Check whether the trained models of an earlier run can be used."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_mil.cohort.splits import read_splits
from wsi_mil.config import Config, Encoder, covariates_of
from wsi_mil.encoders import weights_hash
from wsi_mil.errors import StoreError
from wsi_mil.receipts import read_receipt
from wsi_mil.records import SlideRow
from wsi_mil.results import Results
from wsi_mil.tasks import Task, task_of, task_of_stamp
from wsi_mil.wording import named


def trained_faults(config: Config, trained: Path, rows: Sequence[SlideRow], target: str) -> list[str]:
    """Return why the models of an earlier run for a target cannot be used for these slides."""
    results = Results(trained).target(target)
    try:
        folds = read_splits(results.splits).n_folds
    except StoreError as error:
        others = f"; it has {', '.join(found)}" if (found := Results(trained).targets) else ""
        return [f"trained: {error}; the earlier run must have a target of this name{others}"]
    task = task_of(config.targets[target])
    return [
        fault
        for entry, model in config.combinations(target)
        for fold in range(folds)
        for path in [results.checkpoint(entry, model, fold) / "config.json"]
        for fault in _card_faults(config, path, (entry, model), task) + _covariate_faults(config, path, target, model)
    ] + [
        fault
        for entry in config.imported
        for model in config.models_with(target, entry)
        for fault in _unfit_features(config, results.checkpoint(entry, model, 0) / "config.json", entry, rows)
    ]


def _covariate_faults(config: Config, path: Path, target: str, model: str) -> list[str]:
    """Covariates that a model was trained with, and that the configuration does not have, or has as something else."""
    if not path.is_file():
        return []  # reported by `_card_faults`
    coding = read_receipt(path).get("coding") or {}
    trained = {kind: [code["column"] for code in coding.get(kind, [])] for kind in ("numbers", "categories")}
    given = covariates_of(config.models, model, config.targets[target])
    own = {kind: list(getattr(given, kind)) if given else [] for kind in trained}
    if {kind: set(columns) for kind, columns in own.items()} == {kind: set(columns) for kind, columns in trained.items()}:
        return []
    texts = [_covariates_text(columns) for columns in (trained, own)]
    remedy = f"give targets.{target} the same covariates" if coding else f"set covariates: false in models.{model}"
    return [f"trained: {path} was trained with {texts[0]}, here models.{model} has {texts[1]}; {remedy}"]


def _covariates_text(columns: Mapping[str, Sequence[str]]) -> str:
    given = [f"{kind}: [{', '.join(names)}]" for kind, names in columns.items() if names]
    return f"covariates {{{', '.join(given)}}}" if given else "no covariates"


def _unfit_features(config: Config, path: Path, entry: str, rows: Sequence[SlideRow]) -> list[str]:
    """Differences between imported features and those that a model was trained on, with the affected slides."""
    if not path.is_file():
        return []  # reported by `_card_faults`
    card = read_receipt(path)
    unfit = dict[str, list[str]]()
    for row in rows:
        receipt_path = Results(config.results).features_receipt(entry, row.slide_id)
        receipt = read_receipt(receipt_path) if receipt_path.is_file() else {"status": "missing"}
        for key, expected in {**card["encoder"], "dim": card["feature_dim"]}.items() if receipt["status"] == "ok" else ():
            if receipt.get(key) != expected:
                difference = f"{key} {expected!r}, imported features have {receipt.get(key)!r}"
                unfit.setdefault(difference, []).append(row.slide_id)
    return [f"trained: {path} was trained with {difference} ({named(slides)})" for difference, slides in unfit.items()]


def _expected_encoder(config: Config, encoder: Encoder) -> dict[str, object]:
    """Encoder values that a model's card must have; imported features are compared slide by slide instead."""
    if encoder.is_imported:
        return {}
    tiling = config.tilings.get(encoder.tiling)
    weights = weights_hash(encoder.encoder, encoder.weights)
    scale: dict[str, object] = {"mpp": tiling.mpp, "tile_px": tiling.tile_px} if tiling else {}
    return {"encoder": encoder.encoder, "weights_hash": weights, **scale}


def _card_faults(config: Config, path: Path, entries: tuple[str, str], task: Task) -> list[str]:
    """Why the model of a card cannot be used for an entry of `encoders` and one of `models`."""
    encoder, entry = config.encoders[entries[0]], entries[1]
    try:
        card = read_receipt(path)
    except StoreError:
        return [f"trained: no model {path}; the earlier run must have the encoder and model entries of this configuration"]
    faults = [
        f"trained: {path} was trained with {key} {card['encoder'][key]!r}, here it is {value!r}"
        for key, value in _expected_encoder(config, encoder).items()
        if card["encoder"][key] != value
    ]
    kind = card.get("settings", {}).get("model")
    if kind != config.models[entry].model:
        faults.append(f"trained: {path} is a model of kind {kind}, here models.{entry} is {config.models[entry].model}")
    if card.get("unit") != config.bag:
        faults.append(f"trained: {path} was trained on bags of a {card.get('unit')}, here bag is {config.bag}")
    if task_of_stamp(card) != task:
        faults.append(f"trained: {path} was trained on {task_of_stamp(card)}, but the configuration has {task}")
    return faults
