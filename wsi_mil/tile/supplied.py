"""Read supplied files that decide on a slide's tissue and tiles: its annotation, a mask of another tool."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shapely.geometry.base import BaseGeometry

from wsi_mil.annotations import NOTHING, Frame, Outlines, read_classes, read_outlines
from wsi_mil.config import TileSettings, Tissue
from wsi_mil.errors import AnnotationError, MaskError, SlideError
from wsi_mil.label_images import LabelImage, is_label_image, read_label_image
from wsi_mil.slides import Slide
from wsi_mil.tissue import MaskExtent, TissueMask, region_tissue, regridded

OUTLINE_SUFFIXES = (".geojson", ".json", ".xml")
SIDE_TOLERANCE = 0.005
"""Relative difference that the scales of a label image's two sides may have, beyond rounding to whole pixels."""


@dataclass(frozen=True)
class SuppliedFiles:
    """Files of the sheet that decide on a slide's tissue or tiles.

    Attributes:
        annotation: GeoJSON or ASAP XML with polygons.
        mask: tissue mask of another tool: polygons, or a label image.
    """

    annotation: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class AnnotatedRegions:
    """Regions of a slide's annotation, level-0 pixels.

    Attributes:
        inside: region of tissue or tiles; empty if the settings do not use it.
        excluded: region excluded from the tissue.
        notes: warnings, one sentence each.
    """

    inside: BaseGeometry = NOTHING
    excluded: BaseGeometry = NOTHING
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuppliedMask:
    """Mask of another tool, resampled to the slide's grid.

    Attributes:
        mask: mask of the whole slide.
        why_empty: why the mask has no tissue, or "".
        notes: warnings, one sentence each.
    """

    mask: TissueMask
    why_empty: str = ""
    notes: tuple[str, ...] = ()


def read_annotated_regions(slide: Slide, annotation: Path | None, settings: TileSettings) -> AnnotatedRegions:
    """Read the regions of a slide's annotation that its tissue and tiles depend on.

    Raises:
        SlideError: the settings need an annotation, but there is none. Excluded classes do not need one.
        AnnotationError: the annotation cannot be read, or lies outside the slide.
        OSError: the file is missing or unreadable.
    """
    setting = _setting_that_needs_annotation(settings)
    excluded_classes = settings.tissue.exclude_classes or ()
    if annotation is None:
        if not setting:
            return AnnotatedRegions()
        raise SlideError(slide.path, f"has no annotation, but {setting} needs one; name it in the sheet's `annotation` column")
    if not setting and not excluded_classes:
        return AnnotatedRegions()
    _require_readable(annotation)
    frame = Frame(slide.dimensions, slide.bounds)
    classes = settings.tissue.annotation_classes
    inside = NOTHING
    if setting:
        inside = read_outlines(annotation, classes, frame, origin=settings.origin, apart=excluded_classes)
    if not excluded_classes:
        return AnnotatedRegions(inside)
    excluded = read_classes(annotation, excluded_classes, frame, origin=settings.origin)
    return AnnotatedRegions(inside, excluded.region, tuple(_misspelt(excluded, excluded_classes)))


def _setting_that_needs_annotation(settings: TileSettings) -> str:
    """Setting by which the annotation decides on tissue or tiles, or ""."""
    if settings.tissue.method == "annotation":
        return "tissue.method: annotation"
    return "tilings.….min_annotation" if settings.tiling.min_annotation is not None else ""


def _require_readable(path: Path) -> None:
    """Raise OSError if the file is missing or unreadable, so that it is not mistaken for damaged data."""
    with path.open("rb"):
        pass


def _misspelt(outlines: Outlines, excluded_classes: tuple[str, ...]) -> Iterator[str]:
    """Warnings about classes of a file that differ from excluded ones in upper and lower case only."""
    for wanted in excluded_classes:
        near = sorted(n for n in outlines.names if n.casefold() == wanted.casefold() and n not in excluded_classes)
        if near and wanted not in outlines.names:
            yield f"tissue.exclude_classes names {wanted!r}, but its annotation has the class {near[0]!r}, which is not excluded"


