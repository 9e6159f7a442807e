"""The background of a slide, where it is not what bare glass under white light looks like."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab

from wsi_mil.tissue.glass import LEAST_SHARE, PURE_WHITE, extremes_of, is_smooth, may_be_glass, some_bands

COLOURED = 35.0
"""CIE chroma of a background that no lamp gives: tints of real ones reach 27."""

BACKGROUND = 1 / 3
"""Share of the slide that a background has, flat and of one colour. Of 158 fields of view of a quarter of a millimetre that
are mostly tissue none has as much of a colour beyond `COLOURED`."""

LEAST_PX = 900
"""Of an overview; in less, stained tissue can be as flat and of one colour as a background."""

BIN, NEAR = 3.0, 4.0
"""One colour: bins of L*, a* and b* to find the commonest, and the distance from it."""

GLASS_PER_BACKGROUND = 0.25
"""With more that may be glass, compared with the coloured background, that is a stain: colloid, a pool of blood."""

SWAPPED_GREY, SWAPPED_WITHIN, SWAPPED_RED, SWAPPED_SHARE = 0.5, 0.03, 0.8, 0.05
"""YCbCr shown as RGB makes light grey glass (g, 128, 128), within this much. That is told from stains by its colour alone,
so that less of the slide need have it."""

DARK, MOSTLY = 25.0, 0.5
"""CIE L* below which a pixel is dark, and the share of a slide that is dark where no light shone through it."""

SIGMA_PX = 0.7


@dataclass(frozen=True)
class OddBackground:
    """A background that a slide under white light does not have.

    Attributes:
        kind: `swapped`: grey glass whose YCbCr is shown as RGB; `coloured`: another colour far from grey; `dark`.
        colour: the commonest RGB, 0 to 255.
    """

    kind: Literal["swapped", "coloured", "dark"]
    colour: tuple[int, int, int]


def odd_background(overview: NDArray[np.uint8]) -> OddBackground | None:
    """The slide's background where it is far from grey, or dark; None where it is not, or none is seen.

    Red and blue exchanged leave grey glass grey, so that they are not noticed.

    Args:
        overview: [height, width, 3] of the whole slide, at 8 µm or so.
    """
    smooth = some_bands(overview).astype(np.float32)
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
    """By the pixels `(n, 3)` that were scanned and are lit, of which the share `glass` may be glass."""
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
    """Which of pixels `(n, 3)` are flat and of the commonest colour."""
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
