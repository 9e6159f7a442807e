import math

import numpy as np
import pytest
from lifelines.utils import concordance_index

from wsi_mil.survival import harrell_c, uno_c

TIME = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
EVENT = np.array([True, False, True, True, False])
RISK = np.array([3.0, 5.0, 1.0, 2.0, 1.0])
"""Events of 3, 1 and 2 with 4, 2 and 1 patients still followed, of whom 3, ½ (a tie) and 1 have a lower risk.

One of four patients is censored at 2: the probability of being followed is 1 at the first event, then 3/4.
"""


def test_harrells_c_is_the_share_of_ordered_pairs_with_ties_counted_half() -> None:
    assert harrell_c(TIME, EVENT, RISK) == pytest.approx(4.5 / 7)


def test_unos_c_weights_events_by_the_inverse_squared_probability_of_being_followed() -> None:
    assert uno_c(TIME, EVENT, RISK) == pytest.approx((3 + 16 / 9 * 1.5) / (4 + 16 / 9 * 3))


def test_events_from_tau_on_do_not_count_in_unos_c() -> None:
    assert uno_c(TIME, EVENT, RISK, tau=4) == pytest.approx((3 + 16 / 9 * 0.5) / (4 + 16 / 9 * 2))
    assert uno_c(TIME, EVENT, RISK, tau=4.01) == pytest.approx(uno_c(TIME, EVENT, RISK))


@pytest.mark.parametrize("n", [2, 3, 8, 9, 61])
def test_harrells_c_equals_that_of_lifelines_with_ties_in_time_and_in_risk(n: int) -> None:
    rng = np.random.default_rng(n)
    time, risk = rng.integers(1, 9, n).astype(float), rng.integers(0, 5, n).astype(float)
    event = rng.random(n) < 0.7
    event[time.argmin()] = True
    assert harrell_c(time, event, risk) == pytest.approx(concordance_index(time, -risk, event), abs=1e-9)


def test_a_patient_censored_at_the_time_of_an_event_was_at_risk() -> None:
    time, event = np.array([2.0, 2.0]), np.array([True, False])
    assert harrell_c(time, event, np.array([1.0, 0.0])) == 1
    assert harrell_c(time, event, np.array([0.0, 1.0])) == 0


def test_events_at_the_same_time_are_not_comparable() -> None:
    time, event = np.array([2.0, 2.0, 3.0]), np.array([True, True, False])
    assert harrell_c(time, event, np.array([2.0, 0.0, 1.0])) == 0.5
    assert math.isnan(harrell_c(time[:2], event[:2], np.array([2.0, 0.0])))


def test_without_censoring_unos_c_is_harrells() -> None:
    rng = np.random.default_rng(1)
    time, risk = rng.integers(1, 20, 80).astype(float), rng.normal(size=80)
    event = np.ones(80, bool)
    assert uno_c(time, event, risk) == pytest.approx(harrell_c(time, event, risk), abs=1e-12)


def test_unos_c_does_not_depend_on_censoring_where_harrells_does() -> None:
    """Hazards cross: risk tells early events apart, and is reversed for late ones that censoring hides."""
    rng = np.random.default_rng(2)
    risk = rng.normal(size=20_000)
    early = rng.random(20_000) < 0.5
    time = np.where(early, rng.exponential(np.exp(-risk)), 2 + rng.exponential(np.exp(risk)))
    censoring = rng.exponential(3.0, 20_000)
    seen, event = np.minimum(time, censoring), time <= censoring
    complete = uno_c(time, np.ones(20_000, bool), risk, tau=6)
    assert uno_c(seen, event, risk, tau=6) == pytest.approx(complete, abs=0.01)
    assert abs(harrell_c(seen, event, risk) - complete) > 0.02


def test_concordance_is_undefined_without_events_or_with_a_risk_that_is_not_a_number() -> None:
    assert math.isnan(harrell_c(TIME, np.zeros(5, bool), RISK))
    assert math.isnan(uno_c(TIME, EVENT, RISK, tau=1))
    assert math.isnan(harrell_c(TIME, EVENT, np.where(EVENT, RISK, np.nan)))
    assert math.isnan(harrell_c(TIME[:0], EVENT[:0], RISK[:0]))
