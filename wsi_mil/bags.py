"""Bags as models take them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsi_mil.records import Bag


@dataclass(frozen=True)
class LabelledBag:
    """A bag in memory with its class index."""

    bag: Bag
    label: int


def bag_tensor(bag: Bag, model: nn.Module) -> Tensor:
    """A bag as float32 `(1, n_instances, feature_dim)` on the model's device."""
    device = next(model.parameters()).device
    return torch.from_numpy(bag.features).to(device).float().unsqueeze(0)
