"""What every method but sparse inversion is: a function of one frozen model and one bag."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.bags import bag_tensor
from wsi_mil.config import Method, Offer
from wsi_mil.models import MILModel
from wsi_mil.records import Bag, InstanceScores


class Values(NamedTuple):
    """Scores float64 `(n_instances,)` in the order of the bag, and the value that says nothing either way."""

    scores: NDArray[np.float64]
    zero: float = 0.0


@dataclass(frozen=True)
class InstanceMethod:
    """A way to score instances.

    Attributes:
        name: as in `explain.methods`.
        kind: what the numbers are, in words.
        unit: as in InstanceScores.
        comparable: likewise.
        comparable_weighed: likewise.
        of_model: scores of a bag `(1, n_instances, …)` by one model, for a class.
    """

    name: Method
    kind: str
    unit: str
    comparable: bool
    comparable_weighed: bool
    of_model: Callable[[MILModel, Tensor, int], Values]

    def scores(self, models: Sequence[MILModel], bag: Bag, target: int) -> InstanceScores:
        """Mean over models, float32 in the order of the bag."""
        found = [self.of_model(model, bag_tensor(bag, model), target) for model in models]
        values, zero = mean_of(found)
        return InstanceScores(
            method=self.name,
            values=values,
            kind=self.kind,
            unit=self.unit,
            comparable=self.comparable,
            comparable_weighed=self.comparable_weighed,
            zero=zero,
            target=target,
        )


def mean_of(values: Sequence[Values]) -> tuple[NDArray[np.float32], float]:
    """Mean scores, and mean of what says nothing."""
    scores = np.mean([v.scores for v in values], axis=0)
    return np.asarray(scores, np.float32), float(np.mean([v.zero for v in values]))


@torch.no_grad()
def offered_scores(model: MILModel, bag: Tensor, target: int, name: Offer) -> NDArray[np.float64]:
    """One of the scores that a model itself offers."""
    return model.instance_scores(bag, target)[name].double().cpu().numpy()
