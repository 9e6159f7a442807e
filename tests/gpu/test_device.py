"""The device itself: its choice, its memory, and commands that use it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import tissue_image, write_aperio
from tests.gpu.device import DEVICE, needs_cuda, needs_device
from wsi_mil.config import TileSettings, Tiling, Tissue
from wsi_mil.devices import fast_dtype, find_device, memory_bytes
from wsi_mil.encoders.encoder import TileEncoder
from wsi_mil.encoders.networks import Network
from wsi_mil.errors import WsiMilError
from wsi_mil.receipts import read_receipt
from wsi_mil.records import SlideRow
from wsi_mil.store import read_bag
from wsi_mil.tile import tile_slide

pytestmark = [pytest.mark.gpu, needs_device]
MIB = 1 << 20


class Greedy(torch.nn.Module):
    """The mean colour, with 256 MiB of memory for each tile of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        room = torch.empty((len(images), 256 * MIB), dtype=torch.uint8, device=images.device)
        return images.mean(dim=(2, 3)) + 0 * room[:, :1]


@needs_cuda
def test_a_batch_that_does_not_fit_into_the_gpu_is_halved_until_it_does() -> None:
    module = Greedy()
    encoder = TileEncoder(Network(module, (0, 0, 0), (1, 1, 1), 8, 8, "bilinear"), device=DEVICE, dtype=torch.float32)
    tiles = np.random.default_rng(0).integers(0, 255, (10, 8, 8, 3), dtype=np.uint8)
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved(DEVICE) + 1024 * MIB
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(DEVICE).total_memory, DEVICE)
    module.sizes.clear()
    try:
        features = encoder.encode(tiles)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, DEVICE)
    assert module.sizes[0] == 10 and 1 <= module.sizes[-1] <= 4
    assert np.allclose(features, tiles.astype(np.float32).mean((1, 2)) / 255, atol=0.01)


@needs_cuda
def test_tiles_for_a_gpu_are_in_pinned_memory() -> None:
    encoder = TileEncoder(Network(Greedy(), (0, 0, 0), (1, 1, 1), 8, 8, "bilinear"), device=DEVICE, dtype=torch.float32)
    assert torch.from_numpy(encoder.empty((2, 8, 8, 3))).is_pinned()


@needs_cuda
def test_a_gpu_that_does_not_exist_is_named() -> None:
    with pytest.raises(WsiMilError, match=r"--device cuda:99: torch sees \d+ CUDA devices"):
        find_device("cuda:99")


def test_the_devices_memory_and_dtype_are_known() -> None:
    dtype = fast_dtype("auto", DEVICE)
    assert memory_bytes(DEVICE) > 500 * MIB and (torch.ones(2, device=DEVICE, dtype=dtype) * 3).sum().item() == 6


def test_the_command_extracts_on_the_device_what_it_extracts_on_the_cpu(tmp_path: Path) -> None:
    """In a process of its own with a temporary folder of its own, so that it does not wait for a GPU that this one claimed."""
    slide = write_aperio(tmp_path / "s.svs", tissue_image(1280, 896))
    tiling, tissue = Tiling(tile_px=96), Tissue(mpp=4.0, min_area_um2=1000)
    tile_slide(SlideRow("s", slide), TileSettings(tiling=tiling, tissue=tissue), tmp_path / "tiles" / "s.json")
    bags = []
    for device in (str(DEVICE), "cpu"):
        features = tmp_path / device.replace(":", "-")
        settings = {"encoder": "test_vit", "weights": "random", "dtype": "float32", "batch_size": 4}
        command = [sys.executable, "-m", "wsi_mil", "extract", f"--tiles={tmp_path / 'tiles'}", f"--device={device}"]
        command += [f"--row={json.dumps({'slide_id': 's', 'path': str(slide)})}", f"--settings={json.dumps(settings)}"]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        done = subprocess.run([*command, f"--features={features}"], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert read_receipt(features / "s.json")["status"] == "ok"
        bags.append(read_bag(features / "s.json").features.astype(float))
    assert len(bags[0]) > 10 and np.allclose(*bags, rtol=0.02, atol=0.02)
