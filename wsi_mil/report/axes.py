"""Axes of plots in SVG: round numbers, and where values lie in the frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_STEPS = 5
"""Upper limit on the steps between round numbers along an axis."""


@dataclass(frozen=True)
class Axis:
    """One axis of a plot.

    Attributes:
        low: lowest value that is shown.
        high: highest value, above `low`.
        start: position of `low`, in units of the viewBox.
        end: position of `high`; before `start` along y, which points downwards.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the positions of values `(n,)`."""
        return self.start + (np.asarray(values, np.float64) - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Position and text of round numbers."""
        values = round_values(self.low, self.high)
        return [(float(p), tick_text(v)) for p, v in zip(self.at(values), values, strict=True)]


def round_values(low: float, high: float) -> list[float]:
    """Return round numbers from `low` to `high`, at most six."""
    raw = (high - low) / N_STEPS
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(m for m in (1, 2, 5, 10) if m * unit >= raw * (1 - 1e-9))
    return [float(k * step) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """Return a number as short as it is, with a true minus sign."""
    return f"{value or 0.0:.6g}".replace("-", "−")
