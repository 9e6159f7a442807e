"""Stage `tile`: slide → tissue mask → grid → store and receipt."""

import io
import logging
import math
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from shapely.geometry.base import BaseGeometry

from wsi_mil.annotations import TISSUE_CLASS, Frame, feature_collection, overlap_fractions, read_outlines, rings
from wsi_mil.config import SlideFile, TileSettings, Tissue
from wsi_mil.errors import DataError, MissingMppError, SlideError
from wsi_mil.geometry import Mpp, size_at
from wsi_mil.records import SlideRow, Status, TileGrid
from wsi_mil.slides import MppGuess, Slide, open_slide, resampled, slide_hash
from wsi_mil.store import array_digest, remove_store, store_path, write_bytes, write_grid, write_receipt, write_text
from wsi_mil.tiles import chosen, drawn, tile_grid
from wsi_mil.tissue import OVERVIEW_MPP, TissueFinder, TissueMask, overview_mask, region_tissue

log = logging.getLogger(__name__)

STAGE_VERSION = 3
THUMBNAIL_PX = 1024
"""Longest side of the thumbnail kept with the tiles."""

QC_COLOURS = 256
"""Of the QC picture, which is a fifth as large with a palette."""

MEMORY_BYTES = 256 << 20
"""What the chunks of a mask that are worked on take together."""

SUSPICIOUS_TISSUE = (0.001, 0.95)
"""A mask that covers less or more of the slide than this is worth a look."""

TISSUE_COLOUR, TILE_COLOUR = (0, 140, 60), (40, 90, 200)


def tile_slide(row: SlideRow, settings: TileSettings, receipt: Path, *, threads: int = 1) -> Status:
    """Tile one slide and write receipt, store, outline (GeoJSON) and QC picture.

    A fault of the data becomes the receipt's status and reason; nothing of an earlier run is left beside it.
    """
    receipt.parent.mkdir(parents=True, exist_ok=True)
    try:
        content = _tile(row, settings, receipt, threads)
    except DataError as error:
        remove_store(store_path(receipt))
        for suffix in (".geojson", ".png"):
            receipt.with_suffix(suffix).unlink(missing_ok=True)
        is_skipped = isinstance(error, MissingMppError) and settings.slide.on_missing_mpp == "skip"
        content = {"status": Status.SKIPPED if is_skipped else Status.FAILED, "reason": str(error), "warnings": []}
    stamp = {"slide_id": row.slide_id, "settings": settings.model_dump(mode="json"), "stage_version": STAGE_VERSION}
    write_receipt(receipt, {**content, **stamp})
    log.info("%s: %s %s", row.slide_id, content["status"], content["reason"])
    return Status(str(content["status"]))


def mpp_guess(settings: SlideFile) -> MppGuess:
    """What the settings let stand in for a resolution that neither sheet nor file says."""
    default = settings.on_missing_mpp
    return MppGuess(settings.mpp_from_objective, None if isinstance(default, str) else default)


def _tile(row: SlideRow, settings: TileSettings, receipt: Path, threads: int) -> dict[str, object]:
    with open_slide(row.path, settings.slide.reader, mpp=row.mpp, guess=mpp_guess(settings.slide)) as slide:
        slide.refuse_coarser(settings.tiling.mpp)
        annotated = _annotated(row, settings, slide)
        overview = slide.read_overview(max(settings.tissue.mpp, OVERVIEW_MPP), threads=threads)
        mask = _tissue(slide, overview.image, settings.tissue, annotated, threads)
        thumbnail = _thumbnail(slide, overview.image, threads)
    tissue_grid = tile_grid(slide.dimensions, mask, settings.tiling, slide.mpp)
    grid = drawn(_inside(tissue_grid, annotated, settings), settings.tiling)
    region = mask.outline(slide.dimensions)
    write_grid(store_path(receipt), grid, thumbnail, {"slide_id": row.slide_id, "dimensions": list(slide.dimensions)})
    write_text(receipt.with_suffix(".geojson"), _tissue_geojson(region, slide.bounds))
    write_bytes(receipt.with_suffix(".png"), _qc_picture(thumbnail, region, grid, slide.dimensions))
    return {
        **_about(slide),
        "status": Status.OK if len(grid.coords) else Status.EMPTY,
        "reason": "" if len(grid.coords) else _why_empty(mask, tissue_grid, row, settings),
        "warnings": [*slide.resolution.notes, *_warnings(slide, settings, mask.share, overview.unreadable)],
        "slide_hash": slide_hash(row.path),
        "tissue_area_um2": mask.share * math.prod(_extent_um(slide)),
        "tissue_share": mask.share,
        "n_tiles": len(grid.coords),
        "tile_px_level0": list(grid.tile_px_level0),
        "coords_digest": array_digest(grid.coords),
    }


