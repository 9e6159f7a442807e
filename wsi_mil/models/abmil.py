"""Attention-based MIL."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_mil.models.output import MILModel, MILOutput


class ABMIL(MILModel):
    """Attention-based deep MIL, plain or gated.

    Source:
        Ilse, Tomczak, Welling: Attention-based Deep Multiple Instance Learning, ICML 2018, eqs. 7 to 9.
        https://arxiv.org/abs/1802.04712

    Symbols:
        embedding h_n; attention logit e_n = w·tanh(V h_n), gated: w·(tanh(V h_n) ⊙ σ(U h_n)); a = softmax(e);
        bag embedding z = Σ a_n h_n; logits = W z + b.

    Differs:
        Instances are features of a frozen encoder, so one linear layer with ReLU and dropout embeds them.
        One logit per class and cross-entropy instead of one sigmoid, so that more than two classes work.
    """

    def __init__(self, *, feature_dim: int, n_classes: int, embed_dim: int, attention_dim: int, gated: bool, dropout: float):
        super().__init__()
        self.embedding = nn.Sequential(nn.Linear(feature_dim, embed_dim), nn.ReLU(), nn.Dropout(dropout))
        self.tanh_branch = nn.Sequential(nn.Linear(embed_dim, attention_dim), nn.Tanh())
        self.gate = nn.Sequential(nn.Linear(embed_dim, attention_dim), nn.Sigmoid()) if gated else _One()
        self.attention = nn.Linear(attention_dim, 1)
        self.classifier = nn.Linear(embed_dim, n_classes)

    def forward(self, features: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        embedded = self.embedding(features)  # (batch_size, n_instances, embed_dim)
        attention_logits = self.attention(self.tanh_branch(embedded) * self.gate(embedded)).squeeze(-1)
        if bag_mask is not None:
            attention_logits = attention_logits.masked_fill(~bag_mask, -torch.inf)
        attention = torch.softmax(attention_logits.float(), dim=1)  # (batch_size, n_instances)
        pooled = torch.einsum("bn,bnd->bd", attention.to(embedded.dtype), embedded)
        return MILOutput(self.classifier(pooled), attention_logits)

    def class_evidence(self, features: Tensor) -> Tensor:
        """W h_n + b: the bag's logits are the attention-weighted mean of these."""
        return torch.as_tensor(self.classifier(self.embedding(features)))

    def training_loss(self, features: Tensor, label: Tensor, class_weights: Tensor) -> Tensor:
        return functional.cross_entropy(self(features).logits, label, weight=class_weights, reduction="sum")


class _One(nn.Module):
    """The gate of plain attention: always open."""

    def forward(self, embedded: Tensor) -> Tensor:
        return torch.ones((), dtype=embedded.dtype, device=embedded.device)
