from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_instances_are_classified_then_pooled(make: Callable, bag: Tensor, pool: str) -> None:
    model = make("instance_pool", pool=pool, embed_dim=8)
    w = model.state_dict()
    h = torch.relu(bag[0] @ w["embedding.0.weight"].T + w["embedding.0.bias"])
    p = torch.sigmoid(h @ w["classifier.weight"][0] + w["classifier.bias"])
    assert_close(torch.softmax(model(bag).logits, 1)[0, 1], p.max() if pool == "max" else p.mean())
    assert_close(model.instance_scores(bag, 1)["probability"].float(), p)
    assert_close(model.instance_scores(bag, 0)["probability"].float(), 1 - p)


def test_of_three_classes_the_mean_is_that_of_softmax_probabilities(make: Callable, bag: Tensor) -> None:
    model = make("instance_pool", pool="mean", embed_dim=None, n_classes=3)
    p = torch.softmax(bag[0] @ model.classifier.weight.T + model.classifier.bias, dim=1).mean(0)
    assert_close(torch.softmax(model(bag).logits[0], 0), p)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_embeddings_are_pooled_then_classified(make: Callable, bag: Tensor, pool: str) -> None:
    model = make("embedding_pool", pool=pool, embed_dim=None, n_classes=3)
    z = bag[0].max(0).values if pool == "max" else bag[0].mean(0)
    assert_close(model(bag).logits[0], model.classifier.weight @ z + model.classifier.bias)
