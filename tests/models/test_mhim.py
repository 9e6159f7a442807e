import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from wsi_mil import config
from wsi_mil.config import parse_model
from wsi_mil.models import MHIM, ClassLoss, create_mhim
from wsi_mil.models.masking import Masking, kept_instances, voted

BASES = {
    "abmil": {"model": "abmil", "embed_dim": 8, "dropout": 0.0},
    "transmil": {"model": "transmil", "embed_dim": 16, "heads": 2, "landmarks": 4, "attention_dropout": 0.0},
    "dsmil": {"model": "dsmil", "embed_dim": 8, "value_layer": True},
}
every_base = pytest.mark.parametrize("base", BASES)


def scores(n: int, heads: int = 1) -> Tensor:
    """Heads that differ a little."""
    generator = torch.Generator().manual_seed(n)
    return torch.rand(1, n, generator=generator) + 0.05 * torch.rand(heads, n, generator=generator)


@pytest.mark.parametrize(
    ("random", "low", "high", "high_share", "percent"),
    [(0.5, 0, 0.01, 0.5, 49.5), (0.7, 0.2, 0.02, 1, 23.4), (0, 0.8, 0.03, 0.5, 17.0), (0.6, 0.2, 0.02, 1, 31.2)],
    ids=["ABMIL C16", "ABMIL NSCLC", "TransMIL C16", "TransMIL NSCLC"],
)
@pytest.mark.parametrize("heads", [1, 8])
def test_the_published_maskings_keep_what_was_published(
    random: float, low: float, high: float, high_share: float, percent: float, heads: int
) -> None:
    torch.manual_seed(0)
    kept = [len(kept_instances(scores(10_000, heads), Masking(random, low, high, high_share))) for _ in range(10)]
    assert sum(kept) / 10 / 10_000 == pytest.approx(percent / 100, abs=0.002)


def test_each_part_masks_its_own() -> None:
    torch.manual_seed(0)
    s = scores(100)
    rank = s[0].argsort().argsort()
    low = kept_instances(s, Masking(0, 0.3, 0, 1))
    assert sorted(rank[low].tolist()) == list(range(30, 100))
    high = kept_instances(s, Masking(0, 0, 0.07, 1))
    assert sorted(rank[high].tolist()) == list(range(93))
    drawn = kept_instances(s, Masking(0, 0, 0.1, 0.5))
    masked = sorted(set(range(100)) - set(rank[drawn].tolist()))
    assert len(masked) == 10 and min(masked) >= 80 and masked != list(range(90, 100))
    both = kept_instances(s, Masking(0, 0.3, 0.1, 1))
    assert sorted(rank[both].tolist()) == list(range(30, 90))
    anywhere = kept_instances(s, Masking(0.4, 0, 0, 1))
    assert len(anywhere) == 60 and rank[anywhere].min() < 30 and rank[anywhere].max() > 70
    assert len(kept_instances(s, Masking(0, 0, 0, 1))) == 100


def test_more_candidates_than_instances_is_a_draw_from_the_bag() -> None:
    torch.manual_seed(0)
    s = scores(100)
    kept = kept_instances(s, Masking(0, 0, 0.6, 0.5))
    assert len(kept) == 40 and s[0].argsort().argsort()[kept].max() > 60


def test_kept_instances_keep_their_order() -> None:
    kept = kept_instances(scores(500, 4), Masking(0.6, 0.2, 0.02, 1))
    assert torch.equal(kept, kept.sort().values) and len(kept.unique()) == len(kept)


def test_heads_vote() -> None:
    s = torch.tensor([[9.0, 8, 1, 0, 0], [0.0, 8, 9, 1, 0], [0.0, 3, 0, 9, 8]])
    assert voted(s, 2, largest=True).tolist()[0] == 1
    assert set(voted(s, 1, largest=True).tolist()) <= {0, 2, 3}


@pytest.mark.parametrize("n", [1, 2, 3])
def test_at_least_one_instance_stays(n: int) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        kept = kept_instances(scores(n, 2), Masking(0.9, 0.9, 0.9, 1))
        assert len(kept) >= 1
    assert kept_instances(torch.tensor([[0.1, 0.9, 0.5]]), Masking(0, 0.99, 0, 1)).tolist() == [1]


def mhim(make: Callable, base: str, n_classes: int = 2, **settings: object) -> MHIM:
    teacher, student = (make(**BASES[base], n_classes=n_classes, seed=seed) for seed in (0, 1))
    parsed = parse_model({"model": "mhim", "base": base, **settings})
    assert isinstance(parsed, config.MHIM)
    return create_mhim(parsed, base=teacher, student=student)


