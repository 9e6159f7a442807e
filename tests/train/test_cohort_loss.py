"""The gradient of Cox's partial likelihood, bag by bag, is that of autograd over the whole cohort."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tasks.test_partial_likelihood import efron
from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.config import Training, parse_base, parse_settings
from wsi_mil.errors import DivergedError
from wsi_mil.models import MILModel, RiskLoss, ValueOutputs, create_mhim, create_model
from wsi_mil.records import Bag
from wsi_mil.tasks import Survival, Truth
from wsi_mil.train import fit
from wsi_mil.train.cohort_loss import accumulate_cohort_gradient
from wsi_mil.train.loop import sample_instances

LABELS = Survival("cox").encode(["5.0 1", "2.0 1", "2.0 1", "7.0 0", "2.0 0", "3.0 1", "5.0 1", "1.0 0", "5.0 1"])
PATIENTS = ("a", "b", "c", "d", "e", "f", "g", "h", "a")
"""Patient a has two slides, and times 2 and 5 are tied."""
HALF = parse_settings(Training, {"instance_dropout": 0.5})
ENTRIES = {
    "abmil": {"model": "abmil", "embed_dim": 8, "dropout": 0.3},
    "dsmil": {"model": "dsmil", "embed_dim": 8, "dropout": 0.3},
    "transmil": {"model": "transmil", "embed_dim": 8, "heads": 2, "attention_dropout": 0.3, "attention": "exact"},
    "instance_mean": {"model": "instance_pool", "pool": "mean", "embed_dim": 8},
}


def bags(n: int = 9) -> BagSet:
    """Bags of 6 to 14 instances; of nine, one patient has two, of more, each has one."""
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(6 + i % 9, 5)).astype(np.float32) for i in range(n)]
    made = [Bag(f"s{i}", each, np.zeros((len(each), 2), np.int64)) for i, each in enumerate(features)]
    truth = Truth.of(LABELS[np.arange(n) % 9], PATIENTS if n == 9 else None)
    return BagSet(truth, made.__getitem__, keep_bytes=0)


def network(entry: str) -> MILModel:
    torch.manual_seed(0)
    model = create_model(parse_base(ENTRIES[entry]), feature_dim=5, outputs=ValueOutputs())
    if entry == "dsmil":
        torch.nn.init.normal_(model.classifier.weight)
    return model.double().train()


def mhim() -> MILModel:
    model = create_mhim(base=network("abmil"), student=network("abmil"), consistency=0.4, random_ratio=0.3)
    return model.double().train()


def step_of(model: MILModel, loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def step(number: int, item: LabelledBag, sampling: np.random.Generator) -> Tensor:
        rows = sample_instances(len(item.bag.features), HALF, sampling)
        features = torch.from_numpy(item.bag.features).double()[None]
        return model.training_loss(features if rows is None else features[:, rows], torch.zeros(1), loss)

    return step


def gradients(model: MILModel) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


class Together:
    """Hands risks on with their graph, so that one loss can be made of those of all bags."""

    def __init__(self) -> None:
        self.risks: list[Tensor] = []

    def __call__(self, outputs: Tensor, label: Tensor) -> Tensor:
        self.risks.append(outputs[0, 0])
        return outputs.new_zeros(())


def naive(model: MILModel, cohort: BagSet, weight: float) -> Tensor:
    """Loss of the whole cohort in one graph: of each head (weight its share), and the mean of what the model adds."""
    seeds = np.random.default_rng(7).integers(2**63, size=len(cohort))
    risks, added = [], []
    for number, item in enumerate(cohort):
        torch.manual_seed(int(seeds[number]))
        loss = Together()
        added.append(step_of(model, loss)(number, item, np.random.default_rng(seeds[number])))
        risks.append(torch.stack(loss.risks))
    of_bag = torch.stack(risks)
    names = sorted(set(cohort.truth.patients))
    rows = [[i for i, patient in enumerate(cohort.truth.patients) if patient == name] for name in names]
    labels = cohort.truth.labels[[own[0] for own in rows]]
    of_patient = torch.stack([of_bag[own].mean(dim=0) for own in rows])
    heads = [efron(head, labels[:, 0], labels[:, 1] == 1) for head in of_patient.T]
    return weight * torch.stack(heads).sum() + torch.stack(added).mean()


@pytest.mark.parametrize(("entry", "weight"), [("abmil", 1), ("transmil", 1), ("instance_mean", 1), ("dsmil", 0.5), ("mhim", 1)])
def test_the_gradient_is_that_of_autograd_over_the_whole_cohort(entry: str, weight: float) -> None:
    """With dropout, sampled instances, masks of MHIM, tied times, and a patient of two slides."""
    cohort = bags()
    one, other = (mhim() if entry == "mhim" else network(entry) for _ in range(2))
    other.load_state_dict(one.state_dict())
    naive(other, cohort, weight).backward()
    loss = RiskLoss()
    value = accumulate_cohort_gradient(cohort, loss, step_of(one, loss), np.random.default_rng(7), epoch=1)
    assert gradients(other).abs().max() > 1e-4 and np.isfinite(value)
    assert (gradients(one) - gradients(other)).abs().max() < 1e-10


def test_bags_of_another_order_or_seed_have_another_dropout() -> None:
    found = []
    for seed in (7, 7, 8):
        model, loss = network("abmil"), RiskLoss()
        accumulate_cohort_gradient(bags(), loss, step_of(model, loss), np.random.default_rng(seed), epoch=1)
        found.append(gradients(model))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_memory_does_not_grow_with_the_number_of_patients() -> None:
    """Bytes that autograd holds for the backward pass at a time, whatever the cohort's size."""
    peaks = []
    for n in (9, 72):
        held, peak = 0, 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal held, peak
            held += tensor.nbytes
            peak = max(peak, held)
            return tensor

        def unpack(tensor: Tensor) -> Tensor:
            nonlocal held
            held -= tensor.nbytes
            return tensor

        model, loss = network("abmil"), RiskLoss()
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            accumulate_cohort_gradient(bags(n), loss, step_of(model, loss), np.random.default_rng(7), epoch=1)
        peaks.append(peak)
        assert held == 0
    assert peaks[0] == peaks[1] > 0


def test_a_risk_that_is_not_finite_names_the_bag() -> None:
    model, loss = network("abmil"), RiskLoss()
    torch.nn.init.constant_(model.classifier.bias, float("nan"))
    with pytest.raises(DivergedError, match="s0"):
        accumulate_cohort_gradient(bags(), loss, step_of(model, loss), np.random.default_rng(7), epoch=3)


def test_an_epoch_is_one_update_at_its_own_rate() -> None:
    torch.manual_seed(0)
    model = create_model(parse_base(ENTRIES["abmil"]), feature_dim=5, outputs=ValueOutputs())
    before = model.classifier.weight.detach().clone()
    train = {"cox_updates": 1, "cox_lr": 0.01, "lr": 0.5, "updates": 640, "weight_decay": 0, "min_epochs": 0, "select": "last"}
    history, _ = fit(model, bags(), bags(), parse_settings(Training, train), task=Survival("cox"))
    moved = (model.classifier.weight.detach() - before).abs()
    assert len(history) == 1 and history[0].lr == 0.01 and moved.max() == pytest.approx(0.01, rel=1e-3)
