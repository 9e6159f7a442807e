"""Attention before the softmax: the same order, but low values remain distinguishable."""

import math

import torch
from torch import Tensor

from wsi_mil.explain.base import Values, model_scores
from wsi_mil.models import MILModel


def attention_logits(model: MILModel, bag: Tensor, output: int) -> Values:
    """Attention logits e_n; an instance with an even share would have logsumexp(e) - log n."""
    logits = model_scores(model, bag, output, "attention_logits")
    return Values(logits, float(torch.logsumexp(torch.from_numpy(logits), 0)) - math.log(len(logits)))
