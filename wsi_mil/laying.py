"""An open slide → its tissue, and tiles over it."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.annotations import Frame, overlap_fractions, read_outlines
from wsi_mil.config import SlideFile, TileSettings, Tissue
from wsi_mil.errors import DataError, MissingMppError, SlideError, SlideReadError
from wsi_mil.geometry import Mpp, size_at
from wsi_mil.records import Status, TileGrid
from wsi_mil.slides import MAX_UNREADABLE, MppGuess, Overview, Slide
from wsi_mil.tiles import chosen, drawn, tile_grid
from wsi_mil.tissue import OVERVIEW_MPP, TissueFinder, TissueMask, overview_mask, region_tissue

MEMORY_BYTES = 256 << 20
"""What the chunks of a mask that are worked on take together."""

SUSPICIOUS_TISSUE = (0.001, 0.95)
"""A mask that covers less or more of the slide than this is worth a look."""


@dataclass(frozen=True)
class SlideTissue:
    """The tissue of a slide, and the picture of the slide that it was found on.

    Attributes:
        mask: where it is.
        overview: the whole slide at `OVERVIEW_MPP`, or as coarse as the mask.
    """

    mask: TissueMask
    overview: Overview


@dataclass(frozen=True)
class Laid:
    """Tissue and tiles of a slide.

    Attributes:
        tissue: where its tissue is.
        grid: its tiles.
        why_empty: why there is none, or "".
    """

    tissue: SlideTissue
    grid: TileGrid
    why_empty: str


def lay_tiles(
    slide: Slide, annotation: Path | None, settings: TileSettings, *, threads: int = 1, tissue: SlideTissue | None = None
) -> Laid:
    """Find the tissue of an open slide and lay tiles over it.

    Args:
        slide: the slide.
        annotation: its annotation file, where there is one.
        settings: of tissue and tiles.
        threads: that read.
        tissue: its tissue, where that was found for another tiling.

    Raises:
        DataError: it cannot be tiled.
    """
    slide.refuse_coarser(settings.tiling.mpp)
    annotated = _annotated(annotation, settings, slide)
    tissue = tissue or _tissue(slide, settings.tissue, annotated, threads)
    tissue_grid = tile_grid(slide.dimensions, tissue.mask, settings.tiling, slide.mpp)
    grid = drawn(_inside(tissue_grid, annotated, settings), settings.tiling)
    return Laid(tissue, grid, "" if len(grid.coords) else _why_empty(tissue.mask, tissue_grid, annotation, settings))


def tile_warnings(slide: Slide, settings: TileSettings, tissue_share: float, unreadable: float) -> list[str]:
    """What is worth a look in a slide that can be tiled.

    Args:
        slide: the slide.
        settings: of tissue and tiles.
        tissue_share: share of it that is tissue.
        unreadable: share of it whose data are damaged.
    """
    found, coarsest = [*slide.notes, *slide.resolution.notes], max(slide.mpp.x, slide.mpp.y)
    if coarsest > settings.tiling.mpp:
        found.append(f"level 0 has {coarsest:.4g} µm per pixel: tiles at {settings.tiling.mpp:g} are enlarged a little")
    low, high = SUSPICIOUS_TISSUE
    if settings.tissue.method != "none" and not low <= tissue_share <= high:
        found.append(f"tissue covers {tissue_share:.2%} of the slide: look at its QC picture")
    if unreadable:
        found.append(f"{unreadable:.2%} of the slide cannot be read and was taken for glass")
    return found


def fault_status(error: DataError, settings: SlideFile) -> Status:
    """What a fault of the data makes of a slide."""
    is_skipped = isinstance(error, MissingMppError) and settings.on_missing_mpp == "skip"
    return Status.SKIPPED if is_skipped else Status.FAILED


def mpp_guess(settings: SlideFile) -> MppGuess:
    """What the settings let stand in for a resolution that neither sheet nor file says."""
    default = settings.on_missing_mpp
    return MppGuess(settings.mpp_from_objective, None if isinstance(default, str) else default)


def extent_um(slide: Slide) -> tuple[float, float]:
    """(width, height) of the slide in µm."""
    return slide.dimensions[0] * slide.mpp.x, slide.dimensions[1] * slide.mpp.y


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
    if annotation is not None:
        with annotation.open("rb"):
            pass  # a file that is gone or cannot be opened is no fault of its data
    else:
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


def _tissue(slide: Slide, settings: Tissue, annotated: BaseGeometry, threads: int) -> SlideTissue:
    """Where the slide's tissue is, at `settings.mpp`, or at level 0 where that is coarser."""
    overview = slide.read_overview(max(settings.mpp, OVERVIEW_MPP), threads=threads)
    width, height = size_at(slide.dimensions, slide_mpp=slide.mpp, target_mpp=max(settings.mpp, slide.mpp.x, slide.mpp.y))
    if settings.method == "none":
        return SlideTissue(TissueMask.whole(np.ones((1, 1), bool)), overview)
    if settings.method == "annotation":
        return SlideTissue(region_tissue(annotated, dimensions=slide.dimensions, shape=(height, width)), overview)
    finder = TissueFinder.measured(overview.image, settings, _mpp_of(overview.image, slide), threads=threads)
    if overview.image.shape[:2] == (height, width):
        return SlideTissue(TissueMask.whole(overview_mask(finder)), overview)
    mask, unreadable = _mask_in_chunks(slide, finder, (height, width), threads)
    return SlideTissue(mask, replace(overview, unreadable=max(overview.unreadable, unreadable)))


def _mask_in_chunks(slide: Slide, finder: TissueFinder, shape: tuple[int, int], threads: int) -> tuple[TissueMask, float]:
    """A mask finer than the overview, without the whole image in memory, and the share of the slide that cannot be read.

    Raises:
        SlideReadError: more than `MAX_UNREADABLE` of it cannot be read.
    """
    from wsi_mil.tissue.chunked import chunked_mask

    pixel = finder.mpp_at(shape)
    mask, unreadable = chunked_mask(partial(_read_part, slide, pixel), shape, finder, threads=threads, memory_bytes=MEMORY_BYTES)
    if unreadable > MAX_UNREADABLE:
        raise SlideReadError(slide.path, f"cannot read {unreadable:.1%} of the slide")
    return mask, unreadable


def _read_part(slide: Slide, pixel: Mpp, corner: tuple[int, int], size: tuple[int, int]) -> tuple[NDArray[np.uint8], float]:
    """A part of a slide, uint8 [height, width, 3], `corner` and `size` in pixels of `pixel`, and how many cannot be read."""
    location = round(corner[0] * (pixel.x / slide.mpp.x)), round(corner[1] * (pixel.y / slide.mpp.y))
    part = slide.read_what_can_be(location, size, max(pixel.x, pixel.y))
    return part.image, part.unreadable * size[0] * size[1]


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
