"""Deletion and insertion curves: the prediction as instances are removed, or added, by score. No annotation is needed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Predicted(NamedTuple):
    """What is predicted of a part of a bag: probability, value or log risk, and whether it is still predicted as the output."""

    value: float
    holds: bool = True


Model = Callable[[NDArray[np.int64]], Predicted]
"""What is predicted of the bag of these instances alone, given in ascending order."""

RANDOM_ORDERS = 5
TURN_PRECISION = 0.1
"""The number of instances whose removal turns the prediction is found to within this share of it."""


@dataclass(frozen=True)
class Curves:
    """The predicted value along one order of the instances.

    The insertion curve is also that of deletion with the *least* important instances first, read from its end: what is left
    after those are removed are the first shares of the order.

    Attributes:
        deletion: `(points + 1,)`, after the first shares of the order were taken out; one instance always stays.
        insertion: `(points + 1,)`, of the first shares alone; one instance is always there.
        turn: share of instances whose removal, in this order, turns the prediction; None if it holds to the last one.
    """

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    turn: float | None = None

    @property
    def areas(self) -> tuple[float, float]:
        """Areas under both, over shares from 0 to 1: the mean value. A good order has a small first and a large second one."""
        x = shares(len(self.deletion) - 1)
        return float(np.trapezoid(self.deletion, x)), float(np.trapezoid(self.insertion, x))

    @property
    def symmetric_gain(self) -> float:
        """Area of deletion with the least important instances first, less that with the most important ones first.

        Source:
            Blücher, Vielhaben, Strodthoff: Decoupling pixel flipping and occlusion strategy for consistent XAI benchmarks,
            TMLR 2024, https://arxiv.org/abs/2401.06654: the symmetric relevance gain.
        """
        deletion, insertion = self.areas
        return insertion - deletion


@dataclass(frozen=True)
class RandomCurves(Curves):
    """The mean over a few random orders.

    Attributes:
        largest_gain: the largest symmetric gain of one of them, or of one read backwards, which has the same with the other sign.
    """

    largest_gain: float = 0.0


def shares(points: int) -> NDArray[np.float64]:
    """(i / points)² for i = 0 … points: closer together at the start, since evidence often lies in a few percent."""
    return np.square(np.linspace(0, 1, points + 1))


def descending(values: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.int64]:
    """Return the order of instances from the highest score to the lowest, ties in random order: that of the bag is spatial."""
    return np.lexsort((np.random.default_rng(seed).permutation(len(values)), -values))


def curves_of(order: NDArray[np.int64], model: Model, *, points: int) -> Curves:
    """Compute both curves of one order, and where the prediction turns.

    Source:
        Petsiuk, Das, Saenko: RISE, BMVC 2018, https://arxiv.org/abs/1806.07421, with instances instead of pixels: they
        are left out, so no replacement value is needed.

    Args:
        order: `(n,)` instances, the most important first.
        model: prediction of the model.
        points: how many parts the curves have.
    """
    n = len(order)
    counts = np.minimum(np.rint(shares(points) * n).astype(np.int64), n - 1)
    deletion = [_without(order, k, model) for k in counts.tolist()]
    insertion = [model(np.sort(order[: max(k, 1)])).value for k in np.rint(shares(points) * n).astype(np.int64)]
    turned = [i for i, predicted in enumerate(deletion) if i and not predicted.holds]
    turn = _turning_count(order, model, int(counts[turned[0] - 1]), int(counts[turned[0]])) / n if turned else None
    return Curves(np.array([predicted.value for predicted in deletion]), np.array(insertion), turn)


def random_curves(n: int, model: Model, *, points: int, seed: int = 0) -> RandomCurves:
    """Mean over a few random orders of `n` instances, and the median of where they turn: what any order is compared with."""
    rng = np.random.default_rng(seed)
    curves = [curves_of(rng.permutation(n), model, points=points) for _ in range(RANDOM_ORDERS)]
    turn = float(np.median([np.inf if c.turn is None else c.turn for c in curves]))
    deletion, insertion = (np.mean([getattr(c, name) for c in curves], axis=0) for name in ("deletion", "insertion"))
    largest = max(abs(c.symmetric_gain) for c in curves)
    return RandomCurves(deletion, insertion, turn if np.isfinite(turn) else None, largest)


def curve_log(curves: Curves, random: RandomCurves) -> dict[str, object]:
    """Curves and areas beside those of random orders, for a receipt."""
    content: dict[str, object] = {"shares": _rounded(shares(len(curves.deletion) - 1))}
    for prefix, each in (("", curves), ("random_", random)):
        deletion, insertion = each.areas
        content |= {f"{prefix}deletion": _rounded(each.deletion), f"{prefix}insertion": _rounded(each.insertion)}
        content |= {f"{prefix}deletion_area": round(deletion, 6), f"{prefix}insertion_area": round(insertion, 6)}
        content |= {f"{prefix}symmetric_gain": round(each.symmetric_gain, 6)}
        content |= {f"{prefix}turn": None if each.turn is None else round(each.turn, 6)}
    return content | {"random_symmetric_gain_max": round(random.largest_gain, 6)}


def _without(order: NDArray[np.int64], removed: int, model: Model) -> Predicted:
    return model(np.sort(order[removed:]))


def _turning_count(order: NDArray[np.int64], model: Model, holds: int, turned: int) -> int:
    """How many instances of the order must go until the prediction turns, by bisection between two counts."""
    while turned - holds > max(1, int(TURN_PRECISION * turned)):
        middle = (holds + turned) // 2
        if _without(order, middle, model).holds:
            holds = middle
        else:
            turned = middle
    return turned


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(v), 6) for v in values]
