from pathlib import Path

import numpy as np
import pytest
import shapely

from tests.conftest import write_geojson
from wsi_mil.annotations import feature_collection, overlap_fractions, read_annotation, rings
from wsi_mil.errors import AnnotationError

ASAP = """<ASAP_Annotations><Annotations>
<Annotation Name="a" Type="Polygon" PartOfGroup="Tumor"><Coordinates>
<Coordinate Order="0" X="10" Y="20"/><Coordinate Order="2" X="40" Y="25"/>
<Coordinate Order="1" X="40" Y="20"/><Coordinate Order="3" X="10" Y="25"/></Coordinates></Annotation>
</Annotations></ASAP_Annotations>"""


def test_geojson_is_read_as_x_y(tmp_path: Path) -> None:
    region = read_annotation(write_geojson(tmp_path / "a.geojson", (10, 20, 40, 25)))
    assert region.bounds == (10, 20, 40, 25) and region.area == 150


def test_asap_is_read_in_the_order_of_its_corners(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(ASAP)
    region = read_annotation(tmp_path / "a.xml")
    assert region.bounds == (10, 20, 40, 25) and region.area == 150


@pytest.mark.parametrize(("name", "text"), [("a.geojson", "{}"), ("a.geojson", "no"), ("a.xml", "<a/>"), ("a.xml", "<a")])
def test_what_is_no_annotation_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError, match=f"{name}: neither GeoJSON nor ASAP XML"):
        read_annotation(tmp_path / name)


def test_an_empty_collection_is_no_area(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    assert read_annotation(tmp_path / "a.geojson").is_empty


def test_overlap_is_the_share_of_the_footprint() -> None:
    region = shapely.box(10, 20, 40, 25)
    coords = np.array([[10, 20], [35, 20], [40, 20], [0, 0]])
    assert overlap_fractions(region, coords, box=(10, 5)).tolist() == [1.0, 0.5, 0.0, 0.0]


def test_a_region_written_is_read_with_its_hole(tmp_path: Path) -> None:
    region = shapely.box(0, 0, 50, 30).difference(shapely.box(10, 10, 20, 20))
    (tmp_path / "a.geojson").write_text(feature_collection([region], [{}]))
    read = read_annotation(tmp_path / "a.geojson")
    assert read.equals(region) and len(rings(read)) == 2
