"""Instance probability, of models that are trained to classify instances."""

from torch import Tensor

from wsi_mil.explain.base import InstanceMethod, Values, offered_scores
from wsi_mil.models import MILModel


def probability(model: MILModel, bag: Tensor, target: int) -> Values:
    """Probability of the class by the instance alone."""
    return Values(offered_scores(model, bag, target, "probability"))


PROBABILITY = InstanceMethod(
    "probability",
    "each instance's own probability of the class",
    "probability",
    comparable=True,
    comparable_weighed=True,
    of_model=probability,
)
