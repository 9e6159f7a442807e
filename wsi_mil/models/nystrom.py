"""Attention among many tokens through a few landmarks."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from wsi_mil.models.self_attention import SelfAttention, attended, softmax_rows

PINV_STEPS = 6


class NystromAttention(SelfAttention):
    """Multi-head self-attention in memory linear in the number of tokens.

    Source:
        Xiong et al.: Nyströmformer, AAAI 2021, https://arxiv.org/abs/2102.03902, as TransMIL uses it.

    Symbols:
        landmarks q̃, k̃: means of consecutive blocks of tokens; F = softmax(q k̃ᵀ), B = softmax(q̃ k̃ᵀ), G = softmax(q̃ kᵀ);
        out = F (B⁺ (G v)) + DWConv(v), B⁺ by six steps of Z ← ¼ Z (13 I - BZ (15 I - BZ (7 I - BZ))).
        Tokens are padded with zeros on the left to a multiple of the number of landmarks.

    Differs:
        Nothing in the mathematics. F and G are never held in memory: both products are scaled dot-product attentions, from the
        landmarks to the tokens and back. One bag at a time, because padding and the start of Z depend on the whole tensor.
    """

    def __init__(self, dim: int, *, heads: int, landmarks: int, dropout: float):
        super().__init__(dim, heads=heads, dropout=dropout)
        self.landmarks = landmarks

    def forward(self, tokens: Tensor) -> Tensor:
        padded = self._padded(tokens)
        return self._attend(padded, self._marks(padded), self._projected(padded, "k"), tokens.shape[1])

    def first_row(self, tokens: Tensor) -> Tensor:
        padded = self._padded(tokens)
        marks = self._marks(padded)
        k, v = self._projected(padded, "k"), self._projected(padded, "v")
        summary = self._summary(marks, k, v)
        mixed = softmax_rows(self._projected(tokens[:, :1], "q"), marks.k) @ summary  # (1, heads, 1, head_dim)
        return self._out(mixed + self._first_convolved(v[:, :, padded.shape[1] - tokens.shape[1] :]))

    def with_class_attention(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Row F_cls B⁺ G of the approximated attention matrix: its entries may be negative and need not sum to 1."""
        padded, n_tokens = self._padded(tokens), tokens.shape[1]
        marks, k = self._marks(padded), self._projected(padded, "k")
        return self._attend(padded, marks, k, n_tokens), self._first_row_of_matrix(padded, marks, k, n_tokens)

    def _pairs_attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Each token is a landmark of its own, and all padding is alike: three tokens stand for all, with their numbers.

        With a single landmark, class token and instance share it.
        """
        if self.landmarks == 1:
            q_mark, k_mark = (tokens.mean(dim=2, keepdim=True) for tokens in (q, k))
            return softmax_rows(q, k_mark) @ softmax_rows(q_mark, k) @ v  # the inverse of a matrix of one 1 is 1
        q, k, v = (functional.pad(tokens, (0, 0, 1, 0)) for tokens in (q, k, v))  # padding, class token, instance
        numbers = torch.tensor([self.landmarks - 2.0, 1.0, 1.0], dtype=v.dtype, device=v.device)
        rows = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]) + numbers.log(), dim=-1) / numbers.clamp_min(1)
        inverse = pseudo_inverse_of_groups(rows, numbers)
        return (rows[:, :, 1:] * numbers) @ (inverse * numbers) @ (rows * numbers) @ v

    def _padded(self, tokens: Tensor) -> Tensor:
        return functional.pad(tokens, (0, 0, -tokens.shape[1] % self.landmarks, 0))

    def _marks(self, padded: Tensor) -> "_Marks":
        """Landmarks and the inverse between them. The mean of projections is the projection of the mean."""
        means = padded.view(1, self.landmarks, -1, padded.shape[2]).mean(dim=2)
        q, k = self._projected(means, "q"), self._projected(means, "k")
        with torch.autocast(padded.device.type, enabled=False):
            inverse = pseudo_inverse(softmax_rows(q.float(), k.float()))
        return _Marks(q, k, inverse.to(q.dtype))

    def _summary(self, marks: "_Marks", k: Tensor, v: Tensor) -> Tensor:
        """B⁺ (G v) `(1, heads, landmarks, head_dim)`."""
        return marks.inverse @ attended(marks.q, k, v)

    def _attend(self, padded: Tensor, marks: "_Marks", k: Tensor, n_tokens: int) -> Tensor:
        v = self._projected(padded, "v")
        summary = self._summary(marks, k, v)
        mixed = attended(self._projected(padded, "q"), marks.k, summary)
        return self._out(self._convolved(v).add_(mixed)[:, :, -n_tokens:])

    def _first_row_of_matrix(self, padded: Tensor, marks: "_Marks", k: Tensor, n_tokens: int) -> Tensor:
        """Attention of the first real token, without its own column and padding; head by head, to save memory."""
        first = self._projected(padded[:, -n_tokens].unsqueeze(1), "q")
        to_marks = softmax_rows(first, marks.k) @ marks.inverse  # (1, heads, 1, landmarks)
        rows = []
        for head in range(self.heads):
            from_marks = softmax_rows(marks.q[0, head], k[0, head])  # (landmarks, n_padded)
            rows.append((to_marks[0, head] @ from_marks)[0, -n_tokens:][1:])
        return torch.stack(rows)


class _Marks(NamedTuple):
    q: Tensor
    """`(1, heads, landmarks, head_dim)`; `k` alike."""
    k: Tensor
    inverse: Tensor
    """B⁺ `(1, heads, landmarks, landmarks)`."""


def pseudo_inverse(matrices: Tensor) -> Tensor:
    """Moore-Penrose inverse of `(…, m, m)` by Razavi's iteration, started from all matrices of the tensor together."""
    rows, columns = matrices.abs().sum(dim=-1).amax(), matrices.abs().sum(dim=-2).amax()
    z = matrices.mT / (rows * columns)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    for _ in range(PINV_STEPS):
        bz = matrices @ z
        z = 0.25 * z @ (13 * identity - bz @ (15 * identity - bz @ (7 * identity - bz)))
    return z


def pseudo_inverse_of_groups(matrices: Tensor, numbers: Tensor) -> Tensor:
    """`pseudo_inverse` of matrices whose rows and columns come in groups of equal ones, by one entry for each pair of groups.

    Args:
        matrices: `(batch_size, heads, g, g)`, of each pair of groups the entry that all its rows and columns share.
        numbers: `(g,)`, how many rows and columns each group has.

    Returns:
        Entries of the inverses, of the same shape; the iteration of each bag starts from all its heads together.
    """
    rows, columns = ((matrices.abs() * numbers).sum(dim=-1), (matrices.abs() * numbers[:, None]).sum(dim=-2))
    z = matrices.mT / (rows.amax(dim=(1, 2)) * columns.amax(dim=(1, 2)))[:, None, None, None]
    for _ in range(PINV_STEPS):
        bz = (matrices * numbers) @ z
        inner = 15 * bz - (bz * numbers) @ (7 * bz - (bz * numbers) @ bz)
        z = 0.25 * (13 * z - (z * numbers) @ inner)
    return z
