"""Scatter plot of predicted against true values, with the line of identity; coordinates for SVG, y downwards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.report.axes import Axis

LEFT, TOP, RIGHT, BOTTOM = 52.0, 8.0, 308.0, 264.0
"""Frame of the plot, in units of its viewBox: a square, so that the line of identity is its diagonal."""

MARGIN = 0.05
"""Margin on either side, as a share of the range of all values."""

MAX_DOTS = 3000
"""Upper limit on dots; of more bags, every second, third … is drawn."""


@dataclass(frozen=True)
class AgreementPlot:
    """Predicted against true values, on two equal axes.

    Attributes:
        truth: axis of the true values.
        predicted: axis of the predicted values, of the same range.
        dots: position and name of each bag.
    """

    truth: Axis
    predicted: Axis
    dots: tuple[tuple[float, float, str], ...]


def agreement_plot(truth: NDArray[np.float64], predicted: NDArray[np.float64], names: Sequence[str]) -> AgreementPlot | None:
    """Return the plot of values `(n,)`, in the same unit; None without values."""
    if not len(truth):
        return None
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    pad = MARGIN * (high - low) or 1.0
    across, up = Axis(low - pad, high + pad, LEFT, RIGHT), Axis(low - pad, high + pad, BOTTOM, TOP)
    step = -(-len(truth) // MAX_DOTS)
    dots = zip(across.at(truth).tolist(), up.at(predicted).tolist(), names, strict=True)
    return AgreementPlot(across, up, tuple(dots)[::step])
