"""Segment the tissue of an open slide and place tiles on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.annotations import NOTHING, overlap_fractions
from wsi_mil.config import SlideFile, TileSettings, Tissue
from wsi_mil.errors import DataError, MissingMppError, SlideReadError
from wsi_mil.geometry import Mpp, footprint, size_at
from wsi_mil.records import Status, TileGrid
from wsi_mil.shifts import Shift
from wsi_mil.slides import MAX_UNREADABLE, MppGuess, Overview, Slide
from wsi_mil.tile.grid import sample_tiles, select_tiles, tile_grid
from wsi_mil.tile.supplied import AnnotatedRegions, SuppliedFiles, read_annotated_regions, read_supplied_mask
from wsi_mil.tissue import (
    OVERVIEW_MPP,
    TissueFinder,
    TissueMask,
    full_mask,
    intersection,
    odd_background,
    overview_mask,
    region_tissue,
    without_region,
)

MEMORY_BYTES = 256 << 20
"""Memory of all chunks of a mask that are processed at once."""

SUSPICIOUS_TISSUE = (0.001, 0.95)
"""Shares of the slide below and above which a tissue mask gets a warning."""

MUCH_MORE, LEAST_NON_GLASS = 1.7, 0.1
"""Ratio of non-glass area to tissue from which the method has probably missed tissue, and the smallest such share."""


@dataclass(frozen=True)
class SlideTissue:
    """Tissue of a slide, and the overview on which it was found.

    Attributes:
        mask: tissue mask without excluded regions.
        overview: the whole slide at `OVERVIEW_MPP`, or as coarse as the mask.
        excluded: excluded polygons, level-0 pixels.
        cut_share: share of the slide that is tissue inside excluded polygons.
        non_glass_share: share of the slide whose colour differs from glass; None if tissue was found by that criterion or
            without the image.
        why_empty: why the mask of another tool has no tissue, or "".
        notes: warnings about the mask and annotation files.
    """

    mask: TissueMask
    overview: Overview
    excluded: BaseGeometry = NOTHING
    cut_share: float = 0.0
    non_glass_share: float | None = None
    why_empty: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TileLayout:
    """Tissue and tiles of a slide.

    Attributes:
        tissue: tissue of the slide.
        grid: tiles of the slide.
        why_empty: why there are no tiles, or "".
    """

    tissue: SlideTissue
    grid: TileGrid
    why_empty: str


def layout_tiles(
    slide: Slide, supplied: SuppliedFiles, settings: TileSettings, *, threads: int = 1, tissue: SlideTissue | None = None
) -> TileLayout:
    """Segment the tissue of an open slide and place tiles on it.

    Args:
        slide: the slide.
        supplied: annotation and mask of the slide, if any.
        settings: settings of tissue and tiles.
        threads: number of threads that read.
        tissue: tissue of the slide if known from another tiling.

    Raises:
        DataError: the slide cannot be tiled.
    """
    slide.require_fine_enough(settings.tiling.mpp)
    annotated = read_annotated_regions(slide, supplied.annotation, settings)
    tissue = tissue or _tissue(slide, supplied.mask, settings, annotated, threads)
    tissue_grid, grid = _grids(slide, tissue, settings, annotated.inside)
    return TileLayout(tissue, grid, "" if len(grid.coords) else _why_empty(slide, tissue, tissue_grid, supplied, settings))


def layout_shifted(
    slide: Slide, supplied: SuppliedFiles, settings: TileSettings, tissue: SlideTissue, moves: Sequence[Shift]
) -> list[TileGrid]:
    """Place tiles of shifted tilings on an open slide, as `layout_tiles` places those of the usual one.

    Args:
        slide: the slide.
        supplied: annotation and mask of the slide, if any.
        settings: settings of tissue and tiles.
        tissue: tissue of the slide.
        moves: the shifts.

    Raises:
        DataError: the annotation, which decides which tiles are cut, cannot be read.
    """
    inside = read_annotated_regions(slide, supplied.annotation, settings).inside
    step = settings.tiling.tile_px - settings.tiling.overlap
    right, down = footprint((step, step), target_mpp=settings.tiling.mpp, slide_mpp=slide.mpp)
    starts = [(shift.of(right)[0], shift.of(down)[1]) for shift in moves]
    return [_grids(slide, tissue, settings, inside, start)[1] for start in starts]


def _grids(
    slide: Slide,
    tissue: SlideTissue,
    settings: TileSettings,
    inside: BaseGeometry,
    start: tuple[float, float] = (0.0, 0.0),
) -> tuple[TileGrid, TileGrid]:
    """All tiles with enough tissue, and those of them that are kept, from a first tile at `start` on."""
    tissue_grid = tile_grid(slide.dimensions, tissue.mask, settings.tiling, slide.mpp, start)
    return tissue_grid, sample_tiles(_inside(tissue_grid, inside, settings), settings.tiling)


def tile_warnings(slide: Slide, settings: TileSettings, tissue: SlideTissue) -> list[str]:
    """Return warnings about a slide that can be tiled.

    Args:
        slide: the slide.
        settings: settings of tissue and tiles.
        tissue: tissue of the slide.
    """
    warnings = [*slide.notes, *slide.resolution.notes]
    coarsest = max(slide.mpp.x, slide.mpp.y)
    if coarsest > settings.tiling.mpp:
        warnings.append(f"level 0 has {coarsest:.4g} µm per pixel: tiles at {settings.tiling.mpp:g} are slightly upsampled")
    warnings += [*_colour_warnings(tissue.overview), *tissue.notes, *_share_warnings(settings.tissue, tissue)]
    if tissue.overview.unreadable:
        warnings.append(f"{tissue.overview.unreadable:.2%} of the slide cannot be read and was taken for glass")
    return warnings


def _share_warnings(settings: Tissue, tissue: SlideTissue) -> Iterator[str]:
    """Warnings about too much or too little tissue."""
    low, high = SUSPICIOUS_TISSUE
    share = tissue.mask.share
    if settings.method != "none" and not low <= share <= high:
        yield f"tissue covers {share:.2%} of the slide: check its QC image"
    non_glass = tissue.non_glass_share
    if non_glass is not None and non_glass >= max(LEAST_NON_GLASS, MUCH_MORE * (share + tissue.cut_share)):
        yield (
            f"tissue covers {share:.0%} of the slide, but {non_glass:.0%} of it differs from glass in colour: check its QC image;"
            " tissue.method glass_distance also takes pale stains, none takes the whole image"
        )


def _colour_warnings(overview: Overview) -> Iterator[str]:
    """Warnings about a background that bare glass under white light does not have."""
    odd = odd_background(overview.image)
    if odd is None:
        return
    if odd.kind == "dark":
        yield f"the background is dark (RGB {odd.colour}), tissue needs bright glass: is this fluorescence, or inverted?"
    else:
        why = ", as if YCbCr were shown as RGB" if odd.kind == "swapped" else ""
        yield f"the background is far from grey (RGB {odd.colour}){why}: are the colours of this file right?"


def fault_status(error: DataError, settings: SlideFile) -> Status:
    """Return the status to record for a slide after a data error."""
    is_skipped = isinstance(error, MissingMppError) and settings.on_missing_mpp == "skip"
    return Status.SKIPPED if is_skipped else Status.FAILED


def mpp_guess(settings: SlideFile) -> MppGuess:
    """Return the fallbacks that the settings allow for a slide without a resolution."""
    default = settings.on_missing_mpp
    return MppGuess(settings.mpp_from_objective, None if isinstance(default, str) else default)


def extent_um(slide: Slide) -> tuple[float, float]:
    """Return (width, height) of the slide in µm."""
    return slide.dimensions[0] * slide.mpp.x, slide.dimensions[1] * slide.mpp.y


def _inside(grid: TileGrid, annotated: BaseGeometry, settings: TileSettings) -> TileGrid:
    """Tiles whose share inside the annotation is at least `min_annotation`."""
    least = settings.tiling.min_annotation
    if least is None:
        return grid
    return select_tiles(grid, overlap_fractions(annotated, grid.coords, box=grid.tile_px_level0) >= least - 1e-9)


def _tissue(
    slide: Slide, mask_path: Path | None, settings: TileSettings, annotated: AnnotatedRegions, threads: int
) -> SlideTissue:
    """Tissue of the slide at `tissue.mpp`, or at level 0 if that is coarser: segmented, or from a supplied mask."""
    block = settings.tissue
    overview = slide.read_overview(max(block.mpp, OVERVIEW_MPP), threads=threads)
    width, height = size_at(slide.dimensions, slide_mpp=slide.mpp, target_mpp=max(block.mpp, slide.mpp.x, slide.mpp.y))
    supplied = None if mask_path is None else read_supplied_mask(slide, mask_path, settings, (height, width))
    if supplied is not None and block.mask_mode == "replace":
        tissue = SlideTissue(supplied.mask, overview)
    else:
        tissue = _segmented_tissue(slide, overview, block, annotated.inside, threads)
    if supplied is not None:
        if block.mask_mode == "intersect":
            tissue = replace(tissue, mask=intersection(_on_grid(tissue.mask, (height, width)), supplied.mask))
        tissue = replace(tissue, non_glass_share=None, why_empty=supplied.why_empty)
    notes = (*(supplied.notes if supplied else ()), *annotated.notes)
    return _exclude(replace(tissue, notes=notes), annotated.excluded, slide.dimensions, (height, width))


def _on_grid(mask: TissueMask, shape: tuple[int, int]) -> TissueMask:
    """Mask of `shape`; a mask of one pixel, which stands for the whole slide, is expanded."""
    return full_mask(shape) if mask.shape == (1, 1) and mask.share == 1 else mask


def _exclude(tissue: SlideTissue, excluded: BaseGeometry, dimensions: tuple[int, int], shape: tuple[int, int]) -> SlideTissue:
    if excluded.is_empty:
        return tissue
    before = _on_grid(tissue.mask, shape)
    after = without_region(before, excluded, dimensions=dimensions)
    return replace(tissue, mask=after, excluded=excluded, cut_share=before.share - after.share)


def _segmented_tissue(slide: Slide, overview: Overview, settings: Tissue, annotated: BaseGeometry, threads: int) -> SlideTissue:
    """Tissue by the method of the settings."""
    width, height = size_at(slide.dimensions, slide_mpp=slide.mpp, target_mpp=max(settings.mpp, slide.mpp.x, slide.mpp.y))
    if settings.method == "none":
        return SlideTissue(TissueMask.whole(np.ones((1, 1), bool)), overview)
    if settings.method == "annotation":
        return SlideTissue(region_tissue(annotated, dimensions=slide.dimensions, shape=(height, width)), overview)
    finder = TissueFinder.from_overview(overview.image, settings, _mpp_of(overview.image, slide), threads=threads)
    if overview.image.shape[:2] == (height, width):
        return SlideTissue(TissueMask.whole(overview_mask(finder)), overview, non_glass_share=finder.non_glass_share)
    mask, unreadable = _mask_in_chunks(slide, finder, (height, width), threads)
    overview = replace(overview, unreadable=max(overview.unreadable, unreadable))
    return SlideTissue(mask, overview, non_glass_share=finder.non_glass_share)


def _mask_in_chunks(slide: Slide, finder: TissueFinder, shape: tuple[int, int], threads: int) -> tuple[TissueMask, float]:
    """Mask finer than the overview, without the whole image in memory, and the unreadable share of the slide.

    Raises:
        SlideReadError: more than `MAX_UNREADABLE` of the slide cannot be read.
    """
    from wsi_mil.tissue.chunked import chunked_mask

    pixel = finder.mpp_at(shape)
    mask, unreadable = chunked_mask(partial(_read_part, slide, pixel), shape, finder, threads=threads, memory_bytes=MEMORY_BYTES)
    if unreadable > MAX_UNREADABLE:
        raise SlideReadError(slide.path, f"cannot read {unreadable:.1%} of the slide")
    return mask, unreadable


def _read_part(slide: Slide, pixel: Mpp, corner: tuple[int, int], size: tuple[int, int]) -> tuple[NDArray[np.uint8], float]:
    """Part of a slide, uint8 [height, width, 3], and its number of unreadable pixels; `corner`, `size` in pixels of `pixel`."""
    location = round(corner[0] * (pixel.x / slide.mpp.x)), round(corner[1] * (pixel.y / slide.mpp.y))
    part = slide.read_region_or_white(location, size, max(pixel.x, pixel.y))
    return part.image, part.unreadable * size[0] * size[1]


def _mpp_of(overview: NDArray[np.uint8], slide: Slide) -> Mpp:
    """µm per pixel of an image of the whole slide."""
    width, height = slide.dimensions
    return Mpp(slide.mpp.x * width / overview.shape[1], slide.mpp.y * height / overview.shape[0])


def _why_empty(slide: Slide, tissue: SlideTissue, tissue_grid: TileGrid, supplied: SuppliedFiles, settings: TileSettings) -> str:
    tiling = settings.tiling
    if tiling.edge == "drop" and not all(
        side <= whole for side, whole in zip(tissue_grid.tile_px_level0, slide.dimensions, strict=True)
    ):
        return f"no tile of {tiling.tile_px} px at {tiling.mpp:g} µm fits into it"
    if tissue.mask.share == 0:
        return _why_no_tissue(tissue, supplied.mask, settings.tissue)
    if len(tissue_grid.coords):
        return (
            f"none of its {len(tissue_grid.coords)} tissue tiles lies at least {tiling.min_annotation:.0%} inside"
            f" {supplied.annotation}; see the sheet's `annotation` column, tilings.….min_annotation and"
            " tissue.annotation_classes"
        )
    return f"no tile of {tiling.tile_px} px at {tiling.mpp:g} µm has {tiling.min_tissue:.0%} tissue"


def _why_no_tissue(tissue: SlideTissue, mask: Path | None, settings: Tissue) -> str:
    if tissue.why_empty:
        return f"{tissue.why_empty}; see the sheet's `mask` column"
    if tissue.cut_share:
        return f"all of its tissue lies in polygons of tissue.exclude_classes ({', '.join(settings.exclude_classes or ())})"
    if mask is None:
        return "no tissue found"
    return f"no tissue found inside its mask {mask}" if settings.mask_mode == "intersect" else f"its mask {mask} has no tissue"
