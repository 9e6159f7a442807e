"""What the outputs of a network mean, by what is learned: the scalar that is explained, means, and probabilities.

A model is created with its `Outputs`, and asks them for whatever depends on the kind of task.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from wsi_mil.config import InstanceScoreKind
from wsi_mil.tasks import Classes, Multilabel, Survival, Task


@dataclass(frozen=True)
class Outputs(ABC):
    """Outputs of a network.

    Attributes:
        n: their number.
    """

    n: int

    @property
    def n_units(self) -> int:
        """Number of outputs of a classifier that gives `logits_of` its outputs: one fewer where one follows from the others."""
        return self.n

    def logits_of(self, units: Tensor) -> Tensor:
        """Return logits `(…, n)` from `n_units` outputs of a classifier."""
        return units

    @property
    def n_explained(self) -> int:
        """Number of outputs that can be explained: each class or label, or the one number."""
        return self.n if self.are_probabilities else 1

    def row_of(self, output: int) -> int:
        """Return the unit that belongs to an output: of two classes the only one, to both."""
        return self.unit_of(output)[0]

    def unit_of(self, output: int) -> tuple[int, float]:
        """Return the unit that an output's scalar grows with, and its sign."""
        return output, 1.0

    @abstractmethod
    def scalar(self, logits: Tensor, output: int) -> Tensor:
        """Return the explained quantity of an output, `(…)` from logits `(…, n)`."""

    @abstractmethod
    def mean(self, logits: Tensor, dim: int, mask: Tensor | None = None) -> Tensor:
        """Return logits that stand for the mean prediction along a dimension.

        Args:
            logits: `(…, n)`.
            dim: dimension of instances, or of predictions; not the last one.
            mask: True = real, of the shape of `logits` without the last dimension; None: all are.
        """

    @property
    def are_probabilities(self) -> bool:
        """Whether the outputs are classes or labels, which have probabilities."""
        return False

    def probability(self, logits: Tensor, output: int) -> Tensor:
        """Return the probability of an output, `(…)` from logits `(…, n)`."""
        raise TypeError(f"{type(self).__name__} have no probabilities")

    def provided(self, scores: tuple[InstanceScoreKind, ...]) -> tuple[InstanceScoreKind, ...]:
        """Return those of a model's scores of instances that these outputs have."""
        return scores if self.are_probabilities else tuple(kind for kind in scores if kind != "probability")


@dataclass(frozen=True)
class ClassOutputs(Outputs):
    """Mutually exclusive classes: softmax. The scalar is the log odds of a class against all others."""

    @property
    def n_units(self) -> int:
        return 1 if self.n == 2 else self.n

    def logits_of(self, units: Tensor) -> Tensor:
        return class_logits(units)

    def unit_of(self, output: int) -> tuple[int, float]:
        """Of two classes the one unit is the last one's log odds."""
        return (0, 1.0 if output else -1.0) if self.n == 2 else (output, 1.0)

    def scalar(self, logits: Tensor, output: int) -> Tensor:
        return margin_of(logits, output)

    def mean(self, logits: Tensor, dim: int, mask: Tensor | None = None) -> Tensor:
        """Return the logarithm of mean probabilities, which softmax takes back to them."""
        return _log_mean_exp(torch.log_softmax(logits, dim=-1), dim, mask)

    @property
    def are_probabilities(self) -> bool:
        return True

    def probability(self, logits: Tensor, output: int) -> Tensor:
        return torch.softmax(logits, dim=-1)[..., output]


@dataclass(frozen=True)
class LabelOutputs(Outputs):
    """Labels that do not exclude each other: a sigmoid each. The scalar is a label's logit, its log odds."""

    def scalar(self, logits: Tensor, output: int) -> Tensor:
        return logits[..., output]

    def mean(self, logits: Tensor, dim: int, mask: Tensor | None = None) -> Tensor:
        return _logit_of_mean(logits, dim, mask)

    @property
    def are_probabilities(self) -> bool:
        return True

    def probability(self, logits: Tensor, output: int) -> Tensor:
        return torch.sigmoid(logits[..., output])


