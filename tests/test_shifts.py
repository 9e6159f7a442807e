"""The grid that shifted tilings have together, and means on it: numbers computed by hand, and laws."""

import numpy as np
import pytest

from wsi_mil.config import Tiling
from wsi_mil.geometry import Mpp, crossing, grid_cells
from wsi_mil.shifts import Cells, Shift, shifts
from wsi_mil.tile.grid import tile_grid
from wsi_mil.tissue import TissueMask

ALL = TissueMask.whole(np.ones((1, 1), bool))


def test_the_shifts_are_all_but_the_one_that_moves_nothing() -> None:
    assert [(s.right, s.down) for s in shifts(2)] == [(1, 0), (0, 1), (1, 1)]
    assert len(set(shifts(4))) == 15 and Shift(0, 0, 4) not in shifts(4)
    assert Shift(3, 1, 4).of(20.0) == (15.0, 5.0) and Shift(3, 1, 4).name == "3-1-of-4"


def tilings(dimensions: tuple[int, int], steps: int, tiling: Tiling, mpp: Mpp) -> list[np.ndarray]:
    """Corners of the tiles of the usual tiling and of the shifted ones, all of the slide being tissue."""
    stride = (tiling.tile_px - tiling.overlap) * tiling.mpp
    starts = [(s.of(stride / mpp.x)[0], s.of(stride / mpp.y)[1]) for s in (Shift(0, 0, steps), *shifts(steps))]
    return [tile_grid(dimensions, ALL, tiling, mpp, start).coords for start in starts]


def cells_of(dimensions: tuple[int, int], steps: int, tiling: Tiling, mpp: Mpp) -> Cells:
    part = (tiling.tile_px - tiling.overlap) / steps * tiling.mpp
    tile = tiling.tile_px * tiling.mpp
    return Cells((part / mpp.x, part / mpp.y), (tile / mpp.x, tile / mpp.y), dimensions)


@pytest.mark.parametrize(
    ("steps", "tile_px", "mpp"), [(2, 64, Mpp(0.5, 0.5)), (3, 50, Mpp(0.2478, 0.31)), (5, 33, Mpp(0.5021, 0.4))]
)
def test_the_tiles_of_all_tilings_start_at_different_corners_of_one_grid(steps: int, tile_px: int, mpp: Mpp) -> None:
    tiling, dimensions = Tiling(tile_px=tile_px, mpp=0.5), (907, 513)
    corners = np.concatenate(tilings(dimensions, steps, tiling, mpp))
    cells = cells_of(dimensions, steps, tiling, mpp)
    numbers = grid_cells(corners, cells.side)
    assert np.abs(corners - numbers * cells.side).max() <= 0.5001, "each is the rounded corner of a cell"
    assert len({tuple(number) for number in numbers.tolist()}) == len(corners)


def test_a_cell_inside_is_covered_by_a_tile_of_each_tiling_and_one_in_the_corner_by_the_usual_one_alone() -> None:
    tiling, mpp = Tiling(tile_px=60, mpp=0.5), Mpp(0.5, 0.5)
    cells = cells_of((300, 240), 3, tiling, mpp)
    number = [np.where(cells.covered([coords]), 1, 0) for coords in tilings((300, 240), 3, tiling, mpp)]
    assert sum(number)[4, 5] == 9 and sum(number)[0, 0] == 1 and number[0][0, 0] == 1 and cells.shape == (12, 15)


def test_a_cell_has_the_mean_of_the_tiles_that_cover_it() -> None:
    """Two tiles of 20 px, and one of a tiling shifted to the right by half a tile, on a slide of 45 × 20 px."""
    cells = Cells((10.0, 10.0), (20.0, 20.0), (45, 20))
    usual = np.array([[0, 0], [20, 0]]), np.array([1.0, 5.0])
    shifted = np.array([[10, 0]]), np.array([9.0])
    mean = cells.mean([usual, shifted])
    assert mean.shape == (2, 5)
    for row in mean:
        assert row[:4].tolist() == [1.0, 5.0, 7.0, 5.0] and np.isnan(row[4])
    assert cells.coords(np.isfinite(mean)).tolist() == [[x, y] for y in (0, 10) for x in (0, 10, 20, 30)]


