"""One update on a loss of all training bags at once, with one bag in memory: for Cox's partial likelihood."""

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.errors import DivergedError
from wsi_mil.models import RiskLoss
from wsi_mil.tasks import Truth, mean_by_patient, partial_likelihood

BagStep = Callable[[int, LabelledBag, np.random.Generator], Tensor]
"""Training loss of a bag: its number, the bag, and the generator that samples its instances."""


def accumulate_cohort_gradient(bags: BagSet, loss: RiskLoss, step: BagStep, rng: np.random.Generator, *, epoch: int) -> float:
    """Add to the weights' gradients that of the partial likelihood over all patients, and return its value.

    Two passes: in the first, each bag gets its log risk, without gradient. The loss and its derivative at each risk follow from
    all of them. In the second, each bag's risk is computed again and multiplied with its derivative: by the chain rule, the sum
    of these gradients is that of the loss. Dropout and samples of instances are the same in both passes, since the generators
    are seeded anew for each bag.

    Args:
        bags: training bags; a patient's risk is the mean of its bags'.
        loss: the loss that `step` hands to the model.
        step: training loss of a bag. What a model adds of its own counts as the mean over bags.
        rng: draws a seed for each bag.
        epoch: number of the epoch for messages, from 1.

    Raises:
        DivergedError: a risk is not finite.
    """
    seeds = rng.integers(2**63, size=len(bags))
    risks = []
    with torch.no_grad():
        for number, item, sampling in _seeded(bags, seeds):
            loss.start()
            step(number, item, sampling)
            _require_finite(loss.risks, item, epoch)
            risks.append(loss.risks)
    value, slopes = cohort_slopes(np.array(risks), bags.truth)
    for number, item, sampling in _seeded(bags, seeds):
        loss.start(tuple(slopes[number] * len(bags)))
        bag_loss = step(number, item, sampling)
        _require_finite([float(bag_loss.detach())], item, epoch)
        (bag_loss / len(bags)).backward()  # type: ignore[no-untyped-call]
    return value


def cohort_slopes(risks: NDArray[np.float64], truth: Truth) -> tuple[float, NDArray[np.float64]]:
    """Return the partial likelihood, and its derivatives at the risks of bags.

    Args:
        risks: `(n_bags, n_heads)` log risks: a model may have the loss of more than one of its outputs.
        truth: times, events and patients of the bags.

    Returns:
        The mean over heads, and for each head its own derivatives `(n_bags, n_heads)`.
    """
    of_patient = mean_by_patient(truth.labels, truth.patients)
    time, event = of_patient[:, 0], of_patient[:, 1] == 1
    _, patient_of, counts = np.unique(np.asarray(truth.patients), return_inverse=True, return_counts=True)
    each = [partial_likelihood(mean_by_patient(head, truth.patients), time, event) for head in risks.T]
    slopes = np.stack([(slope / counts)[patient_of] for _, slope in each], axis=1)
    return float(np.mean([value for value, _ in each])), slopes


def _seeded(bags: BagSet, seeds: NDArray[np.int64]) -> Iterator[tuple[int, LabelledBag, np.random.Generator]]:
    """Bags in order, with the generators of torch and of NumPy as they are for this bag in this epoch."""
    with closing(bags.read(range(len(bags)))) as items:
        for number, item in enumerate(items):
            torch.manual_seed(int(seeds[number]))
            yield number, item, np.random.default_rng(seeds[number])


def _require_finite(values: list[float], item: LabelledBag, epoch: int) -> None:
    if not np.isfinite(values).all():
        finite = bool(np.isfinite(item.bag.features).all())
        raise DivergedError(epoch=epoch, bag=item.bag.slide_id, features_are_finite=finite)
