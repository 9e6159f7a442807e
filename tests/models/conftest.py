from collections.abc import Callable

import pytest
import torch

from wsi_mil.config import parse_base
from wsi_mil.models import MILModel, create_model


@pytest.fixture
def make() -> Callable[..., MILModel]:
    """A small model in eval mode, its weights drawn from a seed."""

    def build(model: str, *, n_classes: int = 2, feature_dim: int = 6, seed: int = 0, **settings: object) -> MILModel:
        torch.manual_seed(seed)
        return create_model(parse_base({"model": model, **settings}), feature_dim=feature_dim, n_classes=n_classes).eval()

    return build


@pytest.fixture
def bag() -> torch.Tensor:
    """Nine instances of six features."""
    return torch.rand(1, 9, 6, generator=torch.Generator().manual_seed(1))
