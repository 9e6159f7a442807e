import numpy as np
import pytest

from tests.conftest import tissue_box, tissue_image
from wsi_mil.config import Tissue
from wsi_mil.geometry import Mpp
from wsi_mil.tissue import outline, tissue_mask

MPP = Mpp(8.0, 8.0)


def test_the_mask_is_where_the_tissue_is() -> None:
    mask = tissue_mask(tissue_image(200, 140), Tissue(), MPP)
    left, top, right, bottom = tissue_box(200, 140)
    truth = np.zeros((140, 200), bool)
    truth[top:bottom, left:right] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95


def test_noisy_glass_holds_no_tissue() -> None:
    noise = np.random.default_rng(0).integers(240, 247, (140, 200, 3), dtype=np.uint8)
    assert not tissue_mask(noise, Tissue(), MPP).any()


def test_a_slide_that_is_all_tissue_is_not_split_in_two() -> None:
    image = tissue_image(400, 300)
    left, top, right, bottom = tissue_box(400, 300)
    assert tissue_mask(image[top:bottom, left:right], Tissue(), MPP).mean() > 0.97


def test_a_black_border_is_not_tissue() -> None:
    image = tissue_image(200, 140)
    image[:, :20] = (2, 0, 1)
    assert not tissue_mask(image, Tissue(), MPP)[:, :20].any()


@pytest.mark.parametrize(("mpp", "kept"), [(8.0, False), (20.0, True)])
def test_pieces_are_dropped_by_their_size_in_um(mpp: float, kept: bool) -> None:
    image = np.full((100, 150, 3), 243, np.uint8)
    image[40:56, 100:116] = (200, 130, 180)  # 256 px: 16,384 µm² at 8 µm, 102,400 µm² at 20 µm
    assert tissue_mask(image, Tissue(), Mpp(mpp, mpp)).any() == kept


@pytest.mark.parametrize(("largest", "filled"), [(1000.0, False), (20_000.0, True)])
def test_holes_are_filled_by_their_size_in_um(largest: float, filled: bool) -> None:
    image = np.full((100, 150, 3), (200, 130, 180), np.uint8)
    image[40:52, 60:72] = 243  # 144 px of 64 µm²: 9,216 µm²
    assert tissue_mask(image, Tissue(max_hole_um2=largest), MPP)[46, 66] == filled


def test_without_a_method_the_whole_slide_is_tissue() -> None:
    assert tissue_mask(np.full((9, 13, 3), 255, np.uint8), Tissue(method="none"), MPP).all()


def test_the_outline_has_the_area_and_the_place_of_the_mask() -> None:
    mask = np.zeros((50, 80), bool)
    mask[10:30, 50:75] = True
    mask[15:25, 55:65] = False
    region = outline(mask, dimensions=(800, 500))
    assert region.area == pytest.approx(mask.sum() * 100, rel=0.03)
    assert region.bounds == pytest.approx((500, 100, 750, 300), abs=6)


def test_an_empty_mask_has_an_empty_outline() -> None:
    assert outline(np.zeros((5, 8), bool), dimensions=(80, 50)).is_empty
