"""Images under the overlays: the slide itself, or its thumbnail if the slide is not available."""

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
from wsi_mil.slides import slide_exists, slide_hash
from wsi_mil.store import read_thumbnail
from wsi_mil.view.catalogue import UNREADABLE, Catalogue, tile_receipt_or_empty
from wsi_mil.view.deepzoom import TILE_PX, Pyramid, View
from wsi_mil.view.open_slides import MAX_RESIDENT_PX, PLAIN_IMAGE_READER, OpenSlides, file_stamp

log = logging.getLogger(__name__)

JPEG_QUALITY = 88
"""Quality of the JPEG tiles."""

MAX_READ_PX = 10 * TILE_PX
"""Longest side of a region read from a level for one tile. Views that would need more show the thumbnail: slides without
coarse levels."""

RETRY_S = 10.0
"""Seconds before a slide that could not be opened is tried again."""

GREY = 225
THUMBNAIL = "thumbnail"
"""Version of a thumbnail; the version of a slide is a part of its hash."""

NO_SHEET = "the cohort sheet is unknown, so the slide file cannot be found; start `wsi-mil view` with --configfile"

NO_ROW = "the cohort sheet has no valid row for it, so the slide file cannot be found"


@dataclass(frozen=True)
class SlideImage:
    """The image that can be shown of a slide.

    Attributes:
        dimensions: (width, height), level-0 pixels; None if unknown, so that nothing can be shown.
        version: changes with the pixels.
        max_level: finest available level of Deep Zoom.
        mpp: µm per level-0 pixel, or None.
        note: why it is not the slide itself, or "".
        reader: the reader of the slide.
        bounds: (x, y, width, height) of the scanned area, level-0 pixels, if the file has it.
    """

    dimensions: tuple[int, int] | None
    version: str
    max_level: int
    mpp: Mpp | None
    note: str
    reader: str = "auto"
    bounds: tuple[int, int, int, int] | None = None


