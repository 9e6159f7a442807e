import pytest
import timm
import torch
from torch import nn

from wsi_mil.encoders.fusion import fused
from wsi_mil.encoders.networks import create_classifier

PX = 32


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
    after = fused(module, PX)
    assert norms(after) < norms(module)
    assert torch.allclose(outputs(after), before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))
    assert torch.equal(outputs(module), before)


def test_the_default_encoder_has_none_left() -> None:
    module, _ = create_classifier()
    assert norms(module) > 30 and norms(fused(module, PX)) == 0


class NormFirst(nn.Module):
    """A norm that is registered after the convolution and works before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(images)).mean((2, 3))


def test_a_norm_that_does_not_follow_the_convolution_is_kept() -> None:
    module = trained(NormFirst())
    assert fused(module, PX) is module


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
    assert torch.equal(outputs(fused(module, PX)), outputs(module))


def test_a_network_without_norms_is_not_copied() -> None:
    module = timm.create_model("test_vit", num_classes=0).eval()
    assert fused(module, 160) is module
