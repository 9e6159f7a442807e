"""Every pool against its definition in four hundred digits, and at both ends."""

from collections.abc import Callable
from decimal import Decimal, getcontext

import pytest
import torch
from torch import Tensor

from wsi_mil.models.soft_pools import Pooled, generalised_mean, isr, log_sum_exp, noisy_and, noisy_or

getcontext().prec = 400
ONE = Decimal(1)
THRESHOLDS = (0.5, 0.125, 0.875)


def sigma(x: Decimal) -> Decimal:
    return ONE / (ONE + (-x).exp())


def product(values: list[Decimal]) -> Decimal:
    out = ONE
    for value in values:
        out *= value
    return out


def mean(values: list[Decimal]) -> Decimal:
    return sum(values) / len(values)


def odds(p: list[Decimal]) -> Decimal:
    return sum(x / (ONE - x) for x in p)


def and_by_definition(p: list[Decimal], b: Decimal, a: Decimal) -> Decimal:
    return (sigma(a * (mean(p) - b)) - sigma(-a * b)) / (sigma(a * (ONE - b)) - sigma(-a * b))


POOLS: dict[str, tuple[Callable[[Tensor], Pooled], Callable[[list[Decimal], Decimal], Decimal]]] = {
    "noisy_or": (noisy_or, lambda p, b: ONE - product([ONE - x for x in p])),
    "isr": (isr, lambda p, b: odds(p) / (ONE + odds(p))),
    "generalised_mean": (
        lambda z: generalised_mean(z, 2.5),
        lambda p, b: mean([x ** Decimal("2.5") for x in p]) ** Decimal("0.4"),
    ),
    "log_sum_exp": (lambda z: log_sum_exp(z, 5.0), lambda p, b: mean([(5 * x).exp() for x in p]).ln() / 5),
    "noisy_and": (lambda z: noisy_and(z, torch.tensor(THRESHOLDS), 10.0), lambda p, b: and_by_definition(p, b, Decimal(10))),
}
every_pool = pytest.mark.parametrize("pool", POOLS)


@every_pool
@pytest.mark.parametrize(("centre", "spread"), [(0, 1), (-8, 2), (8, 2), (-14, 2), (0, 20), (-40, 5), (40, 5)])
def test_both_logarithms_are_those_of_the_definition(pool: str, centre: float, spread: float) -> None:
    ours, definition = POOLS[pool]
    z = centre + spread * torch.randn(11, 3, generator=torch.Generator().manual_seed(1))
    found = ours(z)
    for j, b in enumerate(THRESHOLDS):
        bag = definition([sigma(Decimal(float(x))) for x in z[:, j]], Decimal(b))
        assert float(found.log_p[j]) == pytest.approx(float(bag.ln()), rel=1e-5, abs=1e-6)
        assert float(found.log_q[j]) == pytest.approx(float((ONE - bag).ln()), rel=1e-5, abs=1e-6)


@every_pool
@pytest.mark.parametrize("n", [1, 3, 100_000])
def test_a_bag_that_is_certain_throughout_is_exactly_so(pool: str, n: int) -> None:
    ours, _ = POOLS[pool]
    for z, p in ((200.0, 1.0), (-200.0, 0.0)):
        found = ours(torch.full((n, 3), z))
        assert found.log_p.exp().tolist() == [p] * 3 and found.log_q.exp().tolist() == [1 - p] * 3


@every_pool
@pytest.mark.parametrize("centre", [-200.0, -60.0, -1.0, 1.0, 60.0, 200.0])
@pytest.mark.parametrize("label", [0, 1])
def test_no_certainty_stops_a_large_bag_from_being_unlearnt(pool: str, centre: float, label: int) -> None:
    ours, _ = POOLS[pool]
    z = (centre + torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()
    pooled = ours(z)
    loss = -(pooled.log_p if label else pooled.log_q).sum()
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()
    is_wrong = (centre > 0) != bool(label)
    is_positive = pool in ("noisy_or", "isr") and abs(centre) == 1  # to them so many even tiles are a positive bag
    if is_wrong and not (is_positive and label):
        assert float(z.grad.abs().sum()) > 0.1
        assert bool((z.grad <= 0).all() if label else (z.grad >= 0).all())


@every_pool
def test_the_bag_grows_with_each_instance_and_lies_between_its_bounds(pool: str) -> None:
    ours, _ = POOLS[pool]
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    found = ours(z)
    (gradient,) = torch.autograd.grad(found.log_p.sum(), z)
    assert bool((gradient > 0).all())
    p, low, high = found.log_p.exp(), torch.sigmoid(z).mean(0), torch.sigmoid(z).amax(0)
    if pool in ("generalised_mean", "log_sum_exp"):
        assert bool(((p >= low) & (p <= high)).all())
    if pool in ("noisy_or", "isr"):
        assert bool((p >= high).all())


@pytest.mark.parametrize("pool", ["generalised_mean", "log_sum_exp"])
def test_a_large_exponent_comes_near_the_maximum_and_a_small_one_near_the_mean(pool: str) -> None:
    ours = {"generalised_mean": generalised_mean, "log_sum_exp": log_sum_exp}[pool]
    z = torch.tensor([[-2.0], [0.0], [1.0], [3.0]])
    plain = torch.sigmoid(z)
    assert float(ours(z, 50.0).log_p.exp()) == pytest.approx(float(plain.max()), abs=0.03)
    near_mean = 1.0 if pool == "generalised_mean" else 1e-3
    assert float(ours(z, near_mean).log_p.exp()) == pytest.approx(float(plain.mean()), abs=1e-3)


@pytest.mark.parametrize("threshold", [0.01, 0.5, 0.99])
def test_noisy_and_turns_at_its_threshold(threshold: float) -> None:
    means = torch.linspace(0.001, 0.999, 999)
    z = torch.logit(means)[None]
    p = noisy_and(z, torch.full((999,), threshold), 20.0).log_p.exp()
    assert bool((p.diff() >= 0).all())
    steepest = float(means[1:][p.diff().argmax()])
    assert steepest == pytest.approx(threshold, abs=0.02)
