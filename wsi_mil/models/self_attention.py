"""Multi-head self-attention with a convolution of the values along the tokens: the exact one, and the base of Nyström's."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_mil.models.held import constant, depthwise, is_held

RESIDUAL_KERNEL = 33

NUMBERS_OF_A_TOKEN, HELD_MATRICES = 30, 3
"""What an update of TransMIL holds at its peak, measured: float32 numbers for each unit of a token, and matrices for each head.

Matrices only where they are written out.
"""
HELD_NUMBERS = 2**21
"""Numbers of the attention matrix that are held at once where its weights are constant."""
WRITE_MATRICES_OUT = ("mps",)
"""Types of device on which torch has no backward pass that goes through the matrix in blocks."""


class SelfAttention(nn.Module, ABC):
    """Weights and outer layers of a multi-head self-attention; the first token is the class token."""

    def __init__(self, dim: int, *, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        self.dropout = dropout
        self.residual = nn.Conv1d(heads, heads, RESIDUAL_KERNEL, padding=RESIDUAL_KERNEL // 2, groups=heads, bias=False)

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Mix the tokens: `(1, n_tokens, dim)` → the same shape."""

    @abstractmethod
    def first_row(self, tokens: Tensor) -> Tensor:
        """First token of the result of `forward`, `(1, 1, dim)`, at a fraction of its cost: the last layer needs no more."""

    def of_pairs(self, pairs: Tensor) -> Tensor:
        """Result of `forward` for many bags of a class token and one instance, `(batch_size, 2, dim)` → the same shape."""
        q, k, v = (self._projected(pairs, part) for part in "qkv")
        left, middle, right = self.residual.weight[:, 0, RESIDUAL_KERNEL // 2 - 1 :][:, :3, None].unbind(1)  # (heads, 1)
        convolved = torch.stack([middle * v[:, :, 0] + right * v[:, :, 1], left * v[:, :, 0] + middle * v[:, :, 1]], dim=2)
        return self._out(convolved + self._pairs_attended(q, k, v))

    @abstractmethod
    def _pairs_attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attended values of pairs, `(batch_size, heads, 2, head_dim)`, from their projections of the same shape."""

    @abstractmethod
    def with_class_attention(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Result of `forward`, and the first token's attention to all others `(heads, n_tokens - 1)`."""

    def _projected(self, tokens: Tensor, part: str) -> Tensor:
        """Queries, keys or values `(1, heads, n_tokens, head_dim)`: a product each, so that gradients are not held together."""
        weight = self.to_qkv.weight.chunk(3)["qkv".index(part)]
        projected = functional.linear(tokens, weight)
        heads = projected.view(len(tokens), tokens.shape[1], self.heads, -1).transpose(1, 2)
        return heads if part == "v" else constant(heads)

    def _out(self, mixed: Tensor) -> Tensor:
        """Heads merged `(1, n_tokens, dim)`; native dropout holds a mask of bytes, not of floats."""
        dropped, _ = torch.native_dropout(self.to_out(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)
        return torch.as_tensor(dropped)

    def _convolved(self, v: Tensor) -> Tensor:
        """Each head's values, every channel by itself, convolved along the tokens."""
        rows = v[0].permute(2, 0, 1)  # (head_dim, heads, n_tokens)
        return depthwise(rows, self.residual.weight).permute(1, 2, 0).unsqueeze(0)

    def _first_convolved(self, v: Tensor) -> Tensor:
        """The first row of `_convolved`, `(1, heads, 1, head_dim)`, where all that lies left of it is zero."""
        seen = v[:, :, : RESIDUAL_KERNEL // 2 + 1]
        kernel = self.residual.weight[:, 0, RESIDUAL_KERNEL // 2 :][:, : seen.shape[2]]
        return torch.einsum("hk,bhkd->bhd", kernel, seen).unsqueeze(2)


class ExactAttention(SelfAttention):
    """out = softmax(q kᵀ / √head_dim) v + DWConv(v); time grows with the square of the tokens, memory does not.

    The matrix is never held in memory: scaled dot-product attention goes through it in blocks.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = (self._projected(tokens, part) for part in "qkv")
        return self._out(self._convolved(v).add_(attended(q, k, v)))

    def first_row(self, tokens: Tensor) -> Tensor:
        q, k, v = self._projected(tokens[:, :1], "q"), self._projected(tokens, "k"), self._projected(tokens, "v")
        return self._out(softmax_rows(q, k) @ v + self._first_convolved(v))

    def with_class_attention(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The row is a softmax over all tokens: what it lacks to 1 is the class token's attention to itself."""
        row = softmax_rows(self._projected(tokens[:, :1], "q"), self._projected(tokens, "k"))
        return self(tokens), row[0, :, 0, 1:]

    def _pairs_attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return softmax_rows(q, k) @ v


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q kᵀ / √head_dim) v, without holding the matrix; `(1, heads, …, head_dim)`."""
    if not is_held():
        return functional.scaled_dot_product_attention(q, k, v)
    return torch.as_tensor(_HeldAttention.apply(q, k, v))  # type: ignore[no-untyped-call]


class _HeldAttention(torch.autograd.Function):
    """Attention whose weights are constant: the slope goes to the values alone, which need not be kept for it."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k)
        return functional.scaled_dot_product_attention(q, k, v)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[None, None, Tensor]:
        q, k = ctx.saved_tensors
        (slope,) = slopes
        rows = max(1, HELD_NUMBERS // k.shape[2])
        to_values = torch.zeros_like(k)
        for queries, part in zip(torch.split(q, rows, dim=2), torch.split(slope, rows, dim=2), strict=True):
            for head in range(k.shape[1]):
                to_values[:, head] += softmax_rows(queries[:, head], k[:, head]).mT @ part[:, head]
        return None, None, to_values


def softmax_rows(queries: Tensor, keys: Tensor) -> Tensor:
    """Attention matrix `(…, n_queries, n_keys)`."""
    return torch.softmax(queries @ keys.mT / math.sqrt(queries.shape[-1]), dim=-1)


def exact_step_bytes(n_tokens: int, *, dim: int, heads: int, device_type: str) -> int:
    """About the most memory that an update of TransMIL with exact attention adds, bytes.

    Args:
        n_tokens: instances that the update sees.
        dim: units of a token.
        heads: attention heads.
        device_type: where it is done: cpu, cuda or mps.
    """
    matrices = HELD_MATRICES * heads * n_tokens**2 if device_type in WRITE_MATRICES_OUT else 0
    return torch.float32.itemsize * (NUMBERS_OF_A_TOKEN * dim * n_tokens + matrices)
