import numpy as np
import pytest
import torch

from tests.conftest import synthetic_bags
from wsi_mil.bags import BagSet
from wsi_mil.config import parse_model
from wsi_mil.models import MILModel, create_model
from wsi_mil.tasks import Classes
from wsi_mil.train import fit


@pytest.fixture(scope="session")
def toy_model() -> MILModel:
    """A gated ABMIL that has learnt that instances raised in feature 0 make a bag positive."""
    stopped = {"schedule": "constant", "instance_dropout": 0.0, "min_epochs": 0, "min_val_bags": 1}
    return _fitted({"model": "abmil", "embed_dim": 16, "attention_dim": 8}, stopped)


@pytest.fixture(scope="session")
def toy_transmil() -> MILModel:
    """A TransMIL that has learnt the same."""
    return _fitted({"model": "transmil", "embed_dim": 16, "heads": 2, "landmarks": 4, "position_start": "random"}, {})


@pytest.fixture(scope="session")
def toy_bag() -> torch.Tensor:
    """`(1, 37, 12)`, non-negative; instances 5 and 30 are raised in feature 0."""
    rng = np.random.default_rng(7)
    features = np.abs(rng.normal(size=(37, 12))).astype(np.float32)
    features[[5, 30], 0] += 6
    return torch.from_numpy(features).unsqueeze(0)


def _fitted(entry: dict[str, object], train: dict[str, object]) -> MILModel:
    settings = parse_model({**entry, "train": {"lr": 0.005, "epochs": 30, **train}})
    torch.manual_seed(0)
    model = create_model(settings, feature_dim=12, n_classes=2)
    bags = synthetic_bags(40, seed=1)
    fit(model, BagSet.of(bags[:30]), BagSet.of(bags[30:]), settings.train, task=Classes.numbered(2))
    return model.eval().requires_grad_(False)
