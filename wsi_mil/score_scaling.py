"""Scores on a common footing: from what says nothing, weighed by the slide's probability. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.tasks import task_of_stamp

LEAST_PROB = 1e-12


@dataclass(frozen=True)
class Meaning:
    """What is needed to put a slide's scores on a common footing.

    Attributes:
        unit: as in InstanceScores; "" where there is nothing to show.
        zero: likewise.
        comparable: whether weighed scores of different slides may be compared.
        prob: the slide's probability of the class shown.
        predicted: whether the slide is predicted as that class.
        target: name of the class shown.
        n: instances of the bag, over which shares sum to 1: those of the slide, or of all slides of its patient.
    """

    unit: str
    zero: float
    comparable: bool
    prob: float
    predicted: bool
    target: str
    n: int


def meaning_of(receipt: Mapping[str, Any], method: str) -> Meaning:
    """What a method's values are, by the scores receipt that stands beside them."""
    about, target, n = receipt["methods"][method], receipt.get("target"), receipt["bag_instances"]
    unit, zero, comparable = about["unit"], about["zero"], about["comparable_weighed"]
    if target is None:
        return Meaning(unit, zero, comparable, prob=0.0, predicted=False, target="", n=n)
    prob, predicted, name = task_of_stamp(receipt).explained_in(receipt)
    return Meaning(unit, zero, comparable, prob, predicted, name, n)


def weighed_scores(values: NDArray[np.float32], meaning: Meaning) -> NDArray[np.float32]:
    """Scores from what says nothing, weighed by the slide's probability P of the class.

    Shares (attention, which sums to 1 in a negative slide too) become n·a·P, the multiple of an even share times P;
    their logits the logarithm of that; all others (value - zero)·P where that is above zero. So one threshold may stand
    for many slides. What is below zero stays as it is:
    times a small P it would come near zero, and the coldest tiles of a negative slide would stand above the cold ones of a
    positive slide.

    Args:
        values: `(n,)`, NaN where there is nothing to show.
        meaning: what the values are.
    """
    if meaning.unit == "share":
        weighed = values * (meaning.n * meaning.prob)
    elif meaning.unit == "logit":
        weighed = values - meaning.zero + math.log(max(meaning.prob, LEAST_PROB))
    else:
        above = values - meaning.zero
        weighed = np.where(above > 0, above * meaning.prob, above)
    return np.asarray(weighed, np.float32)