class SlideImages:
    """Source of images of slides and thumbnails, which keeps slides open. Thread-safe."""

    def __init__(self) -> None:
        self._slides = OpenSlides()
        self._images: dict[str, tuple[float, tuple[Any, ...], SlideImage]] = {}

    def close(self) -> None:
        """Close all slides."""
        self._slides.close()

    def find(self, catalogue: Catalogue, slide_id: str) -> SlideImage:
        """Find the image of a slide. Raises UnknownNameError if there is no such slide."""
        row = catalogue.row(slide_id)
        receipts = catalogue.tiles_receipts(slide_id)
        key = (row.path, file_stamp(row.path), *(path.stat().st_mtime_ns for path in receipts.values()))
        cached = self._images.get(slide_id)
        if cached and cached[1] == key and (cached[2].version != THUMBNAIL or time.monotonic() < cached[0]):
            return cached[2]
        receipt = self.tile_receipt(catalogue, slide_id)
        image = self._find_image(row, receipt, "" if slide_id in catalogue.rows else NO_ROW if catalogue.rows else NO_SHEET)
        if receipt.get("bounds"):
            image = replace(image, bounds=tuple(receipt["bounds"]))
        self._images[slide_id] = (time.monotonic() + RETRY_S, key, image)
        return image

    def tile(self, catalogue: Catalogue, slide_id: str, version: str, position: tuple[int, int, int]) -> bytes:
        """Return a JPEG of a tile, by (level, column, row).

        Raises:
            UnknownNameError: there is no such slide, version or tile.
        """
        image = self.find(catalogue, slide_id)
        if image.dimensions is None or version != image.version:
            raise UnknownNameError(f"no such image of {slide_id}")
        if not 0 <= position[0] <= image.max_level:
            raise UnknownNameError(f"no level {position[0]} of {slide_id}")
        view = Pyramid(image.dimensions).view(*position)
        return jpeg(self._pixels(catalogue, slide_id, image, view))

    def region(self, catalogue: Catalogue, slide_id: str, view: View) -> NDArray[np.uint8]:
        """Return the pixels [height, width, 3] of any part of a slide; damaged parts are white."""
        return self._pixels(catalogue, slide_id, self.find(catalogue, slide_id), view)

    def thumbnail(self, catalogue: Catalogue, slide_id: str, side_px: int) -> bytes:
        """Return a JPEG of the whole slide, its longest side at most `side_px`; grey if it has no thumbnail."""
        image = Image.fromarray(self._thumbnail(catalogue, slide_id))
        image.thumbnail((side_px, side_px))
        return jpeg(np.asarray(image))

    def tile_receipt(self, catalogue: Catalogue, slide_id: str) -> dict[str, Any]:
        """Return the first receipt of `tile` that has the slide's dimensions, else the first one; {} if there is none."""
        receipts = [tile_receipt_or_empty(path) for path in catalogue.tiles_receipts(slide_id).values()]
        return next((receipt for receipt in receipts if "dimensions" in receipt), receipts[0] if receipts else {})

    def _find_image(self, row: SlideRow, receipt: dict[str, Any], why_no_row: str) -> SlideImage:
        dimensions = (int(receipt["dimensions"][0]), int(receipt["dimensions"][1])) if "dimensions" in receipt else None
        mpp = Mpp(*receipt["mpp"]) if receipt.get("mpp") else None
        try:
            note = why_no_row or _why_unavailable(row, receipt)
            if not note:
                return self._full_resolution(row, receipt, dimensions, mpp)
        except (SlideError, OSError) as error:
            note = str(error)
        if dimensions is None:
            return SlideImage(None, THUMBNAIL, 0, mpp, note)
        pyramid = Pyramid(dimensions)
        is_imported = receipt.get("reader") == IMPORTED
        substitute = "tiles are drawn in grey" if is_imported else "the thumbnail made by `tile` is shown"
        note = f"{substitute} instead of the slide: {note}"
        return SlideImage(dimensions, THUMBNAIL, pyramid.level_of(max(dimensions) / 1024), mpp, note)

    def _full_resolution(
        self, row: SlideRow, receipt: dict[str, Any], dimensions: tuple[int, int] | None, mpp: Mpp | None
    ) -> SlideImage:
        """Image of an available slide. A tiled slide opens in the background, others at once to get their dimensions."""
        reader = _reader(row, receipt)
        bounds = None
        version = str(receipt.get("slide_hash") or slide_hash(row.path))[-16:]  # a hash in the receipt has been verified
        if dimensions is None:
            with self._slides.borrowed(row, reader) as slide:
                dimensions, bounds = slide.dimensions, slide.bounds
        else:
            threading.Thread(target=self._open_early, args=(row, reader), daemon=True).start()
        return SlideImage(dimensions, version, Pyramid(dimensions).max_level, mpp, "", reader, bounds)

    def _open_early(self, row: SlideRow, reader: str) -> None:
        try:
            with self._slides.borrowed(row, reader):
                pass
        except (SlideError, OSError) as error:
            log.warning("%s: %s", row.slide_id, error)  # the thumbnail is shown instead

    def _pixels(self, catalogue: Catalogue, slide_id: str, image: SlideImage, view: View) -> NDArray[np.uint8]:
        row = catalogue.row(slide_id)
        if image.version != THUMBNAIL:
            try:
                with self._slides.borrowed(row, image.reader) as slide:
                    level = slide.level_for(view.downsample)
                    if max(view.extent) / slide.level_downsamples[level] <= MAX_READ_PX:
                        return slide.read_region_or_white(view.corner, view.size, float(view.downsample)).image
            except (SlideError, OSError) as error:
                log.warning("%s: %s", slide_id, error)
        return _crop_thumbnail(self._thumbnail(catalogue, slide_id), image.dimensions or (1, 1), view)

    def _thumbnail(self, catalogue: Catalogue, slide_id: str) -> NDArray[np.uint8]:
        store = catalogue.thumbnail_store(slide_id)
        try:
            if store is not None:
                return read_thumbnail(store)
        except UNREADABLE as error:
            log.warning("%s: no thumbnail: %s", slide_id, error)
        return np.full((96, 128, 3), GREY, np.uint8)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """Return a JPEG file of an image [height, width, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _why_unavailable(row: SlideRow, receipt: dict[str, Any]) -> str:
    """Why the slide cannot be shown, or ""; a slide that was never tiled is shown if it can be opened."""
    if "slide_hash" in receipt or row.path == NO_PATH:
        note = unreadable_reason(row, {"reader": "auto", **receipt})
    else:
        note = "" if slide_exists(row.path) else f"the slide file is gone ({row.path})"
    return note or _too_large(row, receipt)


def _too_large(row: SlideRow, receipt: dict[str, Any]) -> str:
    """Why a plain image is too large to be shown, or ""."""
    width, height = receipt.get("dimensions", (0, 0))
    if receipt.get("reader") != PLAIN_IMAGE_READER or width * height <= MAX_RESIDENT_PX:
        return ""
    return f"{row.path} is a plain image of {width} × {height} pixels, too large for memory; convert it to a tiled TIFF"


def _reader(row: SlideRow, receipt: dict[str, Any]) -> str:
    return str(receipt.get("reader") or row.overrides.get("slide.reader", "auto"))


def _crop_thumbnail(thumbnail: NDArray[np.uint8], dimensions: tuple[int, int], view: View) -> NDArray[np.uint8]:
    """The part of a thumbnail that a view shows; white beyond the slide."""
    to_thumbnail = np.array(thumbnail.shape[1::-1]) / dimensions
    low = np.array(view.corner) * to_thumbnail
    high = np.minimum((np.array(view.corner) + view.extent) * to_thumbnail, thumbnail.shape[1::-1])
    shown = np.maximum(1, np.rint((high - low) / (np.array(view.extent) * to_thumbnail) * view.size)).astype(int)
    image = np.full((view.size[1], view.size[0], 3), 255, np.uint8)
    part = Image.fromarray(thumbnail).resize((int(shown[0]), int(shown[1])), Image.Resampling.BILINEAR, box=(*low, *high))
    image[: shown[1], : shown[0]] = np.asarray(part)
    return image
