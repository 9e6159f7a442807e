import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_mil.geometry import (
    Mpp,
    axis_positions,
    best_level,
    box_means,
    crossing,
    footprint,
    grid_cells,
    gridded,
    halved,
    size_at,
)


def test_footprint_scales_each_axis_by_its_own_mpp() -> None:
    assert footprint((224, 224), target_mpp=0.5, slide_mpp=Mpp(0.25, 0.5)) == (448.0, 224.0)


def test_size_at_a_coarser_mpp() -> None:
    assert size_at((640, 448), slide_mpp=Mpp(0.5, 0.25), target_mpp=4.0) == (80, 28)


@pytest.mark.parametrize(
    ("downsample", "level"), [(0.5, 0), (1.0, 0), (3.9, 0), (np.nextafter(4 / 1.01, 0), 0), (4.0, 1), (15.0, 1), (16.3, 2)]
)
def test_best_level_is_the_coarsest_that_is_fine_enough(downsample: float, level: int) -> None:
    assert best_level([1.0, 4.0, 16.1], downsample) == level


def test_positions_do_not_drift() -> None:
    positions = axis_positions(100_000, tile=448.9, stride=448.9)
    assert positions[-1] == round(221 * 448.9) and len(positions) == 222


def test_the_last_tile_may_touch_the_edge_but_not_cross_it() -> None:
    assert axis_positions(448, tile=224, stride=224).tolist() == [0, 224]
    assert axis_positions(447, tile=224, stride=224).tolist() == [0]
    assert axis_positions(223, tile=224, stride=224).tolist() == []


def test_crossing_runs_along_x_first() -> None:
    coords = crossing(np.array([0, 10, 20]), np.array([0, 7]))
    assert coords.tolist() == [[0, 0], [10, 0], [20, 0], [0, 7], [10, 7], [20, 7]]


def test_box_means_are_exact_where_a_box_cuts_pixels() -> None:
    image = np.zeros((2, 4), bool)  # a slide of 40 × 20 level-0 pixels, 10 a pixel
    image[0, 3] = True
    coords = np.array([[25, 0], [30, 5], [0, 0]])
    means = box_means(image, coords, box=(10, 10), dimensions=(40, 20))
    assert means.tolist() == pytest.approx([0.5, 0.5, 0.0])


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**31 - 1))
def test_box_means_of_whole_pixels_are_those_of_slices(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    coords = crossing(np.arange(width) * 3, np.arange(height) * 5)
    means = box_means(image, coords, box=(3, 5), dimensions=(3 * width, 5 * height))
    assert np.allclose(means, image.ravel(), atol=1e-5)


def test_halving_ignores_missing_values() -> None:
    image = np.array([[1, np.nan, 5], [3, np.nan, np.nan], [np.nan, np.nan, 7]], np.float32)
    assert np.array_equal(halved(image), np.array([[2, 5], [np.nan, 7]], np.float32), equal_nan=True)


def test_a_cell_of_the_grid_holds_the_tile_whose_corner_it_is_also_where_tiles_overlap() -> None:
    values, coords = np.array([0.0, 4.0], np.float32), np.array([[0, 33], [47, 33]])
    raster = gridded(values, coords, stride=(46.6, 32.8), dimensions=(139, 99))
    assert raster.shape == (4, 3) and raster[1, 0] == 0 and raster[1, 1] == 4 and np.isnan(raster[0]).all()


@given(st.integers(500, 200_000), st.floats(8, 900), st.floats(0.02, 1))
def test_every_corner_is_found_again_from_its_cell(length: int, tile: float, step_share: float) -> None:
    stride = max(2.0, tile * step_share)
    positions = axis_positions(length, tile=tile, stride=stride)[-50:]
    coords = np.stack([positions, np.zeros_like(positions)], axis=1)
    cells = grid_cells(coords, (stride, 1.0))
    assert np.array_equal(np.rint(cells * (stride, 1.0)), coords)
