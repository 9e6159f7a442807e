"""Length of the scale bar in a picture of a whole slide. No I/O."""

from dataclasses import dataclass

import numpy as np

from wsi_mil.geometry import Mpp

NICE_LENGTHS = (1, 2, 5)
MAX_SHARE = 0.25
"""Upper limit on the length of a scale bar, as a share of the slide's width."""


@dataclass(frozen=True)
class ScaleBar:
    """A horizontal scale bar in a picture of a whole slide.

    Attributes:
        share: its length as a share of the width of the slide.
        text: its length in words, as "500 µm" or "2 mm".
    """

    share: float
    text: str


def scale_bar(dimensions: tuple[int, int], mpp: Mpp) -> ScaleBar:
    """Return the scale bar of a slide.

    Args:
        dimensions: (width, height) of the slide, level-0 pixels.
        mpp: µm per level-0 pixel.
    """
    width_um = mpp.x * dimensions[0]
    length_um = bar_length_um(width_um)
    text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    return ScaleBar(length_um / width_um, text)


def bar_length_um(width_um: float) -> float:
    """Return the largest of 1, 2, 5 × 10ⁿ µm that is at most a quarter of the width."""
    longest = width_um * MAX_SHARE
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(n * power for n in NICE_LENGTHS if n * power <= longest))
