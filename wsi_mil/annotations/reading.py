"""Which polygons of a file count, and where on the slide they lie."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.annotations.files import Drawn, read_annotated_regions
from wsi_mil.annotations.polygons import clipped, polygons, united, valid_areas, without
from wsi_mil.config import Origin, Truth
from wsi_mil.errors import AnnotationError

ROUNDING = 1e-3
"""Less than this share of an annotation outside of the slide is a pen that slipped over the edge: cut off, not said."""

TISSUE_CLASS, HOT_CLASS = "Tissue", "hot: "
"""Class of the outline that `tile` writes for QuPath, and how those of hot regions begin."""

NOTHING = shapely.Polygon()
"""The region of a slide without a lesion."""


@dataclass(frozen=True)
class Frame:
    """What places an annotation on its slide.

    Attributes:
        dimensions: (width, height) of the slide, level-0 pixels.
        bounds: (x, y, width, height) of what was scanned, level-0 pixels, or None where the slide has no such thing.
    """

    dimensions: tuple[int, int]
    bounds: tuple[int, int, int, int] | None = None

    @classmethod
    def of(cls, tiles_receipt: Mapping[str, Any]) -> Self:
        """By what the receipt of `tile` says."""
        width, height = tiles_receipt["dimensions"]
        if tiles_receipt["bounds"] is None:
            return cls((int(width), int(height)))
        x, y, w, h = tiles_receipt["bounds"]
        return cls((int(width), int(height)), (int(x), int(y), int(w), int(h)))


@dataclass(frozen=True)
class Annotation:
    """The truth that a file holds.

    Attributes:
        region: level-0 pixels from the slide's own corner, inside the slide; empty where nothing is annotated.
        notes: what was mended or left out on reading, in words.
    """

    region: BaseGeometry
    notes: tuple[str, ...] = ()

    @property
    def lesions(self) -> list[BaseGeometry]:
        """The polygons that hang together."""
        return [part for part in shapely.get_parts(self.region) if not part.is_empty]


@dataclass(frozen=True)
class _Polygons:
    """The polygons of a file that have an area, made valid.

    Attributes:
        names: text `(n,)`, the class of each.
        areas: `(n,)` polygons.
        is_asap: whether they count from the slide's own corner.
        notes: what was mended or left out on reading, in words.
    """

    names: NDArray[np.str_]
    areas: NDArray[np.object_]
    is_asap: bool
    notes: tuple[str, ...]

    def of(self, counts: NDArray[np.bool_]) -> BaseGeometry:
        """What some of them enclose together."""
        return united(self.areas[counts])

    def are_of(self, classes: Sequence[str]) -> NDArray[np.bool_]:
        """Which are of one of the classes."""
        return np.isin(self.names, np.array(classes, str))


def read_annotation(path: Path, truth: Truth, frame: Frame) -> Annotation:
    """What a file says is of the positive class.

    `truth.include` names the classes that count; null: all, and what has no class, but not our own exports (tissue, hot
    regions) or what QuPath ignores (`Ignore*`). Those of `truth.exclude` are cut out. QuPath counts from the corner of a
    slide's bounds, ASAP from the slide's own. Of QuPath's objects only annotations count, and of those only what encloses an
    area; what else is there stands in the notes.

    Raises:
        AnnotationError: not GeoJSON or ASAP XML, whatever the file is called; nothing in it can count by its kind or shape;
            none of its classes is known; or all of it lies outside of the slide. What is true of the slide is then not known.
    """
    found = _read(path)
    _refuse_unknown_classes(path, found, truth)
    cut_out, notes = found.are_of(truth.exclude), list(found.notes)
    counted = ~cut_out
    if truth.include is not None:
        counted &= found.are_of(truth.include)
    else:
        own = counted & np.array([_is_no_finding(str(name)) for name in found.names], bool)
        notes += [f"{own.sum()} regions of tissue, of a heatmap or to be ignored do not count"] if own.any() else []
        counted &= ~own
    region = found.of(counted)
    if cut_out.any():
        region = without(region, found.of(cut_out))
    inside, cut = _clipped(path, _placed(region, frame, truth.origin, is_asap=found.is_asap), frame)
    return Annotation(inside, (*notes, *cut))


@dataclass(frozen=True)
class Outlines:
    """What polygons of some classes enclose.

    Attributes:
        region: level-0 pixels, inside the slide; empty where there is no such polygon.
        counts: how many polygons count.
        names: the classes of all polygons of the file.
        in_file: which classes there are, and how many polygons of each, in words.
    """

    region: BaseGeometry
    counts: int
    names: frozenset[str]
    in_file: str


def read_outlines(
    path: Path, classes: tuple[str, ...] | None, frame: Frame, *, origin: Origin, apart: tuple[str, ...] = ()
) -> BaseGeometry:
    """What the polygons of a file enclose, whatever they stand for: level-0 pixels, inside the slide.

    Args:
        path: GeoJSON or ASAP XML.
        classes: annotation classes that count; None: all but those of `apart` and those that QuPath ignores (`Ignore*`).
        frame: the slide.
        origin: where GeoJSON counts from on slides with bounds.
        apart: annotation classes that do not count.

    Raises:
        AnnotationError: as `read_annotation`; or no polygon counts.
    """
    found = read_classes(path, classes, frame, origin=origin, apart=apart)
    if not found.counts:
        wanted = "of any class" if classes is None else f"of the classes {', '.join(classes)} (tissue.annotation_classes)"
        raise AnnotationError(path, f"holds no polygon {wanted}, but {found.in_file}; see the sheet's `annotation` column")
    return found.region


def read_classes(
    path: Path, classes: tuple[str, ...] | None, frame: Frame, *, origin: Origin, apart: tuple[str, ...] = ()
) -> Outlines:
    """As `read_outlines`, but a file without such polygons encloses nothing.

    Raises:
        AnnotationError: as `read_annotation`.
    """
    found = _read(path)
    named = ~np.char.endswith(found.names, "*") & ~found.are_of(apart)
    counted = named if classes is None else found.are_of(classes)
    region = _placed(found.of(counted), frame, origin, is_asap=found.is_asap)
    inside = _clipped(path, region, frame)[0] if counted.any() else NOTHING
    return Outlines(inside, int(counted.sum()), frozenset(found.names.tolist()), _class_counts(found))


def _read(path: Path) -> _Polygons:
    """Raises AnnotationError."""
    drawn = read_annotated_regions(path)
    if drawn.others and not drawn.names:
        raise AnnotationError(
            path,
            f"holds nothing that counts, only {_listed(drawn.others)}: draw what is meant as annotations that enclose an area, or"
            " correct the sheet's `annotation` column",
        )
    try:
        return _repaired(drawn)
    except ValueError as error:
        raise AnnotationError(
            path, f"neither GeoJSON nor ASAP XML with polygons ({error}); correct the sheet's `annotation` column"
        ) from error


def _repaired(drawn: Drawn) -> _Polygons:
    """In the notes how many polygons were invalid, how many had no area, and what does not count."""
    areas, invalid = valid_areas(polygons(drawn.rings))
    kept, total = ~shapely.is_empty(areas), len(areas)
    n_repaired, n_lost = int((invalid & kept).sum()), int((~kept).sum())
    notes = [_counted(n_repaired, total, "invalid", "repaired")] if n_repaired else []
    notes += [_counted(n_lost, total, "without area", "left out")] if n_lost else []
    if drawn.others:
        verb = "does" if drawn.others.total() == 1 else "do"
        notes.append(f"{_listed(drawn.others)} {verb} not count: only annotations that enclose an area do")
    names = np.array(drawn.names, str) if drawn.names else np.array([], "U1")
    return _Polygons(names[kept], areas[kept], drawn.is_asap, tuple(notes))


def _listed(found: Counter[str]) -> str:
    """'3 cells and 1 point'."""
    *most, last = [f"{n:,} {name if n == 1 else f'{name}s'}" for name, n in sorted(found.items())]
    return f"{', '.join(most)} and {last}" if most else last


def _counted(n: int, total: int, fault: str, mend: str) -> str:
    return f"{n} of {total} polygons {'was' if n == 1 else 'were'} {fault} and {'was' if n == 1 else 'were'} {mend}"


def _is_no_finding(name: str) -> bool:
    """Whether a class is one of our own exports (outline of the tissue, hot regions), or QuPath's mark for what to ignore."""
    return name == TISSUE_CLASS or name.startswith(HOT_CLASS) or name.endswith("*")