def _about(slide: Slide) -> dict[str, object]:
    return {
        "reader": slide.reader,
        "vendor": slide.vendor,
        "compression": slide.compression,
        "dimensions": list(slide.dimensions),
        "level_dimensions": [list(d) for d in slide.level_dimensions],
        "level_downsamples": list(slide.level_downsamples),
        "mpp": [slide.mpp.x, slide.mpp.y],
        "mpp_source": slide.mpp_source,
        "bounds": None if slide.bounds is None else list(slide.bounds),
    }


def _annotated(row: SlideRow, settings: TileSettings, slide: Slide) -> BaseGeometry:
    """What the slide's annotation encloses, where it plays a part; level-0 pixels.

    Raises:
        SlideError: it plays a part, but there is none.
        AnnotationError: it cannot be read, or lies outside of the slide.
    """
    asked_by = [
        key
        for key, asks in (
            ("tissue.method: annotation", settings.tissue.method == "annotation"),
            ("tilings.….min_annotation", settings.tiling.min_annotation is not None),
        )
        if asks
    ]
    if not asked_by:
        return shapely.Polygon()
    if row.annotation is None:
        raise SlideError(row.path, f"has no annotation, but {asked_by[0]} needs one; give it in the sheet's `annotation` column")
    frame = Frame(slide.dimensions, slide.bounds)
    return read_outlines(row.annotation, settings.tissue.annotation_classes, frame, origin=settings.origin)


def _inside(grid: TileGrid, annotated: BaseGeometry, settings: TileSettings) -> TileGrid:
    """The tiles that lie inside the annotation as far as `min_annotation` asks for."""
    least = settings.tiling.min_annotation
    if least is None:
        return grid
    return chosen(grid, overlap_fractions(annotated, grid.coords, box=grid.tile_px_level0) >= least - 1e-9)


def _extent_um(slide: Slide) -> tuple[float, float]:
    """(width, height) of the slide in µm."""
    return slide.dimensions[0] * slide.mpp.x, slide.dimensions[1] * slide.mpp.y


def _thumbnail(slide: Slide, overview: NDArray[np.uint8], threads: int) -> NDArray[np.uint8]:
    """The whole slide, [height, width, 3] of `THUMBNAIL_PX` at most; from the overview where that is fine enough."""
    mpp = max(_extent_um(slide)) / THUMBNAIL_PX
    if max(overview.shape) < THUMBNAIL_PX:
        return slide.read_overview(mpp, threads=threads).image
    size = size_at(slide.dimensions, slide_mpp=slide.mpp, target_mpp=mpp)
    return resampled(overview, (0, 0, overview.shape[1], overview.shape[0]), size)


def _tissue(slide: Slide, overview: NDArray[np.uint8], settings: Tissue, annotated: BaseGeometry, threads: int) -> TissueMask:
    """Where the slide's tissue is, at `settings.mpp`, or at level 0 where that is coarser."""
    width, height = size_at(slide.dimensions, slide_mpp=slide.mpp, target_mpp=max(settings.mpp, slide.mpp.x, slide.mpp.y))
    if settings.method == "none":
        return TissueMask.whole(np.ones((1, 1), bool))
    if settings.method == "annotation":
        return region_tissue(annotated, dimensions=slide.dimensions, shape=(height, width))
    finder = TissueFinder.measured(overview, settings, _mpp_of(overview, slide), threads=threads)
    if overview.shape[:2] == (height, width):
        return TissueMask.whole(overview_mask(finder))
    return _tissue_in_chunks(slide, finder, (height, width), threads)


