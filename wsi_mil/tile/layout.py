"""An open slide → its tissue, and tiles over it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.annotations import NOTHING, overlap_fractions
from wsi_mil.config import SlideFile, TileSettings, Tissue
from wsi_mil.errors import DataError, MissingMppError, SlideReadError
from wsi_mil.geometry import Mpp, size_at
from wsi_mil.records import Status, TileGrid
from wsi_mil.slides import MAX_UNREADABLE, MppGuess, Overview, Slide
from wsi_mil.tile.grid import sample_tiles, select_tiles, tile_grid
from wsi_mil.tile.supplied import AnnotatedRegions, SuppliedFiles, read_annotated_regions, read_supplied_mask
from wsi_mil.tissue import (
    OVERVIEW_MPP,
    TissueFinder,
    TissueMask,
    cut_out,
    everywhere,
    intersection,
    odd_background,
    overview_mask,
    region_tissue,
)

MEMORY_BYTES = 256 << 20
"""What the chunks of a mask that are worked on take together."""

SUSPICIOUS_TISSUE = (0.001, 0.95)
"""A mask that covers less or more of the slide than this is worth a look."""

MUCH_MORE, LEAST_AWAY = 1.7, 0.1
"""So many times the tissue differs from glass in colour where the method missed some; and the least share of the slide."""


@dataclass(frozen=True)
class SlideTissue:
    """The tissue of a slide, and the picture of the slide that it was found on.

    Attributes:
        mask: where it is, without what was cut out.
        overview: the whole slide at `OVERVIEW_MPP`, or as coarse as the mask.
        excluded: polygons that were cut out, level-0 pixels.
        cut_share: share of the slide that was tissue and was cut out.
        away_share: share of the slide whose colour is not that of glass, where tissue was found by another method; or None.
        why_empty: why the mask of another tool holds no tissue, or "".
        notes: what is worth a look in the files that say where it is.
    """

    mask: TissueMask
    overview: Overview
    excluded: BaseGeometry = NOTHING
    cut_share: float = 0.0
    away_share: float | None = None
    why_empty: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TileLayout:
    """Tissue and tiles of a slide.

    Attributes:
        tissue: where its tissue is.
        grid: its tiles.
        why_empty: why there is none, or "".
    """

    tissue: SlideTissue
    grid: TileGrid
    why_empty: str


def layout_tiles(
    slide: Slide, beside: SuppliedFiles, settings: TileSettings, *, threads: int = 1, tissue: SlideTissue | None = None
) -> TileLayout:
    """Find the tissue of an open slide and lay tiles over it.

    Args:
        slide: the slide.
        beside: its annotation and its mask, where there are any.
        settings: of tissue and tiles.
        threads: that read.
        tissue: its tissue, where that was found for another tiling.

    Raises:
        DataError: it cannot be tiled.
    """
    slide.require_fine_enough(settings.tiling.mpp)
    drawn_on_it = read_annotated_regions(slide, beside.annotation, settings)
    tissue = tissue or _tissue(slide, beside.mask, settings, drawn_on_it, threads)
    tissue_grid = tile_grid(slide.dimensions, tissue.mask, settings.tiling, slide.mpp)
    grid = sample_tiles(_inside(tissue_grid, drawn_on_it.inside, settings), settings.tiling)
    return TileLayout(tissue, grid, "" if len(grid.coords) else _why_empty(slide, tissue, tissue_grid, beside, settings))


def tile_warnings(slide: Slide, settings: TileSettings, tissue: SlideTissue) -> list[str]:
    """What is worth a look in a slide that can be tiled.

    Args:
        slide: the slide.
        settings: of tissue and tiles.
        tissue: what was found on it.
    """
    found, coarsest = [*slide.notes, *slide.resolution.notes], max(slide.mpp.x, slide.mpp.y)
    if coarsest > settings.tiling.mpp:
        found.append(f"level 0 has {coarsest:.4g} µm per pixel: tiles at {settings.tiling.mpp:g} are enlarged a little")
    found += [*_colour_warnings(tissue.overview), *tissue.notes, *_share_warnings(settings.tissue, tissue)]
    if tissue.overview.unreadable:
        found.append(f"{tissue.overview.unreadable:.2%} of the slide cannot be read and was taken for glass")
    return found


def _share_warnings(settings: Tissue, tissue: SlideTissue) -> Iterator[str]:
    """Too much tissue, or too little."""
    (low, high), share = SUSPICIOUS_TISSUE, tissue.mask.share
    if settings.method != "none" and not low <= share <= high:
        yield f"tissue covers {share:.2%} of the slide: look at its QC picture"
    away = tissue.away_share
    if away is not None and away >= max(LEAST_AWAY, MUCH_MORE * (share + tissue.cut_share)):
        yield (
            f"tissue covers {share:.0%} of the slide, but {away:.0%} of it differs from glass in colour: look at its QC picture;"
            " tissue.method glass_distance takes pale stains too, none the whole image"
        )


def _colour_warnings(overview: Overview) -> Iterator[str]:
    """A background that bare glass under white light does not have."""
    odd = odd_background(overview.image)
    if odd is None:
        return
    if odd.kind == "dark":
        yield f"the background is {odd.colour}, dark: tissue is looked for on bright glass; is this fluorescence, or inverted?"
    else:
        why = ", as where YCbCr is shown as RGB" if odd.kind == "swapped" else ""
        yield f"the background is {odd.colour}, far from grey{why}: are the colours of this file right?"


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


def _inside(grid: TileGrid, annotated: BaseGeometry, settings: TileSettings) -> TileGrid:
    """The tiles that lie inside the annotation as far as `min_annotation` asks for."""
    least = settings.tiling.min_annotation
    if least is None:
        return grid
    return select_tiles(grid, overlap_fractions(annotated, grid.coords, box=grid.tile_px_level0) >= least - 1e-9)


def _tissue(slide: Slide, given: Path | None, settings: TileSettings, annotated: AnnotatedRegions, threads: int) -> SlideTissue:
    """Where the slide's tissue is, at `tissue.mpp`, or at level 0 where that is coarser: its own mask, or a given one."""
    block = settings.tissue
    overview = slide.read_overview(max(block.mpp, OVERVIEW_MPP), threads=threads)
    width, height = size_at(slide.dimensions, slide_mpp=slide.mpp, target_mpp=max(block.mpp, slide.mpp.x, slide.mpp.y))
    other = None if given is None else read_supplied_mask(slide, given, settings, (height, width))
    if other is not None and block.mask_mode == "replace":
        found = SlideTissue(other.mask, overview)
    else:
        found = _own_tissue(slide, overview, block, annotated.inside, threads)
    if other is not None:
        if block.mask_mode == "intersect":
            found = replace(found, mask=intersection(_on_grid(found.mask, (height, width)), other.mask))
        found = replace(found, away_share=None, why_empty=other.why_empty)
    notes = (*(other.notes if other else ()), *annotated.notes)
    return _cut(replace(found, notes=notes), annotated.excluded, slide.dimensions, (height, width))


