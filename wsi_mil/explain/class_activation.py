"""Class activation: the contribution of each instance to the bag's log odds, attention included."""

from torch import Tensor

from wsi_mil.explain.base import Values, model_scores
from wsi_mil.models import MILModel


def class_activation(model: MILModel, bag: Tensor, output: int) -> Values:
    """n·a_n·(w·h_n) of tier 1, w of the class against the others: zero where attention or evidence is neutral.

    Source:
        Zhang et al.: DTFD-MIL, CVPR 2022, section 3.2 (derivation of the instance probability by Grad-CAM): for two classes
        this is n times the log odds of their p_n.
    """
    return Values(model_scores(model, bag, output, "class_activation"))
