"""The baselines: maximum and mean, over instances' classes or over their embeddings."""

from abc import abstractmethod
from typing import Unpack

import torch
from torch import Tensor, nn

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.base import MILModel, MILOutput
from wsi_mil.models.embedding import create_embedding
from wsi_mil.models.keywords import EmbeddingPoolKeywords, PoolKeywords, model_settings
from wsi_mil.models.outputs import Outputs, chosen_outputs, probability_and_evidence
from wsi_mil.models.precision import widened


class InstanceClassifier(MILModel):
    """A model whose bag is nothing but a pool of its instances' probabilities: embedding, classifier, pool."""

    classifier: nn.Linear
    read_outs = ()

    @abstractmethod
    def instance_probs(self, units: Tensor, output: int) -> Tensor:
        """Probability of a class or label `(…)` from outputs of the classifier `(…, n_units)`."""

    @abstractmethod
    def bag_probability(self, embedded: Tensor, output: int) -> Tensor:
        """Pooled probability of a class, of one bag `(1, n_instances, embed_dim)`; a scalar."""


class InstancePool(InstanceClassifier):
    """Each instance is classified; the bag is its most positive instance, or the mean of their probabilities.

    Source:
        Ilse, Tomczak, Welling 2018, section 2 (instance-level approach) and the tables' "Instance+max" and "Instance+mean".

    Symbols:
        s_n = w·h_n + b; P = max_n σ(s_n), or mean_n σ(s_n).

    Differs:
        More than two classes: the maximum is taken class by class over logits, the mean over softmax probabilities.
        Of what has no probability, a value or a risk, the maximum and the mean are taken as it is.
    """

    provides = config.InstancePool.provides

    def __init__(
        self,
        settings: config.InstancePool | None = None,
        *,
        feature_dim: int,
        n_classes: int | None = None,
        outputs: Outputs | None = None,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[PoolKeywords],
    ):
        settings = model_settings(config.InstancePool, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        outputs = chosen_outputs(n_classes, outputs)
        super().__init__(outputs, instance_encoder)
        self.settings = settings
        self.embedding, dim = create_embedding(feature_dim, settings.embed_dim, settings.dropout)
        self.classifier = nn.Linear(dim, outputs.n_units)
        self.by = settings.pool

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        logits = self.outputs.logits_of(widened(self.classifier(embedded)))
        pooled = _maximum(logits, bag_mask) if self.by == "max" else self.outputs.mean(logits, 1, bag_mask)
        return MILOutput(pooled, instance_logits=logits)

    def linear_logits(self, embedded: Tensor) -> Tensor:
        """Logits of each instance, of which the mean is taken; or the largest."""
        output = self.pool(embedded)
        return output.logits if self.by == "max" or output.instance_logits is None else output.instance_logits[0]

    def combined(self, parts: Tensor) -> Tensor:
        return parts[0] if self.by == "max" else self.outputs.mean(parts, 0)

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        logits = self(bag).instance_logits[0].double()
        return probability_and_evidence(self.outputs, logits, output)

    def instance_probs(self, units: Tensor, output: int) -> Tensor:
        return self.outputs.probability(self.outputs.logits_of(units), output)

    def bag_probability(self, embedded: Tensor, output: int) -> Tensor:
        return self.outputs.probability(self.pool(embedded).logits[0], output)


class EmbeddingPool(MILModel):
    """The element-wise maximum or mean of embeddings is classified.

    Source:
        Ilse, Tomczak, Welling 2018, section 2 (embedding-level approach) and the tables' "Embedding+max", "Embedding+mean".

    Differs:
        One logit per class and cross-entropy instead of one sigmoid.
    """

    provides = config.EmbeddingPool.provides

    def __init__(
        self,
        settings: config.EmbeddingPool | None = None,
        *,
        feature_dim: int,
        n_classes: int | None = None,
        outputs: Outputs | None = None,
        instance_encoder: nn.Module | None = None,
        **keywords: Unpack[EmbeddingPoolKeywords],
    ):
        settings = model_settings(config.EmbeddingPool, settings, keywords, feature_dim=feature_dim, n_classes=n_classes)
        outputs = chosen_outputs(n_classes, outputs)
        super().__init__(outputs, instance_encoder)
        self.settings = settings
        self.embedding, dim = create_embedding(feature_dim, settings.embed_dim, settings.dropout)
        self.classifier = nn.Linear(dim, outputs.n)
        self.by = settings.pool

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        pooled = _maximum(embedded, bag_mask) if self.by == "max" else _mean(embedded, bag_mask)
        return MILOutput(self.classifier(pooled))

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        logits = self.classifier(self.embed(bag))
        return {"evidence": self.outputs.scalar(logits[0].double(), output)}


def _maximum(values: Tensor, bag_mask: Tensor | None) -> Tensor:
    """Maximum over real instances, column by column: `(batch_size, n_columns)`."""
    if bag_mask is not None:
        values = values.masked_fill(~bag_mask.unsqueeze(-1), -torch.inf)
    return values.amax(dim=1)


def _mean(values: Tensor, bag_mask: Tensor | None) -> Tensor:
    if bag_mask is None:
        return values.mean(dim=1)
    return values.masked_fill(~bag_mask.unsqueeze(-1), 0).sum(dim=1) / bag_mask.sum(dim=1, keepdim=True)
