"""Small convolutional networks that are trained along with an aggregator, for bags of images instead of features.

For users of the library (`create_model(…, instance_encoder=…)`) and `benchmarks/papers`; no stage of the pipeline uses them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """(intensity - mean) / standard deviation, channel by channel, in front of an encoder.

    So bags hold plain intensities from 0 to 1, where 0 is black, and sparse inversion can refine them.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """`(n, n_channels, height, width)`."""
        return (images - self.get_buffer("mean")) / self.get_buffer("std")


def lenet() -> tuple[nn.Module, int]:
    """The encoder of MNIST-bags: images (n, 1, 28, 28) → (n, 500).

    Source:
        Ilse, Tomczak, Welling 2018, appendix (MNIST-bags).
    """
    convolutions = (*_convolution(1, 20, 5), *_convolution(20, 50, 5))
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 500), nn.ReLU()), 500


def histology_cnn(side_px: int, *, dropout: float = 0.5) -> tuple[nn.Module, int]:
    """The encoder of the colon and breast cancer sets: images (n, 3, side_px, side_px) → (n, 512).

    Source:
        Ilse, Tomczak, Welling 2018, appendix (histopathology); 27 px for colon, 32 px for breast.
    """
    side = ((side_px - 4 + 1) // 2 - 3 + 1) // 2
    if side < 1:
        raise ValueError(f"side_px: images of 10 px or more are needed, got {side_px}")
    convolutions = (*_convolution(3, 36, 4), *_convolution(36, 48, 3))
    dense = (nn.Linear(48 * side**2, 512), nn.ReLU(), nn.Dropout(dropout), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(dropout))
    return nn.Sequential(*convolutions, nn.Flatten(), *dense), 512


def _convolution(n_in: int, n_out: int, kernel_px: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Convolution, ReLU, max pooling; pooled first: the values and gradients are the same, and ReLU has a quarter to do."""
    return nn.Conv2d(n_in, n_out, kernel_px), nn.MaxPool2d(2), nn.ReLU()
