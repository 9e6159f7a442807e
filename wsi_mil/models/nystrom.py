"""Attention among many tokens through a few landmarks."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

PINV_STEPS = 6
RESIDUAL_KERNEL = 33


class NystromAttention(nn.Module):
    """Multi-head self-attention in memory linear in the number of tokens.

    Source:
        Xiong et al.: Nyströmformer, AAAI 2021, https://arxiv.org/abs/2102.03902, as TransMIL uses it.

    Symbols:
        landmarks q̃, k̃: means of consecutive blocks of tokens; F = softmax(q k̃ᵀ), B = softmax(q̃ k̃ᵀ), G = softmax(q̃ kᵀ);
        out = F (B⁺ (G v)) + DWConv(v), B⁺ by six steps of Z ← ¼ Z (13 I - BZ (15 I - BZ (7 I - BZ))).
        Tokens are padded with zeros on the left to a multiple of the number of landmarks.

    Differs:
        Nothing in the mathematics. F and G are never held: both products are scaled dot-product attentions, from the
        landmarks to the tokens and back. One bag at a time, because padding and the start of Z depend on the whole tensor.
    """

    def __init__(self, dim: int, *, heads: int, landmarks: int, dropout: float):
        super().__init__()
        self.heads, self.landmarks = heads, landmarks
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))
        self.residual = nn.Conv1d(heads, heads, RESIDUAL_KERNEL, padding=RESIDUAL_KERNEL // 2, groups=heads, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(1, n_tokens, dim)` → the same."""
        return self._attend(self._parts(tokens), tokens.shape[1])

    def with_class_attention(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the first token's attention to all others `(heads, n_tokens - 1)`.

        Row F_cls B⁺ G of the approximated attention matrix: its entries may be negative and need not sum to 1.
        """
        parts = self._parts(tokens)
        return self._attend(parts, tokens.shape[1]), _first_row(parts, tokens.shape[1])

    def _parts(self, tokens: Tensor) -> "_Parts":
        padding = -tokens.shape[1] % self.landmarks
        padded = functional.pad(tokens, (0, 0, padding, 0))
        n, dim = padded.shape[1:]
        q, k, v = self.to_qkv(padded).view(1, n, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q = q * (dim // self.heads) ** -0.5
        blocks = (self.landmarks, n // self.landmarks)
        q_marks, k_marks = (part.unflatten(2, blocks).mean(dim=3) for part in (q, k))
        with torch.autocast(tokens.device.type, enabled=False):
            inverse = pseudo_inverse(torch.softmax(q_marks.float() @ k_marks.float().mT, dim=-1))
        return _Parts(q, k, v, q_marks, k_marks, inverse.to(v.dtype))

    def _attend(self, parts: "_Parts", n_tokens: int) -> Tensor:
        attend = functional.scaled_dot_product_attention
        summary = parts.inverse @ attend(parts.q_marks, parts.k, parts.v, scale=1.0)  # (1, heads, landmarks, head_dim)
        mixed = attend(parts.q, parts.k_marks, summary, scale=1.0)  # (1, heads, n_padded, head_dim)
        mixed = mixed + self._convolved(parts.v)
        merged = mixed.transpose(1, 2).flatten(2)[:, -n_tokens:]
        return torch.as_tensor(self.to_out(merged))

    def _convolved(self, v: Tensor) -> Tensor:
        """Each head's values, every channel by itself, convolved along the tokens."""
        rows = v[0].permute(2, 0, 1)  # (head_dim, heads, n_padded)
        return torch.as_tensor(self.residual(rows)).permute(1, 2, 0).unsqueeze(0)


class _Parts(NamedTuple):
    q: Tensor
    """`(1, heads, n_padded, head_dim)`, scaled; `k` and `v` alike."""
    k: Tensor
    v: Tensor
    q_marks: Tensor
    """`(1, heads, landmarks, head_dim)`."""
    k_marks: Tensor
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


def _first_row(parts: _Parts, n_tokens: int) -> Tensor:
    """Row of the first real token, without its own column and without padding; head by head, to hold little at once."""
    first = parts.q[:, :, -n_tokens].unsqueeze(2)  # (1, heads, 1, head_dim)
    to_marks = torch.softmax(first @ parts.k_marks.mT, dim=-1) @ parts.inverse  # (1, heads, 1, landmarks)
    rows = []
    for head in range(parts.q.shape[1]):
        from_marks = torch.softmax(parts.q_marks[0, head] @ parts.k[0, head].mT, dim=-1)  # (landmarks, n_padded)
        rows.append((to_marks[0, head] @ from_marks)[0, -n_tokens:][1:])
    return torch.stack(rows)
