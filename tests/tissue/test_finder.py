import numpy as np
import pytest

from tests.conftest import tissue_box, tissue_image
from wsi_mil.config import Tissue
from wsi_mil.geometry import Mpp
from wsi_mil.tissue import tissue_mask

MPP = Mpp(8.0, 8.0)
each_method = pytest.mark.parametrize("method", ["saturation_otsu", "glass_distance"])


@each_method
@pytest.mark.parametrize("mpp", [MPP, Mpp(1.0, 2.0)])
def test_the_mask_is_where_the_tissue_is(mpp: Mpp, method: str) -> None:
    mask = tissue_mask(tissue_image(200, 140), Tissue(method=method, min_area_um2=100), mpp)
    left, top, right, bottom = tissue_box(200, 140)
    truth = np.zeros((140, 200), bool)
    truth[top:bottom, left:right] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.92


@each_method
def test_noisy_glass_holds_no_tissue(method: str) -> None:
    noise = np.random.default_rng(0).integers(240, 247, (140, 200, 3), dtype=np.uint8)
    assert not tissue_mask(noise, Tissue(method=method), MPP).any()


@each_method
def test_a_slide_that_is_all_tissue_is_not_split_in_two(method: str) -> None:
    image = tissue_image(400, 300)
    left, top, right, bottom = tissue_box(400, 300)
    assert tissue_mask(image[top:bottom, left:right], Tissue(method=method), MPP).mean() > 0.97


def test_a_black_border_is_not_tissue() -> None:
    image = tissue_image(200, 140)
    image[:, :20] = (2, 0, 1)
    assert not tissue_mask(image, Tissue(), MPP)[:, :20].any()


@each_method
@pytest.mark.parametrize(("mpp", "kept"), [(8.0, False), (20.0, True)])
def test_pieces_are_dropped_by_their_size_in_um(mpp: float, kept: bool, method: str) -> None:
    image = np.full((100, 150, 3), 243, np.uint8)
    image[40:53, 100:116] = (200, 130, 180)  # 208 px: 13,312 µm² at 8 µm, 83,200 µm² at 20 µm
    assert tissue_mask(image, Tissue(method=method), Mpp(mpp, mpp)).any() == kept


@each_method
@pytest.mark.parametrize(("largest", "filled"), [(1000.0, False), (20_000.0, True)])
def test_holes_are_filled_by_their_size_in_um(largest: float, filled: bool, method: str) -> None:
    image = np.full((100, 150, 3), (200, 130, 180), np.uint8)
    image[40:52, 60:72] = 243  # 144 px of 64 µm²: 9,216 µm²
    assert tissue_mask(image, Tissue(method=method, max_hole_um2=largest), MPP)[46, 66] == filled


def test_without_a_method_the_whole_slide_is_tissue() -> None:
    assert tissue_mask(np.full((9, 13, 3), 255, np.uint8), Tissue(method="none"), MPP).all()


def test_a_mask_by_annotation_is_not_made_from_an_image() -> None:
    with pytest.raises(ValueError, match="region_mask"):
        tissue_mask(np.full((9, 13, 3), 255, np.uint8), Tissue(method="annotation"), MPP)


def test_threads_that_the_overview_does_not_show_are_none_at_any_resolution() -> None:
    image = np.full((320, 480, 3), 243, np.uint8)
    image[100:220, 200:400] = (200, 130, 180)
    image[40:44] = (200, 130, 180)  # 4 µm thick
    mask = tissue_mask(image, Tissue(min_area_um2=0), Mpp(1.0, 1.0))
    assert mask[110:210, 210:390].all() and not mask[38:46].any()
