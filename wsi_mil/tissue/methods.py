"""The ways to tell stained from unstained: what is measured once on an overview, and what each pixel is then held to."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu, threshold_otsu

from wsi_mil.tissue.glass import distance_of, extremes_of

SATURATION_RANGE = (0.05, 0.2)
"""Otsu's threshold is held inside. Below: JPEG noise on glass. Above: certainly stained."""

STAINED = 0.08
"""Pale stroma has more at 8 µm. With little glass, as in fields of view and cores, Otsu splits pale stain from strong instead
of glass from stain: the threshold is then held below this."""

LITTLE_GLASS, ENOUGH_GLASS = 0.55, 0.65
"""Shares of glass up to which the threshold is held below the one, and from which below the other; between them in between."""

LEAST_SPREAD = 0.04
"""Between brightest and darkest channel, of 1. With less a pixel is grey: its saturation is noise."""

MIN_VALUE = 0.12
"""Darker pixels are black borders or ink: their saturation is noise."""

DISTANCE_RANGE = (2.0, 4.0)
"""The threshold is held inside, in units of a* and b*. Below: JPEG noise on glass. Above: certainly stained; haematoxylin
alone is 8 from glass."""


class Stain(Protocol):
    """A way to tell stained from unstained, with what was measured on the slide."""

    def stained(self, balanced: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which pixels are stained.

        Args:
            balanced: [height, width, 3] RGB of a part of the slide, smoothed, relative to glass.

        Returns:
            bool [height, width].
        """


@dataclass(frozen=True)
class Saturation:
    """Saturation above a threshold: what most tools do. Pale stains are beyond it."""

    threshold: float

    @classmethod
    def measured(cls, pixels: NDArray[np.float32]) -> "Saturation":
        """By Otsu's threshold on the pixels `(n, 3)` of an overview, smoothed, RGB relative to glass."""
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
    """Colour away from that of the slide's own glass by more than a threshold."""

    threshold: float

    @classmethod
    def measured(cls, pixels: NDArray[np.float32], noise: float) -> "GlassDistance":
        """By the pixels `(n, 3)` of an overview, smoothed, relative to glass with distances up to `noise`.

        Otsu's lower threshold of three classes: glass, pale and strong stain. Of two it would fall between haematoxylin and
        DAB.
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
