"""The loss of a bag's outputs, by what is learned: the counterpart of `wsi_mil.tasks` for torch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from wsi_mil.config import RegressionLoss
from wsi_mil.models.precision import widened
from wsi_mil.tasks import Classes, Multilabel, Regression, Survival, Task


class BagLoss(ABC):
    """Compares outputs of a model with labels."""

    @abstractmethod
    def __call__(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the loss of a batch of bags, weighted and summed over bags.

        Args:
            outputs: `(batch_size, n_outputs)`.
            label: `(batch_size, …)` encoded labels, as the task's `learned` returns them.
        """

    def bag_weights(self, label: Tensor) -> Tensor:
        """Return the weight of each bag `(batch_size,)`, for models that add a loss of their own."""
        return torch.ones(len(label), device=label.device)

    def of_pool(self, log_p: Tensor, log_q: Tensor, logits: Tensor | None, label: Tensor) -> Tensor:
        """Return the loss of pooled probabilities, log P and log (1 - P) `(batch_size, n_units)`, and of logits beside them."""
        raise TypeError(f"{type(self).__name__} is not of probabilities")


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

    def of_pool(self, log_p: Tensor, log_q: Tensor, logits: Tensor | None, label: Tensor) -> Tensor:
        n = log_p.shape[1]
        is_class = label[:, None].float() if n == 1 else functional.one_hot(label, n).float()
        losses = -(is_class * log_p + (1 - is_class) * log_q).sum(dim=1)
        if logits is not None:
            losses = losses + functional.cross_entropy(logits.float(), label, reduction="none")
        return (self.bag_weights(label) * losses).sum()


@dataclass(frozen=True)
class LabelLoss(BagLoss):
    """Binary cross-entropy of each label, mean over labels; a label that is not known, NaN, adds nothing.

    Attributes:
        weights: `(2, n_labels)` of negative and of positive bags.
    """

    weights: Tensor

    def __call__(self, outputs: Tensor, label: Tensor) -> Tensor:
        logits = widened(outputs)
        known = label.nan_to_num(0.0).to(logits.dtype)
        return self._mean(functional.binary_cross_entropy_with_logits(logits, known, reduction="none"), label)

    def of_pool(self, log_p: Tensor, log_q: Tensor, logits: Tensor | None, label: Tensor) -> Tensor:
        known = label.nan_to_num(0.0).to(log_p.dtype)
        of_pool = self._mean(-(known * log_p + (1 - known) * log_q), label)
        return of_pool if logits is None else of_pool + self(logits, label)

    def _mean(self, losses: Tensor, label: Tensor) -> Tensor:
        """Weighted mean over labels, summed over bags."""
        weights = torch.where(label == 1, self.weights[1], self.weights[0])
        return torch.where(label.isnan(), 0, losses * weights).sum() / label.shape[1]


@dataclass(frozen=True)
class ValueLoss(BagLoss):
    """Squared, absolute or Huber loss of standardised values.

    Attributes:
        kind: which of them; Huber's turns from squared to absolute at 1 standard deviation, and is half of the squared below.
    """

    kind: RegressionLoss

    def __call__(self, outputs: Tensor, label: Tensor) -> Tensor:
        value = widened(outputs)[:, 0]
        label = label.to(value.dtype)
        if self.kind == "huber":
            return functional.huber_loss(value, label, reduction="sum")
        return (functional.l1_loss if self.kind == "absolute" else functional.mse_loss)(value, label, reduction="sum")


@dataclass(frozen=True)
class HazardLoss(BagLoss):
    """Negative log-likelihood of hazards over intervals.

    A patient with an event in interval y survived all before it, and not y; one who was censored in y survived y too.

    Source:
        Zadeh and Schmid: Bias in Cross-Entropy-Based Training of Deep Survival Networks, IEEE TPAMI 2021 (online 2020), with
        hazards σ(z_k) of the intervals.

    Attributes:
        uncensored_weight: share of the loss that is computed from patients with an event only.
    """

    uncensored_weight: float

    def __call__(self, outputs: Tensor, label: Tensor) -> Tensor:
        logits, interval, event = widened(outputs), label[:, :1].long(), label[:, 1].to(widened(outputs).dtype)
        survived = functional.pad(functional.logsigmoid(-logits).cumsum(dim=1), (1, 0))  # log S before each interval, and after
        died = (survived.gather(1, interval) + functional.logsigmoid(logits).gather(1, interval))[:, 0]
        lived = survived.gather(1, interval + 1)[:, 0]
        return -(event * died + (1 - self.uncensored_weight) * (1 - event) * lived).sum()


class RiskLoss(BagLoss):
    """Loss of log risks that depends on all bags at once, carried back bag by bag (`wsi_mil.train.cohort_loss`).

    A model may ask for the loss of several of its outputs. In a first pass `risks` collects them for one bag. In a second pass
    each is multiplied with the derivative of the loss at that risk, so that the gradient is that of the whole.

    Attributes:
        risks: log risks that a bag was asked the loss of since `start`, in order.
    """

    def __init__(self) -> None:
        self.risks: list[float] = []
        self._slopes: tuple[float, ...] | None = None

    def start(self, slopes: tuple[float, ...] | None = None) -> None:
        """Begin a bag: collect its risks, or multiply them with these derivatives."""
        self.risks, self._slopes = [], slopes

    def __call__(self, outputs: Tensor, label: Tensor) -> Tensor:
        if len(outputs) != 1:
            raise ValueError(f"expected one bag at a time, got {len(outputs)}")
        risk = widened(outputs)[0, 0]
        self.risks.append(float(risk.detach()))
        return risk * (0.0 if self._slopes is None else self._slopes[len(self.risks) - 1])


def create_loss(task: Task, weights: Tensor) -> BagLoss:
    """Return the loss of a task with its `loss_weights`."""
    if isinstance(task, Classes):
        return ClassLoss(weights)
    if isinstance(task, Multilabel):
        return LabelLoss(weights)
    if isinstance(task, Regression):
        return ValueLoss(task.loss)
    if isinstance(task, Survival):
        return RiskLoss() if task.loss == "cox" else HazardLoss(task.uncensored_weight)
    raise TypeError(f"no loss for tasks of kind {task.kind}")
