"""Run stage `tile` on one slide: tissue mask, grid of tiles, store and receipt."""

import io
import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from shapely.geometry.base import BaseGeometry

from wsi_mil.annotations import NOTHING, TISSUE_CLASS, feature_collection, rings
from wsi_mil.config import TileSettings
from wsi_mil.errors import DataError, MissingFileError, StoreError, WsiMilError
from wsi_mil.files import write_bytes, write_text
from wsi_mil.geometry import size_at
from wsi_mil.receipts import (
    array_digest,
    file_hash,
    is_current,
    made_from,
    read_receipt,
    store_marker,
    store_path,
    write_receipt,
)
from wsi_mil.records import SlideRow, Status, TileGrid
from wsi_mil.runtime.crash_guard import reading
from wsi_mil.slides import Slide, is_read_in_place, is_same_slide, open_slide, resampled, slide_hash
from wsi_mil.store import remove_store, write_grid
from wsi_mil.tile.layout import extent_um, fault_status, layout_tiles, mpp_guess, tile_warnings
from wsi_mil.tile.supplied import SuppliedFiles
from wsi_mil.tissue import region_mask

log = logging.getLogger(__name__)

STAGE_VERSION = 5
THUMBNAIL_PX = 1024
"""Longest side of the thumbnail kept with the tiles."""

QC_COLOURS = 256
"""Palette size of the QC image; a palette makes the file a fifth as large."""

TISSUE_COLOUR, TILE_COLOUR, CUT_COLOUR = (0, 140, 60), (40, 90, 200), (200, 30, 60)
HATCH_PX = 8
"""Distance of the hatching lines in pixels of the QC image."""


def tile_slide(row: SlideRow, settings: TileSettings, receipt: Path, *, threads: int = 1) -> Status:
    """Tile one slide and write its receipt, store, outline (GeoJSON) and QC image.

    A slide that was tiled with the same settings from the same files is skipped. A data error becomes the receipt's status and
    reason, and outputs of earlier runs are removed.
    """
    settings = _relevant(row, settings)
    if _is_current(row, settings, receipt):
        log.info("%s: unchanged", row.slide_id)
        return Status(str(read_receipt(receipt)["status"]))
    receipt.parent.mkdir(parents=True, exist_ok=True)
    receipt.unlink(missing_ok=True)  # it describes earlier outputs
    try:
        content = _tile(row, settings, receipt, threads)
    except DataError as error:
        return write_failure_receipt(row, settings, receipt, error, content=_hash_of_unusable(row))
    return _write(row, settings, receipt, content)


def outputs(receipt: Path) -> list[Path]:
    """Return the files that a receipt of `tile` stands for: none if the slide has no tiles because of a fault."""
    if read_receipt(receipt)["status"] not in (Status.OK, Status.EMPTY):
        return []
    return [store_marker(receipt), receipt.with_suffix(".geojson"), receipt.with_suffix(".png")]


def _relevant(row: SlideRow, settings: TileSettings) -> TileSettings:
    """Settings without the origin of annotations if the slide's tiles depend on none."""
    return settings if row.annotation or row.mask else settings.model_copy(update={"origin": TileSettings().origin})


def _stamp(row: SlideRow, settings: TileSettings, *, is_usable: bool) -> dict[str, str]:
    """What the outputs are made from besides the content of the slide; the reason why a slide is unusable names its path."""
    files = {"annotation": file_hash(row.annotation), "mask": file_hash(row.mask)}
    where = is_read_in_place(row.path) if is_usable else str(row.path)  # another reader may be used in place
    settings_values = settings.model_dump(mode="json")
    return made_from({"stage_version": STAGE_VERSION, "settings": settings_values, "mpp": row.mpp, "where": where, **files})


def _is_current(row: SlideRow, settings: TileSettings, receipt: Path) -> bool:
    """Whether nothing has changed since the receipt was written. A slide file that is gone by now does not count as a change."""
    try:
        tiled = read_receipt(receipt)
        is_usable = tiled["status"] in (Status.OK, Status.EMPTY)
        if "slide_hash" not in tiled or not is_current(receipt, _stamp(row, settings, is_usable=is_usable), outputs(receipt)):
            return False
        with reading():
            return is_same_slide(row.path, tiled)
    except MissingFileError as error:
        log.warning("%s: its tiles are kept (%s)", row.slide_id, error)
        return True
    except (StoreError, KeyError):
        return False


def _hash_of_unusable(row: SlideRow) -> dict[str, object]:
    """Hash of a slide that cannot be used, so that it is not tried again before it has changed; none if it cannot be read."""
    try:
        with reading():
            return {"slide_hash": slide_hash(row.path)}
    except (WsiMilError, OSError):
        return {}


def write_failure_receipt(
    row: SlideRow, settings: TileSettings, receipt: Path, error: DataError, *, content: Mapping[str, object] | None = None
) -> Status:
    """Write a receipt with the reason why a slide has no tiles, and further `content`; remove outputs of earlier runs."""
    receipt.parent.mkdir(parents=True, exist_ok=True)
    remove_store(store_path(receipt))
    for suffix in (".geojson", ".png"):
        receipt.with_suffix(suffix).unlink(missing_ok=True)
    reason = {"status": fault_status(error, settings.slide), "reason": str(error), "warnings": []}
    return _write(row, settings, receipt, {**(content or {}), **reason})


