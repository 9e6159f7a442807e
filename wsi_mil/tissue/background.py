"""Detect slide backgrounds that do not look like bare glass under white light."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab

from wsi_mil.tissue.glass import LEAST_SHARE, PURE_WHITE, extremes_of, is_smooth, may_be_glass, sampled_bands

COLOURED = 35.0
"""CIE chroma above which a background is no lamp's tint; real tints reach 27."""

BACKGROUND = 1 / 3
"""Smallest share of the slide that is a background, flat and of one colour. Of 158 fields of view of a quarter of a
millimetre that are mostly tissue, none has as much of a colour beyond `COLOURED`."""

LEAST_PX = 900
"""Smallest overview that is judged; in a smaller one stained tissue can be as flat and uniform as a background."""

BIN, NEAR = 3.0, 4.0
"""Bin width in L*, a* and b* to find the commonest colour, and the largest distance from it."""

GLASS_PER_BACKGROUND = 0.25
"""Largest ratio of glass to coloured background; with more glass the colour is a stain (colloid, a pool of blood)."""

SWAPPED_GREY, SWAPPED_WITHIN, SWAPPED_RED, SWAPPED_SHARE = 0.5, 0.03, 0.8, 0.05
"""YCbCr shown as RGB turns light grey glass into (g, 128, 128), within this tolerance. No stain has this colour, so that a
smaller share of the slide suffices."""

DARK, MOSTLY = 25.0, 0.5
"""CIE L* below which a pixel is dark, and the share of dark pixels above which the slide is not bright-field."""

SIGMA_PX = 0.7


@dataclass(frozen=True)
class OddBackground:
    """Background that a bright-field slide does not have.

    Attributes:
        kind: `swapped`: grey glass whose YCbCr is shown as RGB; `coloured`: another colour far from grey; `dark`.
        colour: the commonest RGB, 0 to 255.
    """

    kind: Literal["swapped", "coloured", "dark"]
    colour: tuple[int, int, int]


def odd_background(overview: NDArray[np.uint8]) -> OddBackground | None:
    """Return the slide's background if it is far from grey, or dark; None if it is not, or cannot be seen.

    Swapped red and blue channels leave grey glass grey and are not detected.

    Args:
        overview: [height, width, 3] of the whole slide, at about 8 µm per pixel.
    """
    smooth = sampled_bands(overview).astype(np.float32)
    smooth /= 255
    ndimage.gaussian_filter(smooth, sigma=(SIGMA_PX, SIGMA_PX, 0), mode="nearest", output=smooth)
    lab = rgb2lab(smooth)
    scanned = extremes_of(smooth)[0] < PURE_WHITE
    glass = float((may_be_glass(lab) & scanned).mean())
    is_dark = lab[..., 0] < DARK
    if is_dark.mean() > MOSTLY:
        return None if glass > LEAST_SHARE else OddBackground("dark", _median(smooth[is_dark]))
    seen = scanned & ~is_dark
    return _coloured(smooth[seen], lab[seen], is_smooth(lab[..., 0])[seen], glass * seen.size / max(1, seen.sum()))


def _coloured(rgb: NDArray[np.float32], lab: NDArray[np.float32], flat: NDArray[np.bool_], glass: float) -> OddBackground | None:
    """Coloured background among the scanned, lit pixels `(n, 3)`, of which the share `glass` may be glass."""
    away = np.abs(rgb[:, 1:] - SWAPPED_GREY).max(axis=1)
    swapped = flat & (away < SWAPPED_WITHIN) & (rgb[:, 0] > SWAPPED_RED)
    if swapped.sum() > SWAPPED_SHARE * len(rgb):
        return OddBackground("swapped", _median(rgb[swapped]))
    common = _commonest(lab, flat)
    if len(rgb) < LEAST_PX or common.sum() < max(1, BACKGROUND * len(rgb)) or glass > GLASS_PER_BACKGROUND * common.mean():
        return None
    _, a, b = np.median(lab[common], axis=0)
    return OddBackground("coloured", _median(rgb[common])) if np.hypot(a, b) > COLOURED else None


def _commonest(lab: NDArray[np.float32], flat: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask of the pixels `(n, 3)` that are flat and of the commonest colour."""
    if not flat.any():
        return flat
    bins, counts = np.unique(np.rint(lab[flat] / BIN), axis=0, return_counts=True)
    centre = lab[flat & _near(lab, bins[counts.argmax()] * BIN)]
    return flat & _near(lab, centre.mean(axis=0)) if len(centre) else flat & False


def _near(lab: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.linalg.norm(lab - centre, axis=-1) < NEAR)


def _median(rgb: NDArray[np.float32]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * float(value)) for value in np.median(rgb, axis=0))
    return red, green, blue
