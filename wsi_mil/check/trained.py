"""Models of an earlier run: whether they can be used here."""

from pathlib import Path

from wsi_mil.cohort import Sheet
from wsi_mil.cohort.splits import read_splits
from wsi_mil.config import Config, Encoder
from wsi_mil.encoders import weights_hash
from wsi_mil.errors import StoreError
from wsi_mil.receipts import read_receipt
from wsi_mil.results import Results
from wsi_mil.tasks import task_of, task_of_stamp
from wsi_mil.wording import named


def trained_faults(config: Config, trained: Path, sheet: Sheet) -> list[str]:
    """Why the models of an earlier run cannot speak for these slides."""
    try:
        folds = read_splits(Results(trained).splits).n_folds
    except StoreError as error:
        return [f"trained: {error}"]
    return [
        fault
        for entry, encoder in config.encoders.items()
        for model in config.models
        for fold in range(folds)
        for fault in _card_faults(config, Results(trained).checkpoint(entry, model, fold) / "config.json", encoder, model)
    ] + [
        fault
        for entry in config.imported
        for model in config.models
        for fault in _unfit_features(config, Results(trained).checkpoint(entry, model, 0) / "config.json", entry, sheet)
    ]


def _unfit_features(config: Config, path: Path, entry: str, sheet: Sheet) -> list[str]:
    """What tells imported features from those that a model was trained on, with the slides where it does."""
    if not path.is_file():
        return []  # is a fault of its own
    card, unfit = read_receipt(path), dict[str, list[str]]()
    for row in sheet.rows:
        receipt = Results(config.results).features_receipt(entry, row.slide_id)
        said = read_receipt(receipt) if receipt.is_file() else {"status": "missing"}
        for key, want in {**card["encoder"], "dim": card["feature_dim"]}.items() if said["status"] == "ok" else ():
            if said.get(key) != want:
                unfit.setdefault(f"{key} {want!r}, imported features have {said.get(key)!r}", []).append(row.slide_id)
    return [f"trained: {path} was trained with {what} ({named(slides)})" for what, slides in unfit.items()]


def _made_by(config: Config, encoder: Encoder) -> dict[str, object]:
    """What a model's card must say of its encoder; of imported features each slide is asked when it is predicted."""
    if encoder.is_imported:
        return {}
    tiling = config.tilings.get(encoder.tiling)
    weights = weights_hash(encoder.encoder, encoder.weights)
    scale: dict[str, object] = {"mpp": tiling.mpp, "tile_px": tiling.tile_px} if tiling else {}
    return {"encoder": encoder.encoder, "weights_hash": weights, **scale}


def _card_faults(config: Config, path: Path, encoder: Encoder, entry: str) -> list[str]:
    """Why the model of a card cannot be used here as an entry of `models`."""
    try:
        card = read_receipt(path)
    except StoreError:
        return [f"trained: no model {path}; its folder needs the encoder and model entries of this configuration"]
    faults = [
        f"trained: {path} was trained with {key} {card['encoder'][key]!r}, here it is {value!r}"
        for key, value in _made_by(config, encoder).items()
        if card["encoder"][key] != value
    ]
    kind = card.get("settings", {}).get("model")
    if kind != config.models[entry].model:
        faults.append(f"trained: {path} is a model of kind {kind}, here models.{entry} is {config.models[entry].model}")
    if card.get("unit") != config.bag:
        faults.append(f"trained: {path} was trained on bags of a {card.get('unit')}, here bag is {config.bag}")
    task = task_of(config)
    if task_of_stamp(card) != task:
        faults.append(f"trained: {path} was trained on {task_of_stamp(card)}, but the configuration has {task}")
    return faults
