"""Pictures of the tiles with the highest and lowest scores of a slide."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_mil.config import Heatmap
from wsi_mil.errors import MissingFileError, SlideError, SlideReadError, UnreachableError
from wsi_mil.geometry import Mpp
from wsi_mil.heatmaps.colour_maps import colours
from wsi_mil.heatmaps.slide_scores import SlideScores
from wsi_mil.heatmaps.text import ON_WARNING_COLOUR, TEXT_COLOUR, WARNING_COLOUR, draw_lines, line_height, png, wrapped
from wsi_mil.receipts import IMPORTED
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.slides import Slide, is_same_slide, open_slide
from wsi_mil.trust import TrustLine

log = logging.getLogger(__name__)

TILES_PER_ROW = 8
TILE_PX, FRAME_PX, GAP_PX = 224, 6, 10
TEXT_PX = 16
BACKGROUND, PLACEHOLDER = (255, 255, 255), (225, 225, 225)
CELL_PX = TILE_PX + 2 * FRAME_PX + GAP_PX
WIDTH_PX = TILES_PER_ROW * CELL_PX + GAP_PX

Corner = tuple[int, int]
"""(x, y) of the top-left corner of a tile, level-0 pixels."""


@dataclass(frozen=True)
class SlideTiles:
    """Tiles of a slide that galleries show, read once for all methods.

    Attributes:
        source: file or URL of the slide.
        reason: why no tile can be shown, or "".
        images: tiles, `TILE_PX` wide, by top-left corner (x, y), level-0 pixels; without those that cannot be read.
    """

    source: Path | str
    reason: str
    images: Mapping[tuple[int, int], Image.Image]


@dataclass(frozen=True)
class GalleryTile:
    """A tile in the gallery.

    Attributes:
        image: the tile, `TILE_PX` wide; None if it cannot be read.
        score: stored score.
        corner: (x, y) of the top-left corner, level-0 pixels.
        colour: colour of the tile in the heatmap.
    """

    image: Image.Image | None
    score: float
    corner: tuple[int, int]
    colour: tuple[int, int, int]


def gallery(scores: SlideScores, tiles: SlideTiles, settings: Heatmap, *, title: str) -> bytes:
    """Draw a PNG of the tiles with the highest and lowest scores, framed in their colours, with score and level-0 corner.

    If the slide file is missing, has changed or cannot be read, the picture says so.

    Args:
        scores: scores of a method.
        tiles: tiles of the slide, with at least those that the method shows.
        settings: settings of `heatmap`.
        title: first line of the picture.
    """
    top, bottom = top_and_bottom(scores, settings.gallery)
    note, cells = gallery_tiles(scores, tiles, np.concatenate([top, bottom]), settings.colormap)
    tiling = scores.tile_receipt["settings"]["tiling"]
    caption = (
        f"stored score and top-left corner (x, y) in level-0 pixels; a tile is {tiling['tile_px'] * tiling['mpp']:g} µm wide"
    )
    strips = [_text_strip(title), *([_trust_strip(scores.trust)] if scores.trust.text else [])]
    strips += [_text_strip(f"nothing to show: {scores.metadata['reason']}")] if not cells else []
    strips += [_text_strip(note)] if note else []
    for name, part in (("highest", cells[: len(top)]), ("lowest", cells[len(top) :])):
        if part:
            strips.append(_text_strip(f"{name} scores: {caption}"))
            strips += [_tile_strip(part[i : i + TILES_PER_ROW]) for i in range(0, len(part), TILES_PER_ROW)]
    return png(_stacked(strips))


def top_and_bottom(scores: SlideScores, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the `n` highest scores, highest first, and of the `n` lowest, lowest first, without overlap.

    Ties are in the order of (y, x).
    """
    finite = np.flatnonzero(np.isfinite(scores.values))
    values = scores.values[finite]
    x, y = scores.grid.coords[finite].T
    top = finite[np.lexsort((x, y, -values))][: min(n, -(-len(finite) // 2))]
    lowest_first = finite[np.lexsort((x, y, values))]
    return top, lowest_first[~np.isin(lowest_first, top)][:n]


def gallery_tiles(
    scores: SlideScores, tiles: SlideTiles, shown: NDArray[np.int64], colormap: str
) -> tuple[str, list[GalleryTile]]:
    """Return an error message about the slide file, or "", and an entry for each tile that is `shown` (indices)."""
    frame_colours = colours(scores.display.positions(scores.display.values[shown]), colormap)
    cells = [
        GalleryTile(tiles.images.get(corner), float(score), corner, colour)
        for score, corner, colour in zip(scores.values[shown], _corners(scores, shown), frame_colours, strict=True)
    ]
    n_missing = sum(cell.image is None for cell in cells)
    if n_missing and tiles.reason:
        return f"no tiles can be shown: {tiles.reason}", cells
    return (f"{n_missing} of these tiles cannot be read from {tiles.source}" if n_missing else ""), cells


def read_gallery_tiles(row: SlideRow, scores: Iterable[SlideScores], n: int) -> SlideTiles:
    """Read the tiles with the `n` highest and `n` lowest scores of a slide by each method; a tile of many methods once.

    Args:
        row: the slide; its file may be missing.
        scores: scores of its methods, on the same tiles.
        n: setting `heatmap.gallery`.

    Raises:
        UnreachableError: the slide's server does not answer.
    """
    corners: dict[Corner, None] = {}
    receipt: Mapping[str, Any] = {}
    for one in scores:
        receipt = one.tile_receipt
        corners |= dict.fromkeys(_corners(one, np.concatenate(top_and_bottom(one, n))))
    if not corners:
        return SlideTiles(row.path, "", {})
    return read_tiles(row, receipt, corners, raises=(UnreachableError,))  # else a picture without tiles would be kept


def read_tiles(
    row: SlideRow, receipt: Mapping[str, Any], corners: Iterable[Corner], *, raises: tuple[type[Exception], ...] = ()
) -> SlideTiles:
    """Read tiles of a slide at the mpp of its tiling, or say why there are none.

    Args:
        row: the slide; its file may be missing.
        receipt: receipt of `tile`.
        corners: top-left corners (x, y), level-0 pixels.
        raises: errors that are raised, not returned as the reason.
    """
    try:
        reason = unreadable_reason(row, receipt)
        return SlideTiles(row.path, reason, {} if reason else _read_tiles(row, receipt, corners))
    except raises:
        raise
    except (SlideError, OSError) as error:
        return SlideTiles(row.path, str(error), {})


def _read_tiles(
    row: SlideRow, receipt: Mapping[str, Any], corners: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], Image.Image]:
    """Tiles at the tiling's mpp, `TILE_PX` wide, without those that cannot be read."""
    with open_slide(row.path, receipt["reader"], mpp=Mpp(*receipt["mpp"]), in_place=True) as slide:
        tiles = ((corner, _read_tile(slide, corner, receipt["settings"]["tiling"])) for corner in corners)
        return {corner: image for corner, image in tiles if image is not None}


def _corners(scores: SlideScores, tiles: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(x, y) of tiles (indices)."""
    return [(int(x), int(y)) for x, y in scores.grid.coords[tiles]]


def unreadable_reason(row: SlideRow, tile_receipt: Mapping[str, Any]) -> str:
    """Return why the tiles of a slide cannot be read from its file, or "".

    Raises:
        OSError: the file cannot be read, or its server does not answer.
    """
    if row.path == NO_PATH:
        return "there is no slide file, the features were imported"
    if tile_receipt["reader"] == IMPORTED and (not isinstance(row.path, Path) or row.path.is_file()):
        return f"{row.path} did not exist when the features were imported"
    try:
        return "" if is_same_slide(row.path, tile_receipt) else f"{row.path} is not the file that was tiled"
    except MissingFileError:
        return f"the slide file is gone ({row.path})"


def _read_tile(slide: Slide, corner: tuple[int, int], tiling: dict[str, Any]) -> Image.Image | None:
    try:
        pixels = slide.read_region(corner, (tiling["tile_px"], tiling["tile_px"]), tiling["mpp"])
    except SlideReadError as error:
        log.warning("gallery: %s", error)
        return None
    return Image.fromarray(pixels).resize((TILE_PX, TILE_PX))


def _text_strip(text: str) -> Image.Image:
    """Draw a strip with text."""
    lines = wrapped(text, TEXT_PX, WIDTH_PX - 2 * GAP_PX)
    image = Image.new("RGB", (WIDTH_PX, len(lines) * line_height(TEXT_PX) + GAP_PX), BACKGROUND)
    draw_lines(ImageDraw.Draw(image), (GAP_PX, GAP_PX), lines, TEXT_PX)
    return image


def _trust_strip(trust: TrustLine) -> Image.Image:
    """Draw a strip with a trust line, as a banner if it is a warning."""
    lines = wrapped(trust.text, TEXT_PX, WIDTH_PX - 2 * GAP_PX)
    fill = WARNING_COLOUR if trust.is_warning else BACKGROUND
    image = Image.new("RGB", (WIDTH_PX, len(lines) * line_height(TEXT_PX) + GAP_PX), fill)
    colour = ON_WARNING_COLOUR if trust.is_warning else TEXT_COLOUR
    draw_lines(ImageDraw.Draw(image), (GAP_PX, GAP_PX // 2), lines, TEXT_PX, fill=colour)
    return image


def _tile_strip(cells: list[GalleryTile]) -> Image.Image:
    """Draw a strip of tiles, with score and corner below each."""
    framed_px = TILE_PX + 2 * FRAME_PX
    image = Image.new("RGB", (WIDTH_PX, GAP_PX + framed_px + 2 * line_height(TEXT_PX) + GAP_PX // 2), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for number, cell in enumerate(cells):
        left = GAP_PX + number * CELL_PX
        image.paste(cell.colour, (left, GAP_PX, left + framed_px, GAP_PX + framed_px))
        inside = (left + FRAME_PX, GAP_PX + FRAME_PX)
        image.paste(cell.image or PLACEHOLDER, (*inside, inside[0] + TILE_PX, inside[1] + TILE_PX))
        if cell.image is None:
            draw_lines(draw, (inside[0] + GAP_PX, inside[1] + TILE_PX // 2), ["no pixels"], TEXT_PX)
        draw_lines(draw, (left, GAP_PX + framed_px), [f"{cell.score:.4g}", f"({cell.corner[0]}, {cell.corner[1]})"], TEXT_PX)
    return image


def _stacked(strips: list[Image.Image]) -> Image.Image:
    """Strips below each other."""
    image = Image.new("RGB", (WIDTH_PX, sum(strip.height for strip in strips)))
    top = 0
    for strip in strips:
        image.paste(strip, (0, top))
        top += strip.height
    return image
