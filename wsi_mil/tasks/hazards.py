"""Hazards over intervals of time, on arrays: the discrete survival model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Intervals:
    """Intervals of time [0, edge_1), [edge_1, edge_2), …, [edge_last, ∞), each with a hazard σ(z).

    Attributes:
        edges: times between intervals, ascending.
        end: the longest follow-up, where the last interval ends for the interpolation of probabilities.
    """

    edges: tuple[float, ...]
    end: float

    @classmethod
    def of(cls, time: Array, event: NDArray[np.bool_], n: int) -> "Intervals":
        """Return `n` intervals with as many events each, as far as ties allow: fewer where one would hold no event.

        Args:
            time: `(n_patients,)`.
            event: `(n_patients,)` whether the event was observed.
            n: number of intervals.
        """
        times = time[event]
        edges = np.unique(np.quantile(times, np.arange(1, n) / n))
        return cls(tuple(edges[edges > times.min()].tolist()), float(time.max()))

    @property
    def n(self) -> int:
        """Number of intervals."""
        return len(self.edges) + 1

    def of_times(self, time: Array) -> NDArray[np.int64]:
        """Return the interval that each time is in."""
        return np.searchsorted(np.array(self.edges), time, "right").astype(np.int64)

    def log_risk(self, logits: Array) -> Array:
        """Return the logarithm of the cumulative hazard over all intervals `(n,)`, from logits `(n, n_intervals)`."""
        return np.asarray(np.log(np.logaddexp(0, logits).sum(axis=1)))

    def losses(self, logits: Array, learned: Array, uncensored_weight: float) -> Array:
        """Return the negative log-likelihood of each row, as `wsi_mil.models.losses.HazardLoss` has it.

        Args:
            logits: `(n, n_intervals)`.
            learned: `(n, 2)` interval, and 1 for an event or 0.
            uncensored_weight: share of the loss that is computed from rows with an event only.
        """
        rows, interval, event = np.arange(len(logits)), learned[:, 0].astype(np.int64), learned[:, 1]
        cumulative = np.pad(np.logaddexp(0, logits).cumsum(axis=1), ((0, 0), (1, 0)))
        died = cumulative[rows, interval] + np.logaddexp(0, -logits[rows, interval])
        lived = cumulative[rows, interval + 1]
        return np.asarray(event * died + (1 - uncensored_weight) * (1 - event) * lived)

    def survival(self, logits: Array, times: Array) -> Array:
        """Return the probabilities `(n, n_times)` of no event until each time; the hazard is even within an interval."""
        starts, ends = np.array([0.0, *self.edges]), np.array([*self.edges, max(self.end, *self.edges, 0.0)])
        lengths = np.maximum(ends - starts, np.finfo(float).tiny)
        passed = np.clip((times[:, None] - starts) / lengths, 0, 1)  # (n_times, n_intervals)
        return np.asarray(np.exp(-np.logaddexp(0, logits) @ passed.T))

    def values(self) -> dict[str, object]:
        """Return the intervals as values for JSON."""
        return {"edges": list(self.edges), "end": self.end}

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> "Intervals":
        """Return the intervals that have these `values`."""
        return cls(tuple(values["edges"]), values["end"])
