import numpy as np

from wsi_mil.config import Tiling
from wsi_mil.geometry import Mpp
from wsi_mil.tile.grid import sample_tiles, tile_grid
from wsi_mil.tissue import TissueMask

HALF = Mpp(0.5, 0.5)
ALL = TissueMask.whole(np.ones((1, 1), bool))


def test_tiles_lie_where_the_tissue_is() -> None:
    mask = np.zeros((28, 40), bool)
    mask[:14, 30:] = True  # the top right of a 640 × 448 slide
    grid = tile_grid((640, 448), TissueMask.whole(mask), Tiling(tile_px=64, mpp=0.5), HALF)
    assert grid.coords[:, 0].min() == 448 and grid.coords[:, 0].max() == 576
    assert grid.coords[:, 1].min() == 0 and grid.coords[:, 1].max() == 192


def test_a_tile_of_an_uneven_slide_has_an_uneven_footprint() -> None:
    grid = tile_grid((640, 448), ALL, Tiling(tile_px=64, mpp=1.0), Mpp(0.25, 0.5))
    assert grid.tile_px_level0 == (256, 128)
    assert grid.coords.tolist() == [[0, 0], [256, 0], [0, 128], [256, 128], [0, 256], [256, 256]]


def test_overlapping_tiles_step_by_the_rest_of_a_tile() -> None:
    grid = tile_grid((200, 64), ALL, Tiling(tile_px=64, overlap=16, mpp=0.5), HALF)
    assert grid.coords[:, 0].tolist() == [0, 48, 96]


def test_exactly_the_least_tissue_is_enough() -> None:
    mask = TissueMask.whole(np.array([[True, False]]))
    tiling = Tiling(tile_px=64, mpp=0.5, min_tissue=0.5)
    assert len(tile_grid((64, 64), mask, tiling, HALF).coords) == 1
    assert len(tile_grid((64, 64), mask, tiling.model_copy(update={"min_tissue": 0.51}), HALF).coords) == 0


def test_a_slide_smaller_than_a_tile_has_none() -> None:
    assert tile_grid((63, 200), ALL, Tiling(tile_px=64, mpp=0.5), HALF).coords.shape == (0, 2)


def test_tiles_that_reach_beyond_the_slide_are_dropped_or_padded() -> None:
    tiling = Tiling(tile_px=64, mpp=0.5, min_tissue=0.1)
    assert len(tile_grid((200, 70), ALL, tiling, HALF).coords) == 3
    padded = tile_grid((200, 70), ALL, tiling.model_copy(update={"edge": "pad"}), HALF)
    assert padded.coords.tolist() == [[0, 0], [64, 0], [128, 0], [192, 0]]
    assert padded.tissue_fraction.tolist() == [1, 1, 1, 0.125]  # 8 of 64 columns; the row from y = 64 holds 6 of 64 rows


def test_a_cap_draws_tiles_by_its_seed_and_keeps_their_order() -> None:
    grid = tile_grid((6400, 640), ALL, Tiling(tile_px=64, mpp=0.5), HALF)
    few = sample_tiles(grid, Tiling(max_tiles=100, seed=3))
    again, other = (sample_tiles(grid, Tiling(max_tiles=100, seed=seed)).coords for seed in (3, 4))
    assert few.coords.shape == (100, 2) and np.array_equal(few.coords, again) and not np.array_equal(few.coords, other)
    order = few.coords[:, 1] * 6400 + few.coords[:, 0]
    assert (np.diff(order) > 0).all()
    assert sample_tiles(grid, Tiling(max_tiles=5000)).coords.shape == grid.coords.shape


def test_the_last_column_of_a_wide_slide_is_off_by_half_a_pixel_at_most() -> None:
    slide_mpp = Mpp(0.2527, 0.2514)
    grid = tile_grid((100_000, 2_000), ALL, Tiling(tile_px=224, overlap=32, mpp=0.5), slide_mpp)
    stride = 192 * 0.5 / np.array([slide_mpp.x, slide_mpp.y])
    n = (len(np.unique(grid.coords[:, 0])), len(np.unique(grid.coords[:, 1])))
    assert n == (263, 5)
    exact = np.array([[i * stride[0], j * stride[1]] for j in range(n[1]) for i in range(n[0])])
    assert np.abs(grid.coords - exact).max() <= 0.5
