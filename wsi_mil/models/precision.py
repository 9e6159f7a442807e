"""Precision of what must not be computed in bfloat16."""

import torch
from torch import Tensor


def widened(values: Tensor) -> Tensor:
    """Return values in float32, or in float64 as they are."""
    return values if values.dtype == torch.float64 else values.float()
