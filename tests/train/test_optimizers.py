import pytest
import torch
from torch import nn

from wsi_mil.config import Training
from wsi_mil.train.optimizers import RAdamLookahead, create_optimizer, learning_rate


def descend(optimizer: torch.optim.Optimizer, weight: nn.Parameter, steps: int) -> list[float]:
    """The weight after each step down a slope of one."""
    weights = []
    for _ in range(steps):
        optimizer.zero_grad()
        weight.sum().backward()
        optimizer.step()
        weights.append(float(weight.detach()))
    return weights


def test_lookahead_goes_half_the_way_back_every_sixth_step_from_the_second_time_on() -> None:
    plain, ahead = (nn.Parameter(torch.tensor([1.0])) for _ in range(2))
    fast = descend(torch.optim.RAdam([plain], lr=0.1), plain, 12)
    weights = descend(RAdamLookahead([ahead], lr=0.1), ahead, 13)
    assert weights[:11] == pytest.approx(fast[:11]) and weights[11] == pytest.approx((fast[5] + fast[11]) / 2)
    assert weights[12] < weights[11]


def test_lookahead_decays_the_weights_themselves() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = RAdamLookahead([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert float(weight.detach()) == pytest.approx(2 * (1 - 0.1 * 0.5))


def test_lookahead_resumes_from_its_state() -> None:
    whole, cut = (nn.Parameter(torch.tensor([1.0])) for _ in range(2))
    expected = descend(RAdamLookahead([whole], lr=0.1), whole, 15)
    first = RAdamLookahead([cut], lr=0.1)
    descend(first, cut, 8)
    second = RAdamLookahead([cut], lr=0.1)
    second.load_state_dict(first.state_dict())
    assert descend(second, cut, 7) == expected[8:]


def test_vectors_can_be_excluded_from_weight_decay() -> None:
    model = nn.Linear(3, 2)
    settings = Training(optimizer="adamw", lr=0.1, weight_decay=0.5, decay_vectors=False)
    optimizer = create_optimizer(model, settings)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(model.weight, (1 - 0.1 * 0.5) * before[0])
    torch.testing.assert_close(model.bias, before[1])


def test_frozen_parameters_are_not_given_to_the_optimiser() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).requires_grad_(False)
    model[1].requires_grad_(True)
    groups = create_optimizer(model, Training()).param_groups
    assert [p.shape for group in groups for p in group["params"]] == [model[1].weight.shape, model[1].bias.shape]


def test_betas_reach_the_optimiser() -> None:
    assert create_optimizer(nn.Linear(1, 1), Training(optimizer="adam", betas=(0.5, 0.9))).param_groups[0]["betas"] == (0.5, 0.9)


def test_cosine_falls_from_lr_to_its_end() -> None:
    settings = Training(schedule="cosine", lr=0.2, final_lr=0.1, epochs=4)
    assert [learning_rate(settings, epoch) for epoch in (0, 2, 4)] == pytest.approx([0.2, 0.15, 0.1])
    assert learning_rate(Training(lr=0.2, schedule="constant"), 50) == 0.2
