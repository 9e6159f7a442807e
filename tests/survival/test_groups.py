import json
import math
import sys
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from wsi_mil.errors import ConfigError
from wsi_mil.survival import group_figures, lifelines_fault

TIME = np.array([6.0, 6.0, 6.0, 7.0, 10.0, 2.0, 5.0, 6.0, 3.0, 3.0, 7.0, 1.0])
EVENT = np.array([1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 0], bool)
IS_HIGH = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1], bool)
"""Two groups of six patients, with ties of events within and between the groups, and of events with censored patients."""


@pytest.fixture
def figures() -> dict[str, Any]:
    return group_figures(TIME, EVENT, IS_HIGH)


def test_the_kaplan_meier_curve_falls_by_the_share_of_those_at_risk(figures: dict[str, Any]) -> None:
    low = figures["risk_groups"]["low"]
    assert low["times"] == [0, 2, 6, 7, 10]
    assert low["survival"] == pytest.approx([1, 5 / 6, 5 / 6 * 3 / 5, 5 / 6 * 3 / 5 / 2, 1 / 4])
    assert (low["n"], low["n_events"], low["median"]) == (6, 4, 6)
    assert (low["ends"], low["censored"]) == ([2, 6, 6, 6, 7, 10], [6, 10])


def test_its_interval_is_symmetric_in_the_log_of_the_log(figures: dict[str, Any]) -> None:
    """At 6: Greenwood's sum 1/(6·5) + 2/(5·3), survival 1/2."""
    low = figures["risk_groups"]["low"]
    half_width = 1.959963984540054 * math.sqrt(1 / 30 + 2 / 15) / math.log(2)
    assert low["survival_low"][2] == pytest.approx(0.5 ** math.exp(half_width), abs=1e-9)
    assert low["survival_high"][2] == pytest.approx(0.5 ** math.exp(-half_width), abs=1e-9)
    assert (low["survival_low"][0], low["survival_high"][0]) == (1, 1)


def test_the_log_rank_test_compares_events_with_those_expected(figures: dict[str, Any]) -> None:
    observed, variance = 0.0, 0.0
    for t in np.unique(TIME[EVENT]):
        at_risk = t <= TIME
        n, n_high = at_risk.sum(), (at_risk & IS_HIGH).sum()
        d, d_high = (EVENT & (t == TIME)).sum(), (EVENT & IS_HIGH & (t == TIME)).sum()
        observed += d_high - d * n_high / n
        variance += d * n_high / n * (1 - n_high / n) * (n - d) / max(n - 1, 1)
    chi = abs(observed) / math.sqrt(variance)
    assert figures["logrank_p"] == pytest.approx(math.erfc(chi / math.sqrt(2)), abs=1e-9)


def _efron(beta: float) -> float:
    """Negative log partial likelihood of the group, ties by Efron."""
    risk, total = np.exp(beta * IS_HIGH), 0.0
    for t in np.unique(TIME[EVENT]):
        dying, at_risk = EVENT & (t == TIME), t <= TIME
        shares = np.arange(dying.sum()) / dying.sum()
        total += beta * (dying & IS_HIGH).sum() - np.log(risk[at_risk].sum() - shares * risk[dying].sum()).sum()
    return -total


def test_the_hazard_ratio_maximises_efrons_partial_likelihood(figures: dict[str, Any]) -> None:
    beta = math.log(figures["hazard_ratio"])
    assert beta == pytest.approx(minimize_scalar(_efron, (0, 1)).x, abs=1e-6)
    step = 1e-3
    curvature = (_efron(beta + step) - 2 * _efron(beta) + _efron(beta - step)) / step**2
    half_width = 1.959963984540054 / math.sqrt(curvature)
    assert np.log(figures["hazard_ratio_ci95"]) == pytest.approx([beta - half_width, beta + half_width], abs=1e-4)


def test_exchanging_the_groups_inverts_the_hazard_ratio(figures: dict[str, Any]) -> None:
    exchanged: dict[str, Any] = group_figures(TIME, EVENT, ~IS_HIGH)
    assert exchanged["hazard_ratio"] == pytest.approx(1 / figures["hazard_ratio"], abs=1e-9)
    assert exchanged["logrank_p"] == pytest.approx(figures["logrank_p"], abs=1e-12)
    assert exchanged["risk_groups"]["low"] == figures["risk_groups"]["high"]


def test_the_figures_are_values_for_json(figures: dict[str, Any]) -> None:
    assert json.loads(json.dumps(figures)) == figures


@pytest.mark.parametrize(
    ("event", "is_high"),
    [
        ([1, 1, 1, 1], [1, 1, 0, 0]),
        ([1, 0, 1, 0], [1, 0, 1, 0]),
        ([0, 0, 0, 0], [1, 0, 1, 0]),
        ([1, 1, 1, 1], [1, 1, 1, 1]),
    ],
    ids=["one group dies first", "one group has no event", "no event", "one group"],
)
def test_a_hazard_ratio_that_would_be_zero_or_infinite_is_undefined(event: list[int], is_high: list[int]) -> None:
    figures: dict[str, Any] = group_figures(np.arange(1.0, 5.0), np.array(event, bool), np.array(is_high, bool))
    assert math.isnan(figures["hazard_ratio"]) and all(map(math.isnan, figures["hazard_ratio_ci95"]))


def test_an_empty_group_has_no_curve_and_no_test() -> None:
    figures: dict[str, Any] = group_figures(TIME, EVENT, np.ones(12, bool))
    assert list(figures["risk_groups"]) == ["high"] and math.isnan(figures["logrank_p"])


def test_a_median_that_is_not_reached_is_none() -> None:
    figures: dict[str, Any] = group_figures(TIME, EVENT & (TIME < 3), ~IS_HIGH)
    assert figures["risk_groups"]["high"]["median"] is None


def test_without_lifelines_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lifelines_fault() == ""
    monkeypatch.setitem(sys.modules, "lifelines", None)
    with pytest.raises(ConfigError, match=r"lifelines.*pip install 'wsi_mil\[survival\]'"):
        group_figures(TIME, EVENT, IS_HIGH)
