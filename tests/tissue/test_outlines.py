import numpy as np
import pytest

from wsi_mil.tissue import outline


def test_the_outline_has_the_area_and_the_place_of_the_mask() -> None:
    mask = np.zeros((50, 80), bool)
    mask[10:30, 50:75] = True
    mask[15:25, 55:65] = False
    region = outline(mask, dimensions=(800, 500))
    assert region.area == pytest.approx(mask.sum() * 100, rel=0.03)
    assert region.bounds == pytest.approx((500, 100, 750, 300), abs=6)


def test_an_empty_mask_has_an_empty_outline() -> None:
    assert outline(np.zeros((5, 8), bool), dimensions=(80, 50)).is_empty
