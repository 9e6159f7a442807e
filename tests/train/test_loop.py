from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.train.cohort import SETTINGS, UNREGULARISED, create_network, fit_bags
from wsi_mil.config import Training, parse_base
from wsi_mil.metrics import auroc
from wsi_mil.models import ClassLoss
from wsi_mil.tasks import Classes
from wsi_mil.train import predict_outputs
from wsi_mil.train.loop import sample_instances


def test_fit_memorises_four_bags(random_bags: Callable) -> None:
    bags, network = random_bags(4), create_network()
    fit_bags(bags, bags, Training(epochs=100, patience=100, lr=0.01, **UNREGULARISED), network)
    assert predict_outputs(network, bags, Classes.numbered(2))[[0, 1, 2, 3], [0, 1, 0, 1]].min() > 0.9


def test_fit_generalises_to_new_bags(random_bags: Callable) -> None:
    network = create_network()
    fit_bags(random_bags(24), random_bags(8, seed=1), SETTINGS.train, network)
    fresh = random_bags(20, seed=2)
    assert auroc(np.array([b.label for b in fresh]), predict_outputs(network, fresh, Classes.numbered(2))) > 0.95


def test_prediction_changes_neither_weights_nor_mode(random_bags: Callable) -> None:
    network = create_network().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    first, second = (predict_outputs(network, random_bags(3), Classes.numbered(2)) for _ in range(2))
    assert network.training and np.array_equal(first, second)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_accumulated_gradients_make_one_update_of_their_mean(random_bags: Callable) -> None:
    bags = random_bags(4)
    settings = parse_base({"model": "abmil", "embed_dim": 16, "dropout": 0.0, "attention_bias": False})
    by_two = create_network(settings)
    training = Training(epochs=1, accumulate=3, lr=0.01, weight_decay=0, class_weights=False, **UNREGULARISED)
    fit_bags(bags, bags, training, by_two)
    expected = create_network(settings)
    optimizer = torch.optim.AdamW(expected.parameters(), lr=0.01, weight_decay=0)
    order = np.random.default_rng(0).permutation(4)
    for group in (order[:3], order[3:]):
        losses = [
            expected.training_loss(
                torch.from_numpy(bags[i].bag.features).float()[None], torch.tensor([bags[i].label]), ClassLoss(torch.ones(2))
            )
            for i in group
        ]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    for a, b in zip(by_two.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_progress_reaches_one_with_the_last_update(random_bags: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    bags, network, seen = random_bags(5), create_network(), []
    monkeypatch.setattr(network, "after_update", seen.append)
    fit_bags(bags, bags, Training(epochs=2, accumulate=2, **UNREGULARISED), network)
    assert seen == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])


@pytest.mark.parametrize("n", [1, 3, 40])
def test_a_step_uses_at_most_max_instances_and_at_least_one(n: int) -> None:
    rng = np.random.default_rng(0)
    assert sample_instances(n, Training(instance_dropout=0), rng) is None
    for settings, most in (
        (Training(max_instances=10, instance_dropout=0), 10),
        (Training(instance_dropout=0.5), n - round(n / 2)),
    ):
        sampled = sample_instances(n, settings, rng)
        kept = np.arange(n) if sampled is None else sampled.numpy()
        assert len(kept) == max(1, min(n, most)) and np.array_equal(kept, np.unique(kept)) and kept.max() < n
    assert (
        len(
            set(sample_instances(40, Training(max_instances=10, instance_dropout=0), rng).tolist())
            | set(sample_instances(40, Training(max_instances=10, instance_dropout=0), rng).tolist())
        )
        > 10
    )


def test_validation_uses_all_instances(random_bags: Callable) -> None:
    bags = random_bags(6)
    settings = Training(epochs=1, max_instances=2, **UNREGULARISED)
    network = create_network()
    history, _ = fit_bags(bags, bags, settings, network)
    probs = predict_outputs(network, bags, Classes.numbered(2))
    assert np.mean([-np.log(p[b.label]) for p, b in zip(probs, bags, strict=True)]) == pytest.approx(
        history[0].val_loss, rel=1e-5
    )


def test_autocast_trains_in_bfloat16_and_keeps_float32_weights(random_bags: Callable) -> None:
    bags, exact, rough = random_bags(6), create_network(), create_network()
    fit_bags(bags, bags, Training(epochs=2, **UNREGULARISED), exact)
    fit_bags(bags, bags, Training(epochs=2, precision="bfloat16", **UNREGULARISED), rough)
    pairs = list(zip(exact.parameters(), rough.parameters(), strict=True))
    assert all(b.dtype == torch.float32 for _, b in pairs) and any(not torch.equal(a, b) for a, b in pairs)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=0.1, atol=2e-3)
