"""GeoJSON and ASAP XML ↔ polygons in level-0 pixels, (x, y)."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from xml.etree.ElementTree import ParseError

import numpy as np
import shapely
from defusedxml import ElementTree
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.config import Origin, Truth
from wsi_mil.errors import AnnotationError

ASAP_SHAPES = ("Polygon", "Spline", "Rectangle")
UNCLASSIFIED = ""
"""Class of what has none: it belongs to the truth unless `truth.include` names classes."""

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
class _Drawn:
    """A polygon as it stands in a file, with the name of its class."""

    name: str
    polygon: BaseGeometry


def read_annotation(path: Path, truth: Truth, frame: Frame) -> Annotation:
    """What a file says is of the positive class.

    `truth.include` names the classes that count; null: all, and what has no class, but not our own exports (tissue, hot
    regions) or what QuPath ignores (`Ignore*`). Those of `truth.exclude` are cut out. QuPath counts from the corner of a
    slide's bounds, ASAP from the slide's own.

    Raises:
        AnnotationError: not GeoJSON (`.geojson`, `.json`) or ASAP XML (`.xml`) with polygons; none of its classes is
            known; or all of it lies outside of the slide. What is true of the slide is then not known.
    """
    is_asap = _is_asap(path)
    drawn, notes = _repaired(_read_drawn(path, is_asap=is_asap))
    _refuse_unknown_classes(path, drawn, truth)
    cut_out = [d.polygon for d in drawn if d.name in truth.exclude]
    others = [d for d in drawn if d.name not in truth.exclude]
    if truth.include is None:
        own = [d for d in others if _is_no_finding(d.name)]
        notes += [f"{len(own)} regions of tissue, of a heatmap or to be ignored do not count"] if own else []
        others = [d for d in others if not _is_no_finding(d.name)]
    region = shapely.union_all([d.polygon for d in others if truth.include is None or d.name in truth.include])
    region = _polygonal(region.difference(shapely.union_all(cut_out)))
    inside, cut = _clipped(path, _placed(region, frame, truth.origin, is_asap=is_asap), frame)
    return Annotation(inside, (*notes, *cut))


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


def read_classes(
    path: Path, classes: tuple[str, ...] | None, frame: Frame, *, origin: Origin, apart: tuple[str, ...] = ()
) -> Outlines:
    """As `read_outlines`, but a file without such polygons encloses nothing.

    Raises:
        AnnotationError: as `read_annotation`.
    """
    drawn, _ = _repaired(_read_drawn(path, is_asap=_is_asap(path)))
    counted = [d.polygon for d in drawn if (_may_count(d.name, apart) if classes is None else d.name in classes)]
    region = _placed(_polygonal(shapely.union_all(counted)), frame, origin, is_asap=_is_asap(path))
    inside = _clipped(path, region, frame)[0] if counted else NOTHING
    return Outlines(inside, len(counted), frozenset(d.name for d in drawn), _class_counts(drawn))


def _may_count(name: str, apart: tuple[str, ...]) -> bool:
    return not name.endswith("*") and name not in apart


def overlap_fractions(region: BaseGeometry, coords: NDArray[np.int64], *, box: tuple[int, int]) -> NDArray[np.float64]:
    """Share of each tile's footprint that lies in `region`.

    Args:
        region: level-0 pixels.
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of a footprint, level-0 pixels.

    Returns:
        float64 `(n,)` in 0..1.
    """
    boxes = _boxes(coords, box)
    shapely.prepare(region)
    fractions = shapely.contains_properly(region, boxes).astype(np.float64)
    at_edge = shapely.intersects(region, boxes) & (fractions == 0)
    fractions[at_edge] = shapely.area(shapely.intersection(boxes[at_edge], region)) / (box[0] * box[1])
    return fractions


def lesion_hits(lesions: list[BaseGeometry], coords: NDArray[np.int64], *, box: tuple[int, int]) -> NDArray[np.int64]:
    """Which tiles overlap which lesions: int64 `(n_hits, 2)`, rows (tile, lesion); a shared edge is no overlap.

    Args:
        lesions: polygons, level-0 pixels.
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of a footprint, level-0 pixels.
    """
    boxes, areas = _boxes(coords, box), np.array(lesions, object)
    lesion, tile = shapely.STRtree(boxes).query(areas, predicate="intersects")
    overlap = shapely.area(shapely.intersection(boxes[tile], areas[lesion])) > 0
    return np.asarray(np.stack([tile, lesion], axis=1)[overlap], np.int64)


def feature_collection(geometries: list[BaseGeometry], properties: list[dict[str, object]]) -> str:
    """GeoJSON text, one feature each, as QuPath imports it."""
    features = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(geometry), "properties": about}
        for geometry, about in zip(geometries, properties, strict=True)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def rings(region: BaseGeometry) -> list[NDArray[np.float64]]:
    """Every ring of a region, holes too: `(n, 2)` (x, y) each."""
    polygons = [p for p in shapely.get_parts(region) if isinstance(p, shapely.Polygon)]
    return [np.asarray(ring.coords) for p in polygons for ring in (p.exterior, *p.interiors) if not p.is_empty]


def light_rings(region: BaseGeometry, most: int) -> list[NDArray[np.float64]]:
    """`rings` of the region, simplified until there are at most `most` corners."""
    found, tolerance = rings(region), 1.0
    while sum(map(len, found)) > most and len(found) < most / 3:
        region = region.simplify(tolerance)
        found, tolerance = rings(region), tolerance * 2
    return found


def _is_asap(path: Path) -> bool:
    return path.suffix.lower() == ".xml"


def _placed(region: BaseGeometry, frame: Frame, origin: Origin, *, is_asap: bool) -> BaseGeometry:
    """Counted from the slide's own corner."""
    if frame.bounds is None or origin == "slide" or is_asap:
        return region
    return shapely.transform(region, lambda xy: xy + np.asarray(frame.bounds)[:2])


