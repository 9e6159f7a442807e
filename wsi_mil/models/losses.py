"""The loss of a bag's outputs, by what is learned: the counterpart of `wsi_mil.tasks` for torch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from wsi_mil.tasks import Classes, Task


class BagLoss(ABC):
    """Compares outputs of a model with labels."""

    @abstractmethod
    def __call__(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the loss of a batch of bags, weighted and summed over bags.

        Args:
            outputs: `(batch_size, n_outputs)`.
            label: `(batch_size,)` encoded labels.
        """

    @abstractmethod
    def bag_weights(self, label: Tensor) -> Tensor:
        """Return the weight of each bag `(batch_size,)`, for models that add a loss of their own."""


@dataclass(frozen=True)
class ClassLoss(BagLoss):
    """Cross-entropy.

    Attributes:
        class_weights: `(n_classes,)`.
    """

    class_weights: Tensor

    def __call__(self, outputs: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.float(), label, weight=self.class_weights, reduction="sum")

    def bag_weights(self, label: Tensor) -> Tensor:
        return self.class_weights[label]


def create_loss(task: Task, weights: Tensor) -> BagLoss:
    """Return the loss of a task with its `loss_weights`."""
    if isinstance(task, Classes):
        return ClassLoss(weights)
    raise TypeError(f"no loss for tasks of kind {task.kind}")
