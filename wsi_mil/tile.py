"""Stage `tile`: slide → tissue mask → grid → store and receipt."""

import io
import logging
import math
from dataclasses import dataclass
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
from wsi_mil.slides import MppGuess, Slide, open_slide, slide_hash
from wsi_mil.store import array_digest, remove_store, store_path, write_bytes, write_grid, write_receipt, write_text
from wsi_mil.tiles import chosen, drawn, tile_grid
from wsi_mil.tissue import OVERVIEW_MPP, TissueFinder, TissueMask, region_tissue, tissue_mask

log = logging.getLogger(__name__)

STAGE_VERSION = 3
THUMBNAIL_PX = 1024
"""Longest side of the thumbnail kept with the tiles."""

WHOLE_PX = 2_000_000
"""A mask of more pixels is made chunk by chunk."""

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
        content = {"status": fault_status(error, settings.slide), "reason": str(error), "warnings": []}
    stamp = {"slide_id": row.slide_id, "settings": settings.model_dump(mode="json"), "stage_version": STAGE_VERSION}
    write_receipt(receipt, {**content, **stamp})
    log.info("%s: %s %s", row.slide_id, content["status"], content["reason"])
    return Status(str(content["status"]))


def fault_status(error: DataError, settings: SlideFile) -> Status:
    """What a fault of the data makes of a slide."""
    is_skipped = isinstance(error, MissingMppError) and settings.on_missing_mpp == "skip"
    return Status.SKIPPED if is_skipped else Status.FAILED


def mpp_guess(settings: SlideFile) -> MppGuess:
    """What the settings let stand in for a resolution that neither sheet nor file says."""
    default = settings.on_missing_mpp
    return MppGuess(settings.mpp_from_objective, None if isinstance(default, str) else default)


@dataclass(frozen=True)
class Laid:
    """Tissue and tiles of a slide.

    Attributes:
        mask: where its tissue is.
        grid: its tiles.
        why_empty: why there is none, or "".
    """

    mask: TissueMask
    grid: TileGrid
    why_empty: str


def lay_tiles(
    slide: Slide, annotation: Path | None, settings: TileSettings, *, threads: int = 1, mask: TissueMask | None = None
) -> Laid:
    """Find the tissue of an open slide and lay tiles over it.

    Args:
        slide: the slide.
        annotation: its annotation file, where there is one.
        settings: of tissue and tiles.
        threads: that read.
        mask: its tissue, where that was found for another tiling.

    Raises:
        DataError: it cannot be tiled.
    """
    slide.refuse_coarser(settings.tiling.mpp)
    annotated = _annotated(annotation, settings, slide)
    mask = mask or _tissue(slide, settings.tissue, annotated, threads)
    tissue_grid = tile_grid(slide.dimensions, mask, settings.tiling, slide.mpp)
    grid = drawn(_inside(tissue_grid, annotated, settings), settings.tiling)
    return Laid(mask, grid, "" if len(grid.coords) else _why_empty(mask, tissue_grid, annotation, settings))


def thumbnail_mpp(slide: Slide) -> float:
    """µm per pixel of the thumbnail that is kept."""
    return max(extent_um(slide)) / THUMBNAIL_PX


def tile_warnings(slide: Slide, settings: TileSettings, tissue_share: float, unreadable: float) -> list[str]:
    """What is worth a look in a slide that can be tiled.

    Args:
        slide: the slide.
        settings: of tissue and tiles.
        tissue_share: share of it that is tissue.
        unreadable: share of it whose data are damaged.
    """
    found, coarsest = list(slide.resolution.notes), max(slide.mpp.x, slide.mpp.y)
    if coarsest > settings.tiling.mpp:
        found.append(f"level 0 has {coarsest:.4g} µm per pixel: tiles at {settings.tiling.mpp:g} are enlarged a little")
    low, high = SUSPICIOUS_TISSUE
    if settings.tissue.method != "none" and not low <= tissue_share <= high:
        found.append(f"tissue covers {tissue_share:.2%} of the slide: look at its QC picture")
    if unreadable:
        found.append(f"{unreadable:.2%} of the slide cannot be read and was taken for glass")
    return found


