"""What holds for every aggregator."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from wsi_mil import config
from wsi_mil.config import parse_base
from wsi_mil.models import ClassLoss, create_loss, create_mhim, create_model
from wsi_mil.models.instance_encoders import Standardise, histology_cnn, lenet
from wsi_mil.models.outputs import ClassOutputs, class_logits, margin_of
from wsi_mil.tasks import Classes

MODELS: dict[str, dict[str, object]] = {
    "instance max": {"model": "instance_pool", "pool": "max", "embed_dim": 8},
    "instance mean": {"model": "instance_pool", "pool": "mean", "embed_dim": 8},
    "embedding max": {"model": "embedding_pool", "pool": "max", "embed_dim": 8},
    "embedding mean": {"model": "embedding_pool", "pool": "mean", "embed_dim": 8},
    "abmil": {"model": "abmil", "gated": False, "embed_dim": 8},
    "gated abmil": {"model": "abmil", "embed_dim": 8},
    "transmil": {"model": "transmil", "embed_dim": 16, "heads": 2, "landmarks": 4},
    "dsmil": {"model": "dsmil"},
    "dsmil within mhim": {"model": "dsmil", "embed_dim": 8, "value_layer": True, "average": True},
    "clam-sb": {"model": "clam", "embed_dim": 8, "k": 2},
    "clam-mb": {
        "model": "clam",
        "branches": "multi",
        "embed_dim": 8,
        "k": 2,
        "subtyping": True,
        "instance_loss": "cross_entropy",
    },
}
MODELS |= {
    name: {"model": name}
    for name in config.MODELS
    if name not in {entry["model"] for entry in MODELS.values()} | {"mhim", "clinical"}
}
"""Small variants, and every other model with its defaults; MHIM and `clinical`, which sees no instances, have other tests."""

UNORDERED = [name for name in MODELS if not name.startswith(("transmil", "dtfd"))]
"""DTFD's pseudo-bags are drawn over the order of instances; its own tests have what holds."""

every_model = pytest.mark.parametrize("name", MODELS)
classes = pytest.mark.parametrize("n_classes", [2, 3])


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("settings", "n_parameters"),
    [
        ({"model": "abmil", "gated": True, "embed_dim": 512, "attention_bias": False}, 657_026),
        ({"model": "abmil", "gated": False, "embed_dim": 512, "attention_bias": False}, 591_490),
        ({"model": "transmil"}, 2_672_146),
        ({"model": "clam"}, 788_739 + 2_052),
        ({"model": "clam", "branches": "multi"}, 788_996 + 2_052),
        ({"model": "dtfd"}, 789_254),
    ],
)
def test_parameters_at_published_sizes(settings: dict, n_parameters: int) -> None:
    assert parameters(create_model(parse_base(settings), feature_dim=1024, n_classes=2)) == n_parameters


def test_parameters_of_the_mnist_model() -> None:
    encoder, dim = lenet()
    settings = parse_base({"model": "abmil", "gated": False, "embed_dim": None})
    model = create_model(settings, feature_dim=dim, n_classes=2, instance_encoder=encoder)
    assert parameters(model) == 490_828 + 501, "the paper has one sigmoid; a second class's logit has 501 parameters"


@every_model
@classes
def test_the_record_says_which_scores_the_model_provides(make: Callable, bag: Tensor, name: str, n_classes: int) -> None:
    model = make(**MODELS[name], n_classes=n_classes)
    output, scores = model(bag), model.instance_scores(bag, n_classes - 1)
    assert output.logits.shape == (1, n_classes)
    assert tuple(scores) == model.provides == parse_base(MODELS[name]).provides
    assert all(value.shape == (9,) and value.isfinite().all() for value in scores.values())
    if "attention" in scores:
        assert float(scores["attention"].sum()) == pytest.approx(1)
    if output.instance_logits is not None:
        assert_close(torch.softmax(output.instance_logits[0].double(), 1)[:, n_classes - 1], scores["probability"])


@pytest.mark.parametrize("name", UNORDERED)
@classes
def test_the_order_of_instances_changes_nothing(make: Callable, bag: Tensor, name: str, n_classes: int) -> None:
    model, order = make(**MODELS[name], n_classes=n_classes), torch.randperm(9, generator=torch.Generator().manual_seed(2))
    assert_close(model(bag[:, order]).logits, model(bag).logits)
    for kind, values in model.instance_scores(bag, 1).items():
        assert_close(model.instance_scores(bag[:, order], 1)[kind], values[order])


@every_model
@classes
def test_padding_changes_nothing(make: Callable, bag: Tensor, name: str, n_classes: int) -> None:
    model = make(**MODELS[name], n_classes=n_classes)
    padded = torch.cat([bag, torch.full((1, 4, 6), 50.0)], dim=1)
    longer = torch.rand(1, 13, 6, generator=torch.Generator().manual_seed(3))
    mask = torch.arange(13)[None] < torch.tensor([[9], [13]])
    together = model(torch.cat([padded, longer]), mask).logits
    assert_close(together, torch.cat([model(bag).logits, model(longer).logits]))


@every_model
@classes
def test_one_instance_is_a_bag(make: Callable, bag: Tensor, name: str, n_classes: int) -> None:
    model = make(**MODELS[name], n_classes=n_classes)
    assert model(bag[:, :1]).logits.isfinite().all()
    scores = model.instance_scores(bag[:, :1], 0)
    assert all(v.isfinite().all() for v in scores.values()) and float(scores.get("attention", torch.ones(1))) == 1


