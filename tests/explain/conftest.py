import numpy as np
import pytest
import torch

from wsi_mil.bags import BagSet
from wsi_mil.config import parse_model
from wsi_mil.models import MILModel, create_model
from wsi_mil.train import fit


@pytest.fixture(scope="session")
def toy_model() -> MILModel:
    """A gated ABMIL that has learnt that instances raised in feature 0 make a bag positive."""
    from tests.conftest import made_bags

    settings = parse_model({"model": "abmil", "embed_dim": 16, "attention_dim": 8, "train": {"lr": 0.005, "epochs": 30}})
    torch.manual_seed(0)
    model = create_model(settings, feature_dim=12, n_classes=2)
    bags = made_bags(40, seed=1)
    fit(model, BagSet.of(bags[:30]), BagSet.of(bags[30:]), settings.train, n_classes=2)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def toy_bag() -> torch.Tensor:
    """`(1, 37, 12)`, non-negative; instances 5 and 30 are raised in feature 0."""
    rng = np.random.default_rng(7)
    features = np.abs(rng.normal(size=(37, 12))).astype(np.float32)
    features[[5, 30], 0] += 6
    return torch.from_numpy(features).unsqueeze(0)
