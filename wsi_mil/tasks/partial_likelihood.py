"""Cox's partial likelihood over a cohort, and its derivative at each patient's log risk, on arrays."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def partial_likelihood(risk: Array, time: Array, event: NDArray[np.bool_]) -> tuple[float, Array]:
    """Return the negative log partial likelihood per event, and its derivatives `(n,)`; zero without events.

    Ties are treated as Efron does: of d events at one time the l-th (l = 0 … d - 1) has the sum of risks of all that are at
    risk, less l/d of the sum of the d. All sums are of logarithms, so that no risk is too large or too small.

    Source:
        Efron: The Efficiency of Cox's Likelihood Function for Censored Data, JASA 72, 1977.

    Args:
        risk: `(n,)` log risk of each patient.
        time: `(n,)` time to the event or to the end of follow-up.
        event: `(n,)` whether the event was observed.
    """
    n_events = int(event.sum())
    if not n_events:
        return 0.0, np.zeros(len(risk))
    times, tied = np.unique(time[event], return_counts=True)
    first = np.concatenate([[0], np.cumsum(tied)[:-1]])  # of each time, among the events in order
    of_time = np.repeat(np.arange(len(times)), tied)
    share = (np.arange(n_events) - first[of_time]) / tied[of_time]
    order = np.argsort(time)
    log_at_risk = np.logaddexp.accumulate(risk[order][::-1])[::-1][np.searchsorted(time[order], times, "left")]
    own_time = np.searchsorted(times, time[event])
    log_tied = np.logaddexp.reduceat(risk[event][np.argsort(own_time, kind="stable")], first)
    log_sums = log_at_risk[of_time] + np.log1p(-share * np.exp(np.minimum(log_tied - log_at_risk, 0))[of_time])
    loss = log_sums.sum() - risk[event].sum()
    with np.errstate(divide="ignore"):
        log_until = np.concatenate([[-np.inf], np.logaddexp.accumulate(-log_sums)])
        log_shares = np.logaddexp.reduceat(np.log(share) - log_sums, first)
    slope = np.exp(risk + log_until[np.searchsorted(np.repeat(times, tied), time, "right")])
    slope[event] -= 1 + np.exp(risk[event] + log_shares[own_time])
    return float(loss / n_events), slope / n_events
