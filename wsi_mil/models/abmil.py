"""Attention-based MIL."""

from typing import Unpack

import torch
from torch import Tensor, nn

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.embedding import create_embedding
from wsi_mil.models.encode_classify import BagEncoding, EncodeClassifyModel
from wsi_mil.models.held import constant
from wsi_mil.models.keywords import ABMILKeywords, model_settings
from wsi_mil.models.outputs import Outputs, chosen_outputs
from wsi_mil.models.precision import widened


class ABMIL(EncodeClassifyModel):
    """Attention-based deep MIL, plain or gated.

    Source:
        Ilse, Tomczak, Welling: Attention-based Deep Multiple Instance Learning, ICML 2018, eqs. 7 to 9.
        https://arxiv.org/abs/1802.04712

    Symbols:
        embedding h_n; attention logit e_n = w·tanh(V h_n), gated: w·(tanh(V h_n) ⊙ σ(U h_n)); a = softmax(e);
        bag embedding z = Σ a_n h_n; logits = W z + b.

    Differs:
        Instances are features of a frozen encoder, so one linear layer with ReLU and dropout embeds them (`embed_dim: null`
        leaves it out, as behind a trainable instance encoder).
        One logit per class and cross-entropy instead of one sigmoid, so that more than two classes work.
        `activation: relu` and `attention_bias: false` are the attention of MHIM's code.
    """

    provides = config.ABMIL.provides

    def __init__(
        self,
        settings: config.ABMIL | None = None,
        *,
        feature_dim: int,
        n_classes: int | None = None,
        outputs: Outputs | None = None,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[ABMILKeywords],
    ):
        settings = model_settings(config.ABMIL, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        outputs = chosen_outputs(n_classes, outputs)
        super().__init__(outputs, instance_encoder)
        self.settings = settings
        self.embedding, dim = create_embedding(feature_dim, settings.embed_dim, settings.dropout)
        bias, activation = settings.attention_bias, nn.Tanh() if settings.activation == "tanh" else nn.ReLU()
        self.hidden = nn.Sequential(nn.Linear(dim, settings.attention_dim, bias=bias), activation)
        gate = (nn.Linear(dim, settings.attention_dim, bias=bias), nn.Sigmoid())
        self.gate = nn.Sequential(*gate) if settings.gated else _One()
        self.attention = nn.Linear(settings.attention_dim, 1, bias=bias)
        self.classifier = nn.Linear(dim, outputs.n)

    def encode(self, embedded: Tensor, bag_mask: Tensor | None = None) -> BagEncoding:
        attention_logits = self.attention(self.hidden(embedded) * self.gate(embedded))  # (batch_size, n_instances, 1)
        if bag_mask is not None:
            attention_logits = attention_logits.masked_fill(~bag_mask.unsqueeze(-1), -torch.inf)
        attention = constant(torch.softmax(widened(attention_logits), dim=1).to(embedded.dtype))
        return BagEncoding(attention.transpose(1, 2) @ embedded, attention_logits)

    def encode_scored(self, embedded: Tensor) -> tuple[BagEncoding, Tensor]:
        encoding = self.encode(embedded)
        assert encoding.attention_logits is not None
        return encoding, encoding.attention_logits[..., 0]

    def classify(self, encoding: BagEncoding) -> Tensor:
        return torch.as_tensor(self.classifier(encoding.bag.squeeze(1)))

    def class_evidence(self, bags: Tensor) -> Tensor:
        """W h_n + b `(batch_size, n_instances, n_outputs)`: the bag's logits are the attention-weighted mean of these."""
        return torch.as_tensor(self.classifier(self.embed(bags)))

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        logits = self.encode_scored(self.embed(bag))[1][0].double()
        evidence = self.outputs.scalar(self.class_evidence(bag)[0].double(), output)
        return {"attention": torch.softmax(logits, dim=0), "attention_logits": logits, "evidence": evidence}


class _One(nn.Module):
    """The gate of plain attention: always open."""

    def forward(self, embedded: Tensor) -> Tensor:
        return torch.ones((), dtype=embedded.dtype, device=embedded.device)
