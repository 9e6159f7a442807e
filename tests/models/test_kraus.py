from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from wsi_mil.models import ClassLoss

SMALL = {"embed_dim": 8, "dropout": 0.0}


def probs_by_hand(model: torch.nn.Module, bag: Tensor) -> np.ndarray:
    """σ(z) of every instance `(n_instances, n_outputs)`."""
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    h = np.maximum(bag[0].double().numpy() @ w["embedding.0.weight"].T + w["embedding.0.bias"], 0)
    return 1 / (1 + np.exp(-(h @ w["classifier.weight"].T + w["classifier.bias"])))


def pooled_by_hand(p: np.ndarray, pool: str) -> np.ndarray:
    """With the defaults: b = ½, a = 10, r = 5."""
    sigma, m = lambda x: 1 / (1 + np.exp(-x)), p.mean(0)
    return {
        "noisy_and": (sigma(10 * (m - 0.5)) - sigma(-5)) / (sigma(5) - sigma(-5)),
        "noisy_or": 1 - np.prod(1 - p, axis=0),
        "isr": (p / (1 - p)).sum(0) / (1 + (p / (1 - p)).sum(0)),
        "generalised_mean": (p**5).mean(0) ** 0.2,
        "log_sum_exp": np.log(np.exp(5 * p).mean(0)) / 5,
    }[pool]


@pytest.mark.parametrize("pool", ["noisy_and", "noisy_or", "isr", "generalised_mean", "log_sum_exp"])
def test_of_two_classes_the_pool_is_the_positive_ones_probability(make: Callable, bag: Tensor, pool: str) -> None:
    model = make("kraus_pool", pool=pool, joint=False, **SMALL)
    p = probs_by_hand(model, bag)
    expected = pooled_by_hand(p, pool)[0]
    assert torch.softmax(model(bag).logits[0], 0)[1].item() == pytest.approx(expected, rel=1e-5)
    assert float(model.bag_probability(model.embed(bag), 1).detach()) == pytest.approx(expected, rel=1e-5)
    assert float(model.bag_probability(model.embed(bag), 0).detach()) == pytest.approx(1 - expected, rel=1e-5)
    assert np.allclose(model.instance_scores(bag, 1)["probability"].numpy(), p[:, 0], atol=1e-6)
    assert np.allclose(model.instance_scores(bag, 0)["probability"].numpy(), 1 - p[:, 0], atol=1e-6)
    loss = model.training_loss(bag, torch.tensor([0]), ClassLoss(torch.tensor([2.0, 7.0]))).item()
    assert loss == pytest.approx(-2 * np.log(1 - expected), rel=1e-5)


def test_the_joint_loss_is_that_of_pool_and_dense_layer(make: Callable, bag: Tensor) -> None:
    model = make("kraus_pool", n_classes=3, **SMALL)
    p = pooled_by_hand(probs_by_hand(model, bag), "noisy_and")
    dense = model.dense.weight.detach().double().numpy() @ p + model.dense.bias.detach().double().numpy()
    y = np.exp(dense) / np.exp(dense).sum()
    assert np.allclose(torch.softmax(model(bag).logits[0], 0).detach().numpy(), y, atol=1e-6)
    of_pool = -np.log(1 - p[0]) - np.log(1 - p[1]) - np.log(p[2])
    found = model.training_loss(bag, torch.tensor([2]), ClassLoss(torch.tensor([9.0, 9, 3]))).item()
    assert found == pytest.approx(3 * (of_pool - np.log(y[2])), rel=1e-5)


def test_of_three_classes_without_the_dense_layer_the_pools_are_scaled_to_one(make: Callable, bag: Tensor) -> None:
    model = make("kraus_pool", pool="isr", n_classes=3, joint=False, **SMALL)
    p = pooled_by_hand(probs_by_hand(model, bag), "isr")
    assert np.allclose(torch.softmax(model(bag).logits[0], 0).detach().numpy(), p / p.sum(), atol=1e-6)


def test_the_dense_layer_starts_in_agreement_with_the_pool(make: Callable) -> None:
    two, three = (make("kraus_pool", n_classes=n, **SMALL) for n in (2, 3))
    assert two.dense.weight.item() == 4 and two.dense.bias.item() == -2
    assert three.dense.weight.tolist() == (4 * torch.eye(3)).tolist() and three.dense.bias.tolist() == [0] * 3


def test_the_threshold_stays_between_none_and_all(make: Callable, bag: Tensor) -> None:
    model = make("kraus_pool", joint=False, **SMALL)
    with torch.no_grad():
        model.classifier.bias.fill_(30.0)
    certain = torch.softmax(model(bag).logits[0], 0)[1].item()
    for beta in (-30.0, 0.0, 30.0):
        with torch.no_grad():
            model.threshold.fill_(beta)
        assert torch.softmax(model(bag).logits[0], 0)[1].item() == pytest.approx(certain, abs=1e-6) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("pool", ["noisy_or", "isr"])
def test_a_bag_whose_even_tiles_make_it_positive_still_teaches(make: Callable, pool: str) -> None:
    model = make("kraus_pool", pool=pool, **SMALL)
    with torch.no_grad():
        model.classifier.bias.zero_()
    bags = torch.rand(1, 50_000, 6, generator=torch.Generator().manual_seed(0))
    assert torch.softmax(model(bags).logits[0], 0)[1].item() > 0.8
    model.training_loss(bags, torch.tensor([0]), ClassLoss(torch.ones(2))).backward()
    assert model.classifier.bias.grad.item() > 0.5


def test_under_the_pools_that_saturate_instances_start_low(make: Callable) -> None:
    starts = {pool: make("kraus_pool", pool=pool).classifier.bias.item() for pool in ("noisy_or", "isr", "noisy_and")}
    assert starts["noisy_or"] == starts["isr"] == -6 and abs(starts["noisy_and"]) < 0.1
