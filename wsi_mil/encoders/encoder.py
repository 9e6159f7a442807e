"""Image tiles → features."""

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torch.nn import functional

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.names import DEFAULT_ENCODER, default_weights
from wsi_mil.errors import ConfigError, WsiMilError

PACKAGED_ARCHITECTURE = "tf_efficientnet_lite0"
"""timm's name of the architecture whose tensors have the packaged weights' order and shapes."""

RANDOM_WEIGHTS_SEED = 0


class TileEncoder:
    """A frozen network in front of which tiles are resized and normalised, on its device.

    Attributes:
        dim: length of a feature vector.
        dtype: of weights and arithmetic.
    """

    def __init__(self, network: nn.Module, *, data: dict[str, Any], device: torch.device, dtype: torch.dtype):
        self.dtype = dtype
        self._device = device
        self._network = network.eval().to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(data["mean"], device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(data["std"], device=device).view(1, 3, 1, 1) * 255
        self._input_px = int(data["input_size"][1])
        self._interpolation = "bicubic" if data["interpolation"] == "bicubic" else "bilinear"
        blank = np.full((1, self._input_px, self._input_px, 3), 255, np.uint8)
        self.dim = self.encode(blank).shape[1]  # not num_features: many architectures put a wider head behind it

    @torch.inference_mode()
    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Features of tiles.

        Args:
            tiles: uint8 `(batch_size, height, width, 3)`.

        Returns:
            float16 `(batch_size, dim)`.
        """
        return self._forward(tiles).to(torch.float16).cpu().numpy()

    def _forward(self, tiles: NDArray[np.uint8]) -> Tensor:
        images = torch.from_numpy(tiles).to(self._device).permute(0, 3, 1, 2).float()
        if images.shape[-1] != self._input_px:
            images = functional.interpolate(
                images, size=(self._input_px, self._input_px), mode=self._interpolation, antialias=True, align_corners=False
            )
        images = (images - self._mean) / self._std
        features = self._network(images.to(dtype=self.dtype, memory_format=torch.channels_last))
        return torch.as_tensor(features).float()


def create_encoder(settings: EncoderSettings, *, device: torch.device, dtype: torch.dtype) -> TileEncoder:
    """Build an encoder with its weights.

    Raises:
        ConfigError: timm has no such model, or the weights do not fit it.
        WsiMilError: the weights cannot be fetched.
    """
    network = _create_network(settings)
    data = resolve_model_data_config(network)
    return TileEncoder(network, data=data, device=device, dtype=dtype)


def create_classifier() -> tuple[nn.Module, dict[str, Any]]:
    """The default encoder's network with its 1,000 ImageNet classes, and timm's data configuration for it."""
    network = timm.create_model(PACKAGED_ARCHITECTURE, pretrained=False)
    _load_packaged(network)
    return network.eval(), resolve_model_data_config(network)


def _create_network(settings: EncoderSettings) -> nn.Module:
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
