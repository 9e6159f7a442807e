import itertools

import numpy as np
import pytest
import torch

from wsi_mil.tasks import partial_likelihood

TIME = np.array([5.0, 2.0, 2.0, 7.0, 2.0, 3.0, 5.0, 1.0])
EVENT = np.array([True, True, True, False, False, True, True, False])
RISK = np.array([0.3, -1.2, 0.8, 0.1, 2.0, -0.4, 0.6, 1.1])


def efron(risk: torch.Tensor, time: np.ndarray, event: np.ndarray) -> torch.Tensor:
    """The negative log partial likelihood per event, term by term, as Efron (1977) writes it."""
    total = torch.zeros((), dtype=torch.float64)
    for t in sorted(set(time[event])):
        died = [i for i in range(len(time)) if event[i] and time[i] == t]
        at_risk = sum(torch.exp(risk[i]) for i in range(len(time)) if time[i] >= t)
        for number, i in enumerate(died):
            tied = sum(torch.exp(risk[j]) for j in died)
            total = total - risk[i] + torch.log(at_risk - number / len(died) * tied)
    return total / int(event.sum())


def test_the_loss_is_efrons_and_the_slopes_are_those_of_autograd() -> None:
    risk = torch.tensor(RISK, requires_grad=True)
    expected = efron(risk, TIME, EVENT)
    expected.backward()
    loss, slopes = partial_likelihood(RISK, TIME, EVENT)
    assert loss == pytest.approx(float(expected.detach()), abs=1e-12)
    assert np.abs(slopes - risk.grad.numpy()).max() < 1e-12 and slopes.sum() == pytest.approx(0, abs=1e-12)


def test_two_tied_events_of_equal_risk_among_three_patients_give_log_3_and_log_2() -> None:
    loss, _ = partial_likelihood(np.zeros(3), np.array([4.0, 4.0, 9.0]), np.array([True, True, False]))
    assert loss == pytest.approx((np.log(3) + np.log(2)) / 2)


def test_the_order_of_patients_and_a_common_addend_change_nothing() -> None:
    loss, slopes = partial_likelihood(RISK, TIME, EVENT)
    for order in itertools.islice(itertools.permutations(range(8)), 0, 40_320, 7919):
        rows = list(order)
        other, own = partial_likelihood(RISK[rows] + 50, TIME[rows], EVENT[rows])
        assert other == pytest.approx(loss) and np.allclose(own, slopes[rows])


def test_risks_that_overflow_exponentials_have_a_finite_loss_and_slopes() -> None:
    loss, slopes = partial_likelihood(RISK * 2000, TIME, EVENT)
    assert np.isfinite(loss) and loss > 1000 and np.isfinite(slopes).all() and np.abs(slopes).max() <= 1


def test_without_events_there_is_nothing_to_learn() -> None:
    loss, slopes = partial_likelihood(RISK, TIME, np.zeros(8, bool))
    assert loss == 0 and not slopes.any()
