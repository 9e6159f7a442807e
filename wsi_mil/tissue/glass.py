"""The colour of bare glass, estimated from an overview of the slide."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab

from wsi_mil.tissue.bands import Scalar

LIGHT = 55.0
"""CIE L* below which nothing is taken for lit glass."""

SMOOTH = 1.0
"""Glass varies by less, in L* over 3 × 3 pixels; stained tissue at 8 µm by 1 to 4."""

TINT = 4.0
"""Chroma up to which glass may have any hue. Lamps tint it further, but from blue to yellow only; pink and violet are stains."""

WARM_OR_COLD = 22.0
"""Reach of such tints on b*."""

PURE_WHITE = 0.995
"""Where all channels are above nothing was scanned, or the glass is overexposed: it says nothing of the tint."""

LIGHTEST = 5.0
"""Stain only takes light away, so glass is within this L* of the lightest that may be glass: pale tissue is not, nor shadows."""

LEAST_SHARE = 0.002
"""Of the slide. With less of it glass is taken for neutral: on a slide that is all tissue there is nothing to measure."""

BIN = 1.0
"""Of the histogram of tints, in units of a* and b*."""

NEAR = 3.0
"""Pixels this near to the commonest tint are glass."""

ENOUGH_PIXELS = 1_000_000
"""Of more every second, third … is taken."""

BAND_ROWS, ENOUGH_IN_BANDS = 64, 2_000_000
"""Of an overview of more pixels every second, third … band of so many rows is taken: neighbours stay neighbours."""

GREY = 0.08
"""Chroma that a unit of missing L* must come with: dust has 0.04, a coverslip 0.07, dark DAB 0.15, tissue 0.4 to 1."""


@dataclass(frozen=True)
class Glass:
    """What bare glass looks like.

    Attributes:
        white: its RGB, each from 0 to 1.
        noise: `distance_of` that all but a few of its pixels keep to, once balanced; 0 where no glass was seen.
    """

    white: tuple[float, float, float] = (0.96, 0.96, 0.96)
    noise: float = 0.0

    def balanced(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """RGB relative to glass: that becomes 1, as does what is lighter (where nothing was scanned), and its shadows grey.

        Args:
            image: [height, width, 3] RGB from 0 to 1.
        """
        relative = image / np.array(self.white, np.float32)
        return np.asarray(np.minimum(relative, 1, out=relative))


def glass_of(smooth: NDArray[np.float32]) -> Glass:
    """Glass as the commonest tint of the lightest smooth pixels.

    Args:
        smooth: [height, width, 3] RGB from 0 to 1 of the whole slide, smoothed.
    """
    smooth = some_bands(smooth)
    lab = rgb2lab(smooth)
    candidate = may_be_glass(lab) & (extremes_of(smooth)[0] < PURE_WHITE)
    if candidate.mean() < LEAST_SHARE:
        return Glass()
    candidate &= lab[..., 0] > np.percentile(lab[candidate, 0], 98) - LIGHTEST
    step = 1 + int(candidate.sum()) // ENOUGH_PIXELS
    tints = lab[candidate, 1:][::step]
    near = smooth[candidate][::step][np.hypot(*(tints - _commonest(tints)).T) < NEAR]
    red, green, blue = (float(value) for value in np.median(near, axis=0))
    away = distance_of(near / np.array([red, green, blue], np.float32))
    median = np.median(away)
    return Glass((red, green, blue), float(median + 6 * np.median(np.abs(away - median))))


def distance_of(balanced: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far from glass: CIE chroma, less `GREY` of the L* that is missing.

    What stains, colours as it darkens. What darkens and hardly colours is a shadow, dust, or the edge of a coverslip.

    Args:
        balanced: [..., 3] RGB relative to glass.

    Returns:
        float32 [...], in units of a* and b*; below 0 for greys.
    """
    lab = rgb2lab(balanced)
    return np.asarray(np.hypot(lab[..., 1], lab[..., 2]) - GREY * (100 - lab[..., 0]))


def extremes_of(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(darkest, brightest) channel [...] of [..., 3]; NumPy's own reduction over so short an axis takes ten times as long."""
    red, green, blue = np.moveaxis(image, -1, 0)
    return np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)


def some_bands(image: NDArray[Scalar]) -> NDArray[Scalar]:
    """Of a large overview [height, width, 3] every second, third … band of rows."""
    kept = np.arange(len(image)) // BAND_ROWS % (1 + image[..., 0].size // ENOUGH_IN_BANDS) == 0
    return np.asarray(image[kept], image.dtype)


def may_be_glass(lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Light, smooth, and of a tint that glass can have: bool [height, width] of CIE Lab [height, width, 3]."""
    lightness, a, b = np.moveaxis(lab, 2, 0)
    lamp = (a > -8) & (a < 2 + 0.25 * np.maximum(b, 0)) & (np.abs(b) < WARM_OR_COLD)
    return np.asarray((lightness > LIGHT) & is_smooth(lightness) & (lamp | (np.hypot(a, b) < TINT)))


def is_smooth(lightness: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where CIE L* [height, width] varies as little as on glass."""
    mean = ndimage.uniform_filter(lightness, 3)
    return np.asarray(ndimage.uniform_filter(np.square(lightness), 3) - np.square(mean) < SMOOTH**2)


def _commonest(tints: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mode of `(n, 2)`."""
    edges = np.arange(-WARM_OR_COLD - BIN, WARM_OR_COLD + 2 * BIN, BIN)
    counts = ndimage.uniform_filter(np.histogram2d(tints[:, 0], tints[:, 1], bins=(edges, edges))[0], 3, mode="constant")
    peak = np.unravel_index(counts.argmax(), counts.shape)
    return edges[np.array(peak)] + BIN / 2
