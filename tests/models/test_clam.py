import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from wsi_mil.models import CLAM, ClassLoss
from wsi_mil.models.attention import top_and_bottom
from wsi_mil.models.clam import smooth_top1_svm

SMALL = {"embed_dim": 8, "attention_dim": 5, "dropout": 0.0, "attention_dropout": 0.0}
branches = pytest.mark.parametrize("branch", ["single", "multi"])


def weights(model: CLAM) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def by_hand(w: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, attention (n_instances, rows), bag logits."""
    h = np.maximum(x @ w["embedding.0.weight"].T + w["embedding.0.bias"], 0)
    hidden = np.tanh(h @ w["attention.hidden.0.weight"].T + w["attention.hidden.0.bias"])
    gate = 1 / (1 + np.exp(-(h @ w["attention.gate.0.weight"].T + w["attention.gate.0.bias"])))
    e = (hidden * gate) @ w["attention.row.weight"].T + w["attention.row.bias"]
    a = np.exp(e) / np.exp(e).sum(0)
    z = [(a[:, min(c, a.shape[1] - 1), None] * h).sum(0) for c in range(len(w["classifier.bias"]))]
    logits = [w["classifier.weight"][c] @ z[c] + w["classifier.bias"][c] for c in range(len(z))]
    return h, a, np.array(logits)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(x))


def instance_loss_by_hand(
    w: dict[str, np.ndarray], h: np.ndarray, a: np.ndarray, label: int, *, k: int, subtyping: bool, svm: bool
) -> float:
    """Each class by itself, sample by sample."""
    total, n_classes = 0.0, len(w["classifier.bias"])
    for c in range(n_classes):
        order = np.argsort(-a[:, min(c, a.shape[1] - 1)])
        if c == label:
            samples = [(n, 1) for n in order[:k]] + [(n, 0) for n in order[::-1][:k]]
        elif subtyping:
            samples = [(n, 0) for n in order[:k]]
        else:
            continue
        s = h @ w[f"instance_classifiers.{c}.weight"].T + w[f"instance_classifiers.{c}.bias"]
        total += float(np.mean([softplus(svm + s[n, 1 - y] - s[n, y]) for n, y in samples]))
    return total / n_classes if subtyping else total


@branches
@pytest.mark.parametrize("n_classes", [2, 3])
def test_each_class_has_the_attention_of_its_branch(make: Callable, bag: Tensor, branch: str, n_classes: int) -> None:
    model = make("clam", branches=branch, n_classes=n_classes, **SMALL)
    _, a, logits = by_hand(weights(model), bag[0].double().numpy())
    assert a.shape == (9, n_classes if branch == "multi" else 1)
    assert np.allclose(model(bag).logits[0].detach().numpy(), logits, atol=1e-6)
    for c in range(n_classes):
        assert np.allclose(model.instance_scores(bag, c)["attention"].numpy(), a[:, min(c, a.shape[1] - 1)], atol=1e-6)


@branches
@pytest.mark.parametrize("subtyping", [False, True])
@pytest.mark.parametrize("loss", ["svm", "cross_entropy"])
def test_the_loss_is_seven_parts_bag_and_three_parts_instances(
    make: Callable, bag: Tensor, branch: str, subtyping: bool, loss: str
) -> None:
    model = make("clam", branches=branch, n_classes=3, k=3, subtyping=subtyping, instance_loss=loss, **SMALL)
    w = weights(model)
    h, a, logits = by_hand(w, bag[0].double().numpy())
    bag_loss = np.log(np.exp(logits).sum()) - logits[2]
    instances = instance_loss_by_hand(w, h, a, 2, k=3, subtyping=subtyping, svm=loss == "svm")
    found = model.training_loss(bag, torch.tensor([2]), ClassLoss(torch.tensor([9.0, 9, 5]))).item()
    assert found == pytest.approx(5 * (0.7 * bag_loss + 0.3 * instances), rel=1e-5)


def test_evidence_is_the_log_odds_of_the_bag_that_is_that_instance_alone(make: Callable, bag: Tensor) -> None:
    model = make("clam", branches="multi", n_classes=3, **SMALL)
    alone = torch.cat([torch.softmax(model(bag[:, i : i + 1]).logits, 1) for i in range(9)])[:, 2].double()
    assert_close(model.instance_scores(bag, 2)["evidence"], torch.log(alone / (1 - alone)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("n", "k", "highest", "lowest"),
    [(1, 8, [0], []), (2, 8, [1], [0]), (5, 8, [4, 3, 2], [1, 0]), (5, 2, [4, 3], [1, 0]), (6, 3, [5, 4, 3], [2, 1, 0])],
)
def test_no_instance_is_at_both_ends(n: int, k: int, highest: list[int], lowest: list[int]) -> None:
    found = top_and_bottom(torch.arange(float(n)), k)
    assert [part.tolist() for part in found] == [highest, lowest]
    tied = torch.cat(top_and_bottom(torch.zeros(n), k)).tolist()
    assert len(set(tied)) == len(tied) == len(highest) + len(lowest)


@branches
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 15, 16])
def test_bags_smaller_than_both_ends_are_learnt_from(make: Callable, branch: str, n: int) -> None:
    model = make("clam", branches=branch, subtyping=True, **SMALL)
    bags = torch.rand(1, n, 6, generator=torch.Generator().manual_seed(n))
    model.training_loss(bags, torch.tensor([1]), ClassLoss(torch.ones(2))).backward()
    grads = [p.grad for p in model.instance_classifiers.parameters()]
    assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in grads)


def test_without_subtyping_other_classes_classifiers_rest(make: Callable, bag: Tensor) -> None:
    model = make("clam", n_classes=3, **SMALL)
    model.training_loss(bag, torch.tensor([1]), ClassLoss(torch.ones(3))).backward()
    assert [c.weight.grad is not None for c in model.instance_classifiers] == [False, True, False]


def test_the_instance_loss_does_not_choose_its_own_tiles(make: Callable, bag: Tensor) -> None:
    model = make("clam", **SMALL)
    embedded = model.embed(bag)[0]
    rows = torch.rand(2, 9, requires_grad=True)
    model.instance_loss(embedded, rows, 1).backward()
    assert rows.grad is None and model.embedding[0].weight.grad.abs().sum() > 0


def test_the_smooth_svm_by_hand() -> None:
    scores, label = torch.tensor([[0.5, -0.2], [1.0, 3.0], [12.0, 0.0], [0.0, 12.0]]), torch.tensor([0, 0, 0, 0])
    smooth = [math.log1p(math.exp(1 - 0.7)), math.log1p(math.exp(1 + 2))]
    assert float(smooth_top1_svm(scores, label)) == pytest.approx((sum(smooth) + 0 + 13) / 4, rel=1e-6)
    three = torch.tensor([[0.3, -1.0, 0.9]])
    expected = math.log(math.exp(1 + 0.3 + 1.0) + 1 + math.exp(1 + 0.9 + 1.0))
    assert float(smooth_top1_svm(three, torch.tensor([1]))) == pytest.approx(expected, rel=1e-6)
