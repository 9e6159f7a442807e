"""What lies under the overlays: the slide itself, or the thumbnail that was kept where the slide is gone."""

import io
import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_mil.errors import SlideError, UnknownNameError
from wsi_mil.geometry import Mpp
from wsi_mil.heatmaps.gallery import unreadable_reason
from wsi_mil.receipts import IMPORTED
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.slides import is_there, slide_hash
from wsi_mil.store import read_thumbnail
from wsi_mil.view.catalogue import UNREADABLE, Catalogue, tiled_or_nothing
from wsi_mil.view.deepzoom import TILE_PX, Pyramid, View
from wsi_mil.view.open_slides import MAX_HELD_PX, PLAIN, OpenSlides, stamp

log = logging.getLogger(__name__)

QUALITY = 88
"""Of the JPEG tiles."""

MAX_READ_PX = 10 * TILE_PX
"""Longest side that is read of a level for one tile. Slides without coarse levels are shown by their thumbnail there."""

TRY_AGAIN_S = 10.0
"""A slide that could not be opened is not tried again before."""

GREY = 225
THUMBNAIL = "thumbnail"
"""Version of a ground that is the kept thumbnail; that of a slide is a part of its hash."""

NO_SHEET = "no cohort sheet is known, so the slide file cannot be found; start `wsi-mil view` with --configfile"

NO_ROW = "it has no row without fault in the cohort sheet, so the slide file cannot be found"


@dataclass(frozen=True)
class Ground:
    """What there is to show of a slide.

    Attributes:
        dimensions: (width, height), level-0 pixels; None where nothing says it: nothing can be shown.
        version: changes with the pixels.
        max_level: finest level of Deep Zoom that there is.
        mpp: µm per level-0 pixel, or None.
        note: why it is not the slide itself, or "".
        reader: that opens it.
        bounds: (x, y, width, height) of what was scanned, level-0 pixels, where the file says so.
    """

    dimensions: tuple[int, int] | None
    version: str
    max_level: int
    mpp: Mpp | None
    note: str
    reader: str = "auto"
    bounds: tuple[int, int, int, int] | None = None


