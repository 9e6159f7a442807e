"""Image tiles → features."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.networks import Network, create_network


class TileEncoder:
    """A frozen network in front of which tiles are resized and normalised, on its device.

    Attributes:
        dim: length of a feature vector.
        dtype: of weights and arithmetic.
    """

    def __init__(self, network: Network, *, device: torch.device, dtype: torch.dtype):
        self.dtype = dtype
        self._device = device
        self._module = network.module.eval().to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(network.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(network.std, device=device).view(1, 3, 1, 1) * 255
        self._input_px = network.input_px
        self._interpolation = network.interpolation
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
        features = self._module(images.to(dtype=self.dtype, memory_format=torch.channels_last))
        return torch.as_tensor(features).float()


def create_encoder(settings: EncoderSettings, *, device: torch.device, dtype: torch.dtype) -> TileEncoder:
    """Build an encoder with its weights; raises as `create_network` does."""
    return TileEncoder(create_network(settings), device=device, dtype=dtype)
