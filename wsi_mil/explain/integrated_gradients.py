"""Integrated gradients from a bag of zeros."""

import numpy as np
import torch
from torch import Tensor

from wsi_mil.explain.base import Values
from wsi_mil.explain.gradient import CHUNK, margin_gradient
from wsi_mil.models import MILModel

STEPS = 20


def integrated_gradients(model: MILModel, bag: Tensor, output: int) -> Values:
    """Σ over features of x_k ∫ ∂s/∂x_k(t X) dt, t from 0 to 1, s the explained quantity.

    Source:
        Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017, https://arxiv.org/abs/1703.01365, eq. 3,
        by the midpoints of 20 steps. The log has s(X) - s(0), which scores sum to but for the error of the integral.
    """
    products = np.zeros(bag.shape[1])
    for step in range(STEPS):
        gradient = margin_gradient(model, bag * ((step + 0.5) / STEPS), output, chunk=CHUNK)
        for rows, part in gradient.parts():
            products[rows] += (bag[0, rows].double() * part[0].double()).flatten(1).sum(dim=1).cpu().numpy()
    scores = products / STEPS
    with torch.no_grad():
        ends = [float(model.outputs.scalar(model(end).logits[0].double(), output)) for end in (bag, torch.zeros_like(bag))]
    return Values(scores, log={"difference": round(ends[0] - ends[1], 6), "sum": round(float(scores.sum()), 6)})
