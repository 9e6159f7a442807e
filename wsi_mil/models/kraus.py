"""The pools of Kraus et al.: instances are classified, and their probabilities pooled more or less softly."""

from collections.abc import Callable
from typing import Unpack

import torch
from torch import Tensor, nn

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.base import MILOutput
from wsi_mil.models.embedding import create_embedding
from wsi_mil.models.keywords import KrausPoolKeywords, model_settings
from wsi_mil.models.losses import BagLoss
from wsi_mil.models.outputs import LabelOutputs, Outputs, chosen_outputs
from wsi_mil.models.pooling import InstanceClassifier
from wsi_mil.models.precision import widened
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
        prediction of more than two. Labels that do not exclude each other have a P and a y = σ(dense(P)) each.
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
        n_classes: int | None = None,
        outputs: Outputs | None = None,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[KrausPoolKeywords],
    ):
        settings = model_settings(config.KrausPool, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        outputs = chosen_outputs(n_classes, outputs)
        super().__init__(outputs, instance_encoder)
        self.settings = settings
        self.embedding, dim = create_embedding(feature_dim, settings.embed_dim, settings.dropout)
        n_units = outputs.n_units
        self.classifier = nn.Linear(dim, n_units)
        if settings.pool in SHARP:
            nn.init.constant_(self.classifier.bias, LOW)
        if settings.pool == "noisy_and":
            self.threshold = nn.Parameter(torch.zeros(n_units))
        if settings.joint:
            self.dense = nn.Linear(n_units, n_units)
            nn.init.eye_(self.dense.weight).data.mul_(START)
            nn.init.constant_(self.dense.bias, -START / 2 if outputs.n_units == 1 or isinstance(outputs, LabelOutputs) else 0.0)

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        return MILOutput(self._logits(self.pooled(embedded, bag_mask)))

    def pooled(self, embedded: Tensor, bag_mask: Tensor | None = None) -> Pooled:
        """Pool each bag of a batch, `(batch_size, n_outputs)`."""
        outputs = widened(self.classifier(embedded))
        masks = bag_mask if bag_mask is not None else [slice(None)] * len(outputs)
        pooled = [self._pool(bag[real]) for bag, real in zip(outputs, masks, strict=True)]
        return Pooled(*(torch.stack(part) for part in zip(*pooled, strict=True)))

    def linear_logits(self, embedded: Tensor) -> Tensor:
        """Units of each instance `(n_instances, n_units)`."""
        return widened(self.classifier(embedded))[0]

    def combined(self, parts: Tensor) -> Tensor:
        return self._logits(Pooled(*(part[None] for part in self._pool(parts))))[0]

    def training_loss(self, bags: Tensor, label: Tensor, loss: BagLoss) -> Tensor:
        pooled = self.pooled(self.embed(bags))
        logits = self._logits(pooled) if self.settings.joint else None
        return loss.of_pool(pooled.log_p, pooled.log_q, logits, label)

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        margin = self._margin(self.classifier(self.embed(bag))[0].double(), output)
        return {"probability": torch.sigmoid(margin), "evidence": margin}

    def instance_probs(self, units: Tensor, output: int) -> Tensor:
        return torch.sigmoid(self._margin(units, output))

    def bag_probability(self, embedded: Tensor, output: int) -> Tensor:
        """The pooled probability P, not the prediction y of the dense layer."""
        pooled = self.pooled(embedded)
        unit, sign = self.outputs.unit_of(output)
        return (pooled.log_p if sign > 0 else pooled.log_q)[0, unit].exp()

    def _pool(self, outputs: Tensor) -> Pooled:
        s = self.settings
        if s.pool == "noisy_and":
            return noisy_and(outputs, torch.sigmoid(self.threshold), s.slope)
        if s.pool in SHARP:
            return SHARP[s.pool](outputs)
        return SOFT[s.pool](outputs, s.exponent)

    def _logits(self, pooled: Pooled) -> Tensor:
        if self.settings.joint:
            return self.outputs.logits_of(self.dense(pooled.log_p.exp()))
        if isinstance(self.outputs, LabelOutputs):
            return pooled.log_p - pooled.log_q
        return torch.cat([pooled.log_q, pooled.log_p], dim=1) if self.outputs.n_units == 1 else pooled.log_p

    def _margin(self, units: Tensor, output: int) -> Tensor:
        """Log odds of p for a class or label."""
        unit, sign = self.outputs.unit_of(output)
        return units[..., unit] if sign > 0 else -units[..., unit]


SHARP: dict[str, Callable[[Tensor], Pooled]] = {"noisy_or": noisy_or, "isr": isr}
SOFT: dict[str, Callable[[Tensor, float], Pooled]] = {"generalised_mean": generalised_mean, "log_sum_exp": log_sum_exp}
