"""What every aggregator offers."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class MILOutput(NamedTuple):
    """What a model says about a batch of bags."""

    logits: Tensor
    """`(batch_size, n_classes)`."""
    attention_logits: Tensor
    """`(batch_size, n_instances)`, before softmax; -inf where masked."""


class MILModel(nn.Module, ABC):
    """A bag classifier that can speak about its instances."""

    @abstractmethod
    def forward(self, features: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        """Classify bags.

        Args:
            features: `(batch_size, n_instances, feature_dim)`.
            bag_mask: bool `(batch_size, n_instances)`, True = real instance; None: all are.
        """

    @abstractmethod
    def class_evidence(self, features: Tensor) -> Tensor:
        """What each instance by itself says for each class: `(batch_size, n_instances, n_classes)` logits."""

    @abstractmethod
    def training_loss(self, features: Tensor, label: Tensor, class_weights: Tensor) -> Tensor:
        """Loss of a batch of bags: `features` as in `forward`, `label` int64 `(batch_size,)`, weights `(n_classes,)`."""
