"""Figures at a point in time: who has had the event until then, and with which probability that was predicted."""

import math

import numpy as np
from numpy.typing import NDArray

from wsi_mil.survival.censoring import uncensored


def auc_at(time: NDArray[np.float64], event: NDArray[np.bool_], risk: NDArray[np.float64], horizon: float) -> float:
    """Return the time-dependent AUC: how well risks separate those with an event until the horizon from all others.

    Cumulative cases, dynamic controls: patients with the event at or before the horizon against those followed beyond it.
    Each case is weighted by the inverse probability of being followed until its event; patients who are censored before the
    horizon are neither (Uno et al. 2007, JASA 102:527; Hung and Chiang 2010). Equal risks count half.

    Args:
        time: `(n,)` time to the event or to the end of follow-up.
        event: `(n,)` whether the event was observed.
        risk: `(n,)`.
        horizon: in the unit of `time`.

    Returns:
        A value from 0 to 1, 0.5 at chance, or NaN without cases or controls, or if a risk is NaN.
    """
    is_case, controls = event & (time <= horizon), np.sort(risk[time > horizon])
    if not is_case.any() or not len(controls) or np.isnan(risk).any():
        return math.nan
    weights = 1 / uncensored(time, event).until(time[is_case])
    below, not_above = (np.searchsorted(controls, risk[is_case], side) for side in ("left", "right"))
    return float((weights * (below + not_above)).sum() / (2 * len(controls) * weights.sum()))


def brier_at(time: NDArray[np.float64], event: NDArray[np.bool_], survival: NDArray[np.float64], horizon: float) -> float:
    """Return the Brier score of the predicted probability of no event until the horizon; 0 is best.

    Each patient whose state at the horizon is known is weighted by the inverse probability of that: of being followed until
    its event, or beyond the horizon (Graf et al. 1999, Statistics in Medicine 18:2529). A constant 0.5 scores 0.25.

    Args:
        time: `(n,)` time to the event or to the end of follow-up.
        event: `(n,)` whether the event was observed.
        survival: `(n,)` predicted probability of no event until the horizon.
        horizon: in the unit of `time`.

    Returns:
        NaN if no patient was followed beyond the horizon.
    """
    is_case, is_control = event & (time <= horizon), time > horizon
    if not is_control.any():
        return math.nan
    follow_up = uncensored(time, event)
    of_cases = (survival[is_case] ** 2 / follow_up.until(time[is_case])).sum()
    of_controls = ((1 - survival[is_control]) ** 2).sum() / follow_up.beyond(horizon)
    return float(of_cases + of_controls) / len(time)


def integrated_brier(
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    survival: NDArray[np.float64],
    horizons: NDArray[np.float64],
) -> float:
    """Return the mean Brier score from the first to the last horizon, by trapezoids; of a single horizon, its Brier score.

    Args:
        time: `(n,)` time to the event or to the end of follow-up.
        event: `(n,)` whether the event was observed.
        survival: `(n, n_horizons)` predicted probabilities of no event until each horizon.
        horizons: `(n_horizons,)`, ascending.

    Returns:
        NaN if no patient was followed beyond the last horizon.
    """
    scores = np.array([brier_at(time, event, column, float(t)) for column, t in zip(survival.T, horizons, strict=True)])
    if len(scores) == 1:
        return float(scores[0])
    return float(np.trapezoid(scores, horizons) / (horizons[-1] - horizons[0]))
