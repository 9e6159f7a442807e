"""Draw scores over a picture of the slide, with scale bar, colour bar and annotation outlines."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_mil.config import Heatmap
from wsi_mil.heatmaps.colour_bar import colour_bar_height, draw_colour_bar
from wsi_mil.heatmaps.colour_maps import colour_of, opacity_of, require_colormap
from wsi_mil.heatmaps.scale import ScoreDisplay
from wsi_mil.heatmaps.scale_bar import ScaleBar
from wsi_mil.heatmaps.text import (
    ON_WARNING_COLOUR,
    TEXT_COLOUR,
    WARNING_COLOUR,
    draw_lines,
    line_height,
    png,
    text_width,
    wrapped,
)
from wsi_mil.trust import NO_LINE, TrustLine

OUTLINE_COLOUR = (0, 229, 255)
OUTLINE_PX, FINENESS = 2.5, 4
"""Width of outlines, and the number of steps in a pixel in which they are drawn, so that their edges are smooth."""

PANEL_PX, LEAST_PANEL_PX = (800, 1280), 240
"""Largest (width, height) of the slide in a picture, and its least width, for which a tall slide may be higher."""

MAX_HEIGHT_PX = 3072
COLUMN_PX, ROW_PX = 480, 160
"""Least width and height of the place of the slide, so that title, colour bar and reasons fit beside narrow and low ones."""

MARGIN_PX, FOOT_PX, TRUST_GAP_PX = 16, 14, 8
TITLE_PX, TEXT_PX = 20, 16
SCALE_BAR_PX = 7
BOX_PX, BOX_OPACITY = 8, 0.85
"""Padding and opacity of the white box with the reason why there is nothing to show."""

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True)
class Backdrop:
    """What the pictures of a slide have in common.

    Attributes:
        image: uint8 [height, width, 3], the whole slide in the size in which it is drawn (`panel`).
        rings: annotation outlines, `(n, 2)` (x, y) in pixels of `image`.
        scale_bar: scale bar of the slide.
    """

    image: NDArray[np.uint8]
    rings: list[NDArray[np.float64]]
    scale_bar: ScaleBar

    @cached_property
    def outlined(self) -> Image.Image:
        """The slide with the annotation outlines, without scores."""
        return self.with_outlines(self.image)

    def with_outlines(self, image: NDArray[np.uint8]) -> Image.Image:
        """Return an image of the same size with the annotation outlines."""
        drawn = Image.fromarray(image)
        if self._outlines is not None:
            corner, mask = self._outlines
            drawn.paste(OUTLINE_COLOUR, corner, mask)
        return drawn

    @cached_property
    def _outlines(self) -> tuple[tuple[int, int, int, int], Image.Image] | None:
        """Box (left, top, right, bottom) of all outlines, and how much of each of its pixels they cover."""
        if not self.rings:
            return None
        corners = np.concatenate(self.rings)
        size = self.image.shape[1::-1]
        left, top = (int(edge) for edge in np.clip(np.floor(corners.min(axis=0) - OUTLINE_PX), 0, size))
        right, bottom = (int(edge) for edge in np.clip(np.ceil(corners.max(axis=0) + OUTLINE_PX), 0, size))
        if right <= left or bottom <= top:
            return None
        mask = Image.new("L", ((right - left) * FINENESS, (bottom - top) * FINENESS))
        draw = ImageDraw.Draw(mask)
        for ring in self.rings:
            corners = _thinned(ring)
            steps = np.rint((np.vstack([corners, corners[1:2]]) - (left, top)) * FINENESS - 0.5).astype(int)  # rounds the last
            draw.line(steps.ravel().tolist(), fill=255, width=round(OUTLINE_PX * FINENESS), joint="curve")
        return (left, top, right, bottom), mask.reduce(FINENESS)


@dataclass(frozen=True)
class Picture:
    """Content of a heatmap picture.

    Attributes:
        backdrop: the slide.
        raster: float32 [height, width] of the backdrop's image, NaN outside of tiles.
        display: range and label of the colour bar.
        title: slide, prediction, label.
        reason: why there is nothing to show, or "".
        trust: how far the scores can be trusted.
    """

    backdrop: Backdrop
    raster: NDArray[np.float32]
    display: ScoreDisplay
    title: str
    reason: str
    trust: TrustLine = NO_LINE


def panel(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a thumbnail, uint8 [height, width, 3], in the size in which the slide is drawn in pictures."""
    height, width = thumbnail.shape[:2]
    factor = min(PANEL_PX[0] / width, PANEL_PX[1] / height)
    factor = max(factor, min(LEAST_PANEL_PX / width, MAX_HEIGHT_PX / height))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(thumbnail).resize(size, Image.Resampling.BICUBIC))


