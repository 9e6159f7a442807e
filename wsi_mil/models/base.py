"""The base class of all aggregators, and the output of their forward pass."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wsi_mil.config import InstanceScoreKind
from wsi_mil.models.covariates import TakesCovariates
from wsi_mil.models.losses import BagLoss
from wsi_mil.models.outputs import Outputs

N_DIMS_OF_FEATURES = 3


class MILOutput(NamedTuple):
    """Output of a model for a batch of bags."""

    logits: Tensor
    """`(batch_size, n_outputs)`."""
    attention_logits: Tensor | None = None
    """`(batch_size, n_instances, n_rows)`, before the softmax over instances, -inf where masked. One row for all outputs, or
    one per output; None if the model has no attention, or computes it on request only (`instance_scores`)."""
    instance_logits: Tensor | None = None
    """`(batch_size, n_instances, n_outputs)` if the model classifies each instance, else None."""


class MILModel(TakesCovariates, ABC):
    """A model of bags that can score their instances. In the words below its outputs are classes; `outputs` says what they are.

    An instance is a feature vector, or the input of a trainable instance encoder (an image) if the model has one.

    The models of the package are built from the settings of an entry of `models`, or from its keys as keywords, and keep
    them in `settings`: `ABMIL(feature_dim=1024, n_classes=2, gated=False).settings.train` are its training settings.
    """

    provides: tuple[InstanceScoreKind, ...]
    """Kinds of scores that `instance_scores` returns, in its order."""

    embedding: nn.Module

    def __init__(self, outputs: Outputs, instance_encoder: nn.Module | None = None):
        super().__init__()
        self.outputs = outputs
        self.provides = outputs.provided(type(self).provides) if hasattr(type(self), "provides") else ()
        self.instance_encoder = instance_encoder if instance_encoder is not None else nn.Identity()

    def forward(self, bags: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        """Classify bags.

        Args:
            bags: `(batch_size, n_instances, feature_dim)`; with an instance encoder `(batch_size, n_instances, *instance)`.
            bag_mask: bool `(batch_size, n_instances)`, True = real instance, False = padding; None: no padding.

        Raises:
            ValueError: a bag without instances.
        """
        return self.pool(self.embed(bags), bag_mask)

    def embed(self, bags: Tensor) -> Tensor:
        """Return embeddings `(batch_size, n_instances, embed_dim)`.

        Each instance is embedded on its own, so a large bag can be embedded part by part.
        """
        return torch.as_tensor(self.embedding(self.instances(bags)))

    @abstractmethod
    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        """Classify bags of embedded instances; each bag must be whole."""

    @abstractmethod
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        """Score the instances of one bag for one of the outputs.

        - attention: share of the pooling weight, sums to 1; attention_logits: the same before softmax.
        - probability: of the class or label given the instance alone; only if the model is trained to predict it.
        - evidence: the output's scalar (see `Outputs`) if the classifier is applied to the instance alone.
        - class_activation: the instance's contribution to the bag's scalar, times the number of instances.

        Args:
            bag: `(1, n_instances, …)`.
            output: index of the output.

        Returns:
            For each kind in `provides` float64 `(n_instances,)` in the order of the bag, without gradient.
        """

    def linear_logits(self, embedded: Tensor) -> Tensor:
        """Return logits of parts of one bag; inside of `held_constant` they are linear, piece by piece.

        They grow in proportion with the embedded instances, the class token and all biases, so the parts of a part that these
        have sum to it. A model of one part, which has no `combined` of its own, marks its attention weights as `constant`.

        Args:
            embedded: `(1, n_instances, embed_dim)`.

        Returns:
            `(n_parts, n_outputs)`, the input of `combined`.
        """
        return self.pool(embedded).logits

    def combined(self, parts: Tensor) -> Tensor:
        """Return logits of a bag `(n_outputs,)` from its `linear_logits`."""
        return parts[0]

    def single_logits(self, embedded: Tensor) -> Tensor:
        """Return logits `(n_instances, n_outputs)` of instances `(n_instances, embed_dim)`, each as a bag of its own."""
        return self.pool(embedded.unsqueeze(1)).logits

    def streams(self, bag: Tensor, output: int) -> tuple[Tensor, Tensor] | None:
        """Return the scalar of each instance by the instance stream and by the bag stream, of a model that has both.

        Args:
            bag: `(1, n_instances, …)`.
            output: index of the output.
        """
        return None

    def training_loss(self, bags: Tensor, label: Tensor, loss: BagLoss) -> Tensor:
        """Return the loss of a batch of bags, summed over bags.

        Args:
            bags: as in `forward`.
            label: `(batch_size,)`, encoded by the task; of classes int64 indices.
            loss: of the outputs; a model may add one of its own.
        """
        return loss(self(bags).logits, label)

    def after_update(self, progress: float) -> None:
        """Respond to an update of the weights; `progress` is the share of the planned updates that are done."""

    @property
    def deployed(self) -> "MILModel":
        """The model that is kept after training: this one, or a part of it."""
        return self

    def instances(self, bags: Tensor) -> Tensor:
        """Return the features `(batch_size, n_instances, feature_dim)` of the instances of bags."""
        if bags.shape[1] == 0:
            raise ValueError("a bag without instances cannot be classified")
        if isinstance(self.instance_encoder, nn.Identity):
            if bags.ndim != N_DIMS_OF_FEATURES:
                raise ValueError(f"expected features (batch_size, n_instances, feature_dim), got {tuple(bags.shape)}")
            return bags
        encoded: Tensor = self.instance_encoder(bags.flatten(0, 1))
        return encoded.reshape(*bags.shape[:2], -1)
