"""Attention: what the model pooled by."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.models import MILModel

KIND = "attention: sums to 1 over the slide, also in a negative one"


@torch.inference_mode()
def attention_scores(model: MILModel, features: Tensor) -> NDArray[np.float64]:
    """Softmax attention `(n_instances,)` of a bag `(1, n_instances, feature_dim)`."""
    return torch.softmax(model(features).attention_logits[0].double(), dim=0).cpu().numpy()