def draw(picture: Picture, settings: Heatmap) -> bytes:
    """Draw a PNG: the slide on the left, the slide with scores on the right.

    Raises:
        ConfigError: matplotlib has no such colour map.
    """
    require_colormap(settings.colormap)
    backdrop = picture.backdrop
    height, width = backdrop.image.shape[:2]
    column = max(width, COLUMN_PX)
    reason = _reason_lines(picture.reason, column)
    row = max(height, ROW_PX, _text_height(reason) + 2 * BOX_PX)
    title = wrapped(picture.title, TITLE_PX, 2 * column + MARGIN_PX)
    trust = wrapped(picture.trust.text, TITLE_PX, 2 * column + MARGIN_PX)
    banner = MARGIN_PX + _text_height(title) + TRUST_GAP_PX
    top = banner + _text_height(trust) + FOOT_PX
    foot = top + row + FOOT_PX
    below = max(SCALE_BAR_PX + line_height(TEXT_PX), colour_bar_height(picture.display.label, column))
    image = Image.new("RGB", (2 * column + 3 * MARGIN_PX, foot + below + MARGIN_PX), WHITE)
    lines = ImageDraw.Draw(image)
    draw_lines(lines, (image.width // 2, MARGIN_PX), title, TITLE_PX, centred=True)
    draw_trust(lines, (image.width, banner), trust, TITLE_PX, is_warning=picture.trust.is_warning)
    left, right = ((x + (column - width) // 2, top + (row - height) // 2) for x in (MARGIN_PX, 2 * MARGIN_PX + column))
    image.paste(backdrop.outlined, left)
    _draw_scale_bar(lines, (left[0], foot), width, backdrop.scale_bar)
    if picture.reason:
        image.paste(backdrop.outlined, right)
        _draw_reason(image, (2 * MARGIN_PX + column + column // 2, top + row // 2), reason)
    else:
        image.paste(backdrop.with_outlines(coloured(picture, settings)), right)
        draw_colour_bar(image, (2 * MARGIN_PX + column, foot), column, picture.display, settings.colormap)
    return png(image)


def draw_trust(draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: list[str], px: int, *, is_warning: bool) -> None:
    """Draw a trust line across a picture, as a banner if it is a warning; `at` is the (width of the picture, top)."""
    width, top = at
    if is_warning:
        box = (0, top - TRUST_GAP_PX // 2, width - 1, top + len(lines) * line_height(px) + TRUST_GAP_PX // 2)
        draw.rectangle(box, fill=WARNING_COLOUR)
    fill = ON_WARNING_COLOUR if is_warning else TEXT_COLOUR
    draw_lines(draw, (width // 2, top), lines, px, centred=True, fill=fill)


def coloured(picture: Picture, settings: Heatmap) -> NDArray[np.uint8]:
    """Return the slide, uint8 [height, width, 3], with each tile in the colour of its score, the colder the more transparent."""
    image = picture.backdrop.image.copy()
    has_score = np.isfinite(picture.raster)
    positions = picture.display.positions(picture.raster[has_score])
    opacity = (settings.opacity * opacity_of(positions)).astype(np.float32)[:, None]
    tissue, colour = image[has_score], colour_of(positions, settings.colormap)
    image[has_score] = np.rint(tissue + (colour.astype(np.float32) - tissue) * opacity)
    return image


def _reason_lines(reason: str, width: int) -> list[str]:
    return ["nothing to show:", *wrapped(reason, TITLE_PX, width - 2 * BOX_PX)] if reason else []


def _text_height(lines: list[str]) -> int:
    return len(lines) * line_height(TITLE_PX)


def _draw_reason(image: Image.Image, middle: tuple[int, int], lines: list[str]) -> None:
    """Write why there is nothing to show in the middle of the place of a slide, on a white box."""
    half_width = max(text_width(line, TITLE_PX) for line in lines) // 2 + BOX_PX
    half_height = _text_height(lines) // 2 + BOX_PX
    box = (middle[0] - half_width, middle[1] - half_height, middle[0] + half_width, middle[1] + half_height)
    image.paste(WHITE, box, Image.new("L", (2 * half_width, 2 * half_height), round(BOX_OPACITY * 255)))
    draw_lines(ImageDraw.Draw(image), (middle[0], box[1] + BOX_PX), lines, TITLE_PX, centred=True)


def _draw_scale_bar(draw: ImageDraw.ImageDraw, at: tuple[int, int], width: int, bar: ScaleBar) -> None:
    x, y = at
    draw.rectangle((x, y, x + round(bar.share * width) - 1, y + SCALE_BAR_PX - 1), fill=BLACK)
    draw_lines(draw, (x, y + SCALE_BAR_PX + 2), [bar.text], TEXT_PX)


def _thinned(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ring without corners that are in the same half of a pixel as the corner before."""
    halves = np.floor(ring * 2)
    moved = np.append(True, (np.diff(halves, axis=0) != 0).any(axis=1))
    moved[-1] = True
    return np.asarray(ring[moved])
