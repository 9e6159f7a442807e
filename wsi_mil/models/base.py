"""The interface of aggregators."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_mil.config import InstanceScoreKind

N_DIMS_OF_FEATURES = 3


class MILOutput(NamedTuple):
    """The output of a model for a batch of bags."""

    logits: Tensor
    """`(batch_size, n_classes)`."""
    attention_logits: Tensor | None = None
    """`(batch_size, n_instances, n_rows)`, before softmax over instances, -inf where masked. One row for all classes, or
    one a class; None if the model has no attention, or computes it on request only (`instance_scores`)."""
    instance_logits: Tensor | None = None
    """`(batch_size, n_instances, n_classes)` where the model classifies instances by themselves."""


class MILModel(nn.Module, ABC):
    """A bag classifier that also scores instances.

    An instance is a feature vector, or, with a trainable instance encoder in front, whatever that takes (images).
    """

    provides: tuple[InstanceScoreKind, ...]
    """Kinds of scores that `instance_scores` returns, in its order."""

    embedding: nn.Module

    def __init__(self, instance_encoder: nn.Module | None = None):
        super().__init__()
        self.instance_encoder = instance_encoder if instance_encoder is not None else nn.Identity()

    def forward(self, bags: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        """Classify bags.

        Args:
            bags: `(batch_size, n_instances, feature_dim)`; with an instance encoder `(batch_size, n_instances, *instance)`.
            bag_mask: bool `(batch_size, n_instances)`, True = real instance; None: all are.

        Raises:
            ValueError: a bag without instances.
        """
        return self.pool(self.embed(bags), bag_mask)

    def embed(self, bags: Tensor) -> Tensor:
        """Embed each instance by itself, `(batch_size, n_instances, embed_dim)`: a bag may be embedded part by part."""
        return torch.as_tensor(self.embedding(self.instances(bags)))

    @abstractmethod
    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        """Classify bags of embedded instances, whole ones."""

    @abstractmethod
    def instance_scores(self, bag: Tensor, target: int) -> dict[InstanceScoreKind, Tensor]:
        """Score the instances of one bag for class `target`, each kind float64 `(n_instances,)` in the order of the bag.

        - attention: share of the pooling weight, sums to 1; attention_logits: the same before softmax.
        - probability: of the class, by the instance alone; only where the model is trained to give it.
        - evidence: log odds of the class against the others, as the classifier reads the instance alone.
        - class_activation: the instance's part in the bag's log odds, times the number of instances.

        Args:
            bag: `(1, n_instances, …)`.
            target: class index.
        """

    def training_loss(self, bags: Tensor, label: Tensor, class_weights: Tensor) -> Tensor:
        """Loss of a batch of bags: `bags` as in `forward`, `label` int64 `(batch_size,)`, weights `(n_classes,)`."""
        return class_loss(self(bags).logits, label, class_weights)

    def after_update(self, progress: float) -> None:
        """Called after each update of the weights; `progress` is the share of all planned updates that are done."""

    @property
    def deployed(self) -> "MILModel":
        """The model that is kept after training."""
        return self

    def instances(self, bags: Tensor) -> Tensor:
        """Features `(batch_size, n_instances, feature_dim)` of the instances of bags."""
        if bags.shape[1] == 0:
            raise ValueError("a bag without instances cannot be classified")
        if isinstance(self.instance_encoder, nn.Identity):
            if bags.ndim != N_DIMS_OF_FEATURES:
                raise ValueError(f"expected features (batch_size, n_instances, feature_dim), got {tuple(bags.shape)}")
            return bags
        encoded: Tensor = self.instance_encoder(bags.flatten(0, 1))
        return encoded.reshape(*bags.shape[:2], -1)


def class_loss(logits: Tensor, label: Tensor, class_weights: Tensor) -> Tensor:
    """Cross-entropy weighted by class, summed over bags."""
    return functional.cross_entropy(logits.float(), label, weight=class_weights, reduction="sum")


def margin_of(logits: Tensor, target: int) -> Tensor:
    """Log odds of `target` against all other classes, over the last axis."""
    others = torch.cat([logits[..., :target], logits[..., target + 1 :]], dim=-1)
    return logits[..., target] - torch.logsumexp(others, dim=-1)


def n_outputs(n_classes: int) -> int:
    """Number of outputs of a classifier: one for two classes, one per class for more."""
    return 1 if n_classes == 2 else n_classes


def class_logits(outputs: Tensor) -> Tensor:
    """Logits of the classes `(…, n_classes)` from `n_outputs` of them: of two classes the first one's is zero.

    So softmax of the logits is the sigmoid of the one output, and cross-entropy its Bernoulli likelihood.
    """
    return torch.cat([torch.zeros_like(outputs), outputs], dim=-1) if outputs.shape[-1] == 1 else outputs
