"""Attention: what the model pooled by."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.models import MILModel

KIND = "attention: sums to 1 over the bag, also in a negative one"


def attention_scores(model: MILModel, bag: Tensor, target: int) -> NDArray[np.float64]:
    """Attention `(n_instances,)` of a bag `(1, n_instances, feature_dim)`, of the class where classes differ in it."""
    return model.instance_scores(bag, target)["attention"].cpu().numpy()
