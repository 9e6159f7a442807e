import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_mil.score_scaling import ScoreContext, probability_weighted, score_context
from wsi_mil.tasks import Classes

UNITS = ("share", "logit", "log_odds", "probability", "deviation", "contribution", "sensitivity")


def context(unit: str, *, zero: float = 0.0, prob: float = 0.5, n: int = 4) -> ScoreContext:
    return ScoreContext(unit, zero, False, prob, prob >= 0.5, "tumour", n)


def test_shares_become_multiples_of_an_even_share_times_the_probability() -> None:
    shares = np.array([0.7, 0.1, 0.1, 0.1], np.float32)
    assert probability_weighted(shares, context("share")) == pytest.approx([1.4, 0.2, 0.2, 0.2])


def test_logits_become_the_logarithm_of_the_same() -> None:
    shares = np.array([0.7, 0.1, 0.15, 0.05], np.float32)
    logits = np.log(shares) + 3
    zero = math.log(np.exp(logits).sum()) - math.log(4)
    weighted = probability_weighted(logits.astype(np.float32), context("logit", zero=zero))
    assert np.exp(weighted) == pytest.approx(probability_weighted(shares, context("share")), rel=1e-5)


def test_scores_above_zero_are_weighted_and_those_below_are_not() -> None:
    weighted = probability_weighted(np.array([-3, 0, 1, 4], np.float32), context("log_odds", prob=0.25))
    assert weighted.tolist() == [-3, 0, 0.25, 1]
    assert probability_weighted(np.array([5, 3], np.float32), context("deviation", zero=4, prob=0.5)).tolist() == [0.5, -1]


@given(st.sampled_from(UNITS), st.floats(1e-6, 1), st.lists(st.floats(0.015625, 0.984375, width=32), min_size=2, max_size=9))
def test_weighting_keeps_the_order_within_a_slide(unit: str, prob: float, values: list[float]) -> None:
    scores = np.array(values, np.float32)
    weighted = probability_weighted(scores, context(unit, zero=0.5 if unit != "share" else 0, prob=prob, n=len(scores)))
    order = np.argsort(scores, kind="stable")
    assert (np.diff(weighted[order]) >= 0).all()


@pytest.mark.parametrize("unit", UNITS)
def test_a_small_negative_slide_is_not_hotter_than_a_large_positive_one(unit: str) -> None:
    """60 tiles, one with nearly all attention, compared with 6,000 of which 2 % stand out."""
    lesion = np.arange(6000) < 120
    attention = [np.where(np.arange(60) == 7, 0.97, 0.03 / 59), np.where(lesion, 0.9 / 120, 0.1 / 5880)]
    standing_out = [np.where(np.arange(60) == 7, 3.0, -1.0), np.where(lesion, 3.0, -1.0)]
    tops = []
    for share, other, prob in zip(attention, standing_out, (0.03, 0.95), strict=True):
        values = {"share": share, "logit": np.log(share), "probability": 1 / (1 + np.exp(-other))}.get(unit, other)
        zero = -math.log(len(share)) if unit == "logit" else 0.0
        tops.append(probability_weighted(values.astype(np.float32), context(unit, zero=zero, prob=prob, n=len(share))).max())
    assert tops[0] < tops[1] / 2


def test_nan_stays_nan() -> None:
    assert np.isnan(probability_weighted(np.full(3, np.nan, np.float32), context("log_odds"))).all()


def test_the_context_is_read_from_the_receipt() -> None:
    metadata = {"unit": "logit", "zero": 2.5, "comparable": False, "comparable_weighed": True, "output": 1}
    receipt = {
        "methods": {"m": metadata},
        "bag_instances": 9,
        "output": 1,
        "probs": [0.2, 0.8],
        **Classes(("a", "b")).stamp(),
    }
    receipt["predicted"] = 0
    assert score_context(receipt, "m") == ScoreContext("logit", 2.5, True, 0.8, False, "b", 9, "the log odds of b")
