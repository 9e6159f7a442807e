"""Criteria for stained pixels, fitted on a slide's overview."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu, threshold_otsu

from wsi_mil.tissue.glass import distance_of, extremes_of

SATURATION_RANGE = (0.05, 0.2)
"""Range to which Otsu's threshold is clipped. Below it is JPEG noise on glass; above it everything is stained."""

STAINED = 0.08
"""Upper bound of the threshold on slides with little glass; pale stroma has more at 8 µm. In fields of view and cores Otsu
would split pale stain from strong instead of glass from stain."""

LITTLE_GLASS, ENOUGH_GLASS = 0.55, 0.65
"""Shares of glass up to which `STAINED` bounds the threshold, and from which the range does; interpolated in between."""

LEAST_SPREAD = 0.04
"""Smallest difference between brightest and darkest channel, of 1; in greyer pixels saturation is noise."""

MIN_VALUE = 0.12
"""Smallest brightness; in darker pixels (black borders, ink) saturation is noise."""

DISTANCE_RANGE = (2.0, 4.0)
"""Range to which the threshold is clipped, in units of a* and b*. Below it is JPEG noise on glass; above it everything is
stained (haematoxylin alone is 8 from glass)."""


class Stain(Protocol):
    """Criterion for stained pixels, fitted on one slide."""

    def stained(self, balanced: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return the mask of stained pixels.

        Args:
            balanced: [height, width, 3] RGB of a part of the slide, smoothed, relative to glass.

        Returns:
            bool [height, width].
        """


@dataclass(frozen=True)
class Saturation:
    """Saturation above a threshold, as in most tools; misses pale stains."""

    threshold: float

    @classmethod
    def fit(cls, pixels: NDArray[np.float32]) -> "Saturation":
        """Fit Otsu's threshold on the pixels `(n, 3)` of an overview, smoothed, RGB relative to glass."""
        darkest, brightest = extremes_of(pixels)
        bright = _saturation(darkest, brightest)[brightest > MIN_VALUE]
        if not bright.size:
            return cls(1.0)
        lowest, highest = SATURATION_RANGE
        highest = np.interp((bright < lowest).mean(), (LITTLE_GLASS, ENOUGH_GLASS), (STAINED, highest))
        return cls(float(np.clip(threshold_otsu(bright), lowest, highest)))

    def stained(self, balanced: NDArray[np.float32]) -> NDArray[np.bool_]:
        """See `Stain`."""
        darkest, brightest = extremes_of(balanced)
        coloured = (brightest - darkest > LEAST_SPREAD) & (brightest > MIN_VALUE)
        return np.asarray(coloured & (_saturation(darkest, brightest) > self.threshold))


@dataclass(frozen=True)
class GlassDistance:
    """Colour distance from the slide's own glass above a threshold."""

    threshold: float

    @classmethod
    def fit(cls, pixels: NDArray[np.float32], noise: float) -> "GlassDistance":
        """Fit on the pixels `(n, 3)` of an overview, smoothed, relative to glass with distances up to `noise`.

        Uses the lower of Otsu's thresholds for three classes (glass, pale and strong stain); with two classes the threshold
        would fall between haematoxylin and DAB.
        """
        lowest, highest = DISTANCE_RANGE
        counts, edges = np.histogram(np.clip(distance_of(pixels), 0, 2 * highest), bins=128, range=(0, 2 * highest))
        classes = min(3, int((counts > 0).sum()))
        otsu = threshold_multiotsu(classes=classes, hist=(counts, edges[:-1]))[0] if classes > 1 else lowest
        return cls(float(np.clip(otsu, np.clip(noise, lowest, highest), highest)))

    def stained(self, balanced: NDArray[np.float32]) -> NDArray[np.bool_]:
        """See `Stain`."""
        return np.asarray(distance_of(balanced) > self.threshold)


def _saturation(darkest: NDArray[np.float32], brightest: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((brightest - darkest) / np.maximum(brightest, 1e-6))