def _class_counts(drawn: list[_Drawn]) -> str:
    """Which classes there are, and how many polygons of each."""
    classes = Counter(d.name for d in drawn)
    return ", ".join(f"{name!r} ({n})" if name else f"no class ({n})" for name, n in sorted(classes.items())) or "none at all"


def _boxes(coords: NDArray[np.int64], box: tuple[int, int]) -> NDArray[np.object_]:
    low, high = coords, coords + np.asarray(box)
    return np.asarray(shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1]), object)


def _read_drawn(path: Path, *, is_asap: bool) -> list[_Drawn | None]:
    """Every polygon of a file; None for one with too few corners."""
    try:
        return _asap_polygons(path) if is_asap else _geojson_polygons(path)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ParseError,
        shapely.errors.ShapelyError,
    ) as error:
        raise AnnotationError(
            path, f"neither GeoJSON nor ASAP XML with polygons ({error}); correct the sheet's `annotation` column"
        ) from error


def _geojson_polygons(path: Path) -> list[_Drawn | None]:
    """Of a collection, a list of features, a feature, or a bare geometry; QuPath's tiles, cells and detections are no truth."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        content = content["features"] if content.get("type") == "FeatureCollection" else [content]
    found: list[_Drawn | None] = []
    for item in content:
        about, geometry = item.get("properties") or {}, item.get("geometry", item)
        if about.get("objectType", "annotation") == "annotation":
            found += [_drawn(_class_name(about), polygon) for polygon in _polygon_mappings(geometry)]
    return found


def _is_no_finding(name: str) -> bool:
    """Whether a class is one of our own exports (outline of the tissue, hot regions), or QuPath's mark for what to ignore."""
    return name == TISSUE_CLASS or name.startswith(HOT_CLASS) or name.endswith("*")


def _class_name(properties: Mapping[str, Any]) -> str:
    """QuPath's class: `{"name": …}`, in newer versions `{"names": […]}` of a derived one, in older ones plain text."""
    about = properties.get("classification") or UNCLASSIFIED
    if isinstance(about, str):
        return about
    return str(about.get("name") or ": ".join(about.get("names") or []))


