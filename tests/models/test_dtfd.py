from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from wsi_mil.config import parse_model
from wsi_mil.errors import ConfigError
from wsi_mil.models import DTFD, ClassLoss
from wsi_mil.models.dtfd import pseudo_bags

SMALL = {"embed_dim": 8, "attention_dim": 5, "pseudo_bags": 3, "total": 7}
every_distil = pytest.mark.parametrize("distil", ["afs", "maxs", "maxmins"])
NUMBERS = torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 0])


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


class ByHand:
    """The paper's equations in numpy, a pseudo-bag at a time."""

    def __init__(self, model: DTFD):
        self.w = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def embedded(self, x: Tensor) -> np.ndarray:
        return np.maximum(x.double().numpy() @ self.w["embedding.0.weight"].T, 0)

    def attention_logits(self, tier: str, h: np.ndarray) -> np.ndarray:
        w = self.w
        hidden = np.tanh(h @ w[f"{tier}.attention.hidden.0.weight"].T + w[f"{tier}.attention.hidden.0.bias"])
        gate = 1 / (1 + np.exp(-(h @ w[f"{tier}.attention.gate.0.weight"].T + w[f"{tier}.attention.gate.0.bias"])))
        return (hidden * gate) @ w[f"{tier}.attention.row.weight"][0] + w[f"{tier}.attention.row.bias"]

    def pooled(self, tier: str, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Attention and logits of one bag."""
        a = softmax(self.attention_logits(tier, h))
        return a, self.w[f"{tier}.classifier.weight"] @ (a @ h) + self.w[f"{tier}.classifier.bias"]

    def tiers(self, h: np.ndarray, numbers: np.ndarray, distil: str, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits of the pseudo-bags, what is distilled, logits of tier 2."""
        logits, distilled = [], []
        for g in range(numbers.max() + 1):
            part = h[numbers == g]
            a, of_part = self.pooled("first", part)
            p = softmax((a[:, None] * part) @ self.w["first.classifier.weight"].T)
            order = np.argsort(-p[:, -1 if p.shape[1] == 2 else of_part.argmax()])
            best, worst = order[: min(k, -(-len(part) // 2))], order[len(part) - min(k, len(part) // 2) :]
            chosen = {"afs": (a @ part)[None], "maxs": part[order[:k]], "maxmins": part[np.concatenate([best, worst])]}
            logits.append(of_part)
            distilled.append(chosen[distil])
        distilled = np.concatenate(distilled)
        return np.array(logits), distilled, self.pooled("second", distilled)[1]


def widened(model: DTFD) -> DTFD:
    """The same with larger weights, so that instances differ."""
    torch.manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * torch.randn(p.shape))
    return model


@every_distil
@pytest.mark.parametrize("n_classes", [2, 3])
def test_both_tiers_are_the_papers_equations(make: Callable, bag: Tensor, distil: str, n_classes: int) -> None:
    model = widened(make("dtfd", distil=distil, n_classes=n_classes, **SMALL))
    hand = ByHand(model)
    logits, distilled, second = hand.tiers(hand.embedded(bag[0]), NUMBERS.numpy(), distil, k=2)
    h = model.embed(bag)[0]
    pseudo, found = model.distil(h, model.first.attention(h)[:, 0], NUMBERS)
    assert np.allclose(pseudo.detach().numpy(), logits, atol=1e-5)
    assert len(found) == {"afs": 3, "maxs": 6, "maxmins": 9}[distil], "of seven in three pseudo-bags two each, ends not twice"
    assert np.allclose(np.sort(found.detach().numpy(), axis=0), np.sort(distilled, axis=0), atol=1e-5)
    assert np.allclose(model.second(found)[0].detach().numpy(), second, atol=1e-5)


@every_distil
def test_the_answer_is_the_mean_probability_over_the_drawings(make: Callable, bag: Tensor, distil: str) -> None:
    model = widened(make("dtfd", distil=distil, draws=3, **{**SMALL, "total": 3}))
    model.settings = model.settings.model_copy(update={"seed": 11})
    hand, generator = ByHand(model), torch.Generator().manual_seed(11)
    h = hand.embedded(bag[0])
    each = [softmax(hand.tiers(h, pseudo_bags(9, 3, generator).numpy(), distil, k=1)[2]) for _ in range(3)]
    assert np.ptp([p[1] for p in each]) > 1e-4, "drawings differ"
    assert np.allclose(torch.softmax(model(bag).logits[0], 0).detach().numpy(), np.mean(each, axis=0), atol=1e-6)


@every_distil
@pytest.mark.parametrize("joint", [False, True])
def test_the_loss_is_that_of_the_pseudo_bags_and_of_tier_two(make: Callable, bag: Tensor, distil: str, joint: bool) -> None:
    model = widened(make("dtfd", distil=distil, draws=1, joint=joint, n_classes=3, **SMALL))
    hand = ByHand(model)
    numbers = pseudo_bags(9, 3, torch.Generator().manual_seed(0)).numpy()
    logits, _, second = hand.tiers(hand.embedded(bag[0]), numbers, distil, k=2)
    expected = -np.log(softmax(logits)[:, 2]).mean() - np.log(softmax(second)[2])
    found = model.training_loss(bag, torch.tensor([2]), ClassLoss(torch.tensor([9.0, 9, 4])))
    assert found.item() == pytest.approx(4 * expected, rel=1e-5)


@every_distil
def test_tier_two_does_not_move_tier_one_unless_joint(make: Callable, bag: Tensor, distil: str) -> None:
    grads = {}
    for joint in (False, True):
        model = make("dtfd", distil=distil, joint=joint, draws=1, **SMALL)
        with torch.no_grad():
            for p in model.first.classifier.parameters():
                p.zero_()  # no gradient of tier 1's own reaches the embedding
        model.training_loss(bag, torch.tensor([1]), ClassLoss(torch.ones(2))).backward()
        grads[joint] = float(model.embedding[0].weight.grad.abs().sum())
        assert model.second.classifier.weight.grad.abs().sum() > 0 and model.first.classifier.bias.grad.abs().sum() > 0
    assert grads[False] == 0 and grads[True] > 0


def test_one_adam_over_the_detached_sum_steps_as_the_authors_two(make: Callable, bag: Tensor) -> None:
    one, two = (make("dtfd", draws=1, **SMALL) for _ in range(2))
    single = torch.optim.Adam(one.parameters(), lr=0.01, weight_decay=0.1)
    tier_one = [*two.embedding.parameters(), *two.first.parameters()]
    pair = [torch.optim.Adam(p, lr=0.01, weight_decay=0.1) for p in (tier_one, two.second.parameters())]
    numbers = pseudo_bags(9, 3, torch.Generator().manual_seed(0))
    y, weights = torch.tensor([1]), torch.ones(2)
    for _ in range(3):
        single.zero_grad()
        one.training_loss(bag, y, ClassLoss(weights)).backward()
        single.step()
        h = two.embed(bag)[0]
        pseudo, distilled = two.distil(h, two.first.attention(h)[:, 0], numbers)
        losses = (
            torch.nn.functional.cross_entropy(pseudo, y.expand(3)),
            torch.nn.functional.cross_entropy(two.second(distilled), y),
        )
        for optimizer in pair:
            optimizer.zero_grad()
        losses[0].backward(retain_graph=True)
        firsts = [p.grad.clone() for p in tier_one]
        losses[1].backward()
        for p, grad in zip(tier_one, firsts, strict=True):
            p.grad = grad  # what tier 2 says of tier 1 is wiped
        for optimizer in pair:
            optimizer.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize(("n", "groups", "sizes"), [(1, 4, [1]), (3, 4, [1, 1, 1]), (9, 4, [3, 2, 2, 2]), (8, 1, [8])])
def test_pseudo_bags_are_of_one_size_and_none_is_empty(n: int, groups: int, sizes: list[int]) -> None:
    numbers = pseudo_bags(n, groups)
    assert sorted(torch.bincount(numbers).tolist(), reverse=True) == sizes


@every_distil
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_bags_of_fewer_instances_than_pseudo_bags_are_learnt_from(make: Callable, distil: str, n: int) -> None:
    model = make("dtfd", distil=distil, embed_dim=8, pseudo_bags=5, total=20).train()
    bags = torch.rand(1, n, 6, generator=torch.Generator().manual_seed(n))
    model.training_loss(bags, torch.tensor([1]), ClassLoss(torch.ones(2))).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.eval()(bags).logits.isfinite().all()


def test_training_draws_anew_and_asking_does_not(make: Callable, bag: Tensor) -> None:
    model = widened(make("dtfd", **SMALL))
    state = torch.random.get_rng_state()
    assert torch.equal(model(bag).logits, model(bag).logits)
    assert torch.equal(torch.random.get_rng_state(), state), "asking leaves the generator of training alone"
    losses = [model.train().training_loss(bag, torch.tensor([1]), ClassLoss(torch.ones(2))).item() for _ in range(4)]
    assert len(set(losses)) > 1
    torch.random.set_rng_state(state)
    assert model.training_loss(bag, torch.tensor([1]), ClassLoss(torch.ones(2))).item() == losses[0]


@every_distil
def test_with_its_pseudo_bags_the_order_of_instances_changes_nothing(make: Callable, bag: Tensor, distil: str) -> None:
    model, order = widened(make("dtfd", distil=distil, **SMALL)), torch.tensor([3, 8, 0, 5, 1, 7, 2, 6, 4])
    h = model.embed(bag)[0]
    row = model.first.attention(h)[:, 0]
    for numbers in (NUMBERS, torch.zeros(9, dtype=torch.int64)):
        first, moved = (model.distil(h[o], row[o], numbers[o]) for o in (torch.arange(9), order))
        assert_close(moved[0], first[0])
        assert_close(model.second(moved[1]), model.second(first[1]))


def test_class_activation_is_the_derived_probability_freed_of_the_bags_size(make: Callable, bag: Tensor) -> None:
    model = widened(make("dtfd", n_classes=2, **SMALL))
    hand = ByHand(model)
    h = hand.embedded(bag[0])
    a, _ = hand.pooled("first", h)
    p = softmax((a[:, None] * h) @ hand.w["first.classifier.weight"].T)[:, 1]
    found = model.instance_scores(bag, 1)["class_activation"].numpy()
    assert np.allclose(found, 9 * np.log(p / (1 - p)), atol=1e-5)
    assert np.array_equal(np.argsort(found), np.argsort(p))
    doubled = model.instance_scores(torch.cat([bag, bag], dim=1), 1)["class_activation"].numpy()
    assert np.allclose(doubled[:9], found, atol=1e-5)


def test_class_activation_of_what_is_not_attended_to_is_zero(make: Callable) -> None:
    model = make("dtfd", n_classes=3, **SMALL)
    assert model.instance_scores(torch.zeros(1, 4, 6), 2)["class_activation"].tolist() == pytest.approx([0] * 4, abs=1e-12)


@every_distil
def test_evidence_is_the_log_odds_of_the_bag_that_is_that_instance_alone(make: Callable, bag: Tensor, distil: str) -> None:
    model = make("dtfd", distil=distil, n_classes=3, **SMALL)
    alone = torch.cat([torch.softmax(model(bag[:, i : i + 1]).logits, 1) for i in range(9)])[:, 2].double()
    assert_close(model.instance_scores(bag, 2)["evidence"], torch.log(alone / (1 - alone)), rtol=1e-4, atol=1e-4)


def test_fewer_instances_in_all_than_pseudo_bags_are_refused() -> None:
    with pytest.raises(ConfigError, match="total must be pseudo_bags or more, got 4 and 8"):
        parse_model({"model": "dtfd", "distil": "maxs", "pseudo_bags": 8})
