import numpy as np
import pytest

from tests.conftest import tissue_box, tissue_image
from wsi_mil.config import Tissue
from wsi_mil.geometry import Mpp
from wsi_mil.tissue import TissueFinder, tissue_mask

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


def field(height: int, width: int) -> np.ndarray:
    """A field of view at 8 µm: pale stroma, with glands that make up a fifth and lie apart, and a strip of glass."""
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), (232.0, 205.0, 224.0))
    for row in range(3, height - 3, 12):
        for column in range(3, width - 3, 12):
            image[row : row + 5, column : column + 5] = (140, 70, 150)
    image[:, -width // 6 :] = 243
    return np.clip(image + rng.normal(0, 1.5, image.shape), 0, 255).astype(np.uint8)


def test_pale_stroma_of_a_field_of_view_is_tissue() -> None:
    mask = tissue_mask(field(34, 39), Tissue(), MPP)
    assert mask[:, :31].mean() > 0.97


def test_in_a_field_of_view_small_pieces_are_small_beside_the_field() -> None:
    image = np.full((34, 40, 3), 243, np.uint8)  # 87,040 µm², of which 2 % are 1,741
    image[4:14, 4:14] = image[18:30, 20:31] = (200, 130, 180)  # 6,400 and 8,448 µm²
    image[4:8, 30:34] = (200, 130, 180)  # 1,024 µm²
    mask = tissue_mask(image, Tissue(max_hole_um2=0), MPP)
    assert mask[9, 9] and mask[24, 25] and not mask[:10, 28:].any()
    assert not tissue_mask(image, Tissue(min_area_um2=20_000, max_hole_um2=0), MPP).any()


def test_a_small_field_of_glass_is_no_hole_in_tissue() -> None:
    glass = np.random.default_rng(0).integers(240, 247, (15, 17, 3), dtype=np.uint8)  # 16,320 µm², less than max_hole_um2
    assert not tissue_mask(glass, Tissue(), MPP).any()


def test_the_share_away_from_glass_tells_of_pale_stain_that_saturation_misses() -> None:
    image = np.full((100, 150, 3), 243, np.uint8)
    image[10:90, 20:50], image[10:90, 50:140] = (200, 130, 180), (236, 226, 233)
    finder = TissueFinder.from_overview(image, Tissue(), MPP)
    assert finder.stained.mean() < 0.2 and finder.non_glass_share == pytest.approx(0.64, abs=0.03)
    assert TissueFinder.from_overview(image, Tissue(method="glass_distance"), MPP).non_glass_share is None
