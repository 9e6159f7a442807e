"""Probability of not being censored, by which patients stand in for those whose outcome is not known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Uncensored:
    """Kaplan-Meier estimate of the probability of not being censored, a step function.

    Attributes:
        times: `(n_times,)` distinct times in order.
        probs: `(n_times,)` probability from that time on.
    """

    times: NDArray[np.float64]
    probs: NDArray[np.float64]

    def until(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of being followed up to these times, or longer."""
        return self._probs_after(np.searchsorted(self.times, times, "left"))

    def beyond(self, time: float) -> float:
        """Return the probability of being followed beyond a time."""
        return float(self._probs_after(np.searchsorted(self.times, [time], "right"))[0])

    def _probs_after(self, n_steps: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.concatenate([[1.0], self.probs])[n_steps]


def uncensored(time: NDArray[np.float64], event: NDArray[np.bool_]) -> Uncensored:
    """Return the probability of not being censored; of those with an event, only that it came first is known."""
    times, index = np.unique(time, return_inverse=True)
    n_events, n_censored = (np.bincount(index, weights, len(times)) for weights in (event, ~event))
    followed = np.cumsum((n_events + n_censored)[::-1])[::-1] - n_events
    return Uncensored(times, np.cumprod(1 - n_censored / np.maximum(followed, 1.0), dtype=np.float64))
