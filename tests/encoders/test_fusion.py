from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from wsi_mil.encoders.fusion import fused
from wsi_mil.encoders.networks import create_classifier

PX = 32
IDENTITY = {"encoder": "of the test"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache, empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "wsi_mil" / "weights"


def trained(module: nn.Module) -> nn.Module:
    """With norms that have seen something."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low in (
                (part.running_var, 0.5),
                (part.weight.data, 0.5),
                (part.running_mean, -0.3),
                (part.bias.data, -0.3),
            ):
                values.copy_(torch.rand(values.shape, generator=generator) + low)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def outputs(module: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return module(torch.rand((3, 3, PX, PX), generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet", "mobilenetv3_small_050", "regnetx_002", "ghostnet_050"])
def test_folding_batch_norms_keeps_the_output(name: str) -> None:
    torch.manual_seed(0)
    module = trained(timm.create_model(name, num_classes=0))
    before = outputs(module)
    after = fused(module, PX, identity=IDENTITY)
    assert norms(after) < norms(module)
    assert torch.allclose(outputs(after), before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))
    assert torch.equal(outputs(module), before)


def test_the_default_encoder_has_none_left() -> None:
    module, _ = create_classifier()
    assert norms(module) > 30 and norms(fused(module, PX, identity=IDENTITY)) == 0


class NormFirst(nn.Module):
    """A norm that is registered after the convolution and works before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(images)).mean((2, 3))


def test_a_norm_that_does_not_follow_the_convolution_is_kept() -> None:
    module = trained(NormFirst())
    assert fused(module, PX, identity=IDENTITY) is module


class Preactivated(nn.Module):
    """A convolution with norms before it that are registered behind it: one of other channels, one of the batch itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(3)
        self.again, self.own = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.again(self.own(self.conv(self.norm(images)))).mean((2, 3))


def test_a_norm_that_cannot_be_that_of_the_convolution_before_it_stays() -> None:
    module = Preactivated().eval()
    assert torch.equal(outputs(fused(module, PX, identity=IDENTITY)), outputs(module))


def test_a_network_without_norms_is_not_copied() -> None:
    module = timm.create_model("test_vit", num_classes=0).eval()
    assert fused(module, 160, identity=IDENTITY) is module


class Counting(nn.Module):
    """A convolution with its norm, or with the norm before it; counts the images that it and its copies are shown."""

    def __init__(self, *, norm_first: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
        self.norm_first = norm_first
        self.seen = [0]

    def __deepcopy__(self, memo: dict) -> "Counting":
        twin = Counting(norm_first=self.norm_first).eval()
        twin.load_state_dict(self.state_dict())
        twin.seen = self.seen
        return twin

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen[0] += len(images)
        first, second = (self.norm, self.conv) if self.norm_first else (self.conv, self.norm)
        return second(first(images)).mean((2, 3))


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_network_is_compared_once_and_used_the_same_way_afterwards(cache: Path, norm_first: bool) -> None:
    module = trained(Counting(norm_first=norm_first))
    first = fused(module, PX, identity=IDENTITY)
    assert module.seen == [4] and norms(first) == (1 if norm_first else 0)
    again = fused(module, PX, identity=IDENTITY)
    assert module.seen == [4] and norms(again) == norms(first)
    (file,) = cache.iterdir()
    assert file.read_text() == ("plain" if norm_first else "folded")


def test_another_network_weights_or_image_size_are_compared_again(cache: Path) -> None:
    module = trained(Counting())
    for n, (identity, px) in enumerate(((IDENTITY, PX), ({**IDENTITY, "weights_hash": "a"}, PX), (IDENTITY, 40)), start=1):
        fused(module, px, identity=identity)
        assert module.seen == [4 * n] and len(list(cache.iterdir())) == n


@pytest.mark.parametrize("content", [b"", b"fold", b"\xff\xfe", b"folded\n"])
def test_a_damaged_result_is_found_out_again(cache: Path, content: bytes) -> None:
    module = trained(Counting())
    fused(module, PX, identity=IDENTITY)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert norms(fused(module, PX, identity=IDENTITY)) == 0 and module.seen == [8]
    assert file.read_text() == "folded"


def test_a_cache_that_cannot_be_written_costs_another_comparison_only(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "wsi_mil").write_text("a file where the folder would be")
    module = trained(Counting())
    for n in (1, 2):
        assert norms(fused(module, PX, identity=IDENTITY)) == 0 and module.seen == [4 * n]


def test_a_newer_version_of_torch_is_compared_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = trained(Counting())
    fused(module, PX, identity=IDENTITY)
    monkeypatch.setattr("wsi_mil.encoders.fusion.version", lambda name: "99.0")
    fused(module, PX, identity=IDENTITY)
    assert module.seen == [8] and len(list(cache.iterdir())) == 2