class Grounds:
    """Tiles of slides and of their thumbnails."""

    def __init__(self) -> None:
        self._slides = OpenSlides()
        self._found: dict[str, tuple[float, tuple[Any, ...], Ground]] = {}

    def close(self) -> None:
        """Let go of the files."""
        self._slides.close()

    def of(self, catalogue: Catalogue, slide_id: str) -> Ground:
        """What there is to show of a slide. Raises UnknownNameError where there is no such slide."""
        row, receipts = catalogue.row(slide_id), catalogue.tiles_receipts(slide_id)
        key = (row.path, stamp(row.path), *(path.stat().st_mtime_ns for path in receipts.values()))
        known = self._found.get(slide_id)
        if known and known[1] == key and (known[2].version != THUMBNAIL or time.monotonic() < known[0]):
            return known[2]
        tiled = self.tiled(catalogue, slide_id)
        found = self._of_slide(row, tiled, "" if slide_id in catalogue.rows else NO_ROW if catalogue.rows else NO_SHEET)
        if tiled.get("bounds"):
            found = replace(found, bounds=tuple(tiled["bounds"]))
        self._found[slide_id] = (time.monotonic() + TRY_AGAIN_S, key, found)
        return found

    def tile(self, catalogue: Catalogue, slide_id: str, version: str, place: tuple[int, int, int]) -> bytes:
        """JPEG of a tile, by (level, column, row).

        Raises:
            UnknownNameError: no such slide, version or tile.
        """
        ground = self.of(catalogue, slide_id)
        if ground.dimensions is None or version != ground.version:
            raise UnknownNameError(f"no such picture of {slide_id}")
        if not 0 <= place[0] <= ground.max_level:
            raise UnknownNameError(f"no level {place[0]} of {slide_id}")
        view = Pyramid(ground.dimensions).view(*place)
        return jpeg(self._pixels(catalogue, slide_id, ground, view))

    def region(self, catalogue: Catalogue, slide_id: str, view: View) -> NDArray[np.uint8]:
        """[height, width, 3] of any part of a slide, white where it is damaged."""
        return self._pixels(catalogue, slide_id, self.of(catalogue, slide_id), view)

    def thumbnail(self, catalogue: Catalogue, slide_id: str, side_px: int) -> bytes:
        """JPEG of the whole slide, its longest side no longer than `side_px`; grey where none was kept."""
        image = Image.fromarray(self._thumbnail(catalogue, slide_id))
        image.thumbnail((side_px, side_px))
        return jpeg(np.asarray(image))

    def tiled(self, catalogue: Catalogue, slide_id: str) -> dict[str, Any]:
        """The best receipt of `tile` that a slide has: one that says the slide's dimensions, if any does; {} for none."""
        found = [tiled_or_nothing(path) for path in catalogue.tiles_receipts(slide_id).values()]
        return next((about for about in found if "dimensions" in about), found[0] if found else {})

    def _of_slide(self, row: SlideRow, tiled: dict[str, Any], why_unknown: str) -> Ground:
        dimensions = (int(tiled["dimensions"][0]), int(tiled["dimensions"][1])) if "dimensions" in tiled else None
        mpp = Mpp(*tiled["mpp"]) if tiled.get("mpp") else None
        try:
            note = why_unknown or _fault(row, tiled)
            if not note:
                return self._whole(row, tiled, dimensions, mpp)
        except (SlideError, OSError) as error:
            note = str(error)
        if dimensions is None:
            return Ground(None, THUMBNAIL, 0, mpp, note)
        pyramid = Pyramid(dimensions)
        kept = "tiles are drawn in grey" if tiled.get("reader") == IMPORTED else "the picture kept by `tile` is shown"
        note = f"{kept} instead of the slide: {note}"
        return Ground(dimensions, THUMBNAIL, pyramid.level_of(max(dimensions) / 1024), mpp, note)

    def _whole(self, row: SlideRow, tiled: dict[str, Any], dimensions: tuple[int, int] | None, mpp: Mpp | None) -> Ground:
        """A slide that can be shown. One that was tiled opens while the page is on its way; else it is opened to see it."""
        reader, bounds = _reader(row, tiled), None
        version = str(tiled.get("slide_hash") or slide_hash(row.path))[-16:]  # the receipt's was compared with the file's
        if dimensions is None:
            with self._slides.borrowed(row, reader) as slide:
                dimensions, bounds = slide.dimensions, slide.bounds
        else:
            threading.Thread(target=self._warm, args=(row, reader), daemon=True).start()
        return Ground(dimensions, version, Pyramid(dimensions).max_level, mpp, "", reader, bounds)

    def _warm(self, row: SlideRow, reader: str) -> None:
        try:
            with self._slides.borrowed(row, reader):
                pass
        except (SlideError, OSError) as error:
            log.warning("%s: %s", row.slide_id, error)  # its tiles are then those of the thumbnail

    def _pixels(self, catalogue: Catalogue, slide_id: str, ground: Ground, view: View) -> NDArray[np.uint8]:
        row = catalogue.row(slide_id)
        if ground.version != THUMBNAIL:
            try:
                with self._slides.borrowed(row, ground.reader) as slide:
                    level = slide.level_for(view.downsample)
                    if max(view.extent) / slide.level_downsamples[level] <= MAX_READ_PX:
                        return slide.read_what_can_be(view.corner, view.size, float(view.downsample)).image
            except (SlideError, OSError) as error:
                log.warning("%s: %s", slide_id, error)
        return _part_of(self._thumbnail(catalogue, slide_id), ground.dimensions or (1, 1), view)

    def _thumbnail(self, catalogue: Catalogue, slide_id: str) -> NDArray[np.uint8]:
        store = catalogue.thumbnail_store(slide_id)
        try:
            if store is not None:
                return read_thumbnail(store)
        except UNREADABLE as error:
            log.warning("%s: no thumbnail: %s", slide_id, error)
        return np.full((96, 128, 3), GREY, np.uint8)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """A JPEG file of [height, width, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _fault(row: SlideRow, tiled: dict[str, Any]) -> str:
    """Why the slide is not shown, or ""; one that was never tiled is shown if only it opens."""
    if "slide_hash" in tiled or row.path == NO_PATH:
        note = unreadable_reason(row, {"reader": "auto", **tiled})
    else:
        note = "" if is_there(row.path) else f"the slide file is gone ({row.path})"
    return note or _why_not_held(row, tiled)


def _why_not_held(row: SlideRow, tiled: dict[str, Any]) -> str:
    """Why a plain image is too large to be shown, or ""."""
    width, height = tiled.get("dimensions", (0, 0))
    if tiled.get("reader") != PLAIN or width * height <= MAX_HELD_PX:
        return ""
    return f"{row.path} is a plain image of {width} × {height} pixels, too large to be held in memory; write it as a tiled TIFF"


def _reader(row: SlideRow, tiled: dict[str, Any]) -> str:
    return str(tiled.get("reader") or row.overrides.get("slide.reader", "auto"))


def _part_of(thumbnail: NDArray[np.uint8], dimensions: tuple[int, int], view: View) -> NDArray[np.uint8]:
    """What a view of a slide shows of its thumbnail; white beyond the slide."""
    to_thumbnail = np.array(thumbnail.shape[1::-1]) / dimensions
    low = np.array(view.corner) * to_thumbnail
    high = np.minimum((np.array(view.corner) + view.extent) * to_thumbnail, thumbnail.shape[1::-1])
    shown = np.maximum(1, np.rint((high - low) / (np.array(view.extent) * to_thumbnail) * view.size)).astype(int)
    image = np.full((view.size[1], view.size[0], 3), 255, np.uint8)
    part = Image.fromarray(thumbnail).resize((int(shown[0]), int(shown[1])), Image.Resampling.BILINEAR, box=(*low, *high))
    image[: shown[1], : shown[0]] = np.asarray(part)
    return image
