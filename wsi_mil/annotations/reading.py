"""Select the polygons of an annotation file that count, and place them on the slide."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.annotations.files import AnnotationContent, parse_annotations
from wsi_mil.annotations.polygons import clipped, polygons, union, valid_areas, without
from wsi_mil.config import Origin, Truth
from wsi_mil.errors import AnnotationError

ROUNDING = 1e-3
"""Up to this share of an annotation may lie outside the slide and is clipped without a warning."""

TISSUE_CLASS, HOT_CLASS = "Tissue", "hot: "
"""Class of the tissue outline that `tile` writes for QuPath, and prefix of the classes of hot regions."""

NOTHING: BaseGeometry = shapely.Polygon()
"""Empty region."""


@dataclass(frozen=True)
class Frame:
    """Coordinate frame of a slide.

    Attributes:
        dimensions: (width, height) of the slide, level-0 pixels.
        bounds: (x, y, width, height) of the scanned area, level-0 pixels; None if the slide has no bounds.
    """

    dimensions: tuple[int, int]
    bounds: tuple[int, int, int, int] | None = None

    @classmethod
    def of(cls, tiles_receipt: Mapping[str, Any]) -> Self:
        """Create from a receipt of `tile`."""
        width, height = tiles_receipt["dimensions"]
        if tiles_receipt["bounds"] is None:
            return cls((int(width), int(height)))
        x, y, w, h = tiles_receipt["bounds"]
        return cls((int(width), int(height)), (int(x), int(y), int(w), int(h)))


@dataclass(frozen=True)
class Annotation:
    """Ground truth from an annotation file.

    Attributes:
        region: level-0 pixels from the slide's own corner, inside the slide; empty if nothing is annotated.
        notes: what was repaired or left out on reading, one sentence each.
    """

    region: BaseGeometry
    notes: tuple[str, ...] = ()

    @property
    def lesions(self) -> list[BaseGeometry]:
        """Return the connected polygons."""
        return [part for part in shapely.get_parts(self.region) if not part.is_empty]


@dataclass(frozen=True)
class _Polygons:
    """Valid polygons of an annotation file.

    Attributes:
        names: text `(n,)`, class of each polygon.
        areas: `(n,)` polygons.
        is_asap: whether coordinates start at the slide's own corner.
        notes: what was repaired or left out on reading, one sentence each.
    """

    names: NDArray[np.str_]
    areas: NDArray[np.object_]
    is_asap: bool
    notes: tuple[str, ...]

    def union(self, selected: NDArray[np.bool_]) -> BaseGeometry:
        """Return the union of the selected polygons."""
        return union(self.areas[selected])

    def in_classes(self, classes: Sequence[str]) -> NDArray[np.bool_]:
        """Return which polygons belong to one of the classes."""
        return np.isin(self.names, np.array(classes, str))


def read_annotation(path: Path, truth: Truth, frame: Frame, *, output: str | None = None) -> Annotation:
    """Read the ground truth of an output, or of all of them (None), from an annotation file.

    `truth.classes` names the annotation classes that count for an output; a file without any of them has nothing of it, which
    is no fault. For all other outputs `truth.include` names those that count; null means all, and unclassified polygons, but
    not this package's exports (tissue, hot regions) or QuPath's ignored classes (`Ignore*`). Polygons of `truth.exclude` are
    subtracted. QuPath's coordinates start at the corner of a slide's bounds, ASAP's at the slide's own. Of QuPath's objects
    only annotations with an area count; the notes list the others.

    Raises:
        AnnotationError: the file is neither GeoJSON nor ASAP XML; it has no annotation with an area; it has none of the
            classes that count; or all of it lies outside the slide. The ground truth is then unknown.
    """
    polygons_in_file = _read_polygons(path)
    counted = truth.counted(output)
    if output not in truth.tied:
        keys = truth.by_key if output is None else ("include",)
        _require_known_classes(path, polygons_in_file, counted, " or ".join(f"truth.{key}" for key in keys))
    excluded = polygons_in_file.in_classes(truth.exclude)
    notes = list(polygons_in_file.notes)
    selected = ~excluded
    if counted is not None:
        selected &= polygons_in_file.in_classes(counted)
    else:
        ignored = selected & np.array([_is_not_truth(str(name)) for name in polygons_in_file.names], bool)
        notes += [f"{ignored.sum()} regions of tissue, of a heatmap or to be ignored do not count"] if ignored.any() else []
        selected &= ~ignored
    region = polygons_in_file.union(selected)
    if excluded.any():
        region = without(region, polygons_in_file.union(excluded))
    inside, clipping = _clip_to_slide(path, _in_slide_frame(region, frame, truth.origin, polygons_in_file.is_asap), frame)
    return Annotation(inside, (*notes, *clipping))


@dataclass(frozen=True)
class Outlines:
    """Union of an annotation file's polygons of some classes.

    Attributes:
        region: level-0 pixels, inside the slide; empty if there is no such polygon.
        counts: number of polygons in the union.
        names: classes of all polygons of the file.
        in_file: classes of the file with their numbers of polygons, as text.
    """

    region: BaseGeometry
    counts: int
    names: frozenset[str]
    in_file: str


def read_outlines(
    path: Path, classes: tuple[str, ...] | None, frame: Frame, *, origin: Origin, apart: tuple[str, ...] = ()
) -> BaseGeometry:
    """Read the union of an annotation file's polygons: level-0 pixels, inside the slide.

    Args:
        path: GeoJSON or ASAP XML.
        classes: annotation classes that count; None: all but `apart` and QuPath's ignored classes (`Ignore*`).
        frame: coordinate frame of the slide.
        origin: origin of GeoJSON coordinates on slides with bounds.
        apart: annotation classes that do not count.

    Raises:
        AnnotationError: as `read_annotation`; or no polygon counts.
    """
    outlines = read_classes(path, classes, frame, origin=origin, apart=apart)
    if not outlines.counts:
        wanted = "of any class" if classes is None else f"of the classes {', '.join(classes)} (tissue.annotation_classes)"
        raise AnnotationError(path, f"has no polygon {wanted}, but {outlines.in_file}; see the sheet's `annotation` column")
    return outlines.region


def read_classes(
    path: Path, classes: tuple[str, ...] | None, frame: Frame, *, origin: Origin, apart: tuple[str, ...] = ()
) -> Outlines:
    """Read outlines as `read_outlines` does, but return an empty region if no polygon counts.

    Raises:
        AnnotationError: as `read_annotation`.
    """
    polygons_in_file = _read_polygons(path)
    by_default = ~np.char.endswith(polygons_in_file.names, "*") & ~polygons_in_file.in_classes(apart)
    selected = by_default if classes is None else polygons_in_file.in_classes(classes)
    region = _in_slide_frame(polygons_in_file.union(selected), frame, origin, polygons_in_file.is_asap)
    inside = _clip_to_slide(path, region, frame)[0] if selected.any() else NOTHING
    names = frozenset(polygons_in_file.names.tolist())
    return Outlines(inside, int(selected.sum()), names, _class_counts(polygons_in_file))


def _read_polygons(path: Path) -> _Polygons:
    """Raises AnnotationError."""
    content = parse_annotations(path)
    if content.others and not content.names:
        raise AnnotationError(
            path,
            f"has no annotation with an area, only {_listed(content.others)}: redraw the regions as annotations with an area,"
            " or correct the sheet's `annotation` column",
        )
    try:
        return _repaired(content)
    except ValueError as error:
        raise AnnotationError(
            path, f"is neither GeoJSON nor ASAP XML with polygons ({error}); correct the sheet's `annotation` column"
        ) from error


def _repaired(content: AnnotationContent) -> _Polygons:
    """Valid polygons; the notes count invalid ones, those without an area, and other objects."""
    areas, invalid = valid_areas(polygons(content.rings))
    kept = ~shapely.is_empty(areas)
    n_repaired = int((invalid & kept).sum())
    n_dropped = int((~kept).sum())
    notes = [_counted(n_repaired, len(areas), "invalid", "repaired")] if n_repaired else []
    notes += [_counted(n_dropped, len(areas), "without area", "left out")] if n_dropped else []
    if content.others:
        verb = "does" if content.others.total() == 1 else "do"
        notes.append(f"{_listed(content.others)} {verb} not count: only annotations with an area do")
    names = np.array(content.names, str) if content.names else np.array([], "U1")
    return _Polygons(names[kept], areas[kept], content.is_asap, tuple(notes))


def _listed(counts: Counter[str]) -> str:
    """Counts as text: '3 cells and 1 point'."""
    *most, last = [f"{n:,} {name if n == 1 else f'{name}s'}" for name, n in sorted(counts.items())]
    return f"{', '.join(most)} and {last}" if most else last


def _counted(n: int, total: int, fault: str, hint: str) -> str:
    return f"{n} of {total} polygons {'was' if n == 1 else 'were'} {fault} and {'was' if n == 1 else 'were'} {hint}"


def _is_not_truth(name: str) -> bool:
    """Whether a class is one of this package's exports (tissue outline, hot regions), or one that QuPath ignores."""
    return name == TISSUE_CLASS or name.startswith(HOT_CLASS) or name.endswith("*")


