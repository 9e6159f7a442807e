"""Aggregators whose instances can only speak for a class: a mend of shortcuts that `unit_tests.py` tries."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from wsi_mil.models import ABMIL
from wsi_mil.models.base import MILOutput

START = -2.0
"""Log odds of a bag without evidence at the start of training."""


class NonNegativeABMIL(ABMIL):
    """Gated ABMIL of two classes with non-negative evidence: log odds = b + Σ a_n softplus(w·h_n), attention a as before.

    An instance without evidence still lowers the sum, because it takes attention from the others.
    """

    def __init__(self, *, feature_dim: int):
        super().__init__(feature_dim=feature_dim, n_classes=2)
        self.start = nn.Parameter(torch.tensor(START))

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        attention_logits = self.attention(self.hidden(embedded) * self.gate(embedded))[..., 0]
        if bag_mask is not None:
            attention_logits = attention_logits.masked_fill(~bag_mask, -torch.inf)
        units = self.classifier(embedded)
        log_odds = self.start + (self.weights(attention_logits) * softplus(units[..., 1] - units[..., 0])).sum(dim=1)
        return MILOutput(torch.stack([torch.zeros_like(log_odds), log_odds], dim=1), attention_logits[..., None])

    def weights(self, attention_logits: Tensor) -> Tensor:
        """Return the weights of the instances `(batch_size, n_instances)`."""
        return torch.softmax(attention_logits, dim=1)


class AddingABMIL(NonNegativeABMIL):
    """The same with a gate for each instance in place of shared attention: log odds = b + Σ σ(e_n) softplus(w·h_n).

    No instance can lower the sum, so "positive unless" cannot be learned.
    """

    def weights(self, attention_logits: Tensor) -> Tensor:
        return torch.sigmoid(attention_logits)
