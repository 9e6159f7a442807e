import numpy as np
import pytest
import torch

from wsi_mil.encoders.encoder import TileEncoder
from wsi_mil.encoders.networks import Network
from wsi_mil.errors import DeviceMemoryError

CPU = torch.device("cpu")


class FitsTiles(torch.nn.Module):
    """The mean colour, on a device with room for so many tiles at once."""

    def __init__(self, room: int):
        super().__init__()
        self.room, self.sizes = room, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return images.mean(dim=(2, 3))


def test_batches_shrink_where_the_device_has_no_room_for_them(caplog: pytest.LogCaptureFixture) -> None:
    module = FitsTiles(room=3)
    encoder = TileEncoder(Network(module, (0, 0, 0), (1, 1, 1), 8, "bilinear"), device=CPU, dtype=torch.float32)
    tiles = np.random.default_rng(0).integers(0, 255, (10, 8, 8, 3), dtype=np.uint8)
    module.sizes.clear()
    features = encoder.encode(tiles)
    assert module.sizes == [10, 5, 2, 2, 2, 2, 2] and "out of memory with 5 tiles at once; going on with 2" in caplog.text
    assert np.array_equal(features, (tiles.astype(np.float32).mean((1, 2)) / 255).astype(np.float16))
    module.sizes.clear()
    encoder.encode(tiles)
    assert module.sizes == [2] * 5


def test_a_device_without_room_for_one_tile_is_a_fault_of_the_machine() -> None:
    with pytest.raises(DeviceMemoryError, match=r"^cpu: not even one tile at a time fits .* \(CUDA out of memory"):
        TileEncoder(Network(FitsTiles(room=0), (0, 0, 0), (1, 1, 1), 8, "bilinear"), device=CPU, dtype=torch.float32)


def test_the_cpu_runs_out_of_memory_in_words_that_are_understood() -> None:
    class Greedy(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.empty((len(images), 2**55)) if len(images) > 1 else images.mean(dim=(2, 3))

    encoder = TileEncoder(Network(Greedy(), (0, 0, 0), (1, 1, 1), 8, "bilinear"), device=CPU, dtype=torch.float32)
    assert encoder.encode(np.full((3, 8, 8, 3), 255, np.uint8)).tolist() == [[1, 1, 1]] * 3
