"""The pools of Kraus et al.: instances are classified, and their probabilities pooled more or less softly."""

from collections.abc import Callable
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.base import MILOutput, class_logits, n_outputs
from wsi_mil.models.embedding import create_embedding
from wsi_mil.models.keywords import KrausPoolKeywords, model_settings
from wsi_mil.models.losses import BagLoss
from wsi_mil.models.pooling import InstanceClassifier
from wsi_mil.models.soft_pools import Pooled, generalised_mean, isr, log_sum_exp, noisy_and, noisy_or

START = 4.0
"""Weight with which the layer behind the pool starts: of two classes σ(4 P - 2), 0.12 to 0.88. Ours."""

LOW = -6.0
"""Log odds with which instances start under noisy-OR and ISR; even ones make every bag positive beyond doubt. Ours."""


class KrausPool(InstanceClassifier):
    """Noisy-AND, noisy-OR, ISR, generalised mean or log-sum-exp over instances' probabilities, with the joint loss.

    Source:
        Kraus, Ba, Frey: Classifying and segmenting microscopy images with deep multiple instance learning, Bioinformatics
        2016, section 2. https://arxiv.org/abs/1511.05286

    Symbols:
        z_n = w·h_n + b; p_n = σ(z_n); P = g({p_n}), see `soft_pools`; y = dense layer over P.
        Loss = CE(t, P) + CE(t, y), both against the bag's label t; with `joint: false` CE(t, P) alone, and no dense layer.

    Differs:
        Instances are features of a frozen encoder (or of an instance encoder) instead of places of a fully convolutional
        network. Maximum and mean, the paper's other pools, are `instance_pool`.
        Of two classes there is one output, the positive one's: p_n, P, y = σ(dense(P)). More classes have an output each, whose
        P is compared with "this class or not", and y is their softmax. Without the dense layer, P scaled to sum 1 is the
        prediction of more than two.
        Noisy-AND's b = σ(β), so that it stays between 0 and 1; β is learnt from 0. The dense layer starts as a multiple of the
        identity, so that y agrees with P. Under noisy-OR and ISR instances start at p = 0.0025 instead of ½: from ½ neither
        learns large bags (docs/performance.md).
    """

    provides = config.KrausPool.provides

    def __init__(
        self,
        settings: config.KrausPool | None = None,
        *,
        feature_dim: int,
        n_classes: int,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[KrausPoolKeywords],
    ):
        super().__init__(instance_encoder)
        settings = model_settings(config.KrausPool, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        self.settings = settings
        self.embedding, dim = create_embedding(feature_dim, settings.embed_dim, settings.dropout)
        outputs = n_outputs(n_classes)
        self.classifier = nn.Linear(dim, outputs)
        if settings.pool in SHARP:
            nn.init.constant_(self.classifier.bias, LOW)
        if settings.pool == "noisy_and":
            self.threshold = nn.Parameter(torch.zeros(outputs))
        if settings.joint:
            self.dense = nn.Linear(outputs, outputs)
            nn.init.eye_(self.dense.weight).data.mul_(START)
            nn.init.constant_(self.dense.bias, -START / 2 if outputs == 1 else 0.0)

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        return MILOutput(self._logits(self.pooled(embedded, bag_mask)))

    def pooled(self, embedded: Tensor, bag_mask: Tensor | None = None) -> Pooled:
        """Pool each bag of a batch, `(batch_size, n_outputs)`."""
        outputs = self.classifier(embedded).float()
        masks = bag_mask if bag_mask is not None else [slice(None)] * len(outputs)
        pooled = [self._pool(bag[real]) for bag, real in zip(outputs, masks, strict=True)]
        return Pooled(*(torch.stack(part) for part in zip(*pooled, strict=True)))

    def training_loss(self, bags: Tensor, label: Tensor, loss: BagLoss) -> Tensor:
        pooled = self.pooled(self.embed(bags))
        n = pooled.log_p.shape[1]
        is_class = label[:, None].float() if n == 1 else functional.one_hot(label, n).float()
        losses = -(is_class * pooled.log_p + (1 - is_class) * pooled.log_q).sum(dim=1)
        if self.settings.joint:
            losses = losses + functional.cross_entropy(self._logits(pooled).float(), label, reduction="none")
        return (loss.bag_weights(label) * losses).sum()

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        margin = _margin(self.classifier(self.embed(bag))[0].double(), output)
        return {"probability": torch.sigmoid(margin), "evidence": margin}

    def instance_probs(self, outputs: Tensor, output: int) -> Tensor:
        return torch.sigmoid(_margin(outputs, output))

    def bag_probability(self, embedded: Tensor, output: int) -> Tensor:
        """The pooled probability P, not the prediction y of the dense layer."""
        pooled = self.pooled(embedded)
        of_class = pooled.log_p[0] if pooled.log_p.shape[1] > 1 else torch.stack([pooled.log_q[0, 0], pooled.log_p[0, 0]])
        return of_class[output].exp()

    def _pool(self, outputs: Tensor) -> Pooled:
        s = self.settings
        if s.pool == "noisy_and":
            return noisy_and(outputs, torch.sigmoid(self.threshold), s.slope)
        if s.pool in SHARP:
            return SHARP[s.pool](outputs)
        return SOFT[s.pool](outputs, s.exponent)

    def _logits(self, pooled: Pooled) -> Tensor:
        if self.settings.joint:
            return class_logits(self.dense(pooled.log_p.exp()))
        return torch.cat([pooled.log_q, pooled.log_p], dim=1) if pooled.log_p.shape[1] == 1 else pooled.log_p


SHARP: dict[str, Callable[[Tensor], Pooled]] = {"noisy_or": noisy_or, "isr": isr}
SOFT: dict[str, Callable[[Tensor, float], Pooled]] = {"generalised_mean": generalised_mean, "log_sum_exp": log_sum_exp}


def _margin(outputs: Tensor, output: int) -> Tensor:
    """Log odds of p for a class: of two the one output is the positive one's."""
    if outputs.shape[-1] == 1:
        return outputs[..., 0] if output else -outputs[..., 0]
    return outputs[..., output]
