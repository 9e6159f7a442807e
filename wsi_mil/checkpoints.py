"""Write and read trained models: a folder with weights (safetensors) and a model card (JSON) that together rebuild the model."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from wsi_mil.config import BagUnit, BaseModelSettings, Model, Protocol, parse_base, parse_model
from wsi_mil.covariates import Coding
from wsi_mil.errors import ConfigError, StoreError, StoreMismatchError
from wsi_mil.files import write_bytes
from wsi_mil.models import MILModel, create_model, outputs_of
from wsi_mil.receipts import read_receipt, write_receipt
from wsi_mil.records import Threshold
from wsi_mil.tasks import Task, task_of_stamp

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD_VERSION = 3
"""Version of the card; a model of an earlier version would be rebuilt with defaults that it was not trained with."""


@dataclass(frozen=True)
class ModelCard:
    """Everything needed to rebuild a model and to interpret its outputs.

    Attributes:
        settings: the entry of `models`.
        architecture: settings used to rebuild the network; equals `settings` with `attention: auto` of TransMIL resolved,
            except for MHIM, where it is the base model's.
        task: the task the model was trained for, with the constants of its training part; the order of its classes is the
            order of the logits.
        feature_dim: length of a feature vector.
        encoder: name, weights' hash, mpp and tile_px of the encoder that computed the features.
        fold: number of the fold whose training part the model was fitted on.
        unit: whether a training bag was a slide or a patient.
        protocol: "as_published" if the test part selected epoch and threshold.
        trained_on: fingerprint of the roles and labels of all slides in that fold.
        features: fingerprint of the features that the model was trained and validated on.
        threshold: on the positive class's probability (two classes), on each label's, or on the risk; else None.
        epoch: the epoch that was kept, counted from 1.
        select: criterion that selected the epoch: `loss` or `auroc` (of other kinds than classes, their figure) of the validation
            part, or `last`.
        validation: figures on the validation part.
        coding: of the covariates, fitted on the training part; None if the model takes none.
        weights_hash: sha256 of the weights file; "" if an earlier version wrote none.
    """

    settings: Model
    architecture: BaseModelSettings
    task: Task
    feature_dim: int
    encoder: dict[str, object]
    fold: int
    unit: BagUnit
    protocol: Protocol
    trained_on: str
    features: str
    threshold: Threshold = None
    epoch: int = 0
    select: str = ""
    validation: dict[str, float] = field(default_factory=dict)
    coding: Coding | None = None
    weights_hash: str = field(default="", compare=False)

    def create_model(self) -> MILModel:
        """Return the network that the card describes, untrained."""
        model = create_model(self.architecture, feature_dim=self.feature_dim, outputs=outputs_of(self.task))
        return model if self.coding is None else model.take_covariates(self.coding)

    def require_base_of(self, student: "ModelCard", path: Path) -> None:
        """Raise StoreMismatchError unless the model at `path`, of this card, can be the base of `student`."""
        names = ("feature_dim", "encoder", "fold", "unit", "protocol", "trained_on", "features", "coding")
        differences = [f"{self.task}, expected {student.task}"] if self.task != student.task else []
        differences += [
            f"{name} {getattr(self, name)!r}, expected {getattr(student, name)!r}"
            for name in names
            if getattr(self, name) != getattr(student, name)
        ]
        if differences:
            reason = f"the base model was trained on other data: {'; '.join(differences)}; train it again"
            raise StoreMismatchError(path, reason)


def write_checkpoint(folder: Path, model: MILModel, card: ModelCard) -> None:
    """Write the weights, then the card; each is written to a temporary file and renamed."""
    weights = save({name: value.cpu().contiguous() for name, value in model.state_dict().items()})
    write_bytes(folder / WEIGHTS, weights)
    settings = {name: getattr(card, name).model_dump(mode="json") for name in ("settings", "architecture")}
    version = {"version": CARD_VERSION, "weights_hash": hashlib.sha256(weights).hexdigest()}
    write_receipt(folder / CONFIG, {**_without_task(card), **card.task.stamp(), **settings, **version})


def read_checkpoint(folder: Path, device: torch.device) -> tuple[MILModel, ModelCard]:
    """Return a trained model in eval mode, its parameters frozen, and its card.

    Raises:
        StoreError: no checkpoint, or one that is damaged or of another version.
        StoreMismatchError: the weights do not match the model that the card describes.
    """
    card = read_card(folder)
    model = card.create_model()
    try:
        weights = (folder / WEIGHTS).read_bytes()
        model.load_state_dict(load(weights))
    except (OSError, SafetensorError) as error:
        raise StoreError(folder / WEIGHTS, f"cannot read the weights ({error}); train the model again") from error
    except RuntimeError as error:
        reason = f"the weights do not match the model described in {folder / CONFIG} ({_shortened(error)}); train it again"
        raise StoreMismatchError(folder / WEIGHTS, reason) from error
    if card.weights_hash not in ("", hashlib.sha256(weights).hexdigest()):
        raise StoreError(folder / WEIGHTS, f"not the weights that {folder / CONFIG} was written for; train the model again")
    model.requires_grad_(False)
    return model.eval().to(device), card


def read_card(folder: Path) -> ModelCard:
    """Read the model card of a checkpoint.

    Raises:
        StoreError: no card, or one that is damaged or of another version.
    """
    path = folder / CONFIG
    content = read_receipt(path)
    if content.pop("version", 1) != CARD_VERSION:
        remedy = "train it again with `snakemake models`, or with `wsi-mil train` into this folder"
        raise StoreError(path, f"a model of another version of wsi_mil; {remedy}")
    try:
        content["settings"] = parse_model(content["settings"], where=f"{path}: ")
        content["architecture"] = parse_base(content["architecture"], where=f"{path}: ")
        content["task"] = task_of_stamp(content)
        if content.get("coding") is not None:
            content["coding"] = Coding.of_settings(content["coding"])
        threshold = content["threshold"]
        return ModelCard(**content | {"threshold": tuple(threshold) if isinstance(threshold, list) else threshold})
    except (ConfigError, KeyError, TypeError) as error:
        raise StoreError(path, f"not a valid model card ({error}); train the model again") from error


def _without_task(card: ModelCard) -> dict[str, object]:
    return {name: value for name, value in asdict(card).items() if name != "task"}


def file_hash(folder: Path) -> str:
    """Return the sha256 of a checkpoint's weights file."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _shortened(error: RuntimeError) -> str:
    """Return the first two of torch's lines about tensors that do not match."""
    lines = [line.strip() for line in str(error).splitlines()[1:3]]
    return " ".join(lines)


def require_same_encoder(card: ModelCard, attributes: dict[str, object], path: Path) -> None:
    """Raise StoreMismatchError unless a feature store was made with the encoder and scale that the model was trained on.

    Args:
        card: of the model.
        attributes: of the feature store.
        path: of the feature store.
    """
    differences = [
        f"{key} {attributes.get(key)!r}, trained on {expected!r}"
        for key, expected in card.encoder.items()
        if attributes.get(key) != expected
    ]
    if differences:
        remedy = "extract features the same way, or train again"
        raise StoreMismatchError(path, f"features do not match the model: {'; '.join(differences)}; {remedy}")
