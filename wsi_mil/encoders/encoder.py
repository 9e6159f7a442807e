"""Image tiles → features, at the speed of the device."""

import logging
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.fusion import fused
from wsi_mil.encoders.networks import Network, create_network
from wsi_mil.errors import DeviceMemoryError

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "DefaultCPUAllocator: ",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)
"""In messages of what takes memory beside torch's allocator: CUDA itself and its libraries, and other devices."""


class Encoding:
    """Features of a batch that the device is computing, or has computed."""

    def __init__(self, features: Tensor, events: tuple[torch.cuda.Event, torch.cuda.Event] | None, seconds: float = 0.0):
        """`events`: before and after the work, where a CUDA device does it meanwhile; elsewhere it took `seconds`."""
        self._features, self._events, self._seconds = features, events, seconds

    def result(self) -> NDArray[np.float16]:
        """Features `(batch_size, dim)`; waits until they are there."""
        if self._events is not None:
            self._events[1].synchronize()
            self._seconds = self._events[0].elapsed_time(self._events[1]) / 1000
        return self._features.numpy()

    def seconds(self) -> float:
        """How long the device worked on them; known after `result`."""
        return self._seconds


class TileEncoder:
    """A frozen network in front of which tiles are resized and normalised, on its device.

    Where the device runs out of memory, it takes half as many tiles at once from then on.

    Attributes:
        dim: length of a feature vector.
        dtype: of weights and arithmetic.
        device: where it computes.
    """

    def __init__(self, network: Network, *, device: torch.device, dtype: torch.dtype):
        self.dtype = dtype
        self.device = device
        module = fused(network.module.eval(), network.input_px)
        self._module = module.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(network.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(network.std, device=device).view(1, 3, 1, 1) * 255
        self._network = network
        self._at_once: int | None = None
        blank = np.full((1, network.resize_px, network.resize_px, 3), 255, np.uint8)
        self.dim = self.encode(blank).shape[1]  # not num_features: many architectures put a wider head behind it

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array to put tiles in: page-locked where the device is a CUDA one, so that it copies while others work."""
        if self.device.type != "cuda":
            return np.empty(shape, np.uint8)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Features of tiles, at once; as `begin`."""
        return self.begin(tiles).result()

    @torch.inference_mode()
    def begin(self, tiles: NDArray[np.uint8]) -> Encoding:
        """Set a CUDA device to work on tiles, without waiting for it; other devices have done it on return.

        Args:
            tiles: uint8 `(batch_size, height, width, 3)`; must stay as they are until the result is there.

        Returns:
            Of which `result()` is float16 `(batch_size, dim)`; infinite beyond float16's range.

        Raises:
            DeviceMemoryError: not even one tile fits into the device's memory.
        """
        if self.device.type != "cuda":
            start = time.perf_counter()
            features = self._encode(torch.from_numpy(tiles)).to(torch.float16).cpu()
            return Encoding(features, None, time.perf_counter() - start)
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        stream = torch.cuda.current_stream(self.device)
        begun.record(stream)
        features = self._encode(torch.from_numpy(tiles)).to(torch.float16)
        there = torch.empty(features.shape, dtype=torch.float16, pin_memory=True)
        there.copy_(features, non_blocking=True)
        ended.record(stream)
        return Encoding(there, (begun, ended))

    def _encode(self, tiles: Tensor) -> Tensor:
        while True:
            try:
                return torch.cat([self._forward(part) for part in torch.split(tiles, self._at_once or len(tiles))])
            except RuntimeError as error:  # torch's out-of-memory errors are such
                if not _is_out_of_memory(error):
                    raise
                size = min(len(tiles), self._at_once or len(tiles))
                if size == 1:
                    raise DeviceMemoryError(str(self.device), str(error)) from error
            self._at_once = size // 2
            log.warning("%s: out of memory with %d tiles at once; going on with %d", self.device, size, self._at_once)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _forward(self, tiles: Tensor) -> Tensor:
        images = tiles.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        side, cut = self._network.resize_px, (self._network.resize_px - self._network.input_px) // 2
        if images.shape[-2:] != (side, side):
            images = functional.interpolate(
                images, size=(side, side), mode=self._network.interpolation, antialias=True, align_corners=False
            )
        images = images[..., cut : cut + self._network.input_px, cut : cut + self._network.input_px]
        images = images.sub_(self._mean).div_(self._std)
        features = self._module(images.to(dtype=self.dtype, memory_format=torch.channels_last))
        return torch.as_tensor(features).float()


def create_encoder(settings: EncoderSettings, *, device: torch.device, dtype: torch.dtype) -> TileEncoder:
    """Build an encoder with its weights; raises as `create_network` does."""
    return TileEncoder(create_network(settings), device=device, dtype=dtype)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Only torch's allocator of CUDA memory has an error class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
