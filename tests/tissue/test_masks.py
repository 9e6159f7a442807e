import numpy as np
import pytest
import shapely
from scipy import ndimage

from wsi_mil.geometry import box_means, windows
from wsi_mil.tissue import TissueMask, masks
from wsi_mil.tissue.masks import MaskPiece
from wsi_mil.tissue.opening import opened

DIMENSIONS = (3100, 1900)


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    """Lopsided, with a piece off the middle."""
    found = np.random.default_rng(0).random((130, 210)) < 0.4
    found[20:70, 90:190] = True
    return found


def in_pieces(mask: np.ndarray, side: int) -> TissueMask:
    parts = [(w, mask[w.top : w.bottom, w.left : w.right]) for w in windows(mask.shape, side)]
    return TissueMask.of([MaskPiece.of(window, part) for window, part in parts], mask.shape)


@pytest.mark.parametrize("side", [37, 64, 500])
def test_shares_of_tiles_are_exact_across_pieces(mask: np.ndarray, side: int) -> None:
    coords = np.random.default_rng(1).integers(0, (2800, 1700), (200, 2))
    box = (270.5, 191.25)
    shares = in_pieces(mask, side).fractions(coords, box=box, dimensions=DIMENSIONS)
    assert np.allclose(shares, box_means(mask, coords, box=box, dimensions=DIMENSIONS), atol=1e-12)


@pytest.mark.parametrize("side", [37, 500])
def test_the_share_of_the_slide_is_that_of_the_mask(mask: np.ndarray, side: int) -> None:
    assert in_pieces(mask, side).share == mask.mean()


def test_a_small_mask_is_its_own_coarse_one(mask: np.ndarray) -> None:
    assert (TissueMask.whole(mask).coarse == mask).all()


@pytest.mark.parametrize("side", [37, 64, 500])
def test_a_coarse_pixel_is_tissue_where_half_of_it_is(mask: np.ndarray, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "COARSE_PX", 55)  # 210 pixels: 4 to a coarse one, the last of a row 2, of a column 2
    coarse = in_pieces(mask, side).coarse
    truth = [[mask[y : y + 4, x : x + 4].mean() >= 0.5 for x in range(0, 210, 4)] for y in range(0, 130, 4)]
    assert (coarse == np.array(truth)).all()


def test_the_outline_of_a_coarse_mask_is_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "COARSE_PX", 55)
    mask = np.zeros((130, 210), bool)
    mask[20:130, 160:210] = True
    region = in_pieces(mask, 64).outline((2100, 1300))
    assert region.bounds == pytest.approx((1600, 200, 2100, 1300), abs=12)
    assert shapely.box(1600, 200, 2100, 1300).symmetric_difference(region).area < 0.02 * region.area


def test_opening_is_scipys() -> None:
    mask = np.random.default_rng(0).random((70, 110)) < 0.8
    mask[20:50, 60:] = True
    assert np.array_equal(opened(mask), ndimage.binary_opening(mask)) and opened(mask).any()
