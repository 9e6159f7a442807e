import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_mil.score_scaling import Meaning, meaning_of, weighed_scores

UNITS = ("share", "logit", "log_odds", "probability", "deviation", "contribution", "sensitivity")


def meaning(unit: str, *, zero: float = 0.0, prob: float = 0.5, n: int = 4) -> Meaning:
    return Meaning(unit, zero, False, prob, prob >= 0.5, "tumour", n)


def test_shares_become_multiples_of_an_even_share_times_the_probability() -> None:
    shares = np.array([0.7, 0.1, 0.1, 0.1], np.float32)
    assert weighed_scores(shares, meaning("share")) == pytest.approx([1.4, 0.2, 0.2, 0.2])


def test_logits_become_the_logarithm_of_the_same() -> None:
    shares = np.array([0.7, 0.1, 0.15, 0.05], np.float32)
    logits = np.log(shares) + 3
    zero = math.log(np.exp(logits).sum()) - math.log(4)
    found = weighed_scores(logits.astype(np.float32), meaning("logit", zero=zero))
    assert np.exp(found) == pytest.approx(weighed_scores(shares, meaning("share")), rel=1e-5)


def test_what_is_above_zero_is_weighed_and_what_is_below_stays() -> None:
    found = weighed_scores(np.array([-3, 0, 1, 4], np.float32), meaning("log_odds", prob=0.25))
    assert found.tolist() == [-3, 0, 0.25, 1]
    assert weighed_scores(np.array([5, 3], np.float32), meaning("deviation", zero=4, prob=0.5)).tolist() == [0.5, -1]


@given(st.sampled_from(UNITS), st.floats(1e-6, 1), st.lists(st.floats(0.015625, 0.984375, width=32), min_size=2, max_size=9))
def test_weighing_never_changes_the_order_within_a_slide(unit: str, prob: float, values: list[float]) -> None:
    scores = np.array(values, np.float32)
    found = weighed_scores(scores, meaning(unit, zero=0.5 if unit != "share" else 0, prob=prob, n=len(scores)))
    order = np.argsort(scores, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


@pytest.mark.parametrize("unit", UNITS)
def test_a_small_negative_slide_is_not_hotter_than_a_large_positive_one(unit: str) -> None:
    """60 tiles, one of which takes nearly all, beside 6,000 of which 2 % stand out."""
    lesion = np.arange(6000) < 120
    attention = [np.where(np.arange(60) == 7, 0.97, 0.03 / 59), np.where(lesion, 0.9 / 120, 0.1 / 5880)]
    standing_out = [np.where(np.arange(60) == 7, 3.0, -1.0), np.where(lesion, 3.0, -1.0)]
    tops = []
    for share, other, prob in zip(attention, standing_out, (0.03, 0.95), strict=True):
        values = {"share": share, "logit": np.log(share), "probability": 1 / (1 + np.exp(-other))}.get(unit, other)
        zero = -math.log(len(share)) if unit == "logit" else 0.0
        tops.append(weighed_scores(values.astype(np.float32), meaning(unit, zero=zero, prob=prob, n=len(share))).max())
    assert tops[0] < tops[1] / 2


def test_nothing_to_show_stays_so() -> None:
    assert np.isnan(weighed_scores(np.full(3, np.nan, np.float32), meaning("log_odds"))).all()


def test_the_meaning_stands_in_the_receipt() -> None:
    about = {"unit": "logit", "zero": 2.5, "comparable": False, "comparable_weighed": True}
    receipt = {"methods": {"m": about}, "bag_instances": 9, "target": 1, "probs": [0.2, 0.8], "classes": ["a", "b"]}
    receipt["predicted"] = 0
    assert meaning_of(receipt, "m") == Meaning("logit", 2.5, True, 0.8, False, "b", 9)
