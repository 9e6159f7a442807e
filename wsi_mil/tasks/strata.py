"""Strata of folds for numbers."""

import numpy as np
from numpy.typing import NDArray


def quantile_strata(values: NDArray[np.float64], least: int, most: int) -> NDArray[np.int64]:
    """Return which of at most `most` parts of equal size each value is in, from the lowest on; a part has `least` or more."""
    n_parts = int(np.clip(len(values) // max(least, 1), 1, most))
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return np.asarray(ranks * n_parts // max(len(values), 1), np.int64)