def _class_counts(found: _Polygons) -> str:
    """Which classes there are, and how many polygons of each."""
    classes = Counter(found.names.tolist())
    return ", ".join(f"{name!r} ({n})" if name else f"no class ({n})" for name, n in sorted(classes.items())) or "none at all"


def _refuse_unknown_classes(path: Path, found: _Polygons, truth: Truth) -> None:
    if truth.include is None or not len(found.names) or found.are_of(truth.include).any():
        return
    raise AnnotationError(
        path,
        f"none of the classes in truth.include ({', '.join(map(repr, truth.include))}) is in it, only {_class_counts(found)};"
        " name there what counts as the positive class",
    )


def _placed(region: BaseGeometry, frame: Frame, origin: Origin, *, is_asap: bool) -> BaseGeometry:
    """Counted from the slide's own corner."""
    if frame.bounds is None or origin == "slide" or is_asap:
        return region
    return shapely.transform(region, lambda xy: xy + np.asarray(frame.bounds)[:2])


def _clipped(path: Path, region: BaseGeometry, frame: Frame) -> tuple[BaseGeometry, list[str]]:
    """What lies inside of the slide, and in words how much does not."""
    inside = clipped(region, frame.dimensions)
    if inside.area == 0 < region.area:
        (width, height), (left, top, right, bottom) = frame.dimensions, region.bounds
        raise AnnotationError(
            path,
            f"lies outside of the slide: x {left:.0f} to {right:.0f} and y {top:.0f} to {bottom:.0f} on a slide of"
            f" {width} × {height} level-0 pixels; was it drawn on another slide (the sheet's `annotation` column) or level, or"
            " counted from another corner (truth.origin)?",
        )
    outside = 1 - inside.area / region.area if region.area else 0.0
    return inside, [
        f"{outside:.1%} of the annotated area lies outside of the slide and was cut off"
    ] if outside > ROUNDING else []
