"""Attention logit and evidence, each standardised within the bag and added."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.explain.base import Values, model_scores
from wsi_mil.metrics import are_equal
from wsi_mil.models import MILModel


def standardised_sum(model: MILModel, bag: Tensor, output: int) -> Values:
    """z(e) + z(c): e the attention logits, c the evidence, z over the bag. Ours: no paper has it."""
    logits = model_scores(model, bag, output, "attention_logits")
    return Values(standardised(logits) + standardised(model_scores(model, bag, output, "evidence")))


def standardised(values: NDArray[np.float64], scale: float | None = None) -> NDArray[np.float64]:
    """(values - mean) / standard deviation; zeros where all values are equal but for rounding, see `are_equal`."""
    return np.zeros_like(values) if are_equal(values, scale) else (values - values.mean()) / values.std()