def test_a_tile_without_a_score_takes_no_part() -> None:
    cells = Cells((10.0, 10.0), (20.0, 10.0), (40, 10))
    parts = [(np.array([[0, 0], [20, 0]]), np.array([np.nan, 3.0])), (np.array([[10, 0]]), np.array([7.0]))]
    mean = cells.mean(parts)[0]
    assert np.isnan(mean[0]) and mean[1:].tolist() == [7.0, 5.0, 3.0]
    assert cells.covered(coords for coords, _ in parts).all(), "a tile is there all the same"


def test_of_overlapping_tiles_a_cell_belongs_to_those_that_cover_its_centre() -> None:
    """Tiles of 40 px, 30 px apart, on cells of 15 px: a tile covers two cells, and ten pixels of a third."""
    cells = Cells((15.0, 15.0), (40.0, 40.0), (120, 45))
    assert cells.per_tile == (3, 3)
    mean = cells.mean([(np.array([[0, 0], [30, 0]]), np.array([2.0, 4.0]))])[0]
    assert mean[:5].tolist() == [2.0, 2.0, 3.0, 4.0, 4.0] and np.isnan(mean[5:]).all()


def test_cells_beyond_the_slide_are_left_out_of_padded_tiles() -> None:
    cells = Cells((10.0, 10.0), (20.0, 20.0), (30, 15))
    mean = cells.mean([(np.array([[0, 0], [20, 0]]), np.array([1.0, 2.0]))])
    assert mean.shape == (2, 3) and mean[0].tolist() == [1.0, 1.0, 2.0]


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_the_mean_of_constant_scores_is_constant(steps: int) -> None:
    tiling, mpp, dimensions = Tiling(tile_px=50, overlap=8, mpp=0.5), Mpp(0.2478, 0.31), (1501, 999)
    parts = [(coords, np.full(len(coords), 0.3)) for coords in tilings(dimensions, steps, tiling, mpp)]
    mean = cells_of(dimensions, steps, tiling, mpp).mean(parts)
    covered = np.isfinite(mean)
    assert covered.sum() > 100 and np.allclose(mean[covered], 0.3, rtol=1e-12)


@pytest.mark.parametrize("steps", [2, 4])
def test_a_lesion_half_a_tile_off_the_grid_is_found_better_on_the_finer_one(steps: int) -> None:
    """Tiles of 40 px, each scored by the share of it that is lesion: the error in every pixel gets smaller."""
    dimensions, lesion = (400, 280), np.zeros((280, 400))
    lesion[100:180, 140:220] = 1  # tiles start at multiples of 40: off by half a tile along either axis
    tiling, mpp = Tiling(tile_px=40, mpp=0.5), Mpp(0.5, 0.5)
    parts = []
    for coords in tilings(dimensions, steps, tiling, mpp):
        parts.append((coords, np.array([lesion[y : y + 40, x : x + 40].mean() for x, y in coords])))
    usual = np.kron(Cells((40.0, 40.0), (40.0, 40.0), dimensions).mean(parts[:1]), np.ones((40, 40)))
    side = 40 // steps
    fine = np.kron(cells_of(dimensions, steps, tiling, mpp).mean(parts), np.ones((side, side)))
    errors = [np.abs(found - lesion)[40:240, 40:360].mean() for found in (usual, fine)]
    assert errors[1] < 0.9 * errors[0]
    inside = [found[100:180, 140:220].min() - found[~lesion.astype(bool)].max() for found in (usual, fine)]
    assert inside[0] < 0, "a usual tile outside is as high as one inside"
    assert inside[1] >= inside[0]


def test_one_tile_on_a_finer_grid_is_that_tile() -> None:
    cells = Cells((32.0, 32.0), (64.0, 64.0), (200, 130))
    mean = cells.mean([(crossing(np.array([64]), np.array([0])), np.array([2.5]))])
    assert np.argwhere(np.isfinite(mean)).tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]] and np.nanmax(mean) == 2.5
