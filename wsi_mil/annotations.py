"""GeoJSON and ASAP XML ↔ polygons in level-0 pixels, (x, y)."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from wsi_mil.errors import AnnotationError

ASAP_SHAPES = ("Polygon", "Spline", "Rectangle")


def read_annotation(path: Path) -> BaseGeometry:
    """Union of every polygon in a file, level-0 pixels; empty where it holds none.

    Raises:
        AnnotationError: not GeoJSON (`.geojson`, `.json`) or ASAP XML (`.xml`) with polygons.
    """
    try:
        polygons = _asap_polygons(path) if path.suffix.lower() == ".xml" else _geojson_polygons(path)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ElementTree.ParseError,
        shapely.errors.ShapelyError,
    ) as error:
        raise AnnotationError(path, f"neither GeoJSON nor ASAP XML with polygons ({error})") from error
    return shapely.union_all([shapely.make_valid(polygon) for polygon in polygons])


def overlap_fractions(region: BaseGeometry, coords: NDArray[np.int64], *, box: tuple[int, int]) -> NDArray[np.float64]:
    """Share of each tile's footprint that lies in `region`.

    Args:
        region: level-0 pixels.
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of a footprint, level-0 pixels.

    Returns:
        float64 `(n,)` in 0..1.
    """
    low, high = coords, coords + np.asarray(box)
    boxes = shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1])
    shapely.prepare(region)
    return np.asarray(shapely.area(shapely.intersection(boxes, region)) / (box[0] * box[1]))


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


def _geojson_polygons(path: Path) -> list[BaseGeometry]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        content = content["features"] if content.get("type") == "FeatureCollection" else [content]
    geometries = [shape(item.get("geometry", item)) for item in content]
    return [g for g in geometries if g.geom_type in ("Polygon", "MultiPolygon")]


def _asap_polygons(path: Path) -> list[BaseGeometry]:
    root = ElementTree.parse(path).getroot()
    if root.tag != "ASAP_Annotations":
        raise ValueError(f"root element is {root.tag}, expected ASAP_Annotations")
    found = [a for a in root.iter("Annotation") if a.get("Type") in ASAP_SHAPES]
    corners = [
        [
            (float(c.attrib["X"]), float(c.attrib["Y"]))
            for c in sorted(a.iter("Coordinate"), key=lambda c: float(c.attrib["Order"]))
        ]
        for a in found
    ]
    return [shapely.Polygon(ring) for ring in corners if len(ring) > 2]
