"""Evidence for an output, or class activation: the output of the classifier for each instance alone."""

from torch import Tensor

from wsi_mil.explain.base import Values, model_scores
from wsi_mil.models import MILModel


def evidence(model: MILModel, bag: Tensor, output: int) -> Values:
    """What is explained, as log odds of a class, for a bag that pools to this instance alone.

    Source:
        Class activation mapping (Zhou et al. 2016) at instances instead of pixels: with attention a and classifier w, b the
        bag's log odds are Σ a_n (w·h_n + b), and this is w·h_n + b.
    """
    return Values(model_scores(model, bag, output, "evidence"))
