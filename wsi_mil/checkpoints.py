"""Model ↔ safetensors and JSON: a folder that rebuilds the model by itself."""

import hashlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from wsi_mil.config import BagUnit, BaseModelSettings, Model, Protocol, parse_base, parse_model
from wsi_mil.errors import ConfigError, StoreError, StoreMismatchError
from wsi_mil.files import write_bytes
from wsi_mil.models import MILModel, create_model
from wsi_mil.receipts import read_receipt, write_receipt
from wsi_mil.tasks import Task, task_of_stamp

WEIGHTS, CONFIG = "model.safetensors", "config.json"
CARD_VERSION = 2
"""Of what the card says; a model of an earlier one would be rebuilt with defaults that it was not trained with."""


@dataclass(frozen=True)
class ModelCard:
    """All that rebuilds and reads a model.

    Attributes:
        settings: the entry of `models`.
        architecture: what is rebuilt: the same with all decided that depends on the training bags (`attention: auto` of
            TransMIL); for MHIM that of its base, whose student this is.
        task: what was learned; of classes, their order is the order of the logits.
        feature_dim: length of the features it takes.
        encoder: what made the features: name, weights' hash, mpp, tile_px.
        fold: which fold's training part it saw.
        unit: whether it was trained on bags of a slide or of a patient.
        protocol: "as_published" where epoch and threshold were chosen on the test part.
        trained_on: fingerprint of all slides' roles and labels in that fold.
        features: fingerprint of the features that it was trained and validated on.
        threshold: on the positive class's probability (two classes), else None.
        epoch: the epoch that was kept, from 1.
        select: what chose it: `loss` or `auroc` of the validation part; `last`: nothing, it is the last one.
        validation: figures on the validation part.
        weights_hash: sha256 of the file of the weights; "" where an earlier version wrote none.
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
    threshold: float | None = None
    epoch: int = 0
    select: str = ""
    validation: dict[str, float] = field(default_factory=dict)
    weights_hash: str = field(default="", compare=False)

    def finished(self, *, threshold: float | None, epoch: int, validation: dict[str, float]) -> "ModelCard":
        """The same after training."""
        return replace(self, threshold=threshold, epoch=epoch, validation=validation)

    def refuse_as_base_of(self, other: "ModelCard", path: Path) -> None:
        """Raise StoreMismatchError where a model of `other` must not be taught by this one, which lies at `path`."""
        names = ("feature_dim", "encoder", "fold", "unit", "protocol", "trained_on", "features")
        differing = [f"{self.task}, here {other.task}"] if self.task != other.task else []
        differing += [
            f"{name} {getattr(self, name)!r}, here {getattr(other, name)!r}"
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]
        if differing:
            raise StoreMismatchError(path, f"this base was trained on something else: {'; '.join(differing)}; train it again")


def write_checkpoint(folder: Path, model: MILModel, card: ModelCard) -> None:
    """Write weights, then the card; both aside and renamed."""
    weights = save({name: value.cpu().contiguous() for name, value in model.state_dict().items()})
    write_bytes(folder / WEIGHTS, weights)
    settings = {name: getattr(card, name).model_dump(mode="json") for name in ("settings", "architecture")}
    stamp = {"version": CARD_VERSION, "weights_hash": hashlib.sha256(weights).hexdigest()}
    write_receipt(folder / CONFIG, {**_without_task(card), **card.task.stamp(), **settings, **stamp})


def read_checkpoint(folder: Path, device: torch.device) -> tuple[MILModel, ModelCard]:
    """A trained model in eval mode, its parameters frozen, and its card.

    Raises:
        StoreError: no checkpoint, one of another version, or one that is damaged.
        StoreMismatchError: weights of another model or size.
    """
    card = read_card(folder)
    model = create_model(card.architecture, feature_dim=card.feature_dim, n_classes=card.task.n_outputs)
    try:
        weights = (folder / WEIGHTS).read_bytes()
        model.load_state_dict(load(weights))
    except (OSError, SafetensorError) as error:
        raise StoreError(folder / WEIGHTS, f"no readable weights ({error}); train it again") from error
    except RuntimeError as error:
        reason = f"weights of another model or size than {folder / CONFIG} says ({_shortened(error)}); train it again"
        raise StoreMismatchError(folder / WEIGHTS, reason) from error
    if card.weights_hash not in ("", hashlib.sha256(weights).hexdigest()):
        raise StoreError(folder / WEIGHTS, f"not the weights that {folder / CONFIG} was written for; train it again")
    model.requires_grad_(False)
    return model.eval().to(device), card


def read_card(folder: Path) -> ModelCard:
    """What a checkpoint says of itself.

    Raises:
        StoreError: no card, or one of another version.
    """
    path = folder / CONFIG
    content = read_receipt(path)
    if content.pop("version", 1) != CARD_VERSION:
        reason = "a model of another version of wsi_mil; train it anew: `snakemake models`, or `wsi-mil train` into this folder"
        raise StoreError(path, reason)
    try:
        content["settings"] = parse_model(content["settings"], where=f"{path}: ")
        content["architecture"] = parse_base(content["architecture"], where=f"{path}: ")
        content["task"] = task_of_stamp(content)
        return ModelCard(**{name: content[name] for name in content if name not in content["task"].stamp()})
    except (ConfigError, KeyError, TypeError) as error:
        raise StoreError(path, f"not the card of a model of this version ({error}); train it again") from error


def _without_task(card: ModelCard) -> dict[str, object]:
    return {name: value for name, value in asdict(card).items() if name != "task"}


def file_hash(folder: Path) -> str:
    """sha256 of a checkpoint's weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _shortened(error: RuntimeError) -> str:
    """The first two of torch's lines about tensors that do not fit."""
    lines = [line.strip() for line in str(error).splitlines()[1:3]]
    return " ".join(lines)


def refuse_other_encoder(card: ModelCard, features: dict[str, object], path: Path) -> None:
    """Raise StoreMismatchError where features were made otherwise than those that the model was trained on."""
    differing = [
        f"{key} {features.get(key)!r}, trained on {want!r}" for key, want in card.encoder.items() if features.get(key) != want
    ]
    if differing:
        raise StoreMismatchError(path, f"features do not fit the model: {'; '.join(differing)}")
