"""Picture of the tiles with the highest and lowest scores of a slide."""

import io
import logging
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wsi_mil.config import Heatmap
from wsi_mil.errors import MissingFileError, SlideError, SlideReadError, UnreachableError
from wsi_mil.geometry import Mpp
from wsi_mil.heatmaps.overlay import FONT, colours
from wsi_mil.heatmaps.slide_scores import SlideScores
from wsi_mil.receipts import IMPORTED
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.slides import Slide, is_same_slide, open_slide

log = logging.getLogger(__name__)

TILES_PER_ROW = 8
TILE_PX, FRAME_PX, GAP_PX = 224, 6, 10
LINE_PX, TEXT_PX = 24, 16
CHARS_PER_LINE = 190
BACKGROUND, TEXT_COLOUR, PLACEHOLDER = (255, 255, 255), (20, 20, 20), (225, 225, 225)
CELL_PX = TILE_PX + 2 * FRAME_PX + GAP_PX
WIDTH_PX = TILES_PER_ROW * CELL_PX + GAP_PX


@dataclass(frozen=True)
class GalleryTile:
    """A tile in the gallery.

    Attributes:
        pixels: uint8 [height, width, 3]; None if the tile cannot be read.
        score: stored score.
        corner: (x, y) of the top-left corner, level-0 pixels.
        colour: colour of the tile in the heatmap.
    """

    pixels: NDArray[np.uint8] | None
    score: float
    corner: tuple[int, int]
    colour: tuple[int, int, int]


def gallery(scores: SlideScores, row: SlideRow, settings: Heatmap, *, title: str) -> bytes:
    """Draw a PNG of the tiles with the highest and lowest scores, framed in their colours, with score and level-0 corner.

    If the slide file is missing, has changed or cannot be read, the picture says so.
    """
    top, bottom = top_and_bottom(scores, settings.gallery)
    note, cells = gallery_tiles(scores, row, np.concatenate([top, bottom]), settings.colormap)
    tiling = scores.tile_receipt["settings"]["tiling"]
    caption = (
        f"stored score and top-left corner (x, y) in level-0 pixels; a tile is {tiling['tile_px'] * tiling['mpp']:g} µm wide"
    )
    strips = [_text_strip(title)]
    strips += [_text_strip(f"nothing to show: {scores.metadata['reason']}")] if not cells else []
    strips += [_text_strip(note)] if note else []
    for name, part in (("highest", cells[: len(top)]), ("lowest", cells[len(top) :])):
        if part:
            strips.append(_text_strip(f"{name} scores: {caption}"))
            strips += [_tile_strip(part[i : i + TILES_PER_ROW]) for i in range(0, len(part), TILES_PER_ROW)]
    file = io.BytesIO()
    Image.fromarray(np.vstack(strips)).save(file, "PNG")
    return file.getvalue()


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


def gallery_tiles(scores: SlideScores, row: SlideRow, tiles: NDArray[np.int64], colormap: str) -> tuple[str, list[GalleryTile]]:
    """Return an error message about the slide file, or "", and an entry for each of `tiles` (indices)."""
    frame_colours = colours(scores.display.positions(scores.display.values[tiles]), colormap)
    corners = [(int(x), int(y)) for x, y in scores.grid.coords[tiles]]
    note, pixels = _read_tiles(scores, row, corners) if len(tiles) else ("", [])
    return note, [
        GalleryTile(image, float(score), corner, colour)
        for image, score, corner, colour in zip(pixels, scores.values[tiles], corners, frame_colours, strict=True)
    ]


def _read_tiles(scores: SlideScores, row: SlideRow, corners: list[tuple[int, int]]) -> tuple[str, list[NDArray[np.uint8] | None]]:
    """Error message, or "", and the pixels of each tile at the tiling's mpp, None for tiles that cannot be read."""
    receipt = scores.tile_receipt
    try:
        reason = unreadable_reason(row, receipt)
        if reason:
            return f"no tiles can be shown: {reason}", [None] * len(corners)
        with open_slide(row.path, receipt["reader"], mpp=Mpp(*receipt["mpp"]), in_place=True) as slide:
            pixels = [_read_tile(slide, corner, receipt["settings"]["tiling"]) for corner in corners]
    except UnreachableError:
        raise  # else a picture without tiles would be kept
    except (SlideError, OSError) as error:
        return f"no tiles can be shown: {error}", [None] * len(corners)
    n_missing = sum(image is None for image in pixels)
    return (f"{n_missing} of these tiles cannot be read from {row.path}" if n_missing else ""), pixels


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


def _read_tile(slide: Slide, corner: tuple[int, int], tiling: dict[str, Any]) -> NDArray[np.uint8] | None:
    try:
        return slide.read_region(corner, (tiling["tile_px"], tiling["tile_px"]), tiling["mpp"])
    except SlideReadError as error:
        log.warning("gallery: %s", error)
        return None


def _text_strip(text: str) -> NDArray[np.uint8]:
    """Draw a strip with text, [height, width, 3]."""
    lines = textwrap.wrap(text, CHARS_PER_LINE)
    image = Image.new("RGB", (WIDTH_PX, len(lines) * LINE_PX + GAP_PX), BACKGROUND)
    for number, line in enumerate(lines):
        _draw_text(image, (GAP_PX, GAP_PX + number * LINE_PX), line)
    return np.asarray(image)


def _tile_strip(cells: list[GalleryTile]) -> NDArray[np.uint8]:
    """Draw a strip of tiles, with score and corner below each, [height, width, 3]."""
    framed_px = TILE_PX + 2 * FRAME_PX
    image = Image.new("RGB", (WIDTH_PX, GAP_PX + framed_px + 2 * LINE_PX), BACKGROUND)
    for number, cell in enumerate(cells):
        left = GAP_PX + number * CELL_PX
        image.paste(cell.colour, (left, GAP_PX, left + framed_px, GAP_PX + framed_px))
        inside = (left + FRAME_PX, GAP_PX + FRAME_PX)
        if cell.pixels is None:
            image.paste(PLACEHOLDER, (*inside, inside[0] + TILE_PX, inside[1] + TILE_PX))
            _draw_text(image, (inside[0] + GAP_PX, inside[1] + TILE_PX // 2), "no pixels")
        else:
            image.paste(Image.fromarray(cell.pixels).resize((TILE_PX, TILE_PX)), inside)
        _draw_text(image, (left, GAP_PX + framed_px), f"{cell.score:.4g}")
        _draw_text(image, (left, GAP_PX + framed_px + LINE_PX), f"({cell.corner[0]}, {cell.corner[1]})")
    return np.asarray(image)


def _draw_text(image: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(image).text(place, text, fill=TEXT_COLOUR, font=ImageFont.truetype(FONT, TEXT_PX))
