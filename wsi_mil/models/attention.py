"""Gated attention with any number of rows, as CLAM and DTFD pool by."""

import torch
from torch import Tensor, nn


class GatedAttention(nn.Module):
    """w·(tanh(V h_n) ⊙ σ(U h_n)) + b for each row w, all with biases."""

    def __init__(self, dim: int, attention_dim: int, *, rows: int = 1, dropout: float = 0.0):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(dim, attention_dim), nn.Tanh(), nn.Dropout(dropout))
        self.gate = nn.Sequential(nn.Linear(dim, attention_dim), nn.Sigmoid(), nn.Dropout(dropout))
        self.row = nn.Linear(attention_dim, rows)

    def forward(self, embedded: Tensor, bag_mask: Tensor | None = None) -> Tensor:
        """Attention logits `(batch_size, n_instances, rows)`, -inf where masked; one bag may lack the first axis."""
        logits = torch.as_tensor(self.row(self.hidden(embedded) * self.gate(embedded)))
        return logits if bag_mask is None else logits.masked_fill(~bag_mask.unsqueeze(-1), -torch.inf)


def top_and_bottom(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the indices of the `k` highest and of the `k` lowest of `(n,)` scores, none in both.

    With fewer than 2·k scores each gets half of them, and the middle one of an odd number is among the highest.
    """
    order = scores.detach().argsort(descending=True, stable=True)
    n = len(scores)
    lowest = min(k, n // 2)
    return order[: min(k, (n + 1) // 2)], order[n - lowest :]
