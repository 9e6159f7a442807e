"""Gradient × input: the first-order share of each instance in what is explained of the bag."""

import numpy as np
from torch import Tensor

from wsi_mil.explain.base import Values
from wsi_mil.explain.gradient import CHUNK, margin_gradient
from wsi_mil.models import MILModel


def gradient_input(model: MILModel, bag: Tensor, output: int) -> Values:
    """n·⟨x_n, ∂s/∂x_n⟩, s the explained quantity: log odds, standardised value or log risk.

    The factor n compensates that gradients fall with the size of the bag: the mean over the bag is ⟨X, ∂s/∂X⟩.

    Source:
        Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713, at instances: summed over their features.
    """
    gradient = margin_gradient(model, bag, output, chunk=CHUNK)
    products = [(bag[0, rows].double() * part[0].double()).flatten(1).sum(dim=1) for rows, part in gradient.parts()]
    return Values(bag.shape[1] * np.concatenate([p.cpu().numpy() for p in products]))
