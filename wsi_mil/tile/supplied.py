"""What the files beside a slide say of its tissue and tiles: polygons of its annotation, a mask of another tool."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shapely.geometry.base import BaseGeometry

from wsi_mil.annotations import NOTHING, Frame, Outlines, read_classes, read_outlines
from wsi_mil.config import TileSettings, Tissue
from wsi_mil.errors import AnnotationError, MaskError, SlideError
from wsi_mil.label_images import LabelImage, is_label_image, read_label_image
from wsi_mil.slides import Slide
from wsi_mil.tissue import Place, TissueMask, region_tissue, regridded

OUTLINE_SUFFIXES = (".geojson", ".json", ".xml")
SIDE_TOLERANCE = 0.005
"""Share by which the sides of a label image may differ in scale, beside the pixel that each is rounded by."""


@dataclass(frozen=True)
class SuppliedFiles:
    """Files beside a slide that decide over its tissue or tiles.

    Attributes:
        annotation: polygons, GeoJSON or ASAP XML.
        mask: a tissue mask of another tool: polygons, or a label image.
    """

    annotation: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class AnnotatedRegions:
    """Regions of a slide's annotation, level-0 pixels.

    Attributes:
        inside: what holds tissue or tiles, where it plays a part.
        excluded: what is no tissue.
        notes: what is worth a look.
    """

    inside: BaseGeometry = NOTHING
    excluded: BaseGeometry = NOTHING
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuppliedMask:
    """A mask that another tool made, on the grid that was asked for.

    Attributes:
        mask: of the whole slide.
        why_empty: why nothing in it is tissue, or "".
        notes: what is worth a look.
    """

    mask: TissueMask
    why_empty: str = ""
    notes: tuple[str, ...] = ()


def read_annotated_regions(slide: Slide, annotation: Path | None, settings: TileSettings) -> AnnotatedRegions:
    """What of a slide's annotation plays a part for its tissue and tiles.

    Raises:
        SlideError: it is needed, but there is none. To cut out classes it is not: then nothing is cut out.
        AnnotationError: it cannot be read, or lies outside of the slide.
        OSError: it is gone, or cannot be opened.
    """
    asked_by = _asked_by(settings)
    cut_out = settings.tissue.exclude_classes or ()
    if annotation is None:
        if not asked_by:
            return AnnotatedRegions()
        raise SlideError(slide.path, f"has no annotation, but {asked_by} needs one; give it in the sheet's `annotation` column")
    if not asked_by and not cut_out:
        return AnnotatedRegions()
    _refuse_missing(annotation)
    frame = Frame(slide.dimensions, slide.bounds)
    wanted = settings.tissue.annotation_classes
    inside = read_outlines(annotation, wanted, frame, origin=settings.origin, apart=cut_out) if asked_by else NOTHING
    if not cut_out:
        return AnnotatedRegions(inside)
    excluded = read_classes(annotation, cut_out, frame, origin=settings.origin)
    return AnnotatedRegions(inside, excluded.region, tuple(_misspelt(excluded, cut_out)))


def _asked_by(settings: TileSettings) -> str:
    """The setting that lets the annotation decide over tissue or tiles, or ""."""
    if settings.tissue.method == "annotation":
        return "tissue.method: annotation"
    return "tilings.….min_annotation" if settings.tiling.min_annotation is not None else ""


def _refuse_missing(path: Path) -> None:
    """Raise OSError: a file that is gone or cannot be opened is no fault of its data."""
    with path.open("rb"):
        pass


def _misspelt(found: Outlines, cut_out: tuple[str, ...]) -> Iterator[str]:
    """Classes of a file that are those to be cut out but for capital letters."""
    for wanted in cut_out:
        near = sorted(n for n in found.names if n.casefold() == wanted.casefold() and n not in cut_out)
        if near and wanted not in found.names:
            yield f"tissue.exclude_classes names {wanted!r}, but its annotation has the class {near[0]!r}, which is not cut out"


def read_supplied_mask(slide: Slide, path: Path, settings: TileSettings, shape: tuple[int, int]) -> SuppliedMask:
    """The mask of another tool.

    Args:
        slide: whose tissue it shows.
        path: GeoJSON or ASAP XML, or a label image (PNG, TIFF) of the whole slide at any scale; of a slide with bounds, of
            these alone, too.
        settings: which values or classes are tissue.
        shape: [height, width] that is wanted.

    Raises:
        MaskError: it cannot be read, or does not fit the slide.
        OSError: it is gone, or cannot be opened.
    """
    _refuse_missing(path)
    if path.suffix.lower() in OUTLINE_SUFFIXES:
        return _by_outlines(slide, path, settings, shape)
    if not is_label_image(path):
        raise MaskError(path, "is neither GeoJSON or ASAP XML nor a PNG or TIFF; correct the sheet's `mask` column")
    image = read_label_image(path, settings.tissue.mask_values)
    place = _place(slide, path, image.dimensions, settings)
    return SuppliedMask(regridded(image.mask, shape, place), *_said_of(path, image, settings.tissue))


def _by_outlines(slide: Slide, path: Path, settings: TileSettings, shape: tuple[int, int]) -> SuppliedMask:
    classes = settings.tissue.mask_classes
    try:
        found = read_classes(path, classes, Frame(slide.dimensions, slide.bounds), origin=settings.origin)
    except AnnotationError as error:  # says what is wrong, but names the column of annotations
        said = str(error).removeprefix(f"{path}: ").replace("`annotation` column", "`mask` column")
        raise MaskError(path, said) from error
    wanted = f"of tissue.mask_classes ({', '.join(classes)})" if classes else "of any class"
    why = "" if found.counts else f"its mask {path} holds no polygon {wanted}, but {found.in_file}"
    return SuppliedMask(region_tissue(found.region, dimensions=slide.dimensions, shape=shape), why)


def _said_of(path: Path, image: LabelImage, settings: Tissue) -> tuple[str, tuple[str, ...]]:
    """Why a label image holds no tissue, or "", and what is worth a look."""
    values, named = image.values_in_words, settings.mask_values
    if named is None:
        several = sum(value != 0 for value in image.values) > 1
        note = f"its mask {path.name} has the values {values}, of which all but 0 are taken for tissue: see tissue.mask_values"
        return f"its mask {path} is 0 everywhere" if image.values == (0,) else "", (note,) if several else ()
    wanted = ", ".join(str(value) for value in named)
    why = f"its mask {path} has none of tissue.mask_values ({wanted}), but {values}"
    return "" if set(named) & set(image.values) else why, ()


def _place(slide: Slide, path: Path, size: tuple[int, int], settings: TileSettings) -> Place:
    """What of the slide a label image of `size` (width, height) covers, by the ratio of its sides."""
    width, height = slide.dimensions
    if _fits(size, (width, height)) or _fits(size, (width * slide.mpp.x, height * slide.mpp.y)):
        return Place()
    if slide.bounds is not None and settings.origin == "bounds" and _fits(size, slide.bounds[2:]):
        x, y, w, h = slide.bounds
        return Place(x / width, y / height, (x + w) / width, (y + h) / height)
    raise MaskError(
        path,
        f"its {size[0]} × {size[1]} pixels do not have the shape of the slide's {width} × {height}: it shows another slide, or"
        " not all of this one; correct the sheet's `mask` column",
    )


def _fits(size: tuple[int, int], extent: tuple[float, float]) -> bool:
    """Whether one scale leads from an extent to whole pixels on both sides."""
    least = max(extent[i] / (size[i] + 1) for i in (0, 1))
    most = min(extent[i] / max(size[i] - 1, 1e-9) for i in (0, 1))
    return least <= most * (1 + SIDE_TOLERANCE)
