"""Create networks by name, with their weights and the preprocessing of their images."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.layers.mlp import SwiGLUPacked
from torch import nn

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.catalogue import DEFAULT_ENCODER, RECORDS, record_of
from wsi_mil.encoders.layers import (
    AttentionPooledNetwork,
    CoCaPooledNetwork,
    ConvStem,
    PooledTokens,
    ProjectedNetwork,
)
from wsi_mil.encoders.names import default_weights
from wsi_mil.encoders.presence import weights_file
from wsi_mil.encoders.record import Argument, EncoderRecord
from wsi_mil.encoders.tensors import load_weights
from wsi_mil.errors import ConfigError, WsiMilError

LAYERS: Mapping[Argument, Any] = {"SwiGLUPacked": SwiGLUPacked, "SiLU": nn.SiLU, "ConvStem": ConvStem}
"""Layers that text among a record's arguments stands for."""

APPENDED: Mapping[str, Callable[[nn.Module, int, int], nn.Module]] = {
    "attention_pooler": AttentionPooledNetwork,
    "coca_pooler": CoCaPooledNetwork,
    "projection": ProjectedNetwork,
}
"""What is appended to a vision transformer, by change of the architecture: (network, its width, length of the features)."""

EXTRA_TENSORS = {
    "without_layer4": ("layer4.",),
    "coca_pooler": ("text.", "text_decoder.", "logit_scale", "proj_contrast", "attn_pool_caption.", "ln_caption."),
    "projection": ("text.", "logit_scale"),
}
"""Prefixes of tensors that a weights file may have in addition to a classifier's, by change of the architecture."""

RANDOM_WEIGHTS_SEED = 0


@dataclass(frozen=True)
class Network:
    """Frozen network with the preprocessing of its images.

    Attributes:
        module: maps float images `(n, 3, input_px, input_px)`, resized and normalised, to features `(n, dim)`.
        mean: mean per channel, for values from 0 to 1.
        std: standard deviation per channel, for values from 0 to 1.
        input_px: side of its images.
        resize_px: side that tiles are resized to; if larger than `input_px`, the centre is cropped.
        interpolation: "bicubic" or "bilinear".
    """

    module: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_px: int
    resize_px: int
    interpolation: str


def create_network(settings: EncoderSettings) -> Network:
    """Create an encoder's network with its weights.

    Raises:
        ConfigError: the model does not exist, or the weights do not fit it.
        WsiMilError: the weights cannot be fetched.
    """
    record = record_of(settings.encoder)
    if record is None:
        return _timm_network(settings)
    module = record_module(record, settings)
    return Network(module, record.mean, record.std, record.input_px, record.resize_px, record.interpolation)


def create_classifier() -> tuple[nn.Module, dict[str, Any]]:
    """Create the default encoder's network with its 1,000 ImageNet classes, and timm's data configuration for it.

    For checks that the packaged weights are those of ImageNet, and for benchmarks; the pipeline uses `create_network`.
    """
    record = RECORDS[DEFAULT_ENCODER]
    network = timm.create_model(record.architecture, pretrained=False)
    load_weights(network, default_weights(), names=record.tensor_names, encoder=record.name)
    return network.eval(), resolve_model_data_config(network)


def record_module(record: EncoderRecord, settings: EncoderSettings) -> nn.Module:
    """Create a record's network, images to features, with the weights of the settings. Raises as `create_network` does."""
    file = weights_file(settings)
    torch.manual_seed(RANDOM_WEIGHTS_SEED)
    assign = file is not None and record.pooling != "own"  # saves the random initialisation of a billion weights
    with torch.device("meta") if assign else nullcontext():
        network = build(record)
    if file is not None:
        extra = EXTRA_TENSORS.get(record.change, ())
        load_weights(network, file, names=record.tensor_names, extra=extra, encoder=record.name, assign=assign)
    return with_pooling(network, record)


def build(record: EncoderRecord) -> nn.Module:
    """Create a record's network with random weights, on the device of torch's context."""
    arguments = {key: LAYERS.get(value, value) for key, value in record.arguments.items()}
    network: nn.Module = timm.create_model(record.architecture, pretrained=False, num_classes=0, **arguments)
    if record.change == "without_layer4":
        network.layer4 = nn.Identity()
    appended = APPENDED.get(record.change)
    return network if appended is None else appended(network, int(network.num_features), record.dim)  # type: ignore[arg-type]


def with_pooling(network: nn.Module, record: EncoderRecord) -> nn.Module:
    """Return a record's network with its pooling: images to features."""
    return network if record.pooling == "own" else PooledTokens(network, record.pooling)


def _timm_network(settings: EncoderSettings) -> Network:
    module = _timm_module(settings)
    data = resolve_model_data_config(module)
    side = int(data["input_size"][1])
    interpolation = "bicubic" if data["interpolation"] == "bicubic" else "bilinear"
    return Network(module, tuple(data["mean"]), tuple(data["std"]), side, side, interpolation)


def _timm_module(settings: EncoderSettings) -> nn.Module:
    name = settings.encoder
    torch.manual_seed(RANDOM_WEIGHTS_SEED)
    try:
        network: nn.Module = timm.create_model(name, pretrained=settings.weights == "pretrained", num_classes=0)
    except RuntimeError as error:
        raise ConfigError([f"encoder {name!r}: timm cannot build it ({error})"]) from error
    except OSError as error:
        raise WsiMilError(f"encoder {name!r}: its weights cannot be fetched ({error}); give a file as `weights`") from error
    if getattr(network, "global_pool", None) == "":
        reason = "its configuration leaves its tokens unpooled, but one vector per tile is needed"
        raise ConfigError([f"encoder {name!r}: {reason}; use one that `wsi-mil encoders` lists, or import its features"])
    if settings.weights not in ("pretrained", "random"):
        load_weights(network, Path(settings.weights), names="timm", extra=_classifier(network), encoder=name)
    return network


def _classifier(network: nn.Module) -> tuple[str, ...]:
    """Prefixes of the classifier's tensors by timm's configuration."""
    names = getattr(network, "default_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))