def _write(row: SlideRow, settings: TileSettings, receipt: Path, content: Mapping[str, object]) -> Status:
    stamp = {"slide_id": row.slide_id, "settings": settings.model_dump(mode="json"), "stage_version": STAGE_VERSION}
    is_usable = content["status"] in (Status.OK, Status.EMPTY)
    write_receipt(receipt, {**content, **stamp, **_stamp(row, settings, is_usable=is_usable)})
    log.info("%s: %s %s", row.slide_id, content["status"], content["reason"])
    return Status(str(content["status"]))


def _tile(row: SlideRow, settings: TileSettings, receipt: Path, threads: int) -> dict[str, object]:
    with open_slide(row.path, settings.slide.reader, mpp=row.mpp, guess=mpp_guess(settings.slide)) as slide:
        layout = layout_tiles(slide, SuppliedFiles(row.annotation, row.mask), settings, threads=threads)
        thumbnail = _thumbnail(slide, layout.tissue.overview.image, threads)
        content = slide_hash(slide.file)
    mask = layout.tissue.mask
    region = mask.outline(slide.dimensions)
    attributes = {"slide_id": row.slide_id, "dimensions": list(slide.dimensions)}
    write_grid(store_path(receipt), layout.grid, thumbnail, attributes)
    write_text(receipt.with_suffix(".geojson"), tissue_geojson(region, slide.bounds))
    write_bytes(receipt.with_suffix(".png"), qc_image(thumbnail, region, layout.grid, slide.dimensions, layout.tissue.excluded))
    return {
        **slide_metadata(slide),
        "status": Status.EMPTY if layout.why_empty else Status.OK,
        "reason": layout.why_empty,
        "warnings": tile_warnings(slide, settings, layout.tissue),
        "slide_hash": content,
        **({"remote": slide.version} if slide.version else {}),
        "tissue_area_um2": mask.share * math.prod(extent_um(slide)),
        "tissue_share": mask.share,
        "cut_area_um2": layout.tissue.cut_share * math.prod(extent_um(slide)),
        "mask": row.mask.name if row.mask else None,
        "n_tiles": len(layout.grid.coords),
        "tile_px_level0": list(layout.grid.tile_px_level0),
        "coords_digest": array_digest(layout.grid.coords),
    }


def slide_metadata(slide: Slide) -> dict[str, object]:
    """Return the metadata of a slide file for its receipt."""
    return {
        "reader": slide.reader,
        "vendor": slide.vendor,
        "scanner": slide.scanner,
        "compression": slide.compression,
        "dimensions": list(slide.dimensions),
        "level_dimensions": [list(d) for d in slide.level_dimensions],
        "level_downsamples": list(slide.level_downsamples),
        "mpp": [slide.mpp.x, slide.mpp.y],
        "mpp_source": slide.mpp_source,
        "bounds": None if slide.bounds is None else list(slide.bounds),
    }


def _thumbnail(slide: Slide, overview: NDArray[np.uint8], threads: int) -> NDArray[np.uint8]:
    """Whole slide, [height, width, 3] of at most `THUMBNAIL_PX`; from the overview if that is fine enough."""
    mpp = max(extent_um(slide)) / THUMBNAIL_PX
    if max(overview.shape) < THUMBNAIL_PX:
        return slide.read_overview(mpp, threads=threads).image
    size = size_at(slide.dimensions, slide_mpp=slide.mpp, target_mpp=mpp)
    return resampled(overview, (0, 0, overview.shape[1], overview.shape[0]), size)


def tissue_geojson(region: BaseGeometry, bounds: tuple[int, int, int, int] | None) -> str:
    """Return the tissue outline as GeoJSON for QuPath, whose coordinates start at the corner of the slide's bounds."""
    if bounds is not None:
        region = shapely.transform(region, lambda xy: xy - np.array(bounds[:2]))
    properties: dict[str, object] = {
        "objectType": "annotation",
        "classification": {"name": TISSUE_CLASS, "color": list(TISSUE_COLOUR)},
    }
    return feature_collection([] if region.is_empty else [region], [] if region.is_empty else [properties])


def qc_image(
    thumbnail: NDArray[np.uint8],
    region: BaseGeometry,
    grid: TileGrid,
    dimensions: tuple[int, int],
    excluded: BaseGeometry = NOTHING,
) -> bytes:
    """Draw the QC image as PNG: the slide with tissue outline and tiles, excluded regions hatched."""
    image = Image.fromarray(_hatched(thumbnail, excluded, dimensions)).convert("RGB")
    draw = ImageDraw.Draw(image)
    scale = np.array([image.width / dimensions[0], image.height / dimensions[1]])
    for corner in grid.coords:
        draw.rectangle([*(corner * scale), *((corner + np.array(grid.tile_px_level0)) * scale)], outline=TILE_COLOUR)
    for rings_of, colour in ((region, TISSUE_COLOUR), (excluded, CUT_COLOUR)):
        for ring in rings(rings_of):
            draw.line([(float(x), float(y)) for x, y in ring * scale], fill=colour, width=3)
    file = io.BytesIO()
    image.quantize(QC_COLOURS, dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()


def _hatched(thumbnail: NDArray[np.uint8], region: BaseGeometry, dimensions: tuple[int, int]) -> NDArray[np.uint8]:
    """Thumbnail with a region hatched."""
    if region.is_empty:
        return thumbnail
    rows, columns = np.indices(thumbnail.shape[:2])
    line = (rows + columns) % HATCH_PX < 2
    cut = region_mask(region, dimensions=dimensions, shape=(thumbnail.shape[0], thumbnail.shape[1]))
    return np.where((line & cut)[..., np.newaxis], np.array(CUT_COLOUR, np.uint8), thumbnail)
