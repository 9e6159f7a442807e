import pytest
import torch
from torch.testing import assert_close

from wsi_mil.config import parse_model
from wsi_mil.models import MILModel, create_model


def abmil(*, gated: bool = True, n_classes: int = 2) -> MILModel:
    torch.manual_seed(0)
    settings = parse_model({"model": "abmil", "gated": gated, "embed_dim": 8, "attention_dim": 5})
    return create_model(settings, feature_dim=6, n_classes=n_classes).eval()


BAG = torch.rand(1, 9, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("gated", [True, False])
def test_abmil_is_the_papers_formula(gated: bool) -> None:
    model = abmil(gated=gated)
    w = {name: value.detach() for name, value in model.state_dict().items()}
    h = torch.relu(BAG[0] @ w["embedding.0.weight"].T + w["embedding.0.bias"])
    hidden = torch.tanh(h @ w["tanh_branch.0.weight"].T + w["tanh_branch.0.bias"])
    if gated:
        hidden = hidden * torch.sigmoid(h @ w["gate.0.weight"].T + w["gate.0.bias"])
    e = hidden @ w["attention.weight"][0] + w["attention.bias"]
    a = torch.exp(e) / torch.exp(e).sum()
    logits = (a[:, None] * h).sum(0) @ w["classifier.weight"].T + w["classifier.bias"]
    output = model(BAG)
    assert_close(output.logits[0], logits)
    assert_close(output.attention_logits[0], e)


@pytest.mark.parametrize(("gated", "n_parameters"), [(True, 657_026), (False, 591_361)])
def test_the_number_of_parameters_at_the_usual_sizes(gated: bool, n_parameters: int) -> None:
    settings = parse_model({"model": "abmil", "gated": gated, "embed_dim": 512, "attention_dim": 128})
    model = create_model(settings, feature_dim=1024, n_classes=2)
    by_hand = (1024 + 1) * 512 + (512 + 1) * 128 * (2 if gated else 1) + (128 + 1) + (512 + 1) * 2
    assert sum(p.numel() for p in model.parameters()) == by_hand
    assert abs(by_hand - n_parameters) <= 385, "methods without attention biases have 257 or 129 fewer"


def test_the_order_of_instances_changes_nothing() -> None:
    model, order = abmil(), torch.randperm(9, generator=torch.Generator().manual_seed(2))
    assert_close(model(BAG[:, order]).logits, model(BAG).logits)
    assert_close(model(BAG[:, order]).attention_logits, model(BAG).attention_logits[:, order])


def test_padding_changes_nothing() -> None:
    model = abmil()
    padded = torch.cat([BAG, torch.full((1, 4, 6), 50.0)], dim=1)
    mask = torch.arange(13)[None] < 9
    assert_close(model(padded, mask).logits, model(BAG).logits)


def test_one_instance_is_a_bag() -> None:
    model = abmil()
    assert_close(model(BAG[:, :1]).logits, model.class_evidence(BAG[:, :1])[:, 0])


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_bags_logits_are_the_attention_weighted_mean_of_the_evidence(n_classes: int) -> None:
    model = abmil(n_classes=n_classes)
    output = model(BAG)
    attention = torch.softmax(output.attention_logits, dim=1)
    assert_close((attention[..., None] * model.class_evidence(BAG)).sum(1), output.logits)


def test_the_loss_weighs_the_class() -> None:
    model = abmil()
    one, three = (model.training_loss(BAG, torch.tensor([1]), torch.tensor([1.0, w])) for w in (1.0, 3.0))
    assert_close(three, 3 * one)
    assert_close(one, -torch.log_softmax(model(BAG).logits, dim=1)[0, 1])
