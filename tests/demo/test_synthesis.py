import numpy as np
import pytest
from scipy import ndimage

from wsi_mil.demo.outlines import rings_mask
from wsi_mil.demo.synthesis import (
    GLASS,
    PIECE_PX,
    Pixels,
    SyntheticSlide,
    Texture,
    mosaic,
    stained,
    synthetic_slide,
)

DIMENSIONS = (1900, 1400)


def make(texture: Texture, seed: int, *, has_lesion: bool) -> SyntheticSlide:
    return synthetic_slide(texture, DIMENSIONS, has_lesion=has_lesion, rng=np.random.default_rng(seed))


@pytest.fixture(scope="module", params=[3, 4])
def positive(request: pytest.FixtureRequest, texture: Texture) -> SyntheticSlide:
    return make(texture, request.param, has_lesion=True)


def plain(level: int) -> Texture:
    """A texture of one grey level with one window."""
    return Texture(np.full((PIECE_PX, PIECE_PX, 3), level, np.uint8), np.zeros((1, 2), np.int64))


def sharpness(image: Pixels) -> np.ndarray:
    return np.abs(ndimage.laplace(image.mean(axis=2)))


@pytest.mark.parametrize("seed", range(5))
def test_a_mosaic_has_no_gaps(seed: int) -> None:
    needed = np.ones((700, 1300), bool)
    image = mosaic(plain(200), needed, rng=np.random.default_rng(seed))
    assert image.shape == (700, 1300, 3)
    assert image.min() >= 199


def test_a_mosaic_is_made_only_where_it_is_needed() -> None:
    needed = np.zeros((900, 1500), bool)
    needed[100:200, 1200:1300] = True
    image = mosaic(plain(200), needed, rng=np.random.default_rng(0))
    assert (image[needed] >= 199).all()
    assert not image[:, :800].any()


def test_a_mosaic_is_as_pale_as_the_windows_on_average(texture: Texture) -> None:
    means = [mosaic(texture, np.ones((1200, 1600), bool), rng=np.random.default_rng(i)).mean((0, 1)) for i in range(4)]
    assert np.ptp(means, axis=0).max() < 12


def test_staining_leaves_glass_and_darkens_tissue() -> None:
    gains = np.array([1.1, 1.0, 0.9])
    assert (stained(plain(GLASS), gains).image == GLASS).all()
    red, green, blue = stained(plain(150), gains).image[0, 0].tolist()
    assert red < green == 150 < blue


def test_the_image_has_the_dimensions(positive: SyntheticSlide) -> None:
    assert positive.image.shape == (1400, 1900, 3)
    assert positive.tissue_mask.shape == (1400, 1900)


def test_glass_is_nearly_even_and_light_grey(positive: SyntheticSlide) -> None:
    glass = positive.image[ndimage.binary_erosion(~positive.tissue_mask, iterations=10)]
    assert glass.min() >= GLASS - 4
    assert glass.max() <= GLASS + 4


def test_a_lesion_changes_nothing_around_it(texture: Texture) -> None:
    normal, positive = (make(texture, 5, has_lesion=has_lesion) for has_lesion in (False, True))
    lesion = ndimage.binary_dilation(rings_mask(DIMENSIONS, positive.lesions), iterations=15)
    assert normal.lesions == ()
    assert (normal.image[~lesion] == positive.image[~lesion]).all()
    assert (normal.image[lesion] != positive.image[lesion]).any()


def test_a_lesion_has_the_mean_colour_of_the_normal_tissue(positive: SyntheticSlide) -> None:
    lesion = rings_mask(DIMENSIONS, positive.lesions)
    inner = ndimage.binary_erosion(positive.tissue_mask, iterations=10)
    difference = positive.image[lesion].mean(axis=0) - positive.image[inner & ~lesion].mean(axis=0)
    assert np.abs(difference).max() < 3


def test_a_lesion_is_coarser_where_its_ring_is(positive: SyntheticSlide) -> None:
    lesion = rings_mask(DIMENSIONS, positive.lesions)
    inner = ndimage.binary_erosion(positive.tissue_mask, iterations=10)
    detail = sharpness(positive.image)
    assert inner[lesion].all()
    assert detail[lesion].mean() < 0.75 * detail[inner & ~lesion].mean()


def test_the_same_random_numbers_give_the_same_slide(texture: Texture) -> None:
    one, again, other = (make(texture, seed, has_lesion=True) for seed in (6, 6, 7))
    assert (one.image == again.image).all()
    assert (one.image != other.image).any()