def _polygon_mappings(geometry: Mapping[str, Any] | None) -> list[list[Any]]:
    """Rings of each polygon in a GeoJSON geometry of any kind; points, lines and missing ones hold none."""
    if geometry is None:
        return []
    if geometry["type"] == "GeometryCollection":
        return [rings for part in geometry["geometries"] for rings in _polygon_mappings(part)]
    if geometry["type"] == "MultiPolygon":
        return list(geometry["coordinates"])
    return [geometry["coordinates"]] if geometry["type"] == "Polygon" else []


def _asap_polygons(path: Path) -> list[_Drawn | None]:
    root = ElementTree.parse(path, forbid_dtd=True).getroot()  # neither entities nor what lies in other files
    if root.tag != "ASAP_Annotations":
        raise ValueError(f"root element is {root.tag}, expected ASAP_Annotations")
    found = []
    for annotation in root.iter("Annotation"):
        if annotation.get("Type") in ASAP_SHAPES:
            corners = sorted(annotation.iter("Coordinate"), key=lambda c: float(c.attrib["Order"]))
            group = annotation.get("PartOfGroup", "None")
            ring = [(float(c.attrib["X"]), float(c.attrib["Y"])) for c in corners]
            found.append(_drawn(UNCLASSIFIED if group == "None" else group, [ring]))
    return found


def _drawn(name: str, rings: list[Any]) -> _Drawn | None:
    """A polygon of its outer ring and holes; None where the outer one has fewer than three corners."""
    corners = [np.asarray(ring, np.float64).reshape(len(ring), -1)[:, :2] for ring in rings if len(ring)]
    if not all(np.isfinite(ring).all() for ring in corners):
        raise ValueError("a corner that is no number")
    outer, *holes = [len(np.unique(ring, axis=0)) > 2 for ring in corners] or [False]
    if not outer:
        return None
    return _Drawn(name, shapely.Polygon(corners[0], [ring for ring, is_ring in zip(corners[1:], holes, strict=True) if is_ring]))


def _repaired(found: list[_Drawn | None]) -> tuple[list[_Drawn], list[str]]:
    """The polygons made valid, and in words how many were not, and how many had no area."""
    drawn = [d for d in found if d is not None]
    valid = [_Drawn(d.name, _polygonal(shapely.make_valid(d.polygon))) for d in drawn]
    kept = [d for d in valid if not d.polygon.is_empty]
    n_repaired = sum(not d.polygon.is_valid and not v.polygon.is_empty for d, v in zip(drawn, valid, strict=True))
    notes = [_counted(n_repaired, len(found), "invalid", "repaired")] if n_repaired else []
    lost = len(found) - len(kept)
    return kept, notes + ([_counted(lost, len(found), "without area", "left out")] if lost else [])


def _counted(n: int, total: int, fault: str, mend: str) -> str:
    return f"{n} of {total} polygons {'was' if n == 1 else 'were'} {fault} and {'was' if n == 1 else 'were'} {mend}"


def _polygonal(region: BaseGeometry) -> BaseGeometry:
    """The parts that have an area."""
    parts: Iterable[BaseGeometry] = shapely.get_parts(shapely.get_parts(region))
    return shapely.union_all([p for p in parts if isinstance(p, shapely.Polygon)])


def _refuse_unknown_classes(path: Path, drawn: list[_Drawn], truth: Truth) -> None:
    classes = Counter(d.name for d in drawn)
    if truth.include is None or not drawn or any(name in classes for name in truth.include):
        return
    raise AnnotationError(
        path,
        f"none of the classes in truth.include ({', '.join(map(repr, truth.include))}) is in it, only {_class_counts(drawn)};"
        " name there what counts as the positive class",
    )


def _clipped(path: Path, region: BaseGeometry, frame: Frame) -> tuple[BaseGeometry, list[str]]:
    """What lies inside of the slide, and in words how much does not."""
    width, height = frame.dimensions
    inside = _polygonal(region.intersection(shapely.box(0, 0, width, height)))
    if inside.area == 0 < region.area:
        left, top, right, bottom = region.bounds
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
