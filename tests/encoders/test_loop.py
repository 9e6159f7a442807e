import numpy as np
import pytest
import torch

from wsi_mil.config import Encoder
from wsi_mil.encoders.encoder import TileEncoder, create_encoder
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
    encoder = TileEncoder(Network(module, (0, 0, 0), (1, 1, 1), 8, 8, "bilinear"), device=CPU, dtype=torch.float32)
    tiles = np.random.default_rng(0).integers(0, 255, (10, 8, 8, 3), dtype=np.uint8)
    module.sizes.clear()
    features = encoder.encode(tiles)
    assert module.sizes == [10, 5, 2, 2, 2, 2, 2] and "out of memory with 5 tiles at once; continuing with 2" in caplog.text
    assert np.array_equal(features, (tiles.astype(np.float32).mean((1, 2)) / 255).astype(np.float16))
    module.sizes.clear()
    encoder.encode(tiles)
    assert module.sizes == [2] * 5


def test_a_device_without_room_for_one_tile_is_a_fault_of_the_machine() -> None:
    with pytest.raises(DeviceMemoryError, match=r"^cpu: not even one tile at a time fits .* \(CUDA out of memory"):
        TileEncoder(Network(FitsTiles(room=0), (0, 0, 0), (1, 1, 1), 8, 8, "bilinear"), device=CPU, dtype=torch.float32)


def test_the_cpu_runs_out_of_memory_in_words_that_are_understood() -> None:
    class Greedy(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.empty((len(images), 2**55)) if len(images) > 1 else images.mean(dim=(2, 3))

    encoder = TileEncoder(Network(Greedy(), (0, 0, 0), (1, 1, 1), 8, 8, "bilinear"), device=CPU, dtype=torch.float32)
    assert encoder.encode(np.full((3, 8, 8, 3), 255, np.uint8)).tolist() == [[1, 1, 1]] * 3


def test_tiles_are_resized_and_cropped_as_in_the_encoders_training() -> None:
    """Of 8 px, resized to 16 and cut to 8: what lies within two pixels of the edge plays no part."""
    encoder, whole = (
        TileEncoder(Network(FitsTiles(9), (0, 0, 0), (1, 1, 1), side, 16, "bilinear"), device=CPU, dtype=torch.float32)
        for side in (8, 16)
    )
    tile = np.zeros((1, 8, 8, 3), np.uint8)
    tile[0, 2:6, 2:6] = 255
    framed = tile.copy()
    framed[0, 0], framed[0, :, 7] = 100, 100
    whole = TileEncoder(Network(FitsTiles(9), (0, 0, 0), (1, 1, 1), 16, 16, "bilinear"), device=CPU, dtype=torch.float32)
    assert np.array_equal(encoder.encode(tile), encoder.encode(framed)) and not np.array_equal(
        whole.encode(tile), whole.encode(framed)
    )
    assert (encoder.encode(tile) > 3 * whole.encode(tile)).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_features_of_the_cpu_also_of_batches_in_flight() -> None:
    settings = Encoder(encoder="test_vit", weights="random")
    cpu, gpu = (create_encoder(settings, device=torch.device(name), dtype=torch.float32) for name in ("cpu", "cuda"))
    tiles = np.random.default_rng(0).integers(0, 255, (5, 6, 96, 96, 3), dtype=np.uint8)
    begun = []
    for batch in tiles:
        there = gpu.empty(batch.shape)
        there[:] = batch
        begun.append(gpu.begin(there))
    for batch, encoding in zip(tiles, begun, strict=True):
        assert np.allclose(encoding.result(), cpu.encode(batch), rtol=0.02, atol=0.02) and encoding.seconds() > 0


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "MPS backend out of memory (MPS allocated: 17.98 GB, other allocations: 1.20 MB, max allowed: 18.13 GB)",
    ],
)
def test_memory_that_others_than_torchs_allocator_lack_halves_the_batch_too(said: str) -> None:
    class Full(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 1:
                raise RuntimeError(said)
            return images.mean(dim=(2, 3))

    encoder = TileEncoder(Network(Full(), (0, 0, 0), (1, 1, 1), 8, 8, "bilinear"), device=CPU, dtype=torch.float32)
    assert encoder.encode(np.full((3, 8, 8, 3), 255, np.uint8)).tolist() == [[1, 1, 1]] * 3