@every_model
def test_a_bag_without_instances_is_refused(make: Callable, name: str) -> None:
    with pytest.raises(ValueError, match="a bag without instances"):
        make(**MODELS[name])(torch.zeros(1, 0, 6))


@every_model
def test_the_loss_is_weighted_by_class(make: Callable, bag: Tensor, name: str) -> None:
    model = make(**MODELS[name])
    one, three = (model.training_loss(bag, torch.tensor([1]), ClassLoss(torch.tensor([1.0, w]))) for w in (1.0, 3.0))
    assert_close(three, 3 * one)


@every_model
@classes
def test_every_weight_learns(make: Callable, name: str, n_classes: int) -> None:
    model = make(**MODELS[name], n_classes=n_classes).train()
    bags = torch.rand(6, 9, 6, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(6) % n_classes
    sum(
        model.training_loss(b[None], y[None], ClassLoss(torch.ones(n_classes))) for b, y in zip(bags, labels, strict=True)
    ).backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # softmax takes out what all instances share
    assert {n.removeprefix("first.").removeprefix("second.") for n in still} <= {"attention.bias", "attention.row.bias"}


@every_model
def test_an_image_encoder_is_trained_along(name: str) -> None:
    torch.manual_seed(0)
    encoder, dim = histology_cnn(27)
    model = create_model(parse_base(MODELS[name]), feature_dim=dim, n_classes=2, instance_encoder=encoder)
    images = torch.rand(1, 5, 3, 27, 27)
    model.training_loss(images, torch.tensor([1]), ClassLoss(torch.ones(2))).backward()
    assert all(p.grad is not None for p in encoder.parameters())
    model.eval()
    features = model.instance_encoder(images[0])[None]
    model.instance_encoder = nn.Identity()
    assert model(features).logits.shape == (1, 2)


@pytest.mark.parametrize("base", ["abmil", "gated abmil", "transmil", "dsmil within mhim"])
def test_an_image_encoder_is_trained_along_under_mhim(base: str) -> None:
    from wsi_mil.config import parse_model

    torch.manual_seed(0)
    pair = []
    for _ in range(2):
        encoder, dim = lenet()
        pair.append(create_model(parse_base(MODELS[base]), feature_dim=dim, n_classes=3, instance_encoder=encoder))
    model = create_mhim(parse_model({"model": "mhim", "base": "b"}), base=pair[0], student=pair[1])
    model.training_loss(torch.rand(1, 8, 1, 28, 28), torch.tensor([2]), ClassLoss(torch.ones(3))).backward()
    assert all(p.grad is not None for p in model.student.instance_encoder.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())


def test_intensities_are_standardised_channel_by_channel() -> None:
    layer = Standardise([0.5, 0.2], [0.25, 0.1])
    images = torch.tensor([1.0, 0.4]).view(1, 2, 1, 1).expand(3, 2, 4, 5)
    assert_close(layer(images), torch.full((3, 2, 4, 5), 2.0))
    assert not layer.state_dict() and not list(layer.parameters())


@pytest.mark.parametrize(("side_px", "flattened"), [(27, 1200), (32, 1728)])
def test_the_histology_network_flattens_to_the_published_size(side_px: int, flattened: int) -> None:
    encoder, dim = histology_cnn(side_px)
    assert encoder[7].in_features == flattened and dim == 512
    assert encoder(torch.rand(2, 3, side_px, side_px)).shape == (2, 512)


def test_two_classes_have_one_output_whose_sigmoid_is_the_softmax() -> None:
    assert ClassOutputs(2).n_units == 1 and ClassOutputs(3).n_units == 3
    output = torch.tensor([[0.7]])
    assert_close(torch.softmax(class_logits(output), -1)[:, 1:], torch.sigmoid(output))


def test_the_margin_is_the_log_odds() -> None:
    logits = torch.tensor([0.3, -1.0, 2.0])
    p = torch.softmax(logits, 0)[1]
    assert_close(margin_of(logits, 1), torch.log(p / (1 - p)))


@pytest.mark.parametrize(("make", "size"), [(lenet, (7, 1, 28, 28)), (lambda: histology_cnn(27, dropout=0.0), (7, 3, 27, 27))])
def test_image_encoders_give_what_relu_before_pooling_gives(make: Callable, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    (encoder, _), images = make(), torch.rand(size)
    layers = list(encoder)
    for at in (1, 4):
        layers[at : at + 2] = layers[at + 1], layers[at]
    assert isinstance(layers[1], nn.ReLU) and isinstance(layers[5], nn.MaxPool2d)
    found = []
    for network in (encoder, nn.Sequential(*layers)):
        network.zero_grad()
        values = network(images)
        values.square().sum().backward()
        found.append([values.detach(), *(p.grad.clone() for p in network.parameters())])
    assert all(torch.equal(ours, published) for ours, published in zip(*found, strict=True))


def test_the_loss_of_classes_is_the_weighted_log_loss_summed_over_bags() -> None:
    outputs, label = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    loss = create_loss(Classes(("a", "b")), torch.tensor([3.0, 9.0]))
    by_hand = 3 * (math.log(1 + math.exp(-2)) + math.log(1 + math.e))
    assert float(loss(outputs, label)) == pytest.approx(by_hand)
    assert loss.bag_weights(torch.tensor([1, 0])).tolist() == [9, 3]
