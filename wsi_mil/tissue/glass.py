"""Estimate the colour of bare glass from an overview of the slide."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab

from wsi_mil.tissue.bands import Scalar

LIGHT = 55.0
"""CIE L* below which a pixel is no lit glass."""

SMOOTH = 1.0
"""Largest standard deviation of glass, in L* over 3 × 3 pixels; stained tissue at 8 µm has 1 to 4."""

TINT = 4.0
"""Chroma up to which glass may have any hue. Lamps can tint it more, but only blue to yellow; pink and violet are stains."""

WARM_OR_COLD = 22.0
"""Largest |b*| of a lamp's tint."""

PURE_WHITE = 0.995
"""Value above which all channels mean that nothing was scanned, or that glass is overexposed and shows no tint."""

LIGHTEST = 5.0
"""Stain only absorbs light, so glass is within this L* of the lightest candidates; pale tissue and shadows are not."""

LEAST_SHARE = 0.002
"""Smallest share of the slide from which glass is estimated; with less (a slide full of tissue) it is taken as neutral."""

BIN = 1.0
"""Bin width of the histogram of tints, in units of a* and b*."""

NEAR = 3.0
"""Largest distance of glass from the commonest tint."""

ENOUGH_PIXELS = 1_000_000
"""Largest number of pixels used; of more, every second, third, … is taken."""

BAND_ROWS, ENOUGH_IN_BANDS = 64, 2_000_000
"""Rows per band, and the overview size in pixels above which only every second, third, … band is used; within a band
neighbouring pixels stay together."""

GREY = 0.08
"""Chroma per unit of missing L* above which a pixel is stained: dust has 0.04, coverslips 0.07, dark DAB 0.15, tissue 0.4–1."""


@dataclass(frozen=True)
class Glass:
    """Colour of bare glass.

    Attributes:
        white: RGB, each from 0 to 1.
        noise: `distance_of` below which nearly all balanced glass pixels are; 0 if no glass was seen.
    """

    white: tuple[float, float, float] = (0.96, 0.96, 0.96)
    noise: float = 0.0

    def balanced(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return RGB relative to glass: glass and lighter pixels become 1, shadows on glass grey.

        Args:
            image: [height, width, 3] RGB from 0 to 1.
        """
        relative = image / np.array(self.white, np.float32)
        return np.asarray(np.minimum(relative, 1, out=relative))


def glass_of(smooth: NDArray[np.float32]) -> Glass:
    """Estimate glass as the commonest tint of the lightest smooth pixels.

    Args:
        smooth: [height, width, 3] RGB from 0 to 1 of the whole slide, smoothed.
    """
    smooth = sampled_bands(smooth)
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
    """Return the colour distance from glass: CIE chroma minus `GREY` times the missing L*.

    Stains add colour as they darken; shadows, dust and coverslip edges darken with hardly any colour.

    Args:
        balanced: [..., 3] RGB relative to glass.

    Returns:
        float32 [...], in units of a* and b*; below 0 for greys.
    """
    lab = rgb2lab(balanced)
    return np.asarray(np.hypot(lab[..., 1], lab[..., 2]) - GREY * (100 - lab[..., 0]))


def extremes_of(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the (darkest, brightest) channel [...] of [..., 3], ten times as fast as NumPy's reduction over so short an axis."""
    red, green, blue = np.moveaxis(image, -1, 0)
    return np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)


def sampled_bands(image: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return every second, third, … band of rows of a large overview [height, width, 3]; all of a small one."""
    kept = np.arange(len(image)) // BAND_ROWS % (1 + image[..., 0].size // ENOUGH_IN_BANDS) == 0
    return np.asarray(image[kept], image.dtype)


def may_be_glass(lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask pixels that are light, smooth and of a possible glass tint: bool [height, width] from CIE Lab [height, width, 3]."""
    lightness, a, b = np.moveaxis(lab, 2, 0)
    lamp = (a > -8) & (a < 2 + 0.25 * np.maximum(b, 0)) & (np.abs(b) < WARM_OR_COLD)
    return np.asarray((lightness > LIGHT) & is_smooth(lightness) & (lamp | (np.hypot(a, b) < TINT)))


def is_smooth(lightness: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask pixels whose CIE L* [height, width] varies as little as on glass."""
    mean = ndimage.uniform_filter(lightness, 3)
    return np.asarray(ndimage.uniform_filter(np.square(lightness), 3) - np.square(mean) < SMOOTH**2)


def _commonest(tints: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mode of `(n, 2)`."""
    edges = np.arange(-WARM_OR_COLD - BIN, WARM_OR_COLD + 2 * BIN, BIN)
    counts = ndimage.uniform_filter(np.histogram2d(tints[:, 0], tints[:, 1], bins=(edges, edges))[0], 3, mode="constant")
    peak = np.unravel_index(counts.argmax(), counts.shape)
    return edges[np.array(peak)] + BIN / 2
