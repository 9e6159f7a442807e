"""Branches for CUDA, on machines without it, with the stand-in of this folder."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.gpu.stand_in import CUDA, is_there, stand_in
from tests.models.test_models import MODELS
from wsi_mil.config import MHIM, SparseInversion, Training, parse_base, parse_model, supports
from wsi_mil.devices import create_device, describe, fast_dtype, find_device, memory_bytes
from wsi_mil.encoders.encoder import TileEncoder
from wsi_mil.encoders.networks import Network
from wsi_mil.errors import WsiMilError
from wsi_mil.explain.registry import METHODS
from wsi_mil.explain.sparse_inversion import refine
from wsi_mil.models import ClassLoss, MILModel, create_mhim, create_model
from wsi_mil.train.optimizers import create_optimizer
from wsi_mil.train.resume import Snapshot, TrainingState

MIXED = "Expected all tensors to be on the same device"
ENTRIES = {
    **MODELS,
    "nystrom": {**MODELS["transmil"], "attention": "nystrom", "position_start": "random"},
    "dtfd maxmins": {"model": "dtfd", "distil": "maxmins", "embed_dim": 8, "attention_dim": 4},
    "published transmil": {"model": "transmil", "recipe": "published", "embed_dim": 16, "heads": 2, "landmarks": 4},
}
C16 = {"random_ratio": 0.2, "low_ratio": 0.3, "high_ratio": 0.1}
TAUGHT = {"abmil": {}, "dsmil": {}, "transmil": C16, "nystrom": C16, "gated abmil": {**C16, "high_share": 0.05}}


def model_of(name: str) -> MILModel:
    torch.manual_seed(0)
    if name.startswith("mhim over "):
        base = name.removeprefix("mhim over ")
        settings = parse_model({"model": "mhim", "base": "b", **TAUGHT[base]})
        assert isinstance(settings, MHIM)
        return create_mhim(settings, base=model_of(base), student=model_of(base))
    return create_model(parse_base(ENTRIES[name]), feature_dim=6, n_classes=2)


def trained(name: str, device: torch.device) -> MILModel:
    """Two updates of a model on a device."""
    model = model_of(name).to(device).train()
    settings = model.deployed.settings.train
    optimizer = create_optimizer(model, settings if isinstance(settings, Training) else Training())
    loss = ClassLoss(torch.ones(2, device=device))
    features = torch.rand(1, 9, 6, generator=torch.Generator().manual_seed(1)).to(device)
    for label in (0, 1):
        model.training_loss(features, torch.tensor([label], device=device), loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        model.after_update(0.5)
    return model


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch):
    with stand_in(monkeypatch):
        yield CUDA


def test_the_stand_in_refuses_what_cuda_refuses(cuda: torch.device) -> None:
    there, here = torch.ones(3, device=cuda), torch.ones(3)
    assert there.device == cuda and here.device.type == "cpu" and (there * 2 + 1).is_cuda and there.cpu().device.type == "cpu"
    assert is_there(there[torch.tensor([0])]) and torch.arange(3, device=there.device).device == cuda
    with pytest.raises(RuntimeError, match=MIXED):
        there + here
    with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\)"):
        there.numpy()


@pytest.mark.parametrize("name", [*ENTRIES, *(f"mhim over {base}" for base in TAUGHT)])
def test_training_mixes_no_tensors_of_cpu_and_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained(name, torch.device("cpu")).state_dict()
    with stand_in(monkeypatch):
        model = trained(name, CUDA)
        assert all(p.device == CUDA for p in model.parameters())
        weights = {key: value.cpu() for key, value in model.state_dict().items()}
    assert all(torch.allclose(weights[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ENTRIES)
def test_explaining_mixes_no_tensors_of_cpu_and_gpu(name: str, cuda: torch.device) -> None:
    model = model_of(name).to(cuda).eval().requires_grad_(False)
    bag = torch.rand(1, 9, 6, generator=torch.Generator().manual_seed(1)).to(cuda)
    for method, scorer in METHODS.items():
        if supports(model.provides, method):
            assert scorer.of_model(model, bag, 1).scores.shape == (9,), method
    output = int(model(bag).logits.argmax())
    result = refine(model, bag.half(), output, SparseInversion(steps=2, penalty=0.0001), threshold=None)
    assert result.bag.device == cuda


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)])
def test_bfloat16_is_chosen_from_ampere_on(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stand_in(monkeypatch, capability=capability):
        assert fast_dtype("auto", torch.device("cuda")) is dtype and fast_dtype("float32", CUDA) is torch.float32


def test_a_free_gpu_is_taken_and_described(cuda: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("wsi_mil.devices._claimed", {})
    assert find_device("auto") == torch.device("cuda") and create_device("cuda:1") == torch.device("cuda:1")
    assert [path.name.endswith("GPU-1.lock") for path in tmp_path.iterdir()] == [True]
    assert describe(torch.device("cuda")) == "cuda:0: Stand-in, 80 GiB, cuda:1: Stand-in, 80 GiB"
    assert memory_bytes(cuda) == 80 << 30
    with pytest.raises(WsiMilError, match="--device cuda:2: torch sees 2 CUDA devices here, counted from 0"):
        find_device("cuda:2")


class Mean(torch.nn.Module):
    """The mean colour, for at most three tiles at once."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.is_cuda
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return images.mean(dim=(2, 3))


def test_tiles_go_to_the_gpu_and_features_come_back_also_after_a_batch_that_was_too_large(cuda: torch.device) -> None:
    encoder = TileEncoder(Network(Mean(), (0, 0, 0), (1, 1, 1), 8, 8, "bilinear"), device=cuda, dtype=torch.float32)
    tiles = encoder.empty((7, 8, 8, 3))
    tiles[:] = np.random.default_rng(0).integers(0, 255, tiles.shape, dtype=np.uint8)
    begun = [encoder.begin(tiles) for _ in range(2)]
    for batch in begun:
        assert np.array_equal(batch.result(), (tiles.astype(np.float32).mean((1, 2)) / 255).astype(np.float16))
        assert batch.seconds() > 0


def test_the_random_numbers_of_the_gpu_are_saved_and_restored(cuda: torch.device, tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2).to(cuda)
    optimizer, state = torch.optim.Adam(model.parameters()), TrainingState(tmp_path, "f")
    before = torch.cuda.get_rng_state(CUDA)
    state.save(model, optimizer, Snapshot([], 0, {}, {}))
    torch.cuda.set_rng_state(torch.zeros(16, dtype=torch.uint8), CUDA)
    assert state.load(model, optimizer) is not None
    assert torch.equal(torch.cuda.get_rng_state(CUDA), before) and before.any()
