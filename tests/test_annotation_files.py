"""Annotation files of other programs, versions and encodings."""

import json
from pathlib import Path

import pytest

from tests.test_annotations import SQUARE, read, ring, write_asap, write_features
from wsi_mil.annotations import Frame, read_outlines
from wsi_mil.errors import AnnotationError

HALO = (
    '<Annotations><Annotation LineColor="65280" Name="Tumor"><Regions><Region Type="Polygon" NegativeROA="0"><Vertices>'
    '<V X="1" Y="2"/><V X="9" Y="2"/><V X="9" Y="8"/></Vertices></Region></Regions></Annotation></Annotations>'
)
IMAGESCOPE = (
    '<Annotations MicronsPerPixel="0.25"><Annotation Id="1"><Regions><Region Id="1"><Vertices>'
    '<Vertex X="1" Y="2" Z="0"/><Vertex X="9" Y="2" Z="0"/></Vertices></Region></Regions></Annotation></Annotations>'
)
NDP_VIEW = '<annotations><ndpviewstate id="1"><title>a</title></ndpviewstate></annotations>'


def feature(
    corners: list[list[float]], about: dict[str, object] | None = None, *, kind: str = "Polygon", **more: object
) -> dict[str, object]:
    coordinates = {"Polygon": [corners], "LineString": corners, "Point": corners[0]}[kind]
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": about or {}, **more}


def write(path: Path, *features: dict[str, object]) -> Path:
    path.write_text(json.dumps(list(features)))
    return path


NOT_COUNTED = [
    ({"objectType": "tile"}, {}, "tile"),
    ({"objectType": "Detection"}, {}, "detection"),
    ({"object_type": "cell"}, {}, "cell"),
    ({"type": "cell"}, {}, "cell"),
    ({"objectType": "tmaCore", "isMissing": False}, {}, "TMA core"),
    ({"objectType": "tma_core"}, {}, "TMA core"),
    ({}, {"id": "PathDetectionObject"}, "detection"),
    ({}, {"id": "PathCellObject"}, "cell"),
    ({}, {"id": "PathTileObject"}, "tile"),
    ({}, {"id": "TMACoreObject"}, "TMA core"),
    ({}, {"id": "PathRootObject"}, "root"),
    ({}, {"nucleusGeometry": {"type": "Polygon", "coordinates": [ring(101, 101, 110, 110)]}}, "cell"),
    ({"objectType": "roi"}, {}, "roi"),
]


@pytest.mark.parametrize(("about", "more", "kind"), NOT_COUNTED)
def test_objects_that_are_no_annotations_do_not_count_in_any_version_of_qupath(
    tmp_path: Path, about: dict[str, object], more: dict[str, object], kind: str
) -> None:
    other = feature(ring(100, 100, 200, 130), about, **more)
    found = read(write(tmp_path / "a.geojson", feature(ring(*SQUARE)), other))
    assert found.region.bounds == SQUARE
    assert found.notes == (f"1 {kind} does not count: only annotations with an area do",)
    with pytest.raises(AnnotationError, match=f"b.geojson: has no annotation with an area, only 2 {kind}s: redraw"):
        read(write(tmp_path / "b.geojson", other, other))


@pytest.mark.parametrize(
    ("about", "more"),
    [
        ({}, {"id": "PathAnnotationObject"}),
        ({"objectType": "Annotation"}, {}),
        ({"object_type": "annotation"}, {}),
        ({"objectType": "annotation"}, {"id": "PathCellObject"}),
        ({"type": "carcinoma"}, {"id": "cell 17"}),
        ({}, {"id": 3}),
    ],
)
def test_annotations_count_in_any_version_of_qupath(tmp_path: Path, about: dict[str, object], more: dict[str, object]) -> None:
    found = read(write(tmp_path / "a.geojson", feature(ring(*SQUARE), about, **more)))
    assert found.region.area == 150 and found.notes == ()


def test_annotations_inside_of_other_objects_count(tmp_path: Path) -> None:
    inner = feature(ring(*SQUARE), {"objectType": "annotation", "classification": "Tumor"})
    cell = feature(ring(300, 20, 310, 25), {"objectType": "cell"})
    core = feature(ring(0, 0, 400, 400), {"objectType": "tmaCore", "childObjects": [inner, cell]})
    found = read(write(tmp_path / "a.geojson", core), include=("Tumor",))
    assert found.region.bounds == SQUARE
    assert found.notes == ("1 TMA core and 1 cell do not count: only annotations with an area do",)


def test_points_and_lines_are_named_and_do_not_count(tmp_path: Path) -> None:
    corners = ring(*SQUARE)
    shapes = [feature(corners, kind="Point"), feature(corners, kind="LineString"), feature(corners, kind="Point")]
    empty = {"type": "Feature", "geometry": None, "properties": {}}
    found = read(write(tmp_path / "a.geojson", *shapes, feature(corners), empty))
    assert found.region.area == 150
    named = "1 line, 2 points and 1 shapeless object"
    assert found.notes == (f"{named} do not count: only annotations with an area do",)
    with pytest.raises(AnnotationError, match="has no annotation with an area, only 1 line and 2 points"):
        read(write(tmp_path / "b.geojson", *shapes))
    with pytest.raises(AnnotationError, match="has no annotation with an area, only 1 line and 2 points"):
        read_outlines(tmp_path / "b.geojson", None, Frame((640, 448)), origin="bounds")


