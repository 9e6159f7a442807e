"""The colour bar under a heatmap: its colours, round numbers along it, and what they are."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from wsi_mil.heatmaps.colour_maps import colour_of
from wsi_mil.heatmaps.scale import ScoreDisplay
from wsi_mil.heatmaps.text import TEXT_COLOUR, draw_lines, line_height, text_width, wrapped

BAR_PX, TICK_PX, MINOR_TICK_PX, GAP_PX = 20, 6, 3, 4
LABEL_PX = 16
"""Font size of numbers and label."""

MIN_TICKS, MAX_TICKS, LABEL_GAP_PX = 2, 9, 14
FACTORS = (1, 2, 5)
MINOR_FACTORS = range(2, 10)
DIGITS = 6
"""Significant digits of a number on the bar, or more if neighbours would look the same."""


@dataclass(frozen=True)
class Tick:
    """A number on a colour bar.

    Attributes:
        place: its pixel on the bar, from the left end.
        text: the number in words.
        left: left edge of the text, in pixels from the left end of the bar.
        right: right edge of the text.
    """

    place: int
    text: str
    left: int
    right: int


def ticks(display: ScoreDisplay, width: int) -> list[Tick]:
    """Return at most nine round numbers between both ends of a colour bar of `width` pixels, as many as fit beside each other."""
    found: list[Tick] = []
    for values in _log_numbers(display.low, display.high) if display.is_log else _linear_numbers(display.low, display.high):
        found = [_tick(*one, width) for one in zip(places(values, display, width), tick_labels(values), strict=True)]
        if len(found) <= MAX_TICKS and all(one.right + LABEL_GAP_PX <= other.left for one, other in pairwise(found)):
            break
    return found


def tick_labels(values: list[float]) -> list[str]:
    """Return numbers in words, with as many digits as it takes to distinguish neighbours, and a minus sign."""
    steps = [max(abs(one), abs(other)) / abs(other - one) for one, other in pairwise(values)]
    digits = max([DIGITS, *(math.ceil(math.log10(step)) + 2 for step in steps)])
    return [f"{value + 0.0:.{digits}g}".replace("-", "−") for value in values]


def colour_bar_height(label: str, width: int) -> int:
    """Return the height in pixels of a colour bar with its numbers and its label, in a column of `width` pixels."""
    return BAR_PX + TICK_PX + GAP_PX + line_height(LABEL_PX) * (1 + len(wrapped(label, LABEL_PX, width)))


def draw_colour_bar(image: Image.Image, at: tuple[int, int], width: int, display: ScoreDisplay, colormap: str) -> None:
    """Draw the colour bar of a display, `width` pixels wide, with its top left corner `at` (x, y)."""
    x, y = at
    draw = ImageDraw.Draw(image)
    colours = colour_of((np.arange(width) + 0.5) / width, colormap)
    image.paste(Image.fromarray(np.broadcast_to(colours, (BAR_PX, width, 3)).copy()), at)
    draw.rectangle((x - 1, y - 1, x + width, y + BAR_PX), outline=TEXT_COLOUR)
    foot = y + BAR_PX + 1
    if display.is_log:
        for place in places(_minor_numbers(display.low, display.high), display, width):
            draw.line((x + place, foot, x + place, foot + MINOR_TICK_PX), fill=TEXT_COLOUR)
    for tick in ticks(display, width):
        draw.line((x + tick.place, foot, x + tick.place, foot + TICK_PX), fill=TEXT_COLOUR)
        draw_lines(draw, (x + tick.left, foot + TICK_PX + GAP_PX), [tick.text], LABEL_PX)
    below = foot + TICK_PX + GAP_PX + line_height(LABEL_PX)
    draw_lines(draw, (x, below), wrapped(display.label, LABEL_PX, width), LABEL_PX)


def places(values: list[float], display: ScoreDisplay, width: int) -> list[int]:
    """Return the pixels of values on a colour bar of `width` pixels, 0 to `width` - 1; a bar goes beyond a ceiling."""
    positions = replace(display, ceiling=1.0).positions(np.array(values, np.float64))
    return [int(place) for place in np.rint(positions * (width - 1))]


def _tick(place: int, text: str, width: int) -> Tick:
    """A number centred on its place, or within the bar near its ends."""
    length = text_width(text, LABEL_PX)
    left = max(0, min(place - length // 2, width - length))
    return Tick(place, text, left, left + length)


def _linear_numbers(low: float, high: float) -> Iterator[list[float]]:
    """Multiples of 1, 2, 5 × 10ⁿ, ever fewer."""
    power = math.floor(math.log10(high - low)) - 1
    for step in (factor * 10.0**n for n in range(power, power + 3) for factor in FACTORS):
        yield [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_numbers(low: float, high: float) -> Iterator[list[float]]:
    """1, 2, 5 × 10ⁿ, then every first, second … power of ten; multiples if those would be fewer than three."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    sets = [[factor * 10.0**n for n in decades for factor in FACTORS]]
    sets += [[10.0**n for n in decades if n % every == 0] for every in range(1, 1 + len(decades))]
    inside = [[value for value in values if low <= value <= high] for values in sets]
    return iter(inside) if len(inside[0]) > MIN_TICKS else _linear_numbers(low, high)


def _minor_numbers(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for n in decades for factor in MINOR_FACTORS if low <= (value := factor * 10.0**n) <= high]
