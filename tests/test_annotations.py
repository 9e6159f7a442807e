import json
from pathlib import Path

import numpy as np
import pytest
import shapely

from tests.conftest import write_geojson
from wsi_mil.annotations import (
    Annotation,
    Frame,
    feature_collection,
    lesion_hits,
    overlap_fractions,
    read_annotation,
    read_classes,
    read_outlines,
    rings,
)
from wsi_mil.config import Truth
from wsi_mil.errors import AnnotationError

FRAME = Frame((640, 448))
SQUARE = (10, 20, 40, 25)
"""Area 150."""
BOW_TIE = [[0, 0], [8, 4], [8, 0], [0, 4], [0, 0]]
"""Its corners in an order that crosses itself: two triangles of area 8, which meet at (4, 2)."""


def ring(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def write_features(path: Path, *polygons: tuple[list[list[float]], object]) -> Path:
    """A collection of polygons without holes, each with its classification (None: without one)."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [corners]},
            "properties": {"objectType": "annotation"} | ({} if name is None else {"classification": name}),
        }
        for corners, name in polygons
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def write_asap(path: Path, *polygons: tuple[list[list[float]], str]) -> Path:
    """Polygons with their groups, corners written last first."""
    text = "".join(
        f'<Annotation Name="a" Type="Polygon" PartOfGroup="{group}"><Coordinates>'
        + "".join(f'<Coordinate Order="{k}" X="{x}" Y="{y}"/>' for k, (x, y) in reversed(list(enumerate(corners[:-1]))))
        + "</Coordinates></Annotation>"
        for corners, group in polygons
    )
    path.write_text(f"<ASAP_Annotations><Annotations>{text}</Annotations></ASAP_Annotations>")
    return path


def read(path: Path, frame: Frame = FRAME, **truth: object) -> Annotation:
    return read_annotation(path, Truth(**truth), frame)


def test_geojson_is_read_as_x_y(tmp_path: Path) -> None:
    found = read(write_geojson(tmp_path / "a.geojson", SQUARE))
    assert found.region.bounds == SQUARE and found.region.area == 150 and found.notes == ()


def test_asap_is_read_in_the_order_of_its_corners(tmp_path: Path) -> None:
    found = read(write_asap(tmp_path / "a.xml", (ring(*SQUARE), "Tumor")))
    assert found.region.bounds == SQUARE and found.region.area == 150


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.geojson", "{}"),
        ("a.geojson", "no"),
        ("a.geojson", "[3]"),
        ("a.geojson", '{"type": "Polygon", "coordinates": [[[0, 0], [NaN, 4], [8, 4]]]}'),
        ("a.xml", "<a/>"),
        ("a.xml", "<a"),
    ],
)
def test_a_file_that_is_no_annotation_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError, match=f"{name}: is neither GeoJSON nor ASAP XML"):
        read(tmp_path / name)


@pytest.mark.parametrize("text", ['{"type": "FeatureCollection", "features": []}', "[]"])
def test_an_empty_file_has_no_area(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.geojson").write_text(text)
    assert read(tmp_path / "a.geojson", include=("Tumor",)).region.is_empty


def test_lists_single_features_and_collections_of_geometries_are_read_alike(tmp_path: Path) -> None:
    square = {"type": "Polygon", "coordinates": [ring(*SQUARE)]}
    twice = {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [0, 0]}, square]}
    multi = {"type": "MultiPolygon", "coordinates": [[ring(*SQUARE)], [ring(*SQUARE)]]}
    feature = {"type": "Feature", "geometry": square, "properties": None}
    for content in (square, twice, multi, feature, [feature], [{**feature, "geometry": None}, feature]):
        (tmp_path / "a.json").write_text(json.dumps(content))
        assert read(tmp_path / "a.json").region.equals(shapely.box(*SQUARE))


@pytest.mark.parametrize("name", [{"name": "Tumor", "color": [200, 0, 0]}, "Tumor", {"names": ["Tumor"]}])
def test_a_class_is_found_wherever_qupath_writes_it(tmp_path: Path, name: object) -> None:
    path = write_features(tmp_path / "a.geojson", (ring(0, 0, 8, 4), name), (ring(20, 0, 30, 4), {"name": "Stroma"}))
    assert read(path, include=("Tumor",)).region.area == 32


def test_every_class_and_unclassified_polygons_count_unless_classes_are_named(tmp_path: Path) -> None:
    path = write_features(tmp_path / "a.geojson", (ring(0, 0, 8, 4), "Tumor"), (ring(20, 0, 30, 4), None))
    assert read(path).region.area == 72
    assert read(path, include=("Tumor",)).region.area == 32


def test_camelyon16_groups_0_and_1_are_tumour_and_2_is_excluded(tmp_path: Path) -> None:
    groups = [(ring(0, 0, 8, 4), "_0"), (ring(20, 0, 30, 4), "_1"), (ring(2, 1, 4, 2), "_2")]
    found = read(write_asap(tmp_path / "a.xml", *groups))
    assert found.region.area == 32 + 40 - 2 and len(found.lesions) == 2
    assert read(tmp_path / "a.xml", exclude=()).region.area == 72


def test_none_of_the_classes_known_is_an_error_that_names_both(tmp_path: Path) -> None:
    path = write_features(
        tmp_path / "a.geojson", (ring(*SQUARE), "Stroma"), (ring(0, 0, 8, 4), None), (ring(0, 0, 8, 4), "Stroma")
    )
    with pytest.raises(
        AnnotationError, match=r"none of the classes in truth\.include \('Tumor'\), only no class \(1\), 'Stroma' \(2\)"
    ):
        read(path, include=("Tumor",))


def test_an_output_has_the_classes_that_are_named_for_it_and_all_others_those_of_include(tmp_path: Path) -> None:
    boxes = {"a": ring(0, 0, 10, 20), "b": ring(30, 0, 60, 20), "c": ring(0, 40, 10, 80)}
    path = write_features(tmp_path / "a.geojson", *((box, name) for name, box in boxes.items()))
    truth = Truth(include=("a",), classes={"luad": ("b",), "lusc": ("d",)})
    areas = {output: read_annotation(path, truth, FRAME, output=output).region.area for output in ("luad", "lusc", "grade", None)}
    assert areas == {"luad": 600, "lusc": 0, "grade": 200, None: 800}, "outlines are drawn of all that counts for any output"
    both = Truth(include=("Tumor",), classes={"luad": ("Adeno",), "lusc": ("Squamous",)})
    keys = r"truth\.include or truth\.classes\.luad or truth\.classes\.lusc \('Tumor', 'Adeno', 'Squamous'\)"
    with pytest.raises(AnnotationError, match=rf"none of the classes in {keys}, only"):
        read_annotation(path, both, FRAME)
    with pytest.raises(AnnotationError, match=r"none of the classes in truth\.include"):
        read_annotation(path, truth.model_copy(update={"include": ("e",)}), FRAME, output="grade")


def test_an_invalid_polygon_is_repaired_with_a_note(tmp_path: Path) -> None:
    found = read(write_features(tmp_path / "a.geojson", (BOW_TIE, "Tumor"), (ring(20, 0, 30, 4), "Tumor")))
    assert found.region.is_valid and found.region.area == 16 + 40
    assert found.notes == ("1 of 2 polygons was invalid and was repaired",)


def test_polygons_without_area_are_left_out_with_a_note(tmp_path: Path) -> None:
    line, point = [[0, 0], [9, 9], [0, 0]], [[3, 3]]
    flat = [[0, 0], [9, 0], [4, 0], [0, 0]]
    path = write_features(tmp_path / "a.geojson", (line, "a"), (point, "a"), (flat, "a"), (ring(*SQUARE), "a"))
    found = read(path)
    assert found.region.area == 150 and found.notes == ("3 of 4 polygons were without area and were left out",)


def test_an_annotation_of_another_slide_is_an_error_that_names_both_places(tmp_path: Path) -> None:
    path = write_geojson(tmp_path / "a.geojson", (700, 20, 740, 25))
    with pytest.raises(AnnotationError, match=r"x 700 to 740 and y 20 to 25 on a slide of 640 × 448 .*truth\.origin"):
        read(path)
    with pytest.raises(AnnotationError, match="outside the slide"):
        read(write_geojson(tmp_path / "b.geojson", (20, 448, 60, 470)))  # touches the lower edge


def test_a_region_partly_outside_the_slide_is_clipped_with_a_note(tmp_path: Path) -> None:
    found = read(write_geojson(tmp_path / "a.geojson", (600, 440, 700, 460)))
    assert found.region.bounds == (600, 440, 640, 448)
    assert found.notes == ("84.0% of the annotated area lies outside the slide and was clipped",)


def test_geojson_counts_from_the_bounds_and_asap_from_the_slide(tmp_path: Path) -> None:
    frame = Frame.of({"dimensions": [640, 448], "bounds": [100, 50, 300, 200]})
    geojson, asap = write_geojson(tmp_path / "a.geojson", SQUARE), write_asap(tmp_path / "a.xml", (ring(*SQUARE), "_0"))
    assert read(geojson, frame).region.bounds == (110, 70, 140, 75)
    assert read(geojson, frame, origin="slide").region.bounds == read(asap, frame).region.bounds == SQUARE
    assert Frame.of({"dimensions": [640, 448], "bounds": None}) == FRAME


def test_overlap_is_the_share_of_the_footprint() -> None:
    region = shapely.box(10, 20, 40, 25)
    coords = np.array([[10, 20], [35, 20], [40, 20], [0, 0]])
    assert overlap_fractions(region, coords, box=(10, 5)).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert overlap_fractions(shapely.box(0, 0, 90, 90), coords, box=(10, 5)).tolist() == [1.0] * 4
    assert overlap_fractions(shapely.Polygon(), coords, box=(10, 5)).tolist() == [0.0] * 4


def test_a_tile_hits_each_lesion_that_it_overlaps_and_none_that_it_touches() -> None:
    lesions = [shapely.box(0, 0, 10, 5), shapely.box(12, 0, 20, 5)]
    coords = np.array([[8, 0], [20, 0], [40, 40], [14, 4]])
    assert sorted(lesion_hits(lesions, coords, box=(10, 5)).tolist()) == [[0, 0], [0, 1], [3, 1]]
    assert lesion_hits([], coords, box=(10, 5)).shape == (0, 2)


def test_a_region_written_is_read_with_its_hole(tmp_path: Path) -> None:
    region = shapely.box(0, 0, 50, 30).difference(shapely.box(10, 10, 20, 20))
    (tmp_path / "a.geojson").write_text(feature_collection([region], [{}]))
    found = read(tmp_path / "a.geojson")
    assert found.region.equals(region) and len(rings(found.region)) == 2


def test_our_own_exports_are_no_ground_truth_when_qupath_returns_them(tmp_path: Path) -> None:
    classes = [{"name": "Tissue"}, {"name": "hot: attention"}, {"name": "Ignore*"}, {"name": "tumour"}]
    boxes = [ring(0, 0, 600, 400), ring(50, 50, 90, 80), ring(0, 0, 9, 9), ring(*SQUARE)]
    found = read(write_features(tmp_path / "a.geojson", *zip(boxes, classes, strict=True)))
    assert found.region.bounds == SQUARE
    assert found.notes == ("3 regions of tissue, of a heatmap or to be ignored do not count",)
    assert read(tmp_path / "a.geojson", include=("Tissue",)).region.bounds == (0, 0, 600, 400)


def test_a_hole_is_subtracted_from_its_own_polygon_only(tmp_path: Path) -> None:
    """Holes of fewer than three different corners are none, and a polygon whose outer ring is none has no holes."""
    bare = [[5, 5], [9, 5], [5, 5]]
    polygons = [
        [ring(100, 100, 120, 110), ring(102, 102, 105, 104), bare],
        [bare, ring(50, 50, 90, 80)],
        [ring(0, 0, 8, 4)],
        [ring(200, 100, 220, 110), ring(202, 102, 203, 103), ring(210, 102, 214, 105)],
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "MultiPolygon", "coordinates": polygons}))
    found = read(tmp_path / "a.geojson")
    assert [lesion.area for lesion in sorted(found.lesions, key=lambda p: p.bounds)] == [32, 200 - 6, 200 - 1 - 12]
    assert found.notes == ("1 of 4 polygons was without area and was left out",)


def test_an_excluded_region_is_subtracted_from_every_polygon_that_it_overlaps(tmp_path: Path) -> None:
    boxes = [ring(0, 0, 10, 6), ring(20, 0, 30, 6), ring(40, 0, 50, 6), ring(60, 0, 64, 2)]
    cuts = [ring(8, 0, 22, 3), ring(9, 4, 12, 5), ring(59, 0, 70, 9)]
    path = write_features(tmp_path / "a.geojson", *((b, "Tumor") for b in boxes), *((c, "_2") for c in cuts))
    found = read(path)
    assert [p.area for p in sorted(found.lesions, key=lambda p: p.bounds)] == [60 - 6 - 1, 60 - 6, 60]
    assert found.region.is_valid


def test_shares_of_a_tile_in_several_polygons_add_up() -> None:
    region = shapely.MultiPolygon([shapely.box(0, 0, 4, 5), shapely.box(6, 1, 8, 3), shapely.box(30, 0, 40, 5)])
    assert overlap_fractions(region, np.array([[0, 0], [12, 0]]), box=(10, 5)).tolist() == [(20 + 4) / 50, 0.0]


def test_outlines_are_of_the_classes_named_or_of_all_but_those_kept_apart(tmp_path: Path) -> None:
    polygons = [(ring(0, 0, 8, 4), "Tumor"), (ring(20, 0, 30, 4), "Fat"), (ring(40, 0, 41, 1), "Ignore*")]
    path = write_features(tmp_path / "a.geojson", *polygons)
    assert read_outlines(path, None, FRAME, origin="slide").area == 32 + 40
    assert read_outlines(path, None, FRAME, origin="slide", apart=("Fat",)).area == 32
    found = read_classes(path, ("Stroma",), FRAME, origin="slide")
    assert (found.counts, found.region.is_empty, found.names) == (0, True, {"Tumor", "Fat", "Ignore*"})
    with pytest.raises(
        AnnotationError, match=r"no polygon of the classes Stroma .*, but 'Fat' \(1\), 'Ignore\*' \(1\), 'Tumor' \(1\)"
    ):
        read_outlines(path, ("Stroma",), FRAME, origin="slide")