def _class_counts(polygons_in_file: _Polygons) -> str:
    """Classes with their numbers of polygons, as text."""
    classes = Counter(polygons_in_file.names.tolist())
    return ", ".join(f"{name!r} ({n})" if name else f"no class ({n})" for name, n in sorted(classes.items())) or "none at all"


def _require_known_classes(path: Path, polygons_in_file: _Polygons, counted: Sequence[str] | None, keys: str) -> None:
    if counted is None or not len(polygons_in_file.names) or polygons_in_file.in_classes(counted).any():
        return
    raise AnnotationError(
        path,
        f"has none of the classes in {keys} ({', '.join(map(repr, counted))}), only"
        f" {_class_counts(polygons_in_file)}; name the classes of the positive class there",
    )


def _in_slide_frame(region: BaseGeometry, frame: Frame, origin: Origin, is_asap: bool) -> BaseGeometry:
    """Region in coordinates from the slide's own corner."""
    if frame.bounds is None or origin == "slide" or is_asap:
        return region
    return shapely.transform(region, lambda xy: xy + np.asarray(frame.bounds)[:2])


def _clip_to_slide(path: Path, region: BaseGeometry, frame: Frame) -> tuple[BaseGeometry, list[str]]:
    """Region clipped to the slide, and a note on the share that was outside."""
    inside = clipped(region, frame.dimensions)
    if inside.area == 0 < region.area:
        (width, height), (left, top, right, bottom) = frame.dimensions, region.bounds
        raise AnnotationError(
            path,
            f"lies outside the slide: x {left:.0f} to {right:.0f} and y {top:.0f} to {bottom:.0f} on a slide of"
            f" {width} × {height} level-0 pixels; does it belong to another slide (the sheet's `annotation` column) or level, or"
            " start at another origin (truth.origin)?",
        )
    outside = 1 - inside.area / region.area if region.area else 0.0
    return inside, [f"{outside:.1%} of the annotated area lies outside the slide and was clipped"] if outside > ROUNDING else []