def _tile(row: SlideRow, settings: TileSettings, receipt: Path, threads: int) -> dict[str, object]:
    with open_slide(row.path, settings.slide.reader, mpp=row.mpp, guess=mpp_guess(settings.slide)) as slide:
        laid = lay_tiles(slide, row.annotation, settings, threads=threads)
        thumbnail = slide.read_overview(thumbnail_mpp(slide), threads=threads)
    region = laid.mask.outline(slide.dimensions)
    about = {"slide_id": row.slide_id, "dimensions": list(slide.dimensions)}
    write_grid(store_path(receipt), laid.grid, thumbnail.image, about)
    write_text(receipt.with_suffix(".geojson"), _tissue_geojson(region, slide.bounds))
    write_bytes(receipt.with_suffix(".png"), _qc_picture(thumbnail.image, region, laid.grid, slide.dimensions))
    return {
        **_about(slide),
        "status": Status.EMPTY if laid.why_empty else Status.OK,
        "reason": laid.why_empty,
        "warnings": tile_warnings(slide, settings, laid.mask.share, thumbnail.unreadable),
        "slide_hash": slide_hash(row.path),
        "tissue_area_um2": laid.mask.share * math.prod(extent_um(slide)),
        "tissue_share": laid.mask.share,
        "n_tiles": len(laid.grid.coords),
        "tile_px_level0": list(laid.grid.tile_px_level0),
        "coords_digest": array_digest(laid.grid.coords),
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


def _annotated(annotation: Path | None, settings: TileSettings, slide: Slide) -> BaseGeometry:
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
    if annotation is None:
        raise SlideError(
            slide.path, f"has no annotation, but {asked_by[0]} needs one; give it in the sheet's `annotation` column"
        )
    frame = Frame(slide.dimensions, slide.bounds)
    return read_outlines(annotation, settings.tissue.annotation_classes, frame, origin=settings.origin)


def _inside(grid: TileGrid, annotated: BaseGeometry, settings: TileSettings) -> TileGrid:
    """The tiles that lie inside the annotation as far as `min_annotation` asks for."""
    least = settings.tiling.min_annotation
    if least is None:
        return grid
    return chosen(grid, overlap_fractions(annotated, grid.coords, box=grid.tile_px_level0) >= least - 1e-9)


def extent_um(slide: Slide) -> tuple[float, float]:
    """(width, height) of the slide in µm."""
    return slide.dimensions[0] * slide.mpp.x, slide.dimensions[1] * slide.mpp.y


def _tissue(slide: Slide, settings: Tissue, annotated: BaseGeometry, threads: int) -> TissueMask:
    """Where the slide's tissue is, at `settings.mpp`, or at level 0 where that is coarser."""
    width, height = size_at(slide.dimensions, slide_mpp=slide.mpp, target_mpp=max(settings.mpp, slide.mpp.x, slide.mpp.y))
    if settings.method == "none":
        return TissueMask.whole(np.ones((1, 1), bool))
    if settings.method == "annotation":
        return region_tissue(annotated, dimensions=slide.dimensions, shape=(height, width))
    overview = slide.read_overview(max(settings.mpp, OVERVIEW_MPP), threads=threads).image
    if overview.shape[:2] == (height, width) and height * width <= WHOLE_PX:
        return TissueMask.whole(tissue_mask(overview, settings, _mpp_of(overview, slide)))
    return _tissue_in_chunks(slide, overview, settings, (height, width), threads)


def _tissue_in_chunks(
    slide: Slide, overview: NDArray[np.uint8], settings: Tissue, shape: tuple[int, int], threads: int
) -> TissueMask:
    """As `tissue_mask`, without the whole image in memory."""
    from wsi_mil.tissue.chunked import chunked_mask

    finder = TissueFinder.measured(overview, settings, _mpp_of(overview, slide))
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


def _why_empty(mask: TissueMask, tissue_grid: TileGrid, annotation: Path | None, settings: TileSettings) -> str:
    if mask.share == 0:
        return "no tissue found"
    tiling = settings.tiling
    if len(tissue_grid.coords):
        return (
            f"none of its {len(tissue_grid.coords)} tiles of tissue lies inside {annotation} by {tiling.min_annotation:.0%};"
            " see the sheet's `annotation` column, tilings.….min_annotation and tissue.annotation_classes"
        )
    return f"no tile of {tiling.tile_px} px at {tiling.mpp:g} µm holds {tiling.min_tissue:.0%} tissue"


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
    image.save(file, "PNG")
    return file.getvalue()