@dataclass(frozen=True)
class ValueOutputs(Outputs):
    """One number: the standardised value of a regression, or the log risk of Cox's model.

    Attributes:
        centre: what the scalar is relative to.
    """

    n: int = 1
    centre: float = 0.0

    def scalar(self, logits: Tensor, output: int) -> Tensor:
        return logits[..., output] - self.centre

    def mean(self, logits: Tensor, dim: int, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            return logits.mean(dim=dim)
        mask = mask.unsqueeze(-1)
        return logits.masked_fill(~mask, 0).sum(dim=dim) / mask.sum(dim=dim)


@dataclass(frozen=True)
class HazardOutputs(Outputs):
    """A logit of the hazard in each interval of time. The scalar is the log risk: of the cumulative hazard over all of them.

    Attributes:
        centre: what the scalar is relative to.
    """

    centre: float = 0.0

    def scalar(self, logits: Tensor, output: int) -> Tensor:
        """Return log Σ softplus(z_k) - centre: an interval of hazard σ(z) is survived with probability exp(-softplus(z))."""
        return torch.log(functional.softplus(logits).sum(dim=-1)) - self.centre

    def mean(self, logits: Tensor, dim: int, mask: Tensor | None = None) -> Tensor:
        """Return logits of mean hazards."""
        return _logit_of_mean(logits, dim, mask)


def probability_and_evidence(outputs: Outputs, logits: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
    """Return the scores of instances that are classified one by one, from logits `(n_instances, n)`; of values only evidence."""
    evidence: dict[InstanceScoreKind, Tensor] = {"evidence": outputs.scalar(logits, output)}
    return {"probability": outputs.probability(logits, output), **evidence} if outputs.are_probabilities else evidence


def outputs_of(task: Task) -> Outputs:
    """Return the outputs of a network that learns a task."""
    if isinstance(task, Classes):
        return ClassOutputs(task.n_outputs)
    if isinstance(task, Multilabel):
        return LabelOutputs(task.n_outputs)
    if isinstance(task, Survival):
        return ValueOutputs(centre=task.centre) if task.loss == "cox" else HazardOutputs(task.n_outputs, task.centre)
    return ValueOutputs()


def chosen_outputs(n_classes: int | None, outputs: Outputs | None) -> Outputs:
    """Return the outputs that a model is created with: those given, or those of a number of classes.

    Raises:
        TypeError: both or neither are given.
    """
    if (n_classes is None) == (outputs is None):
        raise TypeError(f"expected n_classes or outputs, got {n_classes} and {outputs}")
    return outputs if n_classes is None and outputs is not None else ClassOutputs(n_classes or 0)


def margin_of(logits: Tensor, output: int) -> Tensor:
    """Return the log odds of a class against all other classes, over the last axis."""
    others = torch.cat([logits[..., :output], logits[..., output + 1 :]], dim=-1)
    return logits[..., output] - torch.logsumexp(others, dim=-1)


def class_logits(units: Tensor) -> Tensor:
    """Return logits `(…, n_classes)` from the units of `ClassOutputs`; of two classes, the first has logit zero.

    Then the softmax of the logits is the sigmoid of the one unit, and cross-entropy is its Bernoulli likelihood.
    """
    return torch.cat([torch.zeros_like(units), units], dim=-1) if units.shape[-1] == 1 else units


def _logit_of_mean(logits: Tensor, dim: int, mask: Tensor | None) -> Tensor:
    """Logit of the mean sigmoid, from the means of both probabilities, so that neither is rounded to 1."""
    return _log_mean_exp(functional.logsigmoid(logits), dim, mask) - _log_mean_exp(functional.logsigmoid(-logits), dim, mask)


def _log_mean_exp(logs: Tensor, dim: int, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.logsumexp(logs, dim=dim) - math.log(logs.shape[dim])
    logs = logs.masked_fill(~mask.unsqueeze(-1), -torch.inf)
    return torch.logsumexp(logs, dim=dim) - torch.log(mask.sum(dim=dim).unsqueeze(-1))
