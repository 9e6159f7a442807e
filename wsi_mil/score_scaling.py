"""Rescale instance scores for comparison across slides: subtract the neutral value, multiply by the predicted probability.

Of a number or a risk there is no probability: scores are the difference from the neutral value.

No I/O.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.tasks import task_of_stamp

LEAST_PROB = 1e-12


@dataclass(frozen=True)
class ScoreContext:
    """What is needed to rescale the scores of a slide.

    Attributes:
        unit: unit as in InstanceScores; "" if there is nothing to show.
        zero: neutral value, as in InstanceScores.
        comparable: whether rescaled scores can be compared across slides.
        prob: predicted probability of the class or label shown; None if what is shown has none.
        predicted: whether the slide is predicted as that class or label.
        output: name of what is shown: a class, a label, a number or the risk.
        n: number of instances of the bag, over which attention sums to 1: those of the slide, or of all slides of its patient.
        quantity: what is explained, in words; "": the log odds of `output`.
    """

    unit: str
    zero: float
    comparable: bool
    prob: float | None
    predicted: bool
    output: str
    n: int
    quantity: str = ""

    @property
    def explained(self) -> str:
        """What is explained, as part of a sentence."""
        return self.quantity or f"the log odds of {self.output}"


def score_context(receipt: Mapping[str, Any], method: str) -> ScoreContext:
    """Return the context of a method's scores from the receipt of `explain`."""
    metadata = receipt["methods"][method]
    output = metadata["output"]
    n = receipt["bag_instances"]
    unit, zero, comparable = metadata["unit"], metadata["zero"], metadata["comparable_weighed"]
    if output is None:
        return ScoreContext(unit, zero, comparable, prob=0.0, predicted=False, output="", n=n)
    task = task_of_stamp(receipt)
    prob, predicted = task.explained_in(receipt, output)
    return ScoreContext(unit, zero, comparable, prob, predicted, task.output_name(output), n, task.quantity(output))


def probability_weighted(values: NDArray[np.float32], context: ScoreContext) -> NDArray[np.float32]:
    """Return scores relative to their neutral value, times the slide's predicted probability P of the class, if it has one.

    Attention weights a (which sum to 1 in a negative slide too) become n·a·P, the multiple of an even share times P;
    attention logits become the logarithm of that; all other scores become (value - zero)·P if above zero, and parts of a sum
    over the bag are multiplied by n as well. One threshold is
    then meaningful across slides. Scores below zero are not multiplied: a small P would bring them close to zero, so that
    the coldest tiles of a negative slide would rank above cold tiles of a positive one.

    Args:
        values: `(n,)`, NaN where there is nothing to show.
        context: what the values are.

    Returns:
        float32 `(n,)`.
    """
    prob = 1.0 if context.prob is None else context.prob
    if context.unit == "share":
        weighted = values * (context.n * prob)
    elif context.unit == "logit":
        weighted = values - context.zero + math.log(max(prob, LEAST_PROB))
    else:
        difference = (values - context.zero) * (context.n if context.unit == "part" else 1)
        weighted = np.where(difference > 0, difference * prob, difference)
    return np.asarray(weighted, np.float32)