def _tissue_in_chunks(slide: Slide, finder: TissueFinder, shape: tuple[int, int], threads: int) -> TissueMask:
    """A mask finer than the overview, without the whole image in memory."""
    from wsi_mil.tissue.chunked import chunked_mask

    pixel = finder.mpp_at(shape)
    to_level0 = pixel.x / slide.mpp.x, pixel.y / slide.mpp.y

    def read(corner: tuple[int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
        location = round(corner[0] * to_level0[0]), round(corner[1] * to_level0[1])
        return slide.read_region(location, size, max(pixel.x, pixel.y))

    return chunked_mask(read, shape, finder, threads=threads, memory_bytes=MEMORY_BYTES)


def _mpp_of(overview: NDArray[np.uint8], slide: Slide) -> Mpp:
    """µm per pixel of a picture of the whole slide."""
    width, height = slide.dimensions
    return Mpp(slide.mpp.x * width / overview.shape[1], slide.mpp.y * height / overview.shape[0])


def _why_empty(mask: TissueMask, tissue_grid: TileGrid, row: SlideRow, settings: TileSettings) -> str:
    if mask.share == 0:
        return "no tissue found"
    tiling = settings.tiling
    if len(tissue_grid.coords):
        return (
            f"none of its {len(tissue_grid.coords)} tiles of tissue lies inside {row.annotation} by {tiling.min_annotation:.0%};"
            " see the sheet's `annotation` column, tilings.….min_annotation and tissue.annotation_classes"
        )
    return f"no tile of {tiling.tile_px} px at {tiling.mpp:g} µm holds {tiling.min_tissue:.0%} tissue"


def _warnings(slide: Slide, settings: TileSettings, tissue_share: float, unreadable: float) -> list[str]:
    found, coarsest = [], max(slide.mpp.x, slide.mpp.y)
    if coarsest > settings.tiling.mpp:
        found.append(f"level 0 has {coarsest:.4g} µm per pixel: tiles at {settings.tiling.mpp:g} are enlarged a little")
    low, high = SUSPICIOUS_TISSUE
    if settings.tissue.method != "none" and not low <= tissue_share <= high:
        found.append(f"tissue covers {tissue_share:.2%} of the slide: look at its QC picture")
    if unreadable:
        found.append(f"{unreadable:.2%} of the slide cannot be read and was taken for glass")
    return found


def _tissue_geojson(region: BaseGeometry, bounds: tuple[int, int, int, int] | None) -> str:
    """The outline for QuPath, which counts from the corner of the slide's bounds where it has any."""
    if bounds is not None:
        region = shapely.transform(region, lambda xy: xy - np.array(bounds[:2]))
    about: dict[str, object] = {
        "objectType": "annotation",
        "classification": {"name": TISSUE_CLASS, "color": list(TISSUE_COLOUR)},
    }
    return feature_collection([] if region.is_empty else [region], [] if region.is_empty else [about])


def _qc_picture(thumbnail: NDArray[np.uint8], region: BaseGeometry, grid: TileGrid, dimensions: tuple[int, int]) -> bytes:
    """PNG of the slide with the tissue's outline and every tile."""
    image = Image.fromarray(thumbnail).convert("RGB")
    draw = ImageDraw.Draw(image)
    scale = np.array([image.width / dimensions[0], image.height / dimensions[1]])
    for corner in grid.coords:
        draw.rectangle([*(corner * scale), *((corner + np.array(grid.tile_px_level0)) * scale)], outline=TILE_COLOUR)
    for ring in rings(region):
        draw.line([(float(x), float(y)) for x, y in ring * scale], fill=TISSUE_COLOUR, width=3)
    file = io.BytesIO()
    image.quantize(QC_COLOURS, dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()
