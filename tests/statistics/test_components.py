import numpy as np

from wsi_mil.statistics.components import principal_components


def test_directions_and_shares_by_hand() -> None:
    found = principal_components(np.diag([1.0, 7.0, 2.0]), 2)
    assert np.allclose(found.directions, [[0, 1, 0], [0, 0, 1]]) and np.allclose(found.shares, [0.7, 0.2])
    assert np.allclose(found.project(np.array([[5.0, 6.0, 7.0]]), np.array([5.0, 4.0, 8.0])), [[2, -1]])


def test_the_largest_loading_is_positive_whatever_the_solver_says() -> None:
    direction = np.array([0.1, -0.9, 0.4]) / np.linalg.norm([0.1, -0.9, 0.4])
    found = principal_components(np.outer(direction, direction) * 3, 3)
    assert len(found.directions) == 1, "what rounding made is no component"
    assert np.allclose(found.directions[0], -direction) and np.allclose(found.shares, 1)


def test_no_variance_has_no_components() -> None:
    found = principal_components(np.zeros((4, 4)), 2)
    assert found.directions.shape == (0, 4) and found.project(np.ones((3, 4)), np.zeros(4)).shape == (3, 0)
