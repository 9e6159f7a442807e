"""An explanation as a function of one frozen model and one bag, which every method but sparse inversion is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.bags import bag_tensor
from wsi_mil.config import ExplanationRecord, InstanceScoreKind
from wsi_mil.explain.agreement import agreement_log
from wsi_mil.models import MILModel
from wsi_mil.records import Bag, InstanceScores


class Values(NamedTuple):
    """Scores of the instances of a bag by one model."""

    scores: NDArray[np.float64]
    """`(n_instances,)` in the order of the bag."""
    zero: float = 0.0
    """Their neutral value, neither for nor against the class."""
    log: Mapping[str, float] = MappingProxyType({})
    """Figures about the computation."""
    refused: str = ""
    """Why the scores must not be shown, or ""."""


@dataclass(frozen=True)
class InstanceMethod:
    """A way to score instances.

    Attributes:
        record: its name, and what its numbers are.
        of_model: scores of a bag `(1, n_instances, …)` by one model, for a class.
    """

    record: ExplanationRecord
    of_model: Callable[[MILModel, Tensor, int], Values]

    def scores(self, models: Sequence[MILModel], bag: Bag, output: int) -> InstanceScores:
        """Scores of a bag, mean over models, float32 in the order of the bag; NaN with the reason if a model's are refused."""
        of_models = [self.of_model(model, bag_tensor(bag, model), output) for model in models]
        values, zero = mean_of(of_models)
        reason = "; ".join(dict.fromkeys(v.refused for v in of_models if v.refused))
        logs = [dict(v.log) for v in of_models]
        log: dict[str, object] = {"models": logs} if any(logs) else {}
        return InstanceScores(
            method=self.record.name,
            values=np.full_like(values, np.nan) if reason else values,
            kind=self.record.kind,
            unit=self.record.unit,
            comparable=self.record.comparable,
            comparable_weighted=self.record.comparable_weighted,
            zero=zero,
            reason=reason,
            output=output,
            log=log if reason else {**log, **agreement_log([v.scores for v in of_models])},
        )


def mean_of(values: Sequence[Values]) -> tuple[NDArray[np.float32], float]:
    """Mean scores, and the mean neutral value."""
    scores = np.mean([v.scores for v in values], axis=0)
    return np.asarray(scores, np.float32), float(np.mean([v.zero for v in values]))


@torch.no_grad()
def model_scores(model: MILModel, bag: Tensor, output: int, name: InstanceScoreKind) -> NDArray[np.float64]:
    """Scores of one of the kinds that the model itself provides, float64 in the order of the bag."""
    return model.instance_scores(bag, output)[name].double().cpu().numpy()
