import numpy as np
import pytest
import shapely

from wsi_mil.geometry import Window, windows
from wsi_mil.tissue import (
    MaskExtent,
    MaskPiece,
    TissueMask,
    full_mask,
    intersection,
    joining,
    region_mask,
    regridded,
    without_region,
)

SHAPE = (90, 140)


def in_pieces(mask: np.ndarray, side: int) -> TissueMask:
    parts = [(w, mask[w.top : w.bottom, w.left : w.right]) for w in windows(mask.shape, side)]
    return TissueMask.of([MaskPiece.of(window, part) for window, part in parts], mask.shape)


def unpacked(mask: TissueMask) -> np.ndarray:
    return mask.part(Window(0, 0, mask.shape[1], mask.shape[0]))


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    found = np.zeros(SHAPE, bool)
    found[9:51, 70:133] = True
    found[20:30, 80:100] = False
    return found


@pytest.mark.parametrize("side", [13, 40, 500])
def test_a_part_is_cut_across_pieces(mask: np.ndarray, side: int) -> None:
    assert (in_pieces(mask, side).part(Window(61, 5, 44, 37)) == mask[5:42, 61:105]).all()


@pytest.mark.parametrize("side", [33, 500])
def test_a_coarser_grid_has_what_is_at_least_half_tissue(mask: np.ndarray, side: int) -> None:
    coarse = unpacked(regridded(in_pieces(mask, side), (30, 20)))
    truth = [[mask[3 * y : 3 * y + 3, 7 * x : 7 * x + 7].mean() >= 0.5 for x in range(20)] for y in range(30)]
    assert (coarse == np.array(truth)).all() and coarse.any()


def test_a_finer_grid_repeats_pixels(mask: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "PIECE_PX", 64)
    assert (unpacked(regridded(in_pieces(mask, 33), (180, 420))) == mask.repeat(2, axis=0).repeat(3, axis=1)).all()


def test_large_masks_are_unpacked_part_by_part(mask: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = unpacked(regridded(in_pieces(mask, 33), (30, 20)))
    monkeypatch.setattr(joining, "PART_PX", 40 * 40)
    found = regridded(in_pieces(mask, 33), (30, 20))
    assert len(found.pieces) > 4 and (unpacked(found) == whole).all()


def test_a_mask_of_a_part_is_placed_where_that_part_is(mask: np.ndarray) -> None:
    found = unpacked(regridded(in_pieces(mask, 33), (360, 700), MaskExtent(0.2, 0.25, 0.6, 0.5)))
    inside = found[90:180, 140:420]  # 90 rows, two columns for one of the mask
    assert (inside == mask.repeat(2, axis=1)).all() and found.sum() == inside.sum()


def test_two_masks_are_intersected(mask: np.ndarray) -> None:
    other = np.zeros(SHAPE, bool)
    other[40:, 100:] = True
    assert (unpacked(intersection(in_pieces(mask, 33), in_pieces(other, 50))) == (mask & other)).all()


def test_polygons_are_subtracted_by_pixel_centres(mask: np.ndarray) -> None:
    region = shapely.Point(900, 300).buffer(170)
    left = without_region(in_pieces(mask, 33), region, dimensions=(1400, 900))
    assert (unpacked(left) == (mask & ~region_mask(region, dimensions=(1400, 900), shape=SHAPE))).all()
    assert 0 < left.share < mask.mean()


def test_a_full_mask_is_all_tissue() -> None:
    assert full_mask((5, 8)).share == 1 and full_mask((5, 8)).shape == (5, 8)
