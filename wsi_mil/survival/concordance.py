"""Concordance: share of comparable pairs of patients of whom the one with the higher risk had the event first.

A pair is comparable if one patient had the event while the other was still at risk. The bootstrap computes these figures a
thousand times, so pairs are counted by sorting, not one by one.
"""

import math

import numpy as np
from numpy.typing import NDArray

from wsi_mil.survival.censoring import uncensored


def harrell_c(time: NDArray[np.float64], event: NDArray[np.bool_], risk: NDArray[np.float64]) -> float:
    """Return Harrell's C; equal risks count half.

    It depends on how long patients were followed: pairs are comparable only if the earlier time is an event.

    Args:
        time: `(n,)` time to the event or to the end of follow-up.
        event: `(n,)` whether the event was observed.
        risk: `(n,)`.

    Returns:
        A value from 0 to 1, 0.5 at chance, or NaN if no pair is comparable or a risk is NaN.
    """
    return _concordance(time, event, risk, event.astype(np.float64))


def uno_c(time: NDArray[np.float64], event: NDArray[np.bool_], risk: NDArray[np.float64], *, tau: float = math.inf) -> float:
    """Return Uno's C: each event is weighted by the inverse squared probability of being followed until then.

    It estimates the concordance before `tau`, whatever the censoring, if censoring does not depend on the risk (Uno et al.
    2011, Statistics in Medicine 30:1105). Late events have large weights: `tau` should be a time beyond which some patients
    are still followed.

    Args:
        time: `(n,)` time to the event or to the end of follow-up.
        event: `(n,)` whether the event was observed.
        risk: `(n,)`.
        tau: events from this time on are not counted.

    Returns:
        A value from 0 to 1, 0.5 at chance, or NaN if no pair is comparable or a risk is NaN.
    """
    counted = event & (time < tau)
    weights = np.where(counted, uncensored(time, event).until(time), np.inf) ** -2
    return _concordance(time, event, risk, weights)


def _concordance(
    time: NDArray[np.float64], event: NDArray[np.bool_], risk: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """Return the share of comparable pairs that are in order, weighted by the patient with the earlier event."""
    _, end = np.unique(time, return_inverse=True)
    end = 2 * end + ~event
    later = len(end) - np.searchsorted(np.sort(end), end, "right")
    n_pairs = float((weights * later).sum())
    if np.isnan(risk).any() or not n_pairs:
        return math.nan
    net = _n_later_and_lower(end, risk) - _n_later_and_lower(end, -risk)
    return 0.5 + float((weights * net).sum()) / (2 * n_pairs)


def _n_later_and_lower(end: NDArray[np.int64], risk: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each patient the number of those with a later end and a lower risk.

    Patients are put in a row, latest first, equal ends by descending risk. The row is halved again and again; those in the
    right half of each piece count those with a lower risk in its left half.
    """
    n = len(end)
    row = np.lexsort((-risk, -end))
    by_risk = np.lexsort((-np.arange(n), risk[row]))
    counts = np.zeros(n, np.int64)
    for level in range((n - 1).bit_length()):
        places = by_risk[np.argsort(by_risk >> (level + 1), kind="stable")]
        is_left = (places >> level) & 1 == 0
        lefts_of_earlier_pieces = (places >> (level + 1)) << level
        counts[places] += np.where(is_left, 0, np.cumsum(is_left) - lefts_of_earlier_pieces)
    of_patient = np.empty(n, np.int64)
    of_patient[row] = counts
    return of_patient
