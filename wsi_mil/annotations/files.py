"""Parse annotation files: GeoJSON as written by QuPath and others, and ASAP XML. The content decides, not the file name."""

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import ElementTree

from wsi_mil.annotations.polygons import Rings
from wsi_mil.errors import AnnotationError

ASAP_SHAPES = ("Polygon", "Spline", "Rectangle")
ASAP_ROOT = "ASAP_Annotations"
UNCLASSIFIED = ""
"""Class of unclassified annotations; they count as ground truth unless `truth.include` names classes."""

COUNTED = "annotation"
KINDS = {"annotation": COUNTED, "detection": "detection", "cell": "cell", "tile": "tile", "tmacore": "TMA core", "root": "root"}
"""QuPath's object types, with their names in messages."""

KIND_KEYS = ("objectType", "object_type")
"""Properties with an object's type; `type` counts as well if it holds one of QuPath's."""

KIND_IN_ID = re.compile(r"(?:path)?(annotation|detection|cell|tile|tmacore|root)object")
"""Object type in `id`, as QuPath before 0.4 wrote it."""

CHILDREN = ("childObjects", "children")
"""Properties with an object's child objects."""

NO_AREA = {"Point": "point", "MultiPoint": "point", "LineString": "line", "MultiLineString": "line"}
NO_AREA |= {"Dot": "point", "PointSet": "point", "Measurement": "line"}
"""Shapes of GeoJSON and ASAP without an area, with their names in messages."""

PACKED = {b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "packed by gzip"}
"""Magic bytes of compressed files."""

HINT = "correct the sheet's `annotation` column"


@dataclass(frozen=True)
class AnnotationContent:
    """Polygons of an annotation file, and a count of its other objects.

    Attributes:
        is_asap: whether the file is ASAP XML, whose coordinates start at the slide's own corner.
        names: class of each polygon.
        rings: rings of each polygon.
        others: number of other objects by kind: cells, points, …
    """

    is_asap: bool
    names: list[str] = field(default_factory=list)
    rings: list[Rings] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, rings: list[Any]) -> None:
        """Add a polygon."""
        self.names.append(name)
        self.rings.append([_corners(ring) for ring in rings if len(ring)])


def parse_annotations(path: Path) -> AnnotationContent:
    """Parse a GeoJSON or ASAP XML file in any Unicode encoding.

    Raises:
        AnnotationError: the file is neither; the message names its format if that is known.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(path, f"cannot be read ({error.strerror}); {HINT}") from error
    try:
        return _asap(data) if _first_sign(data) == "<" else _geojson(data)
    except UnicodeDecodeError as error:
        where = f"byte {error.object[error.start]:#x} at {error.start}"
        raise AnnotationError(path, f"is not text in UTF-8 ({where}); save it as UTF-8, or {HINT}") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, ParseError) as error:
        raise AnnotationError(path, f"is neither GeoJSON nor ASAP XML with polygons ({_error_text(error)}); {HINT}") from error


def _error_text(error: Exception) -> str:
    return f"without {error}" if isinstance(error, KeyError) else str(error)


def _first_sign(data: bytes) -> str:
    """First character other than white space and byte order marks."""
    for sign, what in PACKED.items():
        if data.startswith(sign):
            raise ValueError(f"it is {what}: decompress it")
    return data[:4096].decode(json.detect_encoding(data), "replace").lstrip("\ufeff \t\r\n")[:1]


def _corners(ring: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    corners = np.asarray(ring, np.float64)
    if corners.ndim != 2 or corners.shape[1] < 2:
        raise ValueError("a ring must be a list of corners [x, y]")
    return corners[:, :2]


def _geojson(data: bytes) -> AnnotationContent:
    """Polygons of a FeatureCollection, feature list, feature or geometry; QuPath tiles, cells and detections are ignored."""
    content = json.loads(data)
    annotations = AnnotationContent(is_asap=False)
    if isinstance(content, dict):
        content = content["features"] if content.get("type") == "FeatureCollection" else [content]
    for item, properties in _features(content):
        kind = _kind(item, properties)
        if kind != COUNTED:
            annotations.others[kind] += 1
            continue
        for shape, coordinates in _shapes(item.get("geometry", item)):
            if shape == "Polygon":
                annotations.add(_class_name(properties), coordinates)
            else:
                annotations.others[NO_AREA.get(shape, shape)] += 1
    return annotations


def _features(items: Any) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each object with its properties, then its child objects."""
    if not isinstance(items, list):
        raise ValueError(f"expected a list of features, found {items!r:.40}")
    for item in items:
        if not isinstance(item, dict):
            raise ValueError(f"expected a feature, found {item!r:.40}")
        properties = item.get("properties") or {}
        yield item, properties
        for key in CHILDREN:
            yield from _features(properties.get(key) or [])


