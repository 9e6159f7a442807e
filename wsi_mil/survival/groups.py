"""Comparison of risk groups. The only importer of lifelines (and of pandas, for it), which takes a second to import."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import ConfigError

INSTALL = "pip install 'wsi_mil[survival]'"
NO_INTERVAL = [math.nan, math.nan]
ROUNDING = 1e-12
"""A survival that is above one half by less than this is one half."""


def lifelines_fault() -> str:
    """Return the fault that lifelines is missing, or "": targets of kind survival need it."""
    return "" if find_spec("lifelines") else f"targets of kind survival need the package lifelines, not installed: {INSTALL}"


def group_figures(time: NDArray[np.float64], event: NDArray[np.bool_], is_high: NDArray[np.bool_]) -> dict[str, object]:
    """Return how the group with the higher risk fared compared with the other.

    The hazard ratio is that of a Cox model with the group as its only covariate (ties by Efron, Wald's interval); it is NaN
    where its estimate would be zero or infinite. The log-rank test is two-sided; NaN if a group is empty or nobody had the
    event.

    Args:
        time: `(n,)` time to the event or to the end of follow-up.
        event: `(n,)` whether the event was observed.
        is_high: `(n,)` whether a patient is in the group with the higher risk.

    Returns:
        Values for JSON: `hazard_ratio` (high over low), `hazard_ratio_ci95`, `logrank_p`, and `risk_groups` with a
        Kaplan-Meier curve for `low` and `high`, those with patients: `n`, `n_events`, `median` (None if not reached),
        `times` (0, those of events, the last one), `survival`, `survival_low` and `survival_high` (95 %, log-log) from each of
        them on, `ends` (times of all patients in order) and `censored` (those that ended without the event).

    Raises:
        ConfigError: lifelines is not installed.
    """
    ratio, interval = _hazard_ratio(time, event, is_high)
    members = {"low": ~is_high, "high": is_high}
    curves = {name: _kaplan_meier(time[rows], event[rows]) for name, rows in members.items() if rows.any()}
    return {
        "hazard_ratio": ratio,
        "hazard_ratio_ci95": interval,
        "logrank_p": _logrank_p(time, event, is_high),
        "risk_groups": curves,
    }


def _hazard_ratio(time: NDArray[np.float64], event: NDArray[np.bool_], is_high: NDArray[np.bool_]) -> tuple[float, list[float]]:
    """Hazard ratio, and its interval."""
    if not _is_ratio_finite(time, event, is_high):
        return math.nan, NO_INTERVAL
    with _lifelines() as lifelines:
        import pandas as pd

        table = pd.DataFrame({"time": time, "event": event, "high": is_high.astype(float)})
        fitter = lifelines.CoxPHFitter().fit(table, "time", "event")
    low, high = fitter.confidence_intervals_.loc["high"]
    return math.exp(fitter.params_["high"]), [math.exp(low), math.exp(high)]


def _is_ratio_finite(time: NDArray[np.float64], event: NDArray[np.bool_], is_high: NDArray[np.bool_]) -> bool:
    """Whether each group had an event while the other had patients at risk."""
    if is_high.all() or not is_high.any():
        return False
    both = time <= min(time[is_high].max(), time[~is_high].max())
    return bool((event & both & is_high).any() and (event & both & ~is_high).any())


def _logrank_p(time: NDArray[np.float64], event: NDArray[np.bool_], is_high: NDArray[np.bool_]) -> float:
    if is_high.all() or not is_high.any() or not event.any():
        return math.nan
    with _lifelines() as lifelines:
        test = lifelines.statistics.logrank_test(time[is_high], time[~is_high], event[is_high], event[~is_high])
    return float(test.p_value)


def _kaplan_meier(time: NDArray[np.float64], event: NDArray[np.bool_]) -> dict[str, object]:
    """Kaplan-Meier curve of one group."""
    with _lifelines() as lifelines:
        fitter = lifelines.KaplanMeierFitter().fit(time, event)
    survival = fitter.survival_function_.to_numpy()[:, 0]
    steps = np.append(True, np.diff(survival) < 0)
    steps[-1] = True
    low, high = fitter.confidence_interval_.to_numpy()[steps].T
    times = fitter.survival_function_.index.to_numpy()[steps]
    is_half_gone = survival[steps] <= 0.5 + ROUNDING
    return {
        "n": len(time),
        "n_events": int(event.sum()),
        "median": float(times[is_half_gone.argmax()]) if is_half_gone.any() else None,
        "times": times.tolist(),
        "survival": survival[steps].tolist(),
        "survival_low": low.tolist(),
        "survival_high": high.tolist(),
        "ends": np.sort(time).tolist(),
        "censored": np.sort(time[~event]).tolist(),
    }


@contextmanager
def _lifelines() -> Iterator[Any]:
    """Import lifelines, and hide its warnings: of pandas' next version, and of groups that nearly determine the event."""
    try:
        import lifelines
    except ImportError as error:
        raise ConfigError([lifelines_fault()]) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield lifelines
