import numpy as np
import pytest
import shapely

from wsi_mil.tissue import region_mask, region_tissue, regions

DIMENSIONS = (1000, 600)
RING = shapely.Point(400, 200).buffer(150).difference(shapely.Point(360, 220).buffer(70))
REGION = RING.union(shapely.box(700, 27, 900, 107))


def test_a_pixel_counts_if_its_centre_is_inside() -> None:
    shape = (60, 200)  # pixels of 5 × 10
    mask = region_mask(REGION, dimensions=DIMENSIONS, shape=shape)
    truth = [[REGION.covers(shapely.Point(5 * x + 2.5, 10 * y + 5)) for x in range(shape[1])] for y in range(shape[0])]
    assert (mask == np.array(truth)).all()


def test_a_hole_is_outside_and_x_is_not_y() -> None:
    mask = region_mask(REGION, dimensions=DIMENSIONS, shape=(60, 200))
    assert mask[10, 80] and not mask[22, 72]
    assert mask[3:11, 140:180].all() and not mask[11:, 140:].any() and not mask[2, 140:].any()


def test_no_polygon_is_no_tissue() -> None:
    assert not region_mask(shapely.Polygon(), dimensions=DIMENSIONS, shape=(6, 10)).any()


def test_a_mask_in_pieces_has_the_shares_of_the_polygons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "PIECE_PX", 300)
    tissue = region_tissue(REGION, dimensions=DIMENSIONS, shape=(600, 1000))
    assert len(tissue.pieces) == 8
    coords = np.array([(300, 100), (650, 0), (780, 60)])
    truth = [REGION.intersection(shapely.box(x, y, x + 200, y + 100)).area / 20_000 for x, y in coords]
    assert np.allclose(tissue.fractions(coords, box=(200, 100), dimensions=DIMENSIONS), truth, atol=0.005)
