"""Does a model learn by the package's recipe, a shorter one, also in bfloat16 and with more than two classes?"""

import numpy as np
import pytest
import torch

from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.config import MHIM, parse_model
from wsi_mil.metrics import auroc
from wsi_mil.models import MILModel, create_mhim, create_model
from wsi_mil.records import Bag
from wsi_mil.tasks import Classes
from wsi_mil.train import fit, predict_outputs

SMALL = {
    "transmil": {"model": "transmil", "embed_dim": 16, "heads": 2},
    "nystrom": {"model": "transmil", "embed_dim": 16, "heads": 2, "attention": "nystrom", "landmarks": 8},
    "dsmil": {"model": "dsmil", "embed_dim": 16},
    "mhim": {"model": "mhim", "base": "transmil"},
}


def bags_of(n_classes: int, n: int, seed: int) -> list[LabelledBag]:
    """Bags of 20 to 40 instances × 8; class k > 0 has a few instances raised in feature k."""
    rng = np.random.default_rng(seed)
    bags = []
    for number in range(n):
        size, label = int(rng.integers(20, 41)), number % n_classes
        features = np.abs(rng.normal(size=(size, 8)))
        if label:
            features[rng.permutation(size)[:4], label] += 4
        bags.append(LabelledBag(Bag(f"b{number}", features.astype(np.float16), np.zeros((size, 2), np.int64)), label))
    return bags


def learned(name: str, bags: list[LabelledBag], n_classes: int, precision: str) -> MILModel:
    settings = parse_model({**SMALL[name], "train": {"lr": 0.002, "updates": 480, "min_epochs": 0, "precision": precision}})
    torch.manual_seed(0)
    if isinstance(settings, MHIM):
        base = learned(settings.base, bags, n_classes, precision).requires_grad_(False)
        student = create_model(parse_model(SMALL[settings.base]), feature_dim=8, n_classes=n_classes)
        model: MILModel = create_mhim(settings, base=base, student=student)
    else:
        model = create_model(settings, feature_dim=8, n_classes=n_classes)
    fit(
        model,
        BagSet.of(bags[: 12 * n_classes]),
        BagSet.of(bags[12 * n_classes :]),
        settings.train,
        task=Classes.numbered(n_classes),
    )
    return model.deployed


@pytest.mark.parametrize(("n_classes", "precision"), [(2, "float32"), (3, "bfloat16")])
@pytest.mark.parametrize("name", SMALL)
def test_the_recipe_teaches_in_either_precision_and_with_more_classes(name: str, n_classes: int, precision: str) -> None:
    fresh = bags_of(n_classes, 60, seed=2)
    probs = predict_outputs(
        learned(name, bags_of(n_classes, 14 * n_classes, seed=1), n_classes, precision), fresh, Classes.numbered(n_classes)
    )
    assert auroc(np.array([b.label for b in fresh]), probs) > 0.95
