"""Model ↔ safetensors and JSON: a folder that rebuilds the model by itself."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from wsi_mil.config import Model, parse_model
from wsi_mil.errors import StoreMismatchError
from wsi_mil.models import MILModel, create_model
from wsi_mil.store import read_receipt, write_receipt

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@dataclass(frozen=True)
class ModelCard:
    """All that rebuilds and reads a model.

    Attributes:
        settings: the entry of `models`.
        classes: class names in the order of the logits.
        feature_dim: length of the features it takes.
        encoder: what made the features: name, weights' hash, mpp, tile_px.
        threshold: on the positive class's probability (two classes), else None.
        fold: which fold's training part it saw.
        epoch: the epoch that was kept, from 1.
        validation: figures on the inner validation part.
    """

    settings: Model
    classes: tuple[str, ...]
    feature_dim: int
    encoder: dict[str, object]
    threshold: float | None
    fold: int
    epoch: int
    validation: dict[str, float]


def write_checkpoint(folder: Path, model: MILModel, card: ModelCard) -> None:
    """Write weights, then the card; both aside and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{WEIGHTS}.part"
    save_file({name: value.cpu().contiguous() for name, value in model.state_dict().items()}, part)
    part.replace(folder / WEIGHTS)
    write_receipt(folder / CONFIG, {**asdict(card), "settings": card.settings.model_dump(mode="json")})


def read_checkpoint(folder: Path, device: torch.device) -> tuple[MILModel, ModelCard]:
    """A trained model in eval mode, its parameters frozen, and its card."""
    content = read_receipt(folder / CONFIG)
    content["settings"] = parse_model(content["settings"], where=f"{folder / CONFIG}: ")
    card = ModelCard(**{**content, "classes": tuple(content["classes"])})
    model = create_model(card.settings, feature_dim=card.feature_dim, n_classes=len(card.classes))
    model.load_state_dict(load_file(folder / WEIGHTS))
    model.requires_grad_(False)
    return model.eval().to(device), card


def refuse_other_encoder(card: ModelCard, features: dict[str, object], path: Path) -> None:
    """Raise StoreMismatchError where features were made otherwise than those that the model was trained on."""
    differing = [
        f"{key} {features.get(key)!r}, trained on {want!r}" for key, want in card.encoder.items() if features.get(key) != want
    ]
    if differing:
        raise StoreMismatchError(path, f"features do not fit the model: {'; '.join(differing)}")