def test_dots_and_measurements_of_asap_are_named_and_do_not_count(tmp_path: Path) -> None:
    path = write_asap(tmp_path / "a.xml", (ring(*SQUARE), "Tumor"))
    dot = '<Annotation Type="{}" PartOfGroup="Tumor"><Coordinates><Coordinate Order="0" X="3" Y="4"/></Coordinates></Annotation>'
    kinds = [dot.format(kind) for kind in ("Dot", "PointSet", "Measurement")]
    path.write_text(path.read_text().replace("</Annotations>", "".join(kinds) + "</Annotations>"))
    found = read(path)
    assert found.region.area == 150
    assert found.notes == ("1 line and 2 points do not count: only annotations with an area do",)
    (tmp_path / "b.xml").write_text(f"<ASAP_Annotations><Annotations>{''.join(kinds)}</Annotations></ASAP_Annotations>")
    with pytest.raises(AnnotationError, match="only 1 line and 2 points"):
        read(tmp_path / "b.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_geojson_is_read_in_every_encoding_of_unicode(tmp_path: Path, encoding: str) -> None:
    text = json.dumps([feature(ring(*SQUARE), {"classification": "Gewebe, entzündet"})], ensure_ascii=False)
    (tmp_path / "a.geojson").write_bytes(text.encode(encoding))
    assert read(tmp_path / "a.geojson", include=("Gewebe, entzündet",)).region.area == 150


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_asap_is_read_in_the_encoding_that_it_names_or_marks(tmp_path: Path, encoding: str) -> None:
    text = write_asap(tmp_path / "a.xml", (ring(*SQUARE), "entzündet")).read_text()
    named = encoding.removesuffix("-sig")
    (tmp_path / "a.xml").write_bytes(f'<?xml version="1.0" encoding="{named}"?>\n{text}'.encode(encoding))
    assert read(tmp_path / "a.xml", include=("entzündet",)).region.area == 150


def test_a_file_that_is_no_unicode_gives_one_sentence(tmp_path: Path) -> None:
    text = json.dumps([feature(ring(*SQUARE), {"classification": "entzündet"})], ensure_ascii=False)
    (tmp_path / "a.geojson").write_bytes(text.encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"a\.geojson: is not text in UTF-8 \(byte 0xfc at \d+\); save it as UTF-8"):
        read(tmp_path / "a.geojson")
    xml = write_asap(tmp_path / "a.xml", (ring(*SQUARE), "entzündet")).read_text()
    for head in ("", '<?xml version="1.0" encoding="klingon"?>', '<?xml version="1.0" encoding="shift_jis"?>'):
        (tmp_path / "a.xml").write_bytes((head + xml).encode("latin-1"))
        with pytest.raises(AnnotationError, match=r"a\.xml: is neither GeoJSON nor ASAP XML"):
            read(tmp_path / "a.xml")


def test_the_content_decides_the_format_and_not_the_name(tmp_path: Path) -> None:
    """ASAP counts from the slide's own corner, whatever the file is called."""
    frame = Frame((640, 448), (100, 50, 300, 200))
    asap = write_asap(tmp_path / "a.geojson", (ring(*SQUARE), "Tumor"))
    assert read(asap, frame).region.bounds == SQUARE
    geojson = write_features(tmp_path / "a.xml", (ring(*SQUARE), "Tumor"))
    assert read(geojson, frame).region.bounds == (110, 70, 140, 75)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HALO, "it is XML of HALO, which is not supported: convert it to GeoJSON"),
        (IMAGESCOPE, "it is XML of Aperio ImageScope, which is not supported: convert it to GeoJSON"),
        (NDP_VIEW, "it is XML of NDP.view, which is not supported: convert it to GeoJSON"),
        ("PK\x03\x04 zipped", "it is a ZIP archive: decompress it"),
        ('{"images": [], "annotations": []}', "without 'type'"),
        ('{"type": "FeatureCollection"}', "without 'features'"),
        ('{"type": "FeatureCollection", "features": null}', "expected a list of features, found None"),
        ('{"type": "Polygon", "coordinates": [[[[0, 0], [9, 0], [9, 4]]]]}', "a ring must be a list of corners"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1e999, 0], [9, 4]]]}', "a corner is not a finite number"),
        (f'{{"type": "Polygon", "coordinates": [[[0, 0], [1{"0" * 400}, 0], [9, 4]]]}}', "too large"),
        ("[" * 100_000, "recursion"),
        ("", "line 1 column 1"),
    ],
)
def test_a_format_of_another_program_is_named_in_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.geojson").write_bytes(content.encode("latin-1"))
    with pytest.raises(AnnotationError, match="is neither GeoJSON nor ASAP XML with polygons") as caught:
        read(tmp_path / "a.geojson")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"gone\.xml: cannot be read \(No such file or directory\)"):
        read(tmp_path / "gone.xml")
    with pytest.raises(AnnotationError, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path)
