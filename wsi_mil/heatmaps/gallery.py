"""The tiles from the top and from the bottom of a slide's scores, side by side."""

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
from wsi_mil.heatmaps.slide_scores import Scored
from wsi_mil.receipts import IMPORTED
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.slides import Slide, is_same_slide, open_slide

log = logging.getLogger(__name__)

IN_A_ROW = 8
TILE_PX, FRAME_PX, GAP_PX = 224, 6, 10
LINE_PX, TEXT_PX = 24, 16
LETTERS_IN_A_LINE = 190
PAPER, INK, NO_TILE = (255, 255, 255), (20, 20, 20), (225, 225, 225)
CELL_PX = TILE_PX + 2 * FRAME_PX + GAP_PX
WIDTH_PX = IN_A_ROW * CELL_PX + GAP_PX


@dataclass(frozen=True)
class Cell:
    """What the gallery shows of a tile.

    Attributes:
        pixels: uint8 [height, width, 3], or None where it cannot be read.
        score: as stored.
        corner: (x, y), level-0 pixels.
        colour: that it has in the heatmap.
    """

    pixels: NDArray[np.uint8] | None
    score: float
    corner: tuple[int, int]
    colour: tuple[int, int, int]


def gallery(scored: Scored, row: SlideRow, settings: Heatmap, *, title: str) -> bytes:
    """PNG of the tiles scored highest and lowest, each framed in its colour, with its score and its corner (x, y) at level 0.

    Where the slide file is gone, is not the slide it was, or cannot be read, the picture says so in words.
    """
    top, bottom = ends_of(scored, settings.gallery)
    note, cells = cells_of(scored, row, np.concatenate([top, bottom]), settings.colormap)
    tiling = scored.tiled["settings"]["tiling"]
    side = f"stored score and top-left corner (x, y) in level-0 pixels; a tile is {tiling['tile_px'] * tiling['mpp']:g} µm wide"
    strips = [_words(title)]
    strips += [_words(f"nothing to show: {scored.about['reason']}")] if not cells else []
    strips += [_words(note)] if note else []
    for name, part in (("highest", cells[: len(top)]), ("lowest", cells[len(top) :])):
        if part:
            strips.append(_words(f"{name} scores: {side}"))
            strips += [_cell_row(part[i : i + IN_A_ROW]) for i in range(0, len(part), IN_A_ROW)]
    file = io.BytesIO()
    Image.fromarray(np.vstack(strips)).save(file, "PNG")
    return file.getvalue()


def ends_of(scored: Scored, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the `n` best tiles, best first, and of the `n` worst, worst first; none is in both.

    Equal scores stand in the order of (y, x).
    """
    known = np.flatnonzero(np.isfinite(scored.values))
    values, (x, y) = scored.values[known], scored.grid.coords[known].T
    top = known[np.lexsort((x, y, -values))][: min(n, -(-len(known) // 2))]
    worst_first = known[np.lexsort((x, y, values))]
    return top, worst_first[~np.isin(worst_first, top)][:n]


def cells_of(scored: Scored, row: SlideRow, tiles: NDArray[np.int64], colormap: str) -> tuple[str, list[Cell]]:
    """What is wrong with the slide file, or "", and a cell for each of `tiles` (indices)."""
    shown = colours(scored.shown.place(scored.shown.values[tiles]), colormap)
    corners = [(int(x), int(y)) for x, y in scored.grid.coords[tiles]]
    note, pixels = _read_tiles(scored, row, corners) if len(tiles) else ("", [])
    return note, [
        Cell(image, float(score), corner, colour)
        for image, score, corner, colour in zip(pixels, scored.values[tiles], corners, shown, strict=True)
    ]


def _read_tiles(scored: Scored, row: SlideRow, corners: list[tuple[int, int]]) -> tuple[str, list[NDArray[np.uint8] | None]]:
    """Pixels at the tiling's mpp, and in words why there are none of some or all."""
    tiled = scored.tiled
    try:
        fault = why_no_pixels(row, tiled)
        if fault:
            return f"no tiles can be shown: {fault}", [None] * len(corners)
        with open_slide(row.path, tiled["reader"], mpp=Mpp(*tiled["mpp"]), in_place=True) as slide:
            pixels = [_read_tile(slide, corner, tiled["settings"]["tiling"]) for corner in corners]
    except UnreachableError:
        raise  # a picture without tiles would stay
    except (SlideError, OSError) as error:
        return f"no tiles can be shown: {error}", [None] * len(corners)
    n_missing = sum(image is None for image in pixels)
    return (f"{n_missing} of these tiles cannot be read from {row.path}" if n_missing else ""), pixels


def why_no_pixels(row: SlideRow, tiled: Mapping[str, Any]) -> str:
    """In words why the slide that was tiled cannot be shown, or "".

    Raises:
        OSError: the machine cannot read the file, or its server does not answer.
    """
    if row.path == NO_PATH:
        return "there is no slide file, the features were imported"
    if tiled["reader"] == IMPORTED and (not isinstance(row.path, Path) or row.path.is_file()):
        return f"{row.path} was not there when the features were imported"
    try:
        return "" if is_same_slide(row.path, tiled) else f"{row.path} is not the file that was tiled"
    except MissingFileError:
        return f"the slide file is gone ({row.path})"


def _read_tile(slide: Slide, corner: tuple[int, int], tiling: dict[str, Any]) -> NDArray[np.uint8] | None:
    try:
        return slide.read_region(corner, (tiling["tile_px"], tiling["tile_px"]), tiling["mpp"])
    except SlideReadError as error:
        log.warning("gallery: %s", error)
        return None


def _words(text: str) -> NDArray[np.uint8]:
    """A strip with text, [height, width, 3]."""
    lines = textwrap.wrap(text, LETTERS_IN_A_LINE)
    image = Image.new("RGB", (WIDTH_PX, len(lines) * LINE_PX + GAP_PX), PAPER)
    for number, line in enumerate(lines):
        _write(image, (GAP_PX, GAP_PX + number * LINE_PX), line)
    return np.asarray(image)


def _cell_row(cells: list[Cell]) -> NDArray[np.uint8]:
    """A strip with tiles, a line below each for score and place, [height, width, 3]."""
    framed = TILE_PX + 2 * FRAME_PX
    image = Image.new("RGB", (WIDTH_PX, GAP_PX + framed + 2 * LINE_PX), PAPER)
    for number, cell in enumerate(cells):
        left = GAP_PX + number * CELL_PX
        image.paste(cell.colour, (left, GAP_PX, left + framed, GAP_PX + framed))
        inside = (left + FRAME_PX, GAP_PX + FRAME_PX)
        if cell.pixels is None:
            image.paste(NO_TILE, (*inside, inside[0] + TILE_PX, inside[1] + TILE_PX))
            _write(image, (inside[0] + GAP_PX, inside[1] + TILE_PX // 2), "no pixels")
        else:
            image.paste(Image.fromarray(cell.pixels).resize((TILE_PX, TILE_PX)), inside)
        _write(image, (left, GAP_PX + framed), f"{cell.score:.4g}")
        _write(image, (left, GAP_PX + framed + LINE_PX), f"({cell.corner[0]}, {cell.corner[1]})")
    return np.asarray(image)


def _write(image: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(image).text(place, text, fill=INK, font=ImageFont.truetype(FONT, TEXT_PX))
