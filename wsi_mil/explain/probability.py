"""Instance probability, of models that are trained to classify instances."""

from torch import Tensor

from wsi_mil.explain.base import Values, model_scores
from wsi_mil.models import MILModel


def probability(model: MILModel, bag: Tensor, output: int) -> Values:
    """Probability of the class by the instance alone."""
    return Values(model_scores(model, bag, output, "probability"))