def _on_grid(mask: TissueMask, shape: tuple[int, int]) -> TissueMask:
    """A mask that stands for the whole slide by a single pixel, as large as others."""
    return everywhere(shape) if mask.shape == (1, 1) and mask.share == 1 else mask


def _cut(found: SlideTissue, excluded: BaseGeometry, dimensions: tuple[int, int], shape: tuple[int, int]) -> SlideTissue:
    if excluded.is_empty:
        return found
    whole = _on_grid(found.mask, shape)
    left = cut_out(whole, excluded, dimensions=dimensions)
    return replace(found, mask=left, excluded=excluded, cut_share=whole.share - left.share)


def _own_tissue(slide: Slide, overview: Overview, settings: Tissue, annotated: BaseGeometry, threads: int) -> SlideTissue:
    """Where tissue is by the method of the settings."""
    width, height = size_at(slide.dimensions, slide_mpp=slide.mpp, target_mpp=max(settings.mpp, slide.mpp.x, slide.mpp.y))
    if settings.method == "none":
        return SlideTissue(TissueMask.whole(np.ones((1, 1), bool)), overview)
    if settings.method == "annotation":
        return SlideTissue(region_tissue(annotated, dimensions=slide.dimensions, shape=(height, width)), overview)
    finder = TissueFinder.measured(overview.image, settings, _mpp_of(overview.image, slide), threads=threads)
    if overview.image.shape[:2] == (height, width):
        return SlideTissue(TissueMask.whole(overview_mask(finder)), overview, away_share=finder.away_share)
    mask, unreadable = _mask_in_chunks(slide, finder, (height, width), threads)
    overview = replace(overview, unreadable=max(overview.unreadable, unreadable))
    return SlideTissue(mask, overview, away_share=finder.away_share)


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
    part = slide.read_region_or_white(location, size, max(pixel.x, pixel.y))
    return part.image, part.unreadable * size[0] * size[1]


def _mpp_of(overview: NDArray[np.uint8], slide: Slide) -> Mpp:
    """µm per pixel of a picture of the whole slide."""
    width, height = slide.dimensions
    return Mpp(slide.mpp.x * width / overview.shape[1], slide.mpp.y * height / overview.shape[0])


def _why_empty(slide: Slide, tissue: SlideTissue, tissue_grid: TileGrid, beside: SuppliedFiles, settings: TileSettings) -> str:
    tiling = settings.tiling
    if tiling.edge == "drop" and not all(
        side <= whole for side, whole in zip(tissue_grid.tile_px_level0, slide.dimensions, strict=True)
    ):
        return f"no tile of {tiling.tile_px} px at {tiling.mpp:g} µm fits into it"
    if tissue.mask.share == 0:
        return _why_no_tissue(tissue, beside.mask, settings.tissue)
    if len(tissue_grid.coords):
        return (
            f"none of its {len(tissue_grid.coords)} tiles of tissue lies inside {beside.annotation} by"
            f" {tiling.min_annotation:.0%}; see the sheet's `annotation` column, tilings.….min_annotation and"
            " tissue.annotation_classes"
        )
    return f"no tile of {tiling.tile_px} px at {tiling.mpp:g} µm holds {tiling.min_tissue:.0%} tissue"


def _why_no_tissue(tissue: SlideTissue, mask: Path | None, settings: Tissue) -> str:
    if tissue.why_empty:
        return f"{tissue.why_empty}; see the sheet's `mask` column"
    if tissue.cut_share:
        return f"all of its tissue lies in polygons of tissue.exclude_classes ({', '.join(settings.exclude_classes or ())})"
    if mask is None:
        return "no tissue found"
    return (
        f"no tissue found inside of its mask {mask}" if settings.mask_mode == "intersect" else f"its mask {mask} holds no tissue"
    )