@every_base
@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_masks_and_consistency_the_student_learns_as_its_base(
    make: Callable, bag: Tensor, base: str, n_classes: int
) -> None:
    model = mhim(make, base, n_classes, random_ratio=0, high_ratio=0, consistency=0)
    label, weights = torch.tensor([1]), torch.ones(n_classes)
    assert_close(model.training_loss(bag, label, ClassLoss(weights)), model.student.training_loss(bag, label, ClassLoss(weights)))


@every_base
def test_the_consistency_loss_is_the_cross_entropy_of_embedding_channels(make: Callable, bag: Tensor, base: str) -> None:
    model = mhim(make, base, random_ratio=0, high_ratio=0, consistency=0.7)
    taught, learned = (m.encode(m.embed(bag)).bag[0, 0] for m in (model.teacher, model.student))
    target = torch.exp(taught / 0.1) / torch.exp(taught / 0.1).sum()
    expected = -(target * torch.log(torch.exp(learned) / torch.exp(learned).sum())).sum()
    label, weights = torch.tensor([1]), torch.ones(2)
    plain = model.student.training_loss(bag, label, ClassLoss(weights))
    assert_close(model.training_loss(bag, label, ClassLoss(weights)), plain + 0.7 * expected, rtol=1e-4, atol=1e-5)


@every_base
def test_the_student_does_not_see_what_is_masked(make: Callable, bag: Tensor, base: str) -> None:
    model = mhim(make, base, random_ratio=0, low_ratio=0.5, high_ratio=0, consistency=0)
    kept = kept_instances(model.teacher.encode_scored(model.teacher.embed(bag))[1], model.masking())
    assert len(kept) == 4
    expected = model.student.training_loss(bag[:, kept], torch.tensor([1]), ClassLoss(torch.ones(2)))
    assert_close(model.training_loss(bag, torch.tensor([1]), ClassLoss(torch.ones(2))), expected)


@pytest.mark.parametrize(("momentum", "share"), [(0.0, 1.0), (1.0, 0.0), (0.75, 0.25)])
def test_the_teacher_moves_to_the_student_by_what_momentum_leaves(make: Callable, momentum: float, share: float) -> None:
    model = mhim(make, "abmil", momentum=momentum)
    before = [p.clone() for p in model.teacher.parameters()]
    model.after_update(0.1)
    for old, new, student in zip(before, model.teacher.parameters(), model.student.parameters(), strict=True):
        assert_close(new.detach(), (1 - share) * old.detach() + share * student.detach())


def test_schedules_run_from_their_start_to_their_end(make: Callable) -> None:
    model = mhim(make, "abmil", high_ratio=0.04, momentum=0.9, momentum_schedule="cosine")
    found = []
    for progress in (0.0, 0.5, 1.0):
        model.after_update(progress)
        found.append((model.masking().high, model.momentum()))
    expected = [(0.04, 0.9), (0.02, 0.95), (0.0, 1.0)]
    assert all(math.isclose(a, b, abs_tol=1e-9) for x, y in zip(found, expected, strict=True) for a, b in zip(x, y, strict=True))
    constant = mhim(make, "abmil", high_ratio=0.04, high_schedule="constant")
    constant.after_update(1.0)
    assert constant.masking().high == 0.04 and constant.momentum() == 0.9999


@pytest.mark.parametrize("start", ["embedding", "random", "base"])
def test_what_the_student_starts_from(make: Callable, start: str) -> None:
    model = mhim(make, "abmil", student_start=start)
    teacher, student = model.teacher.state_dict(), model.student.state_dict()
    same = {name for name in teacher if torch.equal(teacher[name], student[name])}
    embedding = {name for name in teacher if name.startswith("embedding.")}
    assert same == {"embedding": embedding, "random": set(), "base": set(teacher)}[start]


def test_the_teacher_is_never_learned_and_its_dropout_is_a_choice(make: Callable, bag: Tensor) -> None:
    model = mhim(make, "abmil").train()
    assert not any(p.requires_grad for p in model.teacher.parameters()) and model.teacher.training
    assert not mhim(make, "abmil", teacher_dropout=False).train().teacher.training
    assert not model.eval().teacher.training
    assert model.deployed is model.student
    assert_close(model(bag).logits, model.student(bag).logits)


def test_pools_cannot_teach(make: Callable) -> None:
    pool = make("instance_pool", embed_dim=8)
    with pytest.raises(TypeError, match="can be trained over abmil, transmil, dsmil, got InstancePool"):
        create_mhim(parse_model({"model": "mhim", "base": "p"}), base=pool, student=pool)
