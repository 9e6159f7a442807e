import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wsi_mil.rasterise import tile_raster


def test_a_single_tile_fills_exactly_its_box() -> None:
    raster = tile_raster(np.array([7.0], np.float32), np.array([[20, 8]]), box=(10, 4), dimensions=(60, 20), shape=(10, 30))
    lit = np.argwhere(~np.isnan(raster))
    assert lit.min(axis=0).tolist() == [4, 10] and lit.max(axis=0).tolist() == [5, 14] and np.nanmin(raster) == 7


def test_overlapping_tiles_are_averaged_and_nan_is_left_out() -> None:
    coords = np.array([[0, 0], [1, 0], [3, 0]])
    raster = tile_raster(np.array([1, 3, np.nan], np.float32), coords, box=(2, 1), dimensions=(4, 1), shape=(1, 4))
    assert raster[0, :3].tolist() == [1.0, 2.0, 3.0] and np.isnan(raster[0, 3])


@given(st.integers(0, 2**31 - 1), st.integers(1, 40), st.integers(1, 60), st.sampled_from([4, 7, 10]))
def test_every_pixel_equals_that_of_tiles_drawn_one_by_one(seed: int, height: int, width: int, stride: int) -> None:
    """Scores of many sizes: a small one next to a large one must not be lost."""
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, 9, (20, 2)), axis=0) * stride
    values = (10.0 ** rng.normal(scale=5, size=len(coords))).astype(np.float32)
    values[rng.random(len(coords)) < 0.2] = np.nan
    drawn, count = np.zeros((height, width)), np.zeros((height, width))
    for (x, y), value in zip(coords, values, strict=True):
        if np.isfinite(value):
            left, top = np.rint(np.array([x * width, y * height]) / 90).astype(int)
            right, bottom = np.rint(np.array([(x + 7) * width, (y + 7) * height]) / 90).astype(int)
            box = (slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1)))
            drawn[box] += value
            count[box] += 1
    with np.errstate(invalid="ignore"):
        expected = (drawn / count).astype(np.float32)
    found = tile_raster(values, coords, box=(7, 7), dimensions=(90, 90), shape=(height, width))
    assert np.array_equal(found, expected, equal_nan=True)
