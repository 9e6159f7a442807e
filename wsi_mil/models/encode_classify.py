"""Models whose forward pass is embed → encode → classify, so that instances can be masked in between."""

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor

from wsi_mil.models.base import MILModel, MILOutput
from wsi_mil.models.losses import BagLoss


class BagEncoding(NamedTuple):
    """A pooled bag, the input of the classifier."""

    bag: Tensor
    """Bag embedding `(batch_size, n_rows, embed_dim)`; more than one row where each class pools by itself."""
    attention_logits: Tensor | None = None
    """Attention logits as in MILOutput."""
    instance_logits: Tensor | None = None
    """Instance logits as in MILOutput, but `(batch_size, n_instances, n_units)`: of two classes only the last one's."""


class EncodeClassifyModel(MILModel):
    """A model that masked hard instance mining can be trained over."""

    @abstractmethod
    def encode(self, embedded: Tensor, bag_mask: Tensor | None = None) -> BagEncoding:
        """Pool embedded instances."""

    @abstractmethod
    def encode_scored(self, embedded: Tensor) -> tuple[BagEncoding, Tensor]:
        """Encode one bag, and score its instances `(n_heads, n_instances)`: the scores decide which instances are masked."""

    @abstractmethod
    def classify(self, encoding: BagEncoding) -> Tensor:
        """Logits `(batch_size, n_outputs)` of a bag embedding."""

    def encoding_loss(self, encoding: BagEncoding, label: Tensor, loss: BagLoss) -> Tensor:
        """Training loss of encoded bags."""
        return loss(self.classify(encoding), label)

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        encoding = self.encode(embedded, bag_mask)
        instance_logits = None if encoding.instance_logits is None else self.outputs.logits_of(encoding.instance_logits)
        return MILOutput(self.classify(encoding), encoding.attention_logits, instance_logits)

    def training_loss(self, bags: Tensor, label: Tensor, loss: BagLoss) -> Tensor:
        return self.encoding_loss(self.encode(self.embed(bags)), label, loss)
