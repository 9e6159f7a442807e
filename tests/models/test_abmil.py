from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

SMALL = {"embed_dim": 8, "attention_dim": 5}


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_abmil_is_the_papers_formula(make: Callable, bag: Tensor, gated: bool, activation: str) -> None:
    model = make("abmil", gated=gated, activation=activation, **SMALL)
    w = {name: value.detach() for name, value in model.state_dict().items()}
    h = torch.relu(bag[0] @ w["embedding.0.weight"].T + w["embedding.0.bias"])
    hidden = getattr(torch, activation)(h @ w["hidden.0.weight"].T + w["hidden.0.bias"])
    if gated:
        hidden = hidden * torch.sigmoid(h @ w["gate.0.weight"].T + w["gate.0.bias"])
    e = hidden @ w["attention.weight"][0] + w["attention.bias"]
    a = torch.exp(e) / torch.exp(e).sum()
    logits = (a[:, None] * h).sum(0) @ w["classifier.weight"].T + w["classifier.bias"]
    output = model(bag)
    assert_close(output.logits[0], logits)
    assert_close(output.attention_logits[0, :, 0], e)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_bags_logits_are_the_attention_weighted_mean_of_the_evidence(make: Callable, bag: Tensor, n_classes: int) -> None:
    model = make("abmil", n_classes=n_classes, **SMALL)
    attention = model.instance_scores(bag, 1)["attention"].float()
    assert_close((attention[:, None] * model.class_evidence(bag)[0]).sum(0), model(bag).logits[0])


def test_evidence_is_the_log_odds_of_the_bag_that_is_that_instance_alone(make: Callable, bag: Tensor) -> None:
    model = make("abmil", n_classes=3, **SMALL)
    alone = torch.cat([torch.softmax(model(bag[:, i : i + 1]).logits, 1) for i in range(9)])[:, 2].double()
    assert_close(model.instance_scores(bag, 2)["evidence"], torch.log(alone / (1 - alone)), rtol=1e-4, atol=1e-4)
