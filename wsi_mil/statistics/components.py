"""Principal components of a covariance matrix. No I/O."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

LEAST_SHARE = 1e-6
"""Smallest share of the total variance of a component; less may be rounding, since products are computed in float32."""


@dataclass(frozen=True)
class Components:
    """Principal components.

    Attributes:
        directions: float64 `(k, d)`, orthonormal, by decreasing variance; the largest absolute loading of each is positive.
        shares: `(k,)`, shares of the total variance.
    """

    directions: NDArray[np.float64]
    shares: NDArray[np.float64]

    def project(self, rows: NDArray[np.floating], mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project rows `(n, d)`, centred on `mean`, on the components: `(n, k)`."""
        return np.asarray((rows - mean) @ self.directions.T)


def principal_components(covariance: NDArray[np.float64], k: int) -> Components:
    """Return at most `k` principal components of a covariance `(d, d)`, without those that may be rounding errors."""
    dim = len(covariance)
    total = float(np.trace(covariance))
    if not total:
        return Components(np.empty((0, dim)), np.empty(0))
    variances, vectors = eigh(covariance, subset_by_index=(max(0, dim - k), dim - 1))
    variances, directions = variances[::-1], vectors.T[::-1]
    is_significant = variances > LEAST_SHARE * total
    variances, directions = variances[is_significant], directions[is_significant]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    return Components(directions * np.sign(largest), variances / total)
