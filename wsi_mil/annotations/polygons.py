"""Vectorised operations on polygons in level-0 pixels."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

Rings = Sequence[NDArray[np.float64]]
"""Corners `(n, 2)` of a polygon's outer ring, then of its holes; (x, y)."""

AREAS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


def polygons(rings_of_each: Sequence[Rings]) -> NDArray[np.object_]:
    """Create polygons from their rings; empty if the outer ring has fewer than three different corners. Such holes are dropped.

    Raises:
        ValueError: a corner is not a finite number.
    """
    corners = [ring for polygon in rings_of_each for ring in polygon]
    result: NDArray[np.object_] = np.array([shapely.Polygon()] * len(rings_of_each), object)
    if not corners:
        return result
    points = np.concatenate(corners)
    sizes = np.array([len(ring) for ring in corners])
    if not np.isfinite(points).all():
        raise ValueError("a corner is not a finite number")
    of_ring = np.repeat(np.arange(len(sizes)), sizes)
    of_polygon = np.repeat(np.arange(len(rings_of_each)), [len(polygon) for polygon in rings_of_each])
    is_outer = np.diff(of_polygon, prepend=-1) > 0
    is_ring = _is_ring(points, sizes)
    has_area = np.zeros(len(rings_of_each), bool)
    has_area[of_polygon[is_outer]] = is_ring[is_outer]
    kept = is_ring & has_area[of_polygon]
    on_kept = kept[of_ring]
    linear = np.asarray(shapely.linearrings(points[on_kept], indices=(np.cumsum(kept) - 1)[of_ring[on_kept]]), object)
    result[has_area] = shapely.polygons(linear, indices=(np.cumsum(has_area) - 1)[of_polygon[kept]])
    return result


def valid_areas(areas: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Make polygons valid, keeping the parts with an area; also return which were invalid."""
    invalid = ~shapely.is_valid(areas)
    repaired = areas.copy()
    repaired[invalid] = [polygonal(geometry) for geometry in shapely.make_valid(areas[invalid])]
    return repaired, invalid


def union(areas: NDArray[np.object_]) -> BaseGeometry:
    """Return the union of valid polygons. Only those that touch are merged, so that time grows linearly with their number."""
    return polygonal(shapely.disjoint_subset_union_all(areas))


def without(region: BaseGeometry, cut_out: BaseGeometry) -> BaseGeometry:
    """Subtract a region from another, part by part."""
    parts, cuts = shapely.get_parts(region), shapely.get_parts(cut_out)
    part, cut = shapely.STRtree(cuts).query(parts, predicate="intersects")
    for hit, by in zip(*_grouped(part, cuts[cut]), strict=True):
        parts[hit] = polygonal(shapely.difference(parts[hit], shapely.union_all(by)))
    return union(parts)


def clipped(region: BaseGeometry, dimensions: tuple[int, int]) -> BaseGeometry:
    """Clip a region to (width, height), part by part."""
    parts = shapely.get_parts(region)
    width, height = dimensions
    left, top, right, bottom = shapely.bounds(parts).T
    crosses = (left < 0) | (top < 0) | (right > width) | (bottom > height)
    if not crosses.any():
        return region
    parts[crosses] = [polygonal(part) for part in shapely.intersection(parts[crosses], shapely.box(0, 0, width, height))]
    return union(parts)


def polygonal(region: BaseGeometry) -> BaseGeometry:
    """Return the parts of a geometry that have an area."""
    if shapely.get_type_id(region) in AREAS:
        return region
    parts = shapely.get_parts(shapely.get_parts(region))
    return shapely.union_all(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])


def overlap_fractions(region: BaseGeometry, coords: NDArray[np.int64], *, box: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of each tile's footprint inside `region`.

    Args:
        region: level-0 pixels, valid.
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of a footprint, level-0 pixels.

    Returns:
        float64 `(n,)` in 0..1.
    """
    boxes = _boxes(coords, box)
    shapely.prepare(region)
    fractions = shapely.contains_properly(region, boxes).astype(np.float64)
    (at_edge,) = np.nonzero(shapely.intersects(region, boxes) & (fractions == 0))
    parts = shapely.get_parts(region)  # parts of a valid region do not overlap, so that their shares add up
    tile, part = shapely.STRtree(parts).query(boxes[at_edge], predicate="intersects")
    shared = shapely.area(shapely.intersection(boxes[at_edge[tile]], parts[part]))
    fractions[at_edge] = np.bincount(tile, shared, minlength=len(at_edge)) / (box[0] * box[1])
    return np.minimum(fractions, 1.0)


def lesion_hits(lesions: list[BaseGeometry], coords: NDArray[np.int64], *, box: tuple[int, int]) -> NDArray[np.int64]:
    """Return which tiles overlap which lesions: int64 `(n_hits, 2)`, rows (tile, lesion); a shared edge is no overlap.

    Args:
        lesions: polygons, level-0 pixels.
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of a footprint, level-0 pixels.
    """
    boxes = _boxes(coords, box)
    areas = np.array(lesions, object)
    lesion, tile = shapely.STRtree(boxes).query(areas, predicate="intersects")
    overlap = shapely.area(shapely.intersection(boxes[tile], areas[lesion])) > 0
    return np.asarray(np.stack([tile, lesion], axis=1)[overlap], np.int64)


def feature_collection(geometries: list[BaseGeometry], properties: list[dict[str, object]]) -> str:
    """Return GeoJSON text with one feature per geometry, as QuPath imports it."""
    features = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(geometry), "properties": attributes}
        for geometry, attributes in zip(geometries, properties, strict=True)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def rings(region: BaseGeometry) -> list[NDArray[np.float64]]:
    """Return every ring of a region, holes included: `(n, 2)` (x, y) each."""
    parts = [p for p in shapely.get_parts(region) if isinstance(p, shapely.Polygon)]
    return [np.asarray(ring.coords) for p in parts for ring in (p.exterior, *p.interiors) if not p.is_empty]


def simplified_rings(region: BaseGeometry, most: int) -> list[NDArray[np.float64]]:
    """Return the `rings` of a region, simplified until they have at most `most` corners."""
    simplified = rings(region)
    tolerance = 1.0
    while sum(map(len, simplified)) > most and len(simplified) < most / 3:
        region = region.simplify(tolerance)
        simplified = rings(region)
        tolerance *= 2
    return simplified


def _boxes(coords: NDArray[np.int64], box: tuple[int, int]) -> NDArray[np.object_]:
    corners = coords + np.asarray(box)
    return np.asarray(shapely.box(coords[:, 0], coords[:, 1], corners[:, 0], corners[:, 1]), object)


def _grouped(keys: NDArray[np.int64], values: NDArray[Any]) -> tuple[list[int], list[NDArray[Any]]]:
    """Distinct keys, each with its values."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    return distinct.tolist(), np.split(values[order], starts[1:]) if len(distinct) else []


def _is_ring(points: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each ring has three different corners: one besides the first and the next that differs from the first."""
    starts = np.cumsum(sizes) - sizes
    is_other = np.any(points != np.repeat(points[starts], sizes, axis=0), axis=1)
    second = np.where(is_other, np.arange(len(points)), len(points) - 1)
    second = np.minimum.reduceat(second, starts)
    is_third = is_other & np.any(points != np.repeat(points[second], sizes, axis=0), axis=1)
    return np.logical_or.reduceat(is_third, starts)
