"""Contributions: the explained quantity of a bag as a sum over its instances, with attention held constant.

Source:
    Layer-wise relevance propagation of attention models (Ali et al., ICML 2022, https://arxiv.org/abs/2202.07304; for MIL Hense
    et al.: xMIL, NeurIPS 2024, https://arxiv.org/abs/2406.04280), written as gradient × input.

Symbols:
    h_k embedded instance, h̄ their mean, n their number; s the explained quantity (`Outputs.scalar`); g_k = ∂s/∂h_k with
    attention weights, queries, keys and the deviations of layer norms held constant.

Differs:
    Relevance stops at the embedded instance: sums over features of the encoder would add nothing, since each instance is embedded
    by itself. Of DSMIL the bag stream's s is explained, whose parts the instances are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsi_mil.explain.base import Values
from wsi_mil.explain.gradient import embedded_bag
from wsi_mil.explain.standardised_sum import standardised
from wsi_mil.models import MILModel
from wsi_mil.models.held import held_constant

MOST_RESIDUAL = 1e-3
"""Largest share of the bag's explained quantity, or of 1 if that is larger, by which contributions may fail to sum to it."""

EMBEDDED_AT_ONCE = 4096
"""Instances that are embedded at once, without gradients."""

CLASS_TOKEN = "class_token"


@dataclass(frozen=True)
class Decomposition:
    """The explained quantity of one bag, taken apart.

    Attributes:
        embedded: h `(n_instances, embed_dim)`.
        slope: g, of the same shape.
        total: s.
        class_token: share of the class token; 0 of models without one.
        biases: share of all biases.
        pooling: what the pool and the softmax over classes add that is in proportion to none of these: 0 where s is linear.
    """

    embedded: Tensor
    slope: Tensor
    total: float
    class_token: float
    biases: float
    pooling: float

    @cached_property
    def contributions(self) -> NDArray[np.float64]:
        """⟨h_k, g_k⟩ `(n_instances,)`."""
        return _float64(torch.linalg.vecdot(self.embedded, self.slope))

    @cached_property
    def common(self) -> NDArray[np.float64]:
        """⟨h̄, g_k⟩ `(n_instances,)`: what the mean instance has in place of each."""
        return _float64(self.slope @ self.embedded.mean(dim=0))

    @property
    def centred(self) -> NDArray[np.float64]:
        """Contributions of h_k - h̄ in place of h_k, times n."""
        return np.asarray(len(self.embedded) * (self.contributions - self.common))

    @property
    def direction(self) -> NDArray[np.float64]:
        """⟨h_k, Σ_j g_j⟩."""
        return _float64(self.embedded @ self.slope.sum(dim=0))

    @property
    def rest(self) -> float:
        """What belongs to no instance."""
        return self.class_token + self.biases + self.pooling

    @property
    def residual(self) -> float:
        """The total less all of its parts: zero but for rounding, if the model marks what must be held constant."""
        return self.total - float(self.contributions.sum()) - self.rest

    @property
    def refused(self) -> str:
        """Why the parts must not be shown, or ""."""
        most = MOST_RESIDUAL * max(1.0, abs(self.total))
        if abs(self.residual) <= most:
            return ""
        return f"the contributions sum to {self.total - self.residual:.4g}, but the model's output is {self.total:.4g}"

    def values(self, scores: NDArray[np.float64], zero: float = 0.0) -> Values:
        """Return scores with the parts of s in their log."""
        tiles = float(self.contributions.sum())
        parts = {"total": self.total, "tiles": tiles, CLASS_TOKEN: self.class_token, "biases": self.biases}
        log = {**parts, "pooling": self.pooling, "residual": self.residual}
        return Values(scores, zero, {name: float(f"{value:.6g}") for name, value in log.items()}, self.refused)


def contribution(model: MILModel, bag: Tensor, output: int) -> Values:
    """c_k = ⟨h_k, g_k⟩: the sum over the bag, the class token and the biases is s."""
    parts = decompose(model, bag, output)
    return parts.values(parts.contributions)


