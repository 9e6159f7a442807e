import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import wsi_mil.explain.jacobian_map
from wsi_mil.config import parse_base
from wsi_mil.explain.jacobian_map import jacobian_map, jacobian_parts
from wsi_mil.models import InstanceClassifier, create_model

ENTRIES = {
    "noisy_and": {"model": "kraus_pool"},
    "noisy_or": {"model": "kraus_pool", "pool": "noisy_or", "joint": False},
    "max": {"model": "instance_pool"},
    "mean": {"model": "instance_pool", "pool": "mean"},
}
every_entry = pytest.mark.parametrize("entry", ENTRIES)


def made(entry: str, *, n_classes: int = 2, embed_dim: int | None = 9) -> InstanceClassifier:
    torch.manual_seed(3)
    model = create_model(parse_base({**ENTRIES[entry], "embed_dim": embed_dim}), feature_dim=12, n_classes=n_classes)
    assert isinstance(model, InstanceClassifier)
    return model.eval().requires_grad_(False)


def probs(model: InstanceClassifier, bag: Tensor, output: int) -> tuple[float, np.ndarray]:
    """P and p_n."""
    return float(model.bag_probability(model.embed(bag), output)), model.instance_scores(bag, output)["probability"].numpy()


@every_entry
@pytest.mark.parametrize(("n_classes", "output"), [(2, 0), (2, 1), (3, 2)])
def test_the_map_is_the_signal_that_stays_positive_through_every_layer(
    toy_bag: Tensor, entry: str, n_classes: int, output: int
) -> None:
    model = made(entry, n_classes=n_classes)
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    row = w["classifier.weight"][output] if n_classes > 2 else w["classifier.weight"][0] * (1 if output else -1)
    is_used = toy_bag[0].double().numpy() @ w["embedding.0.weight"].T + w["embedding.0.bias"] > 0
    signal = np.maximum((is_used * np.maximum(row, 0)) @ w["embedding.0.weight"], 0)  # (n_instances, feature_dim)
    bag_prob, p = probs(model, toy_bag, output)
    found = np.concatenate([part.numpy() for _, part in jacobian_parts(model, toy_bag, output)])
    assert np.allclose(found, bag_prob * p[:, None] * signal, atol=1e-6) and found.max() > 0
    sums = signal.sum(1)
    assert np.allclose(jacobian_map(model, toy_bag, output).scores, bag_prob * p * sums / sums.mean(), atol=1e-6)


@every_entry
def test_of_a_single_layer_the_map_is_the_probability(toy_bag: Tensor, entry: str) -> None:
    model = made(entry, embed_dim=None)
    bag_prob, p = probs(model, toy_bag, 1)
    assert np.allclose(jacobian_map(model, toy_bag, 1).scores, bag_prob * p, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 5, 36])
def test_chunks_change_nothing(toy_bag: Tensor, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    model = made("noisy_and")
    whole = jacobian_map(model, toy_bag, 1).scores
    monkeypatch.setattr(wsi_mil.explain.jacobian_map, "CHUNK", chunk)
    assert np.allclose(jacobian_map(model, toy_bag, 1).scores, whole, rtol=1e-5)
    rows = [rows for rows, _ in jacobian_parts(model, toy_bag, 1)]
    assert len(rows) == -(-37 // chunk) and rows[-1].start == 37 - (37 % chunk or chunk)


def test_a_class_without_a_positive_path_has_no_map(toy_bag: Tensor) -> None:
    model = made("noisy_and")
    model.classifier.weight.fill_(-1.0)
    assert jacobian_map(model, toy_bag, 1).scores.tolist() == [0.0] * 37
    assert jacobian_map(model, toy_bag, 0).scores.max() > 0


def test_of_images_the_map_has_the_shape_of_their_pixels() -> None:
    torch.manual_seed(4)
    encoder = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3 * 3 * 2, 5), nn.ReLU())
    settings = parse_base({"model": "kraus_pool", "embed_dim": None})
    model = create_model(settings, feature_dim=5, n_classes=2, instance_encoder=encoder).eval().requires_grad_(False)
    images = torch.rand(1, 4, 2, 9, 6)
    hidden = encoder[0](images[0])
    pooled, places = functional.max_pool2d(torch.relu(hidden), 2, return_indices=True)
    signal = torch.relu(model.classifier.weight).expand(4, -1) * (encoder[4](pooled.flatten(1)) > 0)
    signal = torch.relu(signal @ encoder[4].weight).reshape(pooled.shape)
    signal = functional.max_unpool2d(signal, places, 2, output_size=hidden.shape[2:]) * (hidden > 0)
    signal = torch.relu(functional.conv_transpose2d(signal, encoder[0].weight))
    bag_prob, p = probs(model, images, 1)
    ((rows, found),) = jacobian_parts(model, images, 1)
    assert found.shape == (4, 2, 9, 6) and rows == slice(0, 512) and bool((found.flatten(1).amax(1) > 0).all())
    assert torch.allclose(found, bag_prob * torch.from_numpy(p).float()[:, None, None, None] * signal, atol=1e-6)
    sums = found.sum(dim=(1, 2, 3)).double().numpy()
    scores = jacobian_map(model, images, 1).scores
    assert np.allclose(scores / scores.sum(), sums / sums.sum(), atol=1e-6)


def test_models_that_pool_otherwise_have_no_map(toy_bag: Tensor) -> None:
    model = create_model(parse_base({"model": "abmil"}), feature_dim=12, n_classes=2).eval()
    with pytest.raises(TypeError, match="a pool of instances' probabilities, got ABMIL"):
        jacobian_map(model, toy_bag, 1)
