import numpy as np
import pytest

from wsi_mil.statistics.moments import Moments


def rows(n: int, dim: int = 5, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, dim)) * np.arange(1, dim + 1) + 30).astype(np.float16)


def of(*blocks: np.ndarray) -> Moments:
    found = Moments.empty(blocks[0].shape[1])
    for block in blocks:
        found.add_block(block)
    return found


def test_two_rows_by_hand() -> None:
    found = of(np.array([[1, 10], [3, 4]], np.float16))
    assert found.weight == 2 and found.mean.tolist() == [2, 7]
    assert found.scatter.tolist() == [[2, -6], [-6, 18]] and found.covariance.tolist() == [[1, -3], [-3, 9]]


def test_blocks_give_what_numpy_gives_for_all_rows_at_once() -> None:
    whole = rows(3000)
    found = of(whole[:7], whole[7:1999], whole[1999:2000], whole[2000:])
    exact = whole.astype(np.float64)
    assert found.weight == 3000 and np.allclose(found.mean, exact.mean(axis=0), rtol=1e-13)
    assert np.allclose(found.covariance, np.cov(exact, rowvar=False, bias=True), rtol=0, atol=2e-6 * exact.var(axis=0).max())


def test_the_order_of_blocks_changes_rounding_only() -> None:
    blocks = [rows(n, seed=n) for n in (3, 500, 41, 1)]
    forwards, backwards = of(*blocks), of(*blocks[::-1])
    in_pairs = of(*blocks[:2]).add(of(*blocks[2:]))
    for other in (backwards, in_pairs):
        assert np.allclose(forwards.mean, other.mean, rtol=1e-13) and np.allclose(forwards.scatter, other.scatter, rtol=1e-12)


def test_products_in_float32_are_nearly_those_of_float64_even_far_from_zero() -> None:
    rng = np.random.default_rng(1)
    whole = (rng.normal(size=(20_000, 64)) + 1000).astype(np.float16)  # a thousand standard deviations from zero
    found = of(*np.array_split(whole, 10))
    exact = np.cov(whole.astype(np.float64), rowvar=False, bias=True)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert (np.abs(found.covariance - exact) / scale).max() < 4e-6


def test_slides_of_equal_weight_count_equally_whatever_their_size() -> None:
    small, large = np.array([[0.0], [2.0]], np.float16), np.full((998, 1), 11.0, np.float16)
    both = of(small).normalise_weight().add(of(large).normalise_weight())
    assert both.weight == 2 and both.mean.tolist() == [6]
    assert both.covariance.tolist() == [[pytest.approx(((0 - 6) ** 2 + (2 - 6) ** 2) / 4 + (11 - 6) ** 2 / 2)]]


def test_nothing_added_changes_nothing() -> None:
    found, before = of(rows(9)), of(rows(9))
    found.add_block(rows(0)).add(Moments.empty(5))
    assert np.array_equal(found.scatter, before.scatter) and np.array_equal(found.mean, before.mean) and found.weight == 9
