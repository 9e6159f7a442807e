"""Baseline hazard of a proportional hazards model, which turns risks into probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BaselineHazard:
    """Cumulative hazard of a patient whose log risk is 0, a step function; logarithms, as risks may be large.

    Attributes:
        times: `(n_events,)` distinct times of events in order.
        log_cumulative: `(n_events,)` logarithm of the cumulative hazard from that time on.
    """

    times: NDArray[np.float64]
    log_cumulative: NDArray[np.float64]

    def survival(self, log_risk: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities `(n, n_times)` of no event until each time, for log risks `(n,)`.

        After the last event the probability stays as it was; before the first one it is 1.
        """
        steps = np.concatenate([[-np.inf], self.log_cumulative])
        log_hazard = steps[np.searchsorted(self.times, times, "right")]
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(-np.exp(log_risk[:, None] + log_hazard)))

    def values(self) -> dict[str, object]:
        """Return the hazard as values for JSON."""
        return {"times": self.times.tolist(), "log_cumulative": self.log_cumulative.tolist()}

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> "BaselineHazard":
        """Return the hazard that has these `values`."""
        return cls(np.array(values["times"], np.float64), np.array(values["log_cumulative"], np.float64))


def breslow(time: NDArray[np.float64], event: NDArray[np.bool_], log_risk: NDArray[np.float64]) -> BaselineHazard:
    """Return Breslow's estimate: at each time of an event, their number over the sum of risks of all that are at risk.

    Args:
        time: `(n,)` time to the event or to the end of follow-up.
        event: `(n,)` whether the event was observed.
        log_risk: `(n,)`.
    """
    order = np.argsort(time)
    log_at_risk = np.logaddexp.accumulate(log_risk[order][::-1])[::-1]
    times, n_events = np.unique(time[event], return_counts=True)
    steps = np.log(n_events) - log_at_risk[np.searchsorted(time[order], times, "left")]
    return BaselineHazard(times, np.logaddexp.accumulate(steps))
