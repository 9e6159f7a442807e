"""Covariance → principal components. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

LEAST_SHARE = 1e-6
"""Of the total variance: products of features are rounded to float32, so that less may be nothing but rounding."""


@dataclass(frozen=True)
class Components:
    """The directions in which rows vary most.

    Attributes:
        directions: float64 `(k, d)`, orthonormal, the strongest first; of each the largest absolute loading is positive.
        shares: `(k,)` of the total variance.
    """

    directions: NDArray[np.float64]
    shares: NDArray[np.float64]

    def of(self, rows: NDArray[np.floating], mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where rows `(n, d)` lie, seen from `mean`: `(n, k)`."""
        return np.asarray((rows - mean) @ self.directions.T)


def principal_components(covariance: NDArray[np.float64], k: int) -> Components:
    """At most `k` components of a covariance `(d, d)`; none of variance that rounding alone can have made."""
    dim, total = len(covariance), float(np.trace(covariance))
    if not total:
        return Components(np.empty((0, dim)), np.empty(0))
    variances, vectors = eigh(covariance, subset_by_index=(max(0, dim - k), dim - 1))
    variances, directions = variances[::-1], vectors.T[::-1]
    real = variances > LEAST_SHARE * total
    variances, directions = variances[real], directions[real]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    return Components(directions * np.sign(largest), variances / total)