def _kind(item: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """Type of an object; without any hint it is an annotation."""
    declared = next((str(properties[key]) for key in KIND_KEYS if properties.get(key)), "")
    if declared:
        return _known_kind(declared) or " ".join(declared[:40].split())
    known = _known_kind(str(properties.get("type"))) or _known_kind(str(item.get("id")))
    return known or ("cell" if "nucleusGeometry" in item else COUNTED)


def _known_kind(text: str) -> str:
    """QuPath's object type in a text; "" if it has none."""
    plain = re.sub(r"[\W_]", "", text.lower())
    in_id = KIND_IN_ID.fullmatch(plain)
    return KINDS.get(in_id[1] if in_id else plain, "")


def _class_name(properties: Mapping[str, Any]) -> str:
    """QuPath's class: `{"name": …}`, `{"names": […]}` for derived classes in newer versions, plain text in older ones."""
    classification = properties.get("classification") or UNCLASSIFIED
    if isinstance(classification, str):
        return classification
    return str(classification.get("name") or ": ".join(classification.get("names") or []))


def _shapes(geometry: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """(type, coordinates) of each part of a GeoJSON geometry."""
    if geometry is None:
        yield "shapeless object", []
    elif geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _shapes(part)
    elif geometry["type"] == "MultiPolygon":
        yield from (("Polygon", polygon) for polygon in geometry["coordinates"])
    else:
        yield str(geometry["type"]), geometry["coordinates"]


def _asap(data: bytes) -> AnnotationContent:
    root = ElementTree.parse(io.BytesIO(data), forbid_dtd=True).getroot()  # no entities, no external files
    if root.tag != ASAP_ROOT:
        raise ValueError(_foreign(root))
    annotations = AnnotationContent(is_asap=True)
    for annotation in root.iter("Annotation"):
        shape = annotation.get("Type") or "untyped annotation"
        if shape not in ASAP_SHAPES:
            annotations.others[NO_AREA.get(shape, shape)] += 1
            continue
        corners = [corner.attrib for corner in annotation.iter("Coordinate")]
        ordered = sorted([(float(c["Order"]), float(c["X"]), float(c["Y"])) for c in corners], key=itemgetter(0))
        group = annotation.get("PartOfGroup", "None")
        annotations.add(UNCLASSIFIED if group == "None" else group, [[corner[1:] for corner in ordered]])
    return annotations


def _foreign(root: Element) -> str:
    """Description of an XML file that is not ASAP's."""
    if root.tag == "Annotations":
        is_aperio = "MicronsPerPixel" in root.attrib or root.find(".//Vertex") is not None
        name = "Aperio ImageScope" if is_aperio else "HALO"
        return f"it is XML of {name}, which is not supported: convert it to GeoJSON"
    if root.find(".//ndpviewstate") is not None:
        return "it is XML of NDP.view, which is not supported: convert it to GeoJSON"
    return f"expected the root element {ASAP_ROOT}, found {root.tag}"
