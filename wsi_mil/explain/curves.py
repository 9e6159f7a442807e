"""Deletion and insertion curves: the prediction as instances are removed, or added, by score. No annotation is needed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Value = Callable[[NDArray[np.int64]], float]
"""What is predicted of the bag of these instances alone, given in ascending order: probability, value or log risk."""

RANDOM_ORDERS = 3


@dataclass(frozen=True)
class Curves:
    """The predicted value along one order of the instances.

    Attributes:
        deletion: `(points + 1,)`, after the first shares of the order were taken out; one instance always stays.
        insertion: `(points + 1,)`, of the first shares alone; one instance is always there.
    """

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    @property
    def areas(self) -> tuple[float, float]:
        """Areas under both, over shares from 0 to 1: the mean value. A good order has a small first and a large second one."""
        x = shares(len(self.deletion) - 1)
        return float(np.trapezoid(self.deletion, x)), float(np.trapezoid(self.insertion, x))


def shares(points: int) -> NDArray[np.float64]:
    """(i / points)² for i = 0 … points: closer together at the start, since evidence often lies in a few percent."""
    return np.square(np.linspace(0, 1, points + 1))


def curves_of(order: NDArray[np.int64], value: Value, *, points: int) -> Curves:
    """Compute both curves of one order.

    Source:
        Petsiuk, Das, Saenko: RISE, BMVC 2018, https://arxiv.org/abs/1806.07421, with instances instead of pixels: they
        are left out, so no replacement value is needed.

    Args:
        order: `(n,)` instances, the most important first.
        value: prediction of the model.
        points: how many parts the curves have.
    """
    n = len(order)
    counts = np.rint(shares(points) * n).astype(np.int64)
    deletion = [value(np.sort(order[min(k, n - 1) :])) for k in counts]
    insertion = [value(np.sort(order[: max(k, 1)])) for k in counts]
    return Curves(np.array(deletion), np.array(insertion))


def random_curves(n: int, value: Value, *, points: int, seed: int = 0) -> Curves:
    """Mean over a few random orders of `n` instances: the baseline that any order is compared with."""
    rng = np.random.default_rng(seed)
    curves = [curves_of(rng.permutation(n), value, points=points) for _ in range(RANDOM_ORDERS)]
    return Curves(np.mean([c.deletion for c in curves], axis=0), np.mean([c.insertion for c in curves], axis=0))


def curve_log(curves: Curves, random: Curves) -> dict[str, object]:
    """Curves and areas beside those of random orders, for a receipt."""
    content: dict[str, object] = {"shares": _rounded(shares(len(curves.deletion) - 1))}
    for prefix, each in (("", curves), ("random_", random)):
        deletion, insertion = each.areas
        content |= {f"{prefix}deletion": _rounded(each.deletion), f"{prefix}insertion": _rounded(each.insertion)}
        content |= {f"{prefix}deletion_area": round(deletion, 6), f"{prefix}insertion_area": round(insertion, 6)}
    return content


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(v), 6) for v in values]
