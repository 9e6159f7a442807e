"""Attention before the softmax: the same order, but losers can still be told apart."""

import math

import torch
from torch import Tensor

from wsi_mil.explain.base import InstanceMethod, Values, offered_scores
from wsi_mil.models import MILModel


def attention_logits(model: MILModel, bag: Tensor, target: int) -> Values:
    """Attention logits e_n; an instance with an even share would have logsumexp(e) - log n."""
    logits = offered_scores(model, bag, target, "attention_logits")
    return Values(logits, float(torch.logsumexp(torch.from_numpy(logits), 0)) - math.log(len(logits)))


ATTENTION_LOGITS = InstanceMethod(
    "attention_logits",
    "attention before the softmax; zero is the logit of an even share",
    "logit",
    comparable=False,
    comparable_weighed=True,
    of_model=attention_logits,
)