def read_supplied_mask(slide: Slide, path: Path, settings: TileSettings, shape: tuple[int, int]) -> SuppliedMask:
    """Read a tissue mask of another tool.

    Args:
        slide: the slide of the mask.
        path: GeoJSON or ASAP XML, or a label image (PNG, TIFF) of the whole slide at any scale, or of the slide's bounds.
        settings: values or classes of tissue.
        shape: [height, width] of the result.

    Raises:
        MaskError: the mask cannot be read, or does not fit the slide.
        OSError: the file is missing or unreadable.
    """
    _require_readable(path)
    if path.suffix.lower() in OUTLINE_SUFFIXES:
        return _by_outlines(slide, path, settings, shape)
    if not is_label_image(path):
        raise MaskError(path, "is neither GeoJSON or ASAP XML nor a PNG or TIFF; correct the sheet's `mask` column")
    image = read_label_image(path, settings.tissue.mask_values)
    place = _mask_extent(slide, path, image.dimensions, settings)
    return SuppliedMask(regridded(image.mask, shape, place), *_label_findings(path, image, settings.tissue))


def _by_outlines(slide: Slide, path: Path, settings: TileSettings, shape: tuple[int, int]) -> SuppliedMask:
    classes = settings.tissue.mask_classes
    try:
        outlines = read_classes(path, classes, Frame(slide.dimensions, slide.bounds), origin=settings.origin)
    except AnnotationError as error:  # its message names the sheet's annotation column
        reason = str(error).removeprefix(f"{path}: ").replace("`annotation` column", "`mask` column")
        raise MaskError(path, reason) from error
    wanted = f"of tissue.mask_classes ({', '.join(classes)})" if classes else "of any class"
    why = "" if outlines.counts else f"its mask {path} has no polygon {wanted}, but {outlines.in_file}"
    return SuppliedMask(region_tissue(outlines.region, dimensions=slide.dimensions, shape=shape), why)


def _label_findings(path: Path, image: LabelImage, settings: Tissue) -> tuple[str, tuple[str, ...]]:
    """Why a label image has no tissue, or "", and warnings about it."""
    values = image.values_in_words
    tissue_values = settings.mask_values
    if tissue_values is None:
        several = sum(value != 0 for value in image.values) > 1
        note = f"its mask {path.name} has the values {values}, and all but 0 are taken as tissue: see tissue.mask_values"
        return f"its mask {path} is 0 everywhere" if image.values == (0,) else "", (note,) if several else ()
    wanted = ", ".join(str(value) for value in tissue_values)
    why = f"its mask {path} has none of tissue.mask_values ({wanted}), but {values}"
    return "" if set(tissue_values) & set(image.values) else why, ()


def _mask_extent(slide: Slide, path: Path, size: tuple[int, int], settings: TileSettings) -> MaskExtent:
    """Part of the slide that a label image of `size` (width, height) covers, by its aspect ratio."""
    width, height = slide.dimensions
    if _fits(size, (width, height)) or _fits(size, (width * slide.mpp.x, height * slide.mpp.y)):
        return MaskExtent()
    if slide.bounds is not None and settings.origin == "bounds" and _fits(size, slide.bounds[2:]):
        x, y, w, h = slide.bounds
        return MaskExtent(x / width, y / height, (x + w) / width, (y + h) / height)
    raise MaskError(
        path,
        f"must have the aspect ratio of the slide ({width} × {height} px), but has {size[0]} × {size[1]} px: it shows another"
        " slide, or only a part of this one; correct the sheet's `mask` column",
    )


def _fits(size: tuple[int, int], extent: tuple[float, float]) -> bool:
    """Whether one scale factor maps an extent to both sides of `size`, up to rounding to whole pixels."""
    least = max(extent[i] / (size[i] + 1) for i in (0, 1))
    most = min(extent[i] / max(size[i] - 1, 1e-9) for i in (0, 1))
    return least <= most * (1 + SIDE_TOLERANCE)
