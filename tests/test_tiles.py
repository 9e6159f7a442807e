import numpy as np

from wsi_mil.config import Tiling
from wsi_mil.geometry import Mpp
from wsi_mil.tiles import tile_grid

HALF = Mpp(0.5, 0.5)


def test_tiles_lie_where_the_tissue_is() -> None:
    mask = np.zeros((28, 40), bool)
    mask[:14, 30:] = True  # the top right of a 640 × 448 slide
    grid = tile_grid((640, 448), mask, Tiling(tile_px=64, mpp=0.5), HALF)
    assert grid.coords[:, 0].min() == 448 and grid.coords[:, 0].max() == 576
    assert grid.coords[:, 1].min() == 0 and grid.coords[:, 1].max() == 192


def test_a_tile_of_an_uneven_slide_has_an_uneven_footprint() -> None:
    grid = tile_grid((640, 448), np.ones((7, 10), bool), Tiling(tile_px=64, mpp=1.0), Mpp(0.25, 0.5))
    assert grid.tile_px_level0 == (256, 128)
    assert grid.coords.tolist() == [[0, 0], [256, 0], [0, 128], [256, 128], [0, 256], [256, 256]]


def test_overlapping_tiles_step_by_what_is_left() -> None:
    grid = tile_grid((200, 64), np.ones((1, 1), bool), Tiling(tile_px=64, overlap=16, mpp=0.5), HALF)
    assert grid.coords[:, 0].tolist() == [0, 48, 96]


def test_exactly_the_least_tissue_is_enough() -> None:
    mask = np.array([[True, False]])
    tiling = Tiling(tile_px=64, mpp=0.5, min_tissue=0.5)
    assert len(tile_grid((64, 64), mask, tiling, HALF).coords) == 1
    assert len(tile_grid((64, 64), mask, tiling.model_copy(update={"min_tissue": 0.51}), HALF).coords) == 0


def test_a_slide_smaller_than_a_tile_has_none() -> None:
    assert tile_grid((63, 200), np.ones((1, 1), bool), Tiling(tile_px=64, mpp=0.5), HALF).coords.shape == (0, 2)
