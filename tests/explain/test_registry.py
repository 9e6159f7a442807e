import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wsi_mil.config import ABMIL, parse_model, supports
from wsi_mil.explain.curves import Predicted, curve_log, curves_of, descending, random_curves, shares
from wsi_mil.explain.registry import METHODS
from wsi_mil.explain.standardised_sum import standardised
from wsi_mil.models import MILModel, create_model

OF_ABMIL = tuple(name for name in METHODS if supports(ABMIL.provides, name))
"""The methods that score the model of the tests."""


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(37)), st.sampled_from(OF_ABMIL))
def test_scores_follow_a_permutation_of_the_bag(toy_model: MILModel, toy_bag: Tensor, order: list[int], method: str) -> None:
    found = METHODS[method].of_model(toy_model, toy_bag, 1)
    moved = METHODS[method].of_model(toy_model, toy_bag[:, order], 1)
    assert np.allclose(moved.scores, found.scores[order], rtol=1e-4, atol=1e-6)
    assert moved.zero == pytest.approx(found.zero, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("method", OF_ABMIL)
def test_every_method_points_at_the_two_positive_instances(toy_model: MILModel, toy_bag: Tensor, method: str) -> None:
    assert set(np.argsort(METHODS[method].of_model(toy_model, toy_bag, 1).scores)[-2:]) == {5, 30}


def test_the_zero_of_attention_logits_is_an_even_share(toy_model: MILModel, toy_bag: Tensor) -> None:
    logits, zero, *_ = METHODS["attention_logits"].of_model(toy_model, toy_bag, 1)
    attention = METHODS["attention"].of_model(toy_model, toy_bag, 1).scores
    assert np.allclose(np.exp(logits - zero) / 37, attention, rtol=1e-5)


def test_evidence_weighted_by_attention_is_the_bags_log_odds(toy_model: MILModel, toy_bag: Tensor) -> None:
    attention = METHODS["attention"].of_model(toy_model, toy_bag, 1).scores
    evidence = METHODS["evidence"].of_model(toy_model, toy_bag, 1).scores
    logits = toy_model(toy_bag).logits[0]
    assert attention @ evidence == pytest.approx(float(logits[1] - logits[0]), rel=1e-4)


def test_gradient_times_input_of_a_linear_model_is_its_evidence_without_the_bias(toy_bag: Tensor) -> None:
    torch.manual_seed(0)
    settings = parse_model({"model": "embedding_pool", "pool": "mean", "embed_dim": None, "dropout": 0})
    model = create_model(settings, feature_dim=12, n_classes=2).eval()
    model.requires_grad_(False)
    bias = float(model.classifier.bias[1] - model.classifier.bias[0])
    evidence = METHODS["evidence"].of_model(model, toy_bag, 1).scores
    assert np.allclose(METHODS["gradient_input"].of_model(model, toy_bag, 1).scores, evidence - bias, atol=1e-5)


@pytest.mark.parametrize("n", [37, 64, 65])
def test_attention_of_transmil_is_right_to_the_tile(toy_transmil: MILModel, n: int) -> None:
    rng = np.random.default_rng(n)
    features = rng.random((n, 12)).astype(np.float32)
    hot = rng.choice(n, 2, replace=False)
    features[hot, 0] += 4
    scores = METHODS["attention"].of_model(toy_transmil, torch.from_numpy(features).unsqueeze(0), 1).scores
    assert len(scores) == n and set(np.argsort(scores)[-2:]) == set(hot)


def test_standardised_by_hand() -> None:
    assert standardised(np.array([1.0, 3.0])).tolist() == [-1.0, 1.0]
    assert standardised(np.array([2.0, 2.0, 2.0])).tolist() == [0.0, 0.0, 0.0]


def count_of(wanted: set[int]):
    """A model that says 1 where at least one of `wanted` is in the bag, else 0, which turns its prediction."""
    return lambda rows: Predicted(float(bool(wanted & set(rows.tolist()))), bool(wanted & set(rows.tolist())))


def test_curves_by_hand() -> None:
    order = np.array([2, 0, 3, 1, 4, 5, 6, 7, 8, 9])
    curves = curves_of(order, count_of({2}), points=2)
    assert shares(2).tolist() == [0, 0.25, 1]
    assert curves.deletion.tolist() == [1, 0, 0] and curves.insertion.tolist() == [1, 1, 1]
    assert curves.areas == (0.125, 1.0)
    worst = curves_of(order[::-1], count_of({2}), points=2)
    assert worst.deletion.tolist() == [1, 1, 1] and worst.insertion.tolist() == [0, 0, 1]


def test_the_model_sees_instances_in_the_order_of_the_bag() -> None:
    seen = []
    curves_of(np.array([3, 0, 2, 1]), lambda rows: seen.append(rows.tolist()) or Predicted(0.0), points=3)
    assert all(rows == sorted(rows) and rows for rows in seen) and [0, 1, 2, 3] in seen


def test_random_orders_are_the_same_each_time_and_lie_between() -> None:
    prob = count_of({7, 11})
    first, second = (random_curves(40, prob, points=10) for _ in range(2))
    assert first.areas == second.areas
    best = curves_of(np.array([7, 11, *(i for i in range(40) if i not in (7, 11))]), prob, points=10)
    assert best.areas[0] < first.areas[0] and best.areas[1] > first.areas[1]


def test_a_single_instance_has_flat_curves() -> None:
    curves = curves_of(np.array([0]), count_of({0}), points=4)
    assert curves.deletion.tolist() == curves.insertion.tolist() == [1.0] * 5
    assert math.isclose(curves.areas[0], 1.0)


def test_the_insertion_curve_is_deletion_with_the_least_important_instances_first_read_from_its_end() -> None:
    rng = np.random.default_rng(3)
    weight = rng.random(25)

    def model(rows: np.ndarray) -> Predicted:
        return Predicted(float(weight[rows].sum() / weight.sum()) ** 2)

    order = rng.permutation(25)
    curves = curves_of(order, model, points=6)
    removed = np.rint(shares(6) * 25).astype(int)
    least_first = [model(np.sort(order[::-1][25 - max(k, 1) :])).value for k in removed]
    assert curves.insertion.tolist() == least_first
    best = curves_of(np.argsort(-weight), model, points=6)
    assert best.symmetric_gain > curves.symmetric_gain > curves_of(np.argsort(weight), model, points=6).symmetric_gain


def test_the_tiles_that_turn_the_prediction_by_hand() -> None:
    wanted = {4, 9, 17}  # the last of them is the 6th of the order
    order = np.array([9, 0, 4, 1, 2, 17, *(i for i in range(40) if i not in (9, 0, 4, 1, 2, 17))])
    curves = curves_of(order, count_of(wanted), points=10)
    assert curves.turn == 6 / 40, "small numbers are exact"
    assert curves_of(order[::-1], count_of(wanted), points=10).turn is None, "the hottest tile stays to the last"
    log = curve_log(curves, random_curves(40, count_of(wanted), points=10))
    assert log["turn"] == 0.15 and log["random_turn"] > 0.5 and log["symmetric_gain"] > log["random_symmetric_gain"]


def test_the_largest_gain_of_random_orders_is_stored_whichever_end_they_are_read_from() -> None:
    weight = np.random.default_rng(4).random(30) ** 8

    def model(rows: np.ndarray) -> Predicted:
        return Predicted(float(weight[rows].sum() / weight.sum()))

    rng = np.random.default_rng(0)
    gains = [curves_of(rng.permutation(30), model, points=12).symmetric_gain for _ in range(5)]
    log = curve_log(curves_of(np.argsort(-weight), model, points=12), random_curves(30, model, points=12))
    assert log["random_symmetric_gain_max"] == round(max(map(abs, gains)), 6) > abs(log["random_symmetric_gain"])
    assert log["random_symmetric_gain"] == pytest.approx(np.mean(gains), abs=1e-6)


@pytest.mark.parametrize("needed", [1, 37, 500, 999])
def test_large_numbers_of_tiles_that_turn_are_right_to_a_tenth(needed: int) -> None:
    seen = []

    def model(rows: np.ndarray) -> Predicted:
        seen.append(len(rows))
        return Predicted(len(rows) / 1000, len(rows) > 1000 - needed)

    turn = curves_of(np.arange(1000), model, points=10).turn
    assert turn is not None and needed <= round(1000 * turn) <= 1.12 * needed and len(seen) <= 22 + 8


def test_the_order_of_tied_scores_is_not_that_of_the_bag() -> None:
    values = np.array([1.0] + [0.0] * 50 + [2.0], np.float32)
    order = descending(values)
    assert order[:2].tolist() == [51, 0] and order[2:].tolist() != list(range(1, 51))
    assert sorted(order.tolist()) == list(range(52)) and order.tolist() == descending(values).tolist()
