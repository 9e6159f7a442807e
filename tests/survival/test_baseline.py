import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from wsi_mil.survival import breslow

TIME = np.array([2.0, 1.0, 3.0, 2.0])
EVENT = np.array([True, True, False, True])
LOG_RISK = np.log([2.0, 1.0, 4.0, 1.0])


def test_the_baseline_hazard_grows_by_events_over_the_risks_of_all_at_risk() -> None:
    baseline = breslow(TIME, EVENT, LOG_RISK)
    assert baseline.times.tolist() == [1, 2]
    assert np.exp(baseline.log_cumulative) == pytest.approx([1 / 8, 1 / 8 + 2 / 7])


def test_survival_is_one_before_the_first_event_and_constant_after_the_last() -> None:
    survival = breslow(TIME, EVENT, LOG_RISK).survival(np.log([1.0, 3.0]), np.array([0.5, 1.0, 1.9, 2.0, 9.0]))
    cumulative = np.array([0, 1 / 8, 1 / 8, 1 / 8 + 2 / 7, 1 / 8 + 2 / 7])
    assert survival == pytest.approx(np.exp(-np.outer([1, 3], cumulative)))


def test_only_differences_of_log_risks_matter_however_large_they_are() -> None:
    times = np.array([0.5, 1.5, 2.5])
    near, far = (breslow(TIME, EVENT, LOG_RISK + shift).survival(LOG_RISK + shift, times) for shift in (0, 2000))
    assert far == pytest.approx(near, rel=1e-9)
    assert breslow(TIME, EVENT, LOG_RISK).survival(np.array([5000.0, -5000.0]), times[1:]).tolist() == [[0, 0], [1, 1]]


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
def test_the_baseline_hazard_equals_that_of_lifelines() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=40)
    time, event = rng.exponential(np.exp(-x)), rng.random(40) < 0.6
    table = pd.DataFrame({"time": time, "event": event, "x": x})
    fitter = CoxPHFitter().fit(table, "time", "event")
    times = np.sort(time[event])
    ours = breslow(time, event, fitter.params_["x"] * x).survival(fitter.params_["x"] * x, times)
    assert ours == pytest.approx(fitter.predict_survival_function(table, times).to_numpy().T, abs=1e-9)


def test_without_events_everybody_survives() -> None:
    assert breslow(TIME, ~EVENT & False, LOG_RISK).survival(LOG_RISK, np.array([9.0])).tolist() == [[1.0]] * 4
