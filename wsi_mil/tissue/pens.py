"""Detect felt-pen marks by their light absorption, which differs from that of stains."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import remove_small_objects

from wsi_mil.geometry import Mpp
from wsi_mil.tissue.bands import masks_from_bands
from wsi_mil.tissue.glass import extremes_of
from wsi_mil.tissue.opening import opened

COLD_INK = 0.11
"""Optical density by which blue and green ink absorb more red than green light. Stains absorb more green: of 155,000
pixels of haematoxylin and eosin at 8 µm, bluish ones included, 1 in 1,000 is above 0.05; DAB is at -0.3."""

RED_INK = 0.3
"""Optical density by which red ink absorbs more green and blue than red light. Eosin absorbs little blue: the 155,000
pixels, blood included, reach 0.22."""

RED_BALANCE = (0.65, 1.15)
"""Range of the ratio of blue to green density of red ink, on tissue too. Eosin is below, DAB (1.37) above."""

SOFT_BALANCE = 0.75
"""Lower bound of that ratio in the soft edge of a red stroke; eosin reaches 0.7."""

DEEP_INK = 2.25
"""Sum of the channels' optical densities that only dark ink, or ink over tissue, exceeds: 1 in 1,000 of the 155,000 pixels
is above 1.8. Brown is excluded because of DAB."""

SOFT = 0.01
"""Lower bound of these densities in the soft edge of a stroke."""

BLACK_VALUE, BLACK_SPREAD = 0.27, 0.1
"""Upper bounds of brightness and channel difference of black ink, and of black borders; channels from 0 to 1."""

STROKE_UM2 = 20_000.0
"""Smallest area of a stroke's core (strokes are a third of a millimetre wide); smaller ones are nuclei, pigment or margin ink."""

EDGE_UM, REACH_UM = 24.0, 150.0
"""Distances from a core within which every pixel, and every pixel of the ink's colour, belongs to the stroke."""


@dataclass(frozen=True)
class _Ink:
    """One kind of ink: pixels that certainly are ink, and those that may be."""

    core: NDArray[np.bool_]
    soft: NDArray[np.bool_]


def pen_marks(balanced: NDArray[np.float32], mpp: Mpp, *, threads: int = 1) -> NDArray[np.bool_]:
    """Mask strokes of blue, green, red and black pens with their soft edges, and black borders.

    Args:
        balanced: [height, width, 3] RGB of an overview, smoothed, relative to glass.
        mpp: µm per pixel.
        threads: number of threads.

    Returns:
        bool [height, width].
    """
    masks = masks_from_bands(_inks, balanced, 6, threads=threads)
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
    core = opened(ink.core)
    least = int(STROKE_UM2 / mpp.area_um2)
    core = remove_small_objects(core, max_size=least) if core.sum() > least else np.zeros_like(core)
    if not core.any():
        return core
    away = ndimage.distance_transform_edt(~core, sampling=(mpp.y, mpp.x))
    return np.asarray((away <= EDGE_UM) | (ink.soft & (away <= REACH_UM)))
