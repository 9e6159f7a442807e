"""Names → networks with their weights, and how their images are made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import nn

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.names import DEFAULT_ENCODER, default_weights
from wsi_mil.errors import ConfigError, WsiMilError

PACKAGED_ARCHITECTURE = "tf_efficientnet_lite0"
"""timm's name of the architecture whose tensors have the packaged weights' order and shapes."""

RANDOM_WEIGHTS_SEED = 0


@dataclass(frozen=True)
class Network:
    """A frozen network with how its images are made.

    Attributes:
        module: float images `(n, 3, input_px, input_px)`, resized and normalised, → features `(n, dim)`.
        mean: of each channel, for values from 0 to 1.
        std: likewise.
        input_px: side of its images.
        interpolation: "bicubic" or "bilinear".
    """

    module: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_px: int
    interpolation: str


def create_network(settings: EncoderSettings) -> Network:
    """Build an encoder's network with its weights.

    Raises:
        ConfigError: timm has no such model, or the weights do not fit it.
        WsiMilError: the weights cannot be fetched.
    """
    module = _create_module(settings)
    data = resolve_model_data_config(module)
    interpolation = "bicubic" if data["interpolation"] == "bicubic" else "bilinear"
    return Network(module, tuple(data["mean"]), tuple(data["std"]), int(data["input_size"][1]), interpolation)


def create_classifier() -> tuple[nn.Module, dict[str, Any]]:
    """The default encoder's network with its 1,000 ImageNet classes, and timm's data configuration for it."""
    network = timm.create_model(PACKAGED_ARCHITECTURE, pretrained=False)
    _load_packaged(network)
    return network.eval(), resolve_model_data_config(network)


def _create_module(settings: EncoderSettings) -> nn.Module:
    if settings.encoder == DEFAULT_ENCODER and settings.weights == "pretrained":
        network, _ = create_classifier()
        network.reset_classifier(0)  # type: ignore[operator]
        return network
    name = PACKAGED_ARCHITECTURE if settings.encoder == DEFAULT_ENCODER else settings.encoder
    torch.manual_seed(RANDOM_WEIGHTS_SEED)
    try:
        network = timm.create_model(name, pretrained=settings.weights == "pretrained", num_classes=0)
    except RuntimeError as error:
        raise ConfigError([f"encoder {name!r}: timm cannot build it ({error})"]) from error
    except OSError as error:
        raise WsiMilError(f"encoder {name!r}: its weights cannot be fetched ({error}); give a file as `weights`") from error
    if settings.weights not in ("pretrained", "random"):
        _load_file(network, Path(settings.weights))
    return network


def _load_packaged(network: nn.Module) -> None:
    """Copy the packaged tensors one to one: they stand in the same order and shapes under other names."""
    source = torch.load(default_weights(), map_location="cpu", weights_only=True)
    values = [v for k, v in source.items() if not k.endswith("num_batches_tracked")]
    target = [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]
    state = dict(zip(target, values, strict=True))
    network.load_state_dict(state, strict=False)


def _load_file(network: nn.Module, file: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    result = network.load_state_dict(state, strict=False)
    if result.missing_keys:
        raise ConfigError([f"weights {file}: no tensor for {', '.join(result.missing_keys[:3])}: not of this encoder"])
