import math

import numpy as np
import pytest

from wsi_mil.metrics import auroc
from wsi_mil.survival import auc_at, brier_at, integrated_brier

TIME = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
EVENT = np.array([True, False, True, True, False])
RISK = np.array([3.0, 5.0, 1.0, 2.0, 1.0])
SURVIVAL = np.array([0.2, 0.4, 0.6, 0.7, 0.9])
"""One of four patients is censored at 2: the probability of being followed is 1 until then, and 3/4 from then on."""


def test_the_auc_at_a_horizon_weights_cases_and_leaves_out_who_is_censored_before_it() -> None:
    """The cases of 1 (weight 1) and 3 (weight 4/3) rank above 2 and ½ of the two patients followed beyond 3."""
    assert auc_at(TIME, EVENT, RISK, 3) == pytest.approx((1 * 2 + 4 / 3 * 0.5) / (2 * (1 + 4 / 3)))
    assert auc_at(TIME, EVENT, np.where(TIME == 2, -9, RISK), 3) == auc_at(TIME, EVENT, RISK, 3)


def test_the_brier_score_at_a_horizon_weights_patients_whose_state_is_known() -> None:
    known = 0.2**2 + 0.6**2 / 0.75 + (0.3**2 + 0.1**2) / 0.75
    assert brier_at(TIME, EVENT, SURVIVAL, 3) == pytest.approx(known / 5)


def test_the_integrated_brier_score_is_the_mean_over_time_by_trapezoids() -> None:
    survival = np.stack([SURVIVAL, SURVIVAL**2, SURVIVAL**3], axis=1)
    first, second, third = (brier_at(TIME, EVENT, survival[:, i], t) for i, t in enumerate((1, 2, 4)))
    expected = (1 * (first + second) / 2 + 2 * (second + third) / 2) / 3
    assert integrated_brier(TIME, EVENT, survival, np.array([1.0, 2.0, 4.0])) == pytest.approx(expected)
    assert integrated_brier(TIME, EVENT, survival[:, :1], np.array([1.0])) == first


def test_a_censored_patient_was_at_risk_at_the_event_of_the_same_time() -> None:
    """At 2, one of the two patients that had no event before is censored: the later ones count twice."""
    time, event = np.array([1.0, 2.0, 2.0, 3.0, 4.0]), np.array([True, True, False, True, False])
    survival = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert brier_at(time, event, survival, 3) == pytest.approx((0.1**2 + 0.2**2 + 0.4**2 / (2 / 3) + 0.5**2 / (2 / 3)) / 5)


def test_without_censoring_the_figures_are_those_of_classification() -> None:
    rng = np.random.default_rng(3)
    time, risk = rng.exponential(size=50), rng.integers(0, 9, 50) / 9
    event, had = np.ones(50, bool), time <= 0.8
    probs = np.stack([1 - risk, risk], axis=1)
    assert auc_at(time, event, risk, 0.8) == pytest.approx(auroc(had.astype(np.int64), probs), abs=1e-12)
    assert brier_at(time, event, 1 - risk, 0.8) == pytest.approx(((had - risk) ** 2).mean(), abs=1e-12)


def test_censoring_does_not_bias_the_brier_score_or_the_auc() -> None:
    rng = np.random.default_rng(4)
    log_risk = rng.normal(size=20_000)
    time, censoring = rng.exponential(np.exp(-log_risk)), rng.exponential(1.0, 20_000)
    seen, event, complete = np.minimum(time, censoring), time <= censoring, np.ones(20_000, bool)
    survival = np.exp(-np.exp(log_risk))
    assert brier_at(seen, event, survival, 1) == pytest.approx(brier_at(time, complete, survival, 1), abs=0.01)
    assert auc_at(seen, event, log_risk, 1) == pytest.approx(auc_at(time, complete, log_risk, 1), abs=0.01)


def test_figures_are_undefined_where_nobody_is_known() -> None:
    assert math.isnan(auc_at(TIME, EVENT, RISK, 0.5))
    assert math.isnan(auc_at(TIME, EVENT, RISK, 5))
    assert math.isnan(auc_at(TIME, EVENT, RISK * np.nan, 3))
    assert math.isnan(brier_at(TIME, EVENT, SURVIVAL, 5))
    assert math.isnan(integrated_brier(TIME, EVENT, np.stack([SURVIVAL, SURVIVAL], axis=1), np.array([3.0, 5.0])))
