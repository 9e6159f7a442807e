"""Marks of felt pens, by what light they swallow compared with stains."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import remove_small_objects

from wsi_mil.geometry import Mpp
from wsi_mil.tissue.bands import masks_in_bands
from wsi_mil.tissue.glass import extremes_of
from wsi_mil.tissue.opening import opened

COLD_INK = 0.11
"""Optical density by which blue and green ink swallow more red than green light. Stains swallow more green: of 155,000
pixels of haematoxylin and eosin at 8 µm, bluish ones among them, 1 in 1,000 is above 0.05; DAB is at -0.3."""

RED_INK = 0.3
"""Optical density by which red ink swallows more green and blue than red light. Eosin swallows little blue: the 155,000,
blood among them, reach 0.22."""

RED_BALANCE = (0.65, 1.15)
"""Blue over green density of red ink, on tissue too. Eosin is below, DAB (1.37) is above."""

SOFT_BALANCE = 0.75
"""Such a ratio in the soft edge of a red stroke: there eosin reaches 0.7."""

DEEP_INK = 2.25
"""Optical densities of the three channels together that only dark ink, or ink over tissue, has: 1 in 1,000 of the 155,000
is above 1.8. Brown is left out, cf. DAB."""

SOFT = 0.01
"""Such optical densities in the soft edge of a stroke."""

BLACK_VALUE, BLACK_SPREAD = 0.27, 0.1
"""Black ink is darker and greyer, in channels from 0 to 1. Black borders are, too."""

STROKE_UM2 = 20_000.0
"""Smaller cores are no strokes, which are a third of a millimetre wide or more, but nuclei, pigment, or ink on a margin."""

EDGE_UM, REACH_UM = 24.0, 150.0
"""All within the first of a core belongs to the stroke; what is of the ink's colour, however pale, within the second."""


@dataclass(frozen=True)
class _Ink:
    """One kind of ink: where it surely is, where it may be."""

    core: NDArray[np.bool_]
    soft: NDArray[np.bool_]


def pen_marks(balanced: NDArray[np.float32], mpp: Mpp, *, threads: int = 1) -> NDArray[np.bool_]:
    """Where strokes of blue, green, red and black pens are, with their soft edges; and black borders.

    Args:
        balanced: [height, width, 3] RGB of an overview, smoothed, relative to glass.
        mpp: µm per pixel.
        threads: used at once.

    Returns:
        bool [height, width].
    """
    masks = masks_in_bands(_inks, balanced, 6, threads=threads)
    inks = [_Ink(core, soft) for core, soft in zip(masks[::2], masks[1::2], strict=True)]
    return np.asarray(np.logical_or.reduce([_stroke(ink, mpp) for ink in inks]))


def _inks(balanced: NDArray[np.float32]) -> tuple[NDArray[np.bool_], ...]:
    """Core and soft part of each kind of ink."""
    density = np.maximum(balanced, 1 / 255)
    np.negative(np.log10(density, out=density), out=density)
    inks = (_cold(density), _red(density), _black(balanced, density))
    return tuple(mask for ink in inks for mask in (ink.core, ink.soft))


def _cold(density: NDArray[np.float32]) -> _Ink:
    excess = density[..., 0] - density[..., 1]
    return _Ink(excess > COLD_INK, excess > SOFT)


def _red(density: NDArray[np.float32]) -> _Ink:
    red, green, blue = np.moveaxis(density, 2, 0)
    excess = np.minimum(green, blue) - red
    lowest, highest = RED_BALANCE
    core = (excess > RED_INK) & (blue > lowest * green) & (blue < highest * green)
    return _Ink(core, (excess > SOFT) & (blue > SOFT_BALANCE * green) & (blue < highest * green))


def _black(balanced: NDArray[np.float32], density: NDArray[np.float32]) -> _Ink:
    darkest, brightest = extremes_of(balanced)
    grey = brightest - darkest < BLACK_SPREAD
    red, green, blue = np.moveaxis(density, 2, 0)
    deep = (red + green + blue > DEEP_INK) & (blue < red + 0.1)
    return _Ink(deep | ((brightest < BLACK_VALUE) & grey), (brightest < 2 * BLACK_VALUE) & grey)


def _stroke(ink: _Ink, mpp: Mpp) -> NDArray[np.bool_]:
    core, least = opened(ink.core), int(STROKE_UM2 / mpp.area_um2)
    core = remove_small_objects(core, max_size=least) if core.sum() > least else np.zeros_like(core)
    if not core.any():
        return core
    away = ndimage.distance_transform_edt(~core, sampling=(mpp.y, mpp.x))
    return np.asarray((away <= EDGE_UM) | (ink.soft & (away <= REACH_UM)))
