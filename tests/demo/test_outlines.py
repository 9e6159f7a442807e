import numpy as np
import pytest

from wsi_mil.demo.outlines import lesion_rings, outline, ring_area, rings_mask, tissue_mask

DIMENSIONS = (1500, 1100)
SEEDS = range(25)


def test_an_outline_has_area_one_around_the_origin() -> None:
    ring = outline(np.random.default_rng(0), wobble=0.15)
    assert ring_area(ring) == pytest.approx(1)
    assert (ring.min(axis=0) < 0).all() and (ring.max(axis=0) > 0).all()


def test_a_mask_has_the_ring_s_columns_along_x_and_rows_along_y() -> None:
    mask = rings_mask((90, 60), (np.array([[10.0, 20], [50, 20], [50, 40], [10, 40]]),))
    rows, columns = np.nonzero(mask)
    assert mask.shape == (60, 90)
    assert abs(rows.min() - 20) <= 1 and abs(rows.max() - 39) <= 1
    assert abs(columns.min() - 10) <= 1 and abs(columns.max() - 49) <= 1


def test_a_mask_covers_the_ring_s_area() -> None:
    ring = outline(np.random.default_rng(1), wobble=0.15) * 300 + (400, 300)
    assert np.count_nonzero(rings_mask((900, 700), (ring,))) == pytest.approx(90_000, rel=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_tissue_is_30_to_55_percent_of_the_slide_and_off_its_edges(seed: int) -> None:
    mask = tissue_mask(DIMENSIONS, np.random.default_rng(seed))
    assert 0.30 <= mask.mean() <= 0.55
    assert not (mask[:10].any() or mask[-10:].any() or mask[:, :10].any() or mask[:, -10:].any())


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_are_2_to_12_percent_of_the_tissue_and_wholly_inside_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tissue = tissue_mask(DIMENSIONS, rng)
    rings = lesion_rings(tissue, rng)
    lesion = rings_mask(DIMENSIONS, rings)
    assert len(rings) in (1, 2)
    assert 0.02 <= np.count_nonzero(lesion) / np.count_nonzero(tissue) <= 0.12
    assert not (lesion & ~tissue).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_of_a_slide_do_not_touch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rings = lesion_rings(tissue_mask(DIMENSIONS, rng), rng)
    one_by_one = sum(np.count_nonzero(rings_mask(DIMENSIONS, (ring,))) for ring in rings)
    assert np.count_nonzero(rings_mask(DIMENSIONS, rings)) == one_by_one


def test_thin_tissue_holds_no_lesion() -> None:
    tissue = np.zeros((1100, 1500), bool)
    tissue[500:530, 100:1400] = True
    with pytest.raises(ValueError, match="no room"):
        lesion_rings(tissue, np.random.default_rng(0))
