"""Encode image tiles to features on a device."""

import logging
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.fusion import fused
from wsi_mil.encoders.identity import network_identity
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
"""Out-of-memory messages that do not come from torch's CUDA allocator: CUDA, its libraries, other devices."""


class DeviceBatch:
    """Features of a batch that the device is computing or has computed."""

    def __init__(self, features: Tensor, events: tuple[torch.cuda.Event, torch.cuda.Event] | None, seconds: float = 0.0):
        """Store `events` before and after the asynchronous work of a CUDA device; on other devices it took `seconds`."""
        self._features = features
        self._events = events
        self._seconds = seconds

    def result(self) -> NDArray[np.float16]:
        """Wait for the features and return them, `(batch_size, dim)`."""
        if self._events is not None:
            self._events[1].synchronize()
            self._seconds = self._events[0].elapsed_time(self._events[1]) / 1000
        return self._features.numpy()

    def seconds(self) -> float:
        """Return the computing time on the device; valid after `result`."""
        return self._seconds


class TileEncoder:
    """Frozen network on a device, with resizing and normalisation of its tiles.

    If the device runs out of memory, the encoder halves its batch size from then on.

    Attributes:
        dim: length of a feature vector.
        dtype: number format of weights and arithmetic.
        device: device of the network.
    """

    def __init__(self, network: Network, *, device: torch.device, dtype: torch.dtype):
        self.dtype = dtype
        self.device = device
        self._module = network.module.eval().to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(network.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(network.std, device=device).view(1, 3, 1, 1) * 255
        self._network = network
        self._max_tiles: int | None = None
        blank = np.full((1, network.resize_px, network.resize_px, 3), 255, np.uint8)
        self.dim = self.encode(blank).shape[1]  # not num_features: the head of many architectures is wider

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Allocate an array for tiles: pinned for a CUDA device, so that copies run asynchronously."""
        if self.device.type != "cuda":
            return np.empty(shape, np.uint8)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Return the features of tiles; see `begin`."""
        return self.begin(tiles).result()

    @torch.inference_mode()
    def begin(self, tiles: NDArray[np.uint8]) -> DeviceBatch:
        """Start encoding tiles. A CUDA device works asynchronously; other devices have finished on return.

        Args:
            tiles: uint8 `(batch_size, height, width, 3)`; must not change until the result is available.

        Returns:
            The batch, whose `result()` is float16 `(batch_size, dim)`; infinite beyond float16's range.

        Raises:
            DeviceMemoryError: not even one tile fits into the device's memory.
        """
        if self.device.type != "cuda":
            start = time.perf_counter()
            features = self._encode(torch.from_numpy(tiles)).to(torch.float16).cpu()
            return DeviceBatch(features, None, time.perf_counter() - start)
        start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        stream = torch.cuda.current_stream(self.device)
        start_event.record(stream)
        features = self._encode(torch.from_numpy(tiles)).to(torch.float16)
        on_host = torch.empty(features.shape, dtype=torch.float16, pin_memory=True)
        on_host.copy_(features, non_blocking=True)
        end_event.record(stream)
        return DeviceBatch(on_host, (start_event, end_event))

    def _encode(self, tiles: Tensor) -> Tensor:
        while True:
            try:
                return torch.cat([self._forward(part) for part in torch.split(tiles, self._max_tiles or len(tiles))])
            except RuntimeError as error:  # includes torch's out-of-memory errors
                if not _is_out_of_memory(error):
                    raise
                size = min(len(tiles), self._max_tiles or len(tiles))
                if size == 1:
                    raise DeviceMemoryError(str(self.device), str(error)) from error
            self._max_tiles = size // 2
            log.warning("%s: out of memory with %d tiles at once; continuing with %d", self.device, size, self._max_tiles)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _forward(self, tiles: Tensor) -> Tensor:
        images = tiles.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        side = self._network.resize_px
        cut = (side - self._network.input_px) // 2
        if images.shape[-2:] != (side, side):
            images = functional.interpolate(
                images, size=(side, side), mode=self._network.interpolation, antialias=True, align_corners=False
            )
        images = images[..., cut : cut + self._network.input_px, cut : cut + self._network.input_px]
        images = images.sub_(self._mean).div_(self._std)
        features = self._module(images.to(dtype=self.dtype, memory_format=torch.channels_last))
        return torch.as_tensor(features).float()


def create_encoder(settings: EncoderSettings, *, device: torch.device, dtype: torch.dtype) -> TileEncoder:
    """Create an encoder with its weights. Raises as `create_network` does."""
    network = create_network(settings)
    module = fused(network.module.eval(), network.input_px, identity=network_identity(settings))
    return TileEncoder(replace(network, module=module), device=device, dtype=dtype)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means too little memory; only torch's CUDA allocator has an error class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
