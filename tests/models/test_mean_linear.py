"""The network of the linear model of the mean of the features."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from wsi_mil.explain.contribution import decompose


def test_logits_are_linear_in_the_mean(make: Callable, bag: Tensor) -> None:
    model = make("mean_linear", n_classes=3)
    assert_close(model(bag).logits[0], model.classifier.weight @ bag[0].mean(0) + model.classifier.bias)


def test_logits_are_linear_in_mean_and_standard_deviation(make: Callable, bag: Tensor) -> None:
    model = make("mean_linear", statistics="mean_std", n_classes=3)
    statistics = torch.cat([bag[0].mean(0), bag[0].std(0, correction=0)])
    assert_close(model(bag).logits[0], model.classifier.weight @ statistics + model.classifier.bias)


def test_a_feature_that_is_even_over_the_bag_has_no_deviation_and_no_slope_that_is_not_finite(
    make: Callable, bag: Tensor
) -> None:
    model = make("mean_linear", statistics="mean_std")
    even = bag.clone()
    even[..., 2] = 0.3
    even.requires_grad_()
    logits = model(even).logits
    statistics = torch.cat([even[0].mean(0), even[0].std(0, correction=0).index_fill(0, torch.tensor([2]), 0)])
    assert_close(logits[0], model.classifier.weight @ statistics + model.classifier.bias)
    logits.sum().backward()
    assert even.grad is not None and even.grad.isfinite().all()


def test_of_the_mean_contributions_are_weight_times_features_over_the_number_of_tiles(make: Callable, bag: Tensor) -> None:
    model = make("mean_linear").requires_grad_(False).double()
    weight = (model.classifier.weight[1] - model.classifier.weight[0]).numpy()
    expected = bag[0].double().numpy() @ weight / 9
    parts = decompose(model, bag.double(), 1)
    np.testing.assert_allclose(parts.contributions, expected, atol=1e-12)
    assert parts.biases == pytest.approx(float(model.classifier.bias[1] - model.classifier.bias[0]))


@pytest.mark.parametrize("statistics", ["mean", "mean_std"])
def test_contributions_and_biases_sum_to_the_log_odds_also_of_one_tile(make: Callable, bag: Tensor, statistics: str) -> None:
    model = make("mean_linear", statistics=statistics).requires_grad_(False).double()
    for tiles in (bag.double(), bag[:, :1].double(), 1000 + bag.double()):
        parts = decompose(model, tiles, 1)
        logits = model(tiles).logits[0]
        assert parts.total == pytest.approx(float(logits[1] - logits[0]), abs=1e-9) and not parts.refused
        assert parts.contributions.sum() + parts.biases == pytest.approx(parts.total, abs=1e-7)
