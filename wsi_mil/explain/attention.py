"""Attention: the weights of the model's pooling."""

from torch import Tensor

from wsi_mil.explain.base import Values, model_scores
from wsi_mil.models import MILModel


def attention(model: MILModel, bag: Tensor, output: int) -> Values:
    """Attention of the class where classes differ in it (DSMIL, CLAM-MB).

    TransMIL's is its class token's, |·| and mean over heads; DTFD's that of tier 1 over the whole bag.
    """
    return Values(model_scores(model, bag, output, "attention"))
