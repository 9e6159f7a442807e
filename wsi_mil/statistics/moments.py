"""Mean and scatter matrix of more rows than fit into memory. No I/O."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

BAND_ROWS = 256
"""Rows of a rank-one update computed at once."""


@dataclass
class Moments:
    """Weight, mean and scatter matrix of rows, updated in place.

    Source: the pairwise update of T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for Computing the Sample
        Variance: Analysis and Recommendations", The American Statistician 37 (1983) 242-247, with weights for counts and
        outer products for squares.

    Attributes:
        weight: sum of the rows' weights.
        mean: float64 `(d,)`.
        scatter: float64 `(d, d)`, weighted sum of outer products of the rows' deviations from `mean`.
    """

    weight: float
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def empty(cls, dim: int) -> Self:
        """Create the moments of no rows."""
        return cls(0.0, np.zeros(dim), np.zeros((dim, dim)))

    def add_block(self, block: NDArray[np.float16]) -> Self:
        """Add rows `(n, d)`, each with weight 1.

        Products are computed in float32 around the block's own mean, which keeps them small; sums over blocks in float64.
        """
        if not len(block):
            return self
        mean = block.mean(axis=0, dtype=np.float64)
        rounded_mean = mean.astype(np.float32)
        centred = block.astype(np.float32)
        centred -= rounded_mean
        self._merge(float(len(block)), mean, centred.T @ centred)
        self._add_outer(-float(len(block)), mean - rounded_mean)  # corrects for the rounding of the mean
        return self

    def add(self, other: "Moments") -> Self:
        """Add the rows of other moments."""
        self._merge(other.weight, other.mean, other.scatter)
        return self

    def normalise_weight(self) -> Self:
        """Rescale the weights of the rows to a sum of 1."""
        self.scatter /= self.weight
        self.weight = 1.0
        return self

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Population covariance `(d, d)`: scatter divided by weight."""
        return self.scatter / self.weight

    def _merge(self, weight: float, mean: NDArray[np.float64], scatter: NDArray[np.float32] | NDArray[np.float64]) -> None:
        total = self.weight + weight
        if not total:
            return
        delta = mean - self.mean
        self.scatter += scatter
        self._add_outer(self.weight * weight / total, delta)
        self.mean = self.mean + delta * (weight / total)
        self.weight = total

    def _add_outer(self, factor: float, vector: NDArray[np.float64]) -> None:
        if factor:
            for start in range(0, len(vector), BAND_ROWS):
                band = slice(start, start + BAND_ROWS)
                self.scatter[band] += factor * vector[band, None] * vector
