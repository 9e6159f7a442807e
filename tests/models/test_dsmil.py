import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from wsi_mil.config import parse_base
from wsi_mil.models import ClassLoss, create_model
from wsi_mil.models.instance_encoders import lenet


def by_hand(model: torch.nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bag outputs, instance outputs and attention, class by class."""
    w = model.state_dict()
    c = x @ w["instance_classifier.weight"].T + w["instance_classifier.bias"]
    q = torch.relu(x @ w["query.0.weight"].T + w["query.0.bias"]) @ w["query.2.weight"].T + w["query.2.bias"]
    q = torch.tanh(q)
    rows, attention = [], []
    for k in range(c.shape[1]):
        critical = int(torch.argmax(c[:, k]))
        a = torch.softmax(torch.stack([q[n] @ q[critical] for n in range(len(x))]) / math.sqrt(q.shape[1]), 0)
        attention.append(a)
        rows.append((a[:, None] * x).sum(0))
    b = torch.stack(rows)
    out = [(w["classifier.weight"][k] * b).sum() + w["classifier.bias"][k] for k in range(c.shape[1])]
    return torch.stack(out), c, torch.stack(attention, dim=1)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_dsmil_is_the_papers_formula(make: Callable, bag: Tensor, n_classes: int) -> None:
    model = make("dsmil", query_dim=4, n_classes=n_classes, recipe="published")
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    out, c, attention = by_hand(model, bag[0])
    logits = torch.cat([torch.zeros(1), out]) if n_classes == 2 else out
    assert_close(model(bag).logits[0], logits)
    assert_close(model.instance_scores(bag, n_classes - 1)["attention"].float(), attention[:, -1])
    if n_classes == 2:
        bag_loss, critical = (functional.binary_cross_entropy_with_logits(s, torch.ones(1)) for s in (out, c.max(0).values))
    else:
        bag_loss, critical = (functional.cross_entropy(s[None], torch.tensor([1])) for s in (out, c.max(0).values))
    assert_close(model.training_loss(bag, torch.tensor([1]), ClassLoss(torch.ones(n_classes))), 0.5 * bag_loss + 0.5 * critical)


def test_the_critical_instance_is_never_padding(make: Callable, bag: Tensor) -> None:
    model = make("dsmil", query_dim=4, recipe="published")
    padded = torch.cat([bag, 1e4 * model.instance_classifier.weight.detach()[None]], dim=1)
    mask = torch.arange(10)[None] < 9
    assert_close(model(padded, mask).logits, model(bag).logits)


def test_the_average_is_that_of_probabilities(make: Callable, bag: Tensor) -> None:
    plain, average = make("dsmil", average=False), make("dsmil", average=True)
    probability = torch.sigmoid(plain.instance_classifier(plain.embed(bag)).max())
    expected = (torch.softmax(plain(bag).logits, 1)[0, 1] + probability) / 2
    assert_close(torch.softmax(average(bag).logits, 1)[0, 1], expected)


def test_the_instance_encoder_keeps_its_weights() -> None:
    encoder, dim = lenet()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    create_model(parse_base({"model": "dsmil", "recipe": "published"}), feature_dim=dim, n_classes=2, instance_encoder=encoder)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_evidence_is_the_bag_streams_and_the_streams_may_contradict(make: Callable, bag: Tensor) -> None:
    model = make("dsmil", embed_dim=None, value_layer=False)
    with torch.no_grad():
        model.classifier.weight.copy_(-model.instance_classifier.weight[:, None])
    of_instances, of_bag = model.streams(bag, 1)
    assert_close(of_bag, -of_instances)
    assert_close(model.instance_scores(bag, 1)["evidence"], of_bag.double())
    assert_close(model.instance_scores(bag, 1)["probability"], torch.sigmoid(of_instances).double())
    assert make("abmil").streams(bag, 1) is None
