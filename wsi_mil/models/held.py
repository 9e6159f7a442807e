"""Attention weights and normalisers held constant: what remains of a model is linear in the bag, piece by piece."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor, nn

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


def constant(values: Tensor) -> Tensor:
    """Return values that no gradient goes through inside of `held_constant`; outside of it, the values as they are."""
    return values.detach() if _IS_HELD.get() else values


class LayerNorm(nn.LayerNorm):
    """Layer norm whose standard deviation is held constant inside of `held_constant`."""

    def forward(self, values: Tensor) -> Tensor:
        if not _IS_HELD.get():
            return super().forward(values)
        centred = values - values.mean(dim=-1, keepdim=True)
        deviation = (centred.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()
        return centred / constant(deviation) * self.weight + self.bias
