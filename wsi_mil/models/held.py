"""Attention weights and normalisers held constant: what remains of a model is linear in the bag, piece by piece."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

N_DIMS_OF_ROWS = 3

_IS_HELD: ContextVar[bool] = ContextVar("_IS_HELD", default=False)


@contextmanager
def held_constant() -> Iterator[None]:
    """Let no gradient through what is marked as `constant`: attention weights, queries, keys, and deviations of norms.

    Gradient × input is then layer-wise relevance propagation for attention models: what is held constant gets no share, and
    the shares of instances, class token and biases sum to the output.

    Source:
        Ali et al.: XAI for Transformers, ICML 2022, https://arxiv.org/abs/2202.07304, section 3; for MIL Hense et al.: xMIL,
        NeurIPS 2024, https://arxiv.org/abs/2406.04280.
    """
    token = _IS_HELD.set(True)
    try:
        yield
    finally:
        _IS_HELD.reset(token)


def is_held() -> bool:
    """Return whether this is inside of `held_constant`."""
    return _IS_HELD.get()


def constant(values: Tensor) -> Tensor:
    """Return values that no gradient goes through inside of `held_constant`; outside of it, the values as they are."""
    return values.detach() if is_held() else values


def depthwise(values: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel by itself, `(batch_size, channels, …)` → the same shape; inside of `held_constant` the kernel is too.

    Args:
        values: with one or two axes after the channels.
        kernel: `(channels, 1, …)`, of odd sides; the values are padded with zeros.
        bias: `(channels,)`.
    """
    if not is_held():
        return _convolved(values, kernel, bias)
    convolved = torch.as_tensor(_HeldDepthwise.apply(values, kernel))  # type: ignore[no-untyped-call]
    return convolved if bias is None else convolved + bias.reshape(-1, *[1] * (values.ndim - 2))


def _convolved(values: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    convolve = functional.conv1d if kernel.ndim == values.ndim == N_DIMS_OF_ROWS else functional.conv2d
    return convolve(values, kernel, bias, padding=kernel.shape[-1] // 2, groups=len(kernel))


class _HeldDepthwise(torch.autograd.Function):
    """The slope by a convolution with the kernel turned around: torch's own backward pass takes ten times as long."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(kernel)
        return _convolved(values, kernel)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (kernel,), (slope,) = ctx.saved_tensors, slopes
        return _convolved(slope, kernel.flip(*range(2, kernel.ndim))), None


class LayerNorm(nn.LayerNorm):
    """Layer norm whose standard deviation is held constant inside of `held_constant`."""

    def forward(self, values: Tensor) -> Tensor:
        if not is_held():
            return super().forward(values)
        return torch.as_tensor(_HeldNorm.apply(values, self.weight, self.bias, self.eps))  # type: ignore[no-untyped-call]


class _HeldNorm(torch.autograd.Function):
    """Layer norm over the last axis, γ (x - mean x) / σ + β, with the gradient for a constant σ."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        normed, _, inverse = torch.native_layer_norm(values, weight.shape, weight, bias, eps)
        ctx.save_for_backward(weight, inverse)
        return normed

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, Tensor, None]:
        weight, inverse = ctx.saved_tensors
        (slope,) = slopes
        weighted = slope * weight
        centred = weighted.sub_(weighted.mean(dim=-1, keepdim=True)).mul_(inverse)
        return centred, None, slope.flatten(0, -2).sum(dim=0), None