def centred_contribution(model: MILModel, bag: Tensor, output: int) -> Values:
    """Return n ⟨h_k - h̄, g_k⟩: what sets the instance apart from the others contributes, not what all have in common."""
    parts = decompose(model, bag, output)
    return parts.values(parts.centred)


def direction(model: MILModel, bag: Tensor, output: int) -> Values:
    """⟨h_k, Σ_j g_j⟩: how far the instance lies in the direction that raises s, wherever attention is.

    It is neutral where a bag of such instances alone would have s = 0, attention being what it is. Of ABMIL it is the evidence,
    but for the bias, which is in the neutral value.
    """
    parts = decompose(model, bag, output)
    return parts.values(parts.direction, zero=-parts.rest)


def standardised_contribution(model: MILModel, bag: Tensor, output: int) -> Values:
    """z(centred contribution) + z(direction), z in standard deviations of the bag. Ours: no paper has it."""
    parts = decompose(model, bag, output)
    n_shares = len(parts.embedded) * float(np.abs(parts.contributions).max())
    return parts.values(standardised(parts.centred, n_shares) + standardised(parts.direction))


def decompose(model: MILModel, bag: Tensor, output: int) -> Decomposition:
    """Take the explained quantity of a bag apart, by one backward pass.

    Args:
        model: in eval mode.
        bag: `(1, n_instances, …)`.
        output: index of the output.

    Raises:
        ValueError: the model is not in eval mode.
    """
    if model.training:
        raise ValueError("the model must be in eval mode: dropout would make every contribution another one")
    slices = [slice(start, start + EMBEDDED_AT_ONCE) for start in range(0, bag.shape[1], EMBEDDED_AT_ONCE)]
    embedded = embedded_bag(model, bag, slices).requires_grad_()
    tokens, biases = _constants(model)
    with _requiring_gradients([*tokens, *biases]), torch.enable_grad(), held_constant():
        parts = model.linear_logits(embedded)
        leaf = parts.detach().requires_grad_()
        total = model.outputs.scalar(model.combined(leaf), output)
        (weights,) = torch.autograd.grad(total, leaf)
        slopes = torch.autograd.grad(parts, [embedded, *tokens, *biases], weights, allow_unused=True)
    of_token, of_biases = _shares(tokens, slopes[1 : 1 + len(tokens)]), _shares(biases, slopes[1 + len(tokens) :])
    pooling = float(total.detach().double()) - float((parts.detach().double() * weights.double()).sum())
    slope = torch.zeros_like(embedded) if slopes[0] is None else slopes[0]
    return Decomposition(embedded.detach()[0], slope[0], float(total.detach()), of_token, of_biases, pooling)


def _constants(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Class tokens and biases: what has a share of the output without being an instance."""
    named = [(name.rpartition(".")[2], parameter) for name, parameter in model.named_parameters()]
    biases = [p for name, p in named if name == "bias"]
    return [p for name, p in named if name == CLASS_TOKEN], [*biases, *_computed_biases(model)]


def _computed_biases(model: nn.Module) -> list[Tensor]:
    """Biases that are no parameters: of a model that is not frozen, those with covariates fixed (`TakesCovariates.at`)."""
    return [bias for part in model.modules() if isinstance(bias := vars(part).get("bias"), Tensor)]


def _shares(parameters: list[Tensor], slopes: tuple[Tensor | None, ...]) -> float:
    return sum(float((p.detach().double() * s.double()).sum()) for p, s in zip(parameters, slopes, strict=True) if s is not None)


@contextmanager
def _requiring_gradients(parameters: list[Tensor]) -> Iterator[None]:
    """Parameters of a frozen model that gradients are asked of for a while."""
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, required in zip(parameters, before, strict=True):
            parameter.requires_grad_(required)


def _float64(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.double().cpu().numpy())
