"""What annotation files hold: GeoJSON as QuPath and others write it, and ASAP XML. Which of them it is, the content says."""

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
"""Class of what has none: it belongs to the truth unless `truth.include` names classes."""

COUNTED = "annotation"
KINDS = {"annotation": COUNTED, "detection": "detection", "cell": "cell", "tile": "tile", "tmacore": "TMA core", "root": "root"}
"""Of QuPath's objects, with their names in messages."""

KIND_KEYS = ("objectType", "object_type")
"""Properties that say an object's kind; `type`, too, where it says one of QuPath's."""

KIND_IN_ID = re.compile(r"(?:path)?(annotation|detection|cell|tile|tmacore|root)object")
"""QuPath before 0.4 said in `id` what an object is."""

CHILDREN = ("childObjects", "children")
"""Properties that hold the objects inside of one."""

NO_AREA = {"Point": "point", "MultiPoint": "point", "LineString": "line", "MultiLineString": "line"}
NO_AREA |= {"Dot": "point", "PointSet": "point", "Measurement": "line"}
"""Shapes of GeoJSON and ASAP that enclose nothing, in words."""

PACKED = {b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "packed by gzip"}
"""First bytes."""

MEND = "correct the sheet's `annotation` column"


@dataclass(frozen=True)
class Drawn:
    """What is drawn in a file, and counts by its kind and shape.

    Attributes:
        is_asap: whether it is ASAP XML, which counts from the slide's own corner.
        names: the class of each polygon.
        rings: of each polygon.
        others: what else there is, and how often: cells, points, …
    """

    is_asap: bool
    names: list[str] = field(default_factory=list)
    rings: list[Rings] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, rings: list[Any]) -> None:
        """One more polygon."""
        self.names.append(name)
        self.rings.append([_corners(ring) for ring in rings if len(ring)])


def read_annotated_regions(path: Path) -> Drawn:
    """Every polygon of a GeoJSON or ASAP XML file, in any encoding of Unicode, and what else is in it.

    Raises:
        AnnotationError: it is neither; says what it is, where that can be told.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(path, f"cannot be read ({error.strerror}); {MEND}") from error
    try:
        return _asap(data) if _first_sign(data) == "<" else _geojson(data)
    except UnicodeDecodeError as error:
        where = f"byte {error.object[error.start]:#x} at {error.start}"
        raise AnnotationError(path, f"is not text in UTF-8 ({where}); save it as UTF-8, or {MEND}") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, ParseError) as error:
        raise AnnotationError(path, f"neither GeoJSON nor ASAP XML with polygons ({_said(error)}); {MEND}") from error


def _said(error: Exception) -> str:
    return f"without {error}" if isinstance(error, KeyError) else str(error)


def _first_sign(data: bytes) -> str:
    """The first character that is no space and no byte order mark."""
    for sign, what in PACKED.items():
        if data.startswith(sign):
            raise ValueError(f"it is {what}: unpack it")
    return data[:4096].decode(json.detect_encoding(data), "replace").lstrip("\ufeff \t\r\n")[:1]


def _corners(ring: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    corners = np.asarray(ring, np.float64)
    if corners.ndim != 2 or corners.shape[1] < 2:
        raise ValueError("a ring that is no list of corners [x, y]")
    return corners[:, :2]


def _geojson(data: bytes) -> Drawn:
    """Of a collection, a list of features, a feature, or a bare geometry; only annotations count."""
    content, found = json.loads(data), Drawn(is_asap=False)
    if isinstance(content, dict):
        content = content["features"] if content.get("type") == "FeatureCollection" else [content]
    for item, about in _features(content):
        kind = _kind(item, about)
        if kind != COUNTED:
            found.others[kind] += 1
            continue
        for shape, coordinates in _shapes(item.get("geometry", item)):
            if shape == "Polygon":
                found.add(_class_name(about), coordinates)
            else:
                found.others[NO_AREA.get(shape, shape)] += 1
    return found


def _features(items: Any) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each object with its properties, then those inside of it."""
    if not isinstance(items, list):
        raise ValueError(f"{items!r:.40} where a list of features was expected")
    for item in items:
        if not isinstance(item, dict):
            raise ValueError(f"{item!r:.40} where a feature was expected")
        about = item.get("properties") or {}
        yield item, about
        for key in CHILDREN:
            yield from _features(about.get(key) or [])


def _kind(item: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """What an object is; one of which nothing says it is an annotation."""
    said = next((str(properties[key]) for key in KIND_KEYS if properties.get(key)), "")
    if said:
        return _known_kind(said) or " ".join(said[:40].split())
    known = _known_kind(str(properties.get("type"))) or _known_kind(str(item.get("id")))
    return known or ("cell" if "nucleusGeometry" in item else COUNTED)


def _known_kind(text: str) -> str:
    """One of QuPath's; "" where it is none."""
    plain = re.sub(r"[\W_]", "", text.lower())
    in_id = KIND_IN_ID.fullmatch(plain)
    return KINDS.get(in_id[1] if in_id else plain, "")


def _class_name(properties: Mapping[str, Any]) -> str:
    """QuPath's class: `{"name": …}`, in newer versions `{"names": […]}` of a derived one, in older ones plain text."""
    about = properties.get("classification") or UNCLASSIFIED
    if isinstance(about, str):
        return about
    return str(about.get("name") or ": ".join(about.get("names") or []))


def _shapes(geometry: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """(type, coordinates) of each part of a GeoJSON geometry of any kind."""
    if geometry is None:
        yield "shapeless object", []
    elif geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _shapes(part)
    elif geometry["type"] == "MultiPolygon":
        yield from (("Polygon", polygon) for polygon in geometry["coordinates"])
    else:
        yield str(geometry["type"]), geometry["coordinates"]


def _asap(data: bytes) -> Drawn:
    root = ElementTree.parse(io.BytesIO(data), forbid_dtd=True).getroot()  # neither entities nor what lies in other files
    if root.tag != ASAP_ROOT:
        raise ValueError(_foreign(root))
    found = Drawn(is_asap=True)
    for annotation in root.iter("Annotation"):
        shape = annotation.get("Type") or "untyped annotation"
        if shape not in ASAP_SHAPES:
            found.others[NO_AREA.get(shape, shape)] += 1
            continue
        about = [corner.attrib for corner in annotation.iter("Coordinate")]
        ordered = sorted([(float(a["Order"]), float(a["X"]), float(a["Y"])) for a in about], key=itemgetter(0))
        group = annotation.get("PartOfGroup", "None")
        found.add(UNCLASSIFIED if group == "None" else group, [[corner[1:] for corner in ordered]])
    return found


def _foreign(root: Element) -> str:
    """What an XML file is, where it is not ASAP's."""
    if root.tag == "Annotations":
        is_aperio = "MicronsPerPixel" in root.attrib or root.find(".//Vertex") is not None
        name = "Aperio ImageScope" if is_aperio else "HALO"
        return f"it is XML of {name}, which is not read: convert it to GeoJSON"
    if root.find(".//ndpviewstate") is not None:
        return "it is XML of NDP.view, which is not read: convert it to GeoJSON"
    return f"root element is {root.tag}, expected {ASAP_ROOT}"
