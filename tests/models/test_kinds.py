"""Every model that learns a kind of task learns it, and its scores are those of the kind's own scalar."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from wsi_mil.bags import BagSet, LabelledBag
from wsi_mil.config import MODELS, parse_base
from wsi_mil.models import MILModel, Outputs, create_loss, create_mhim, create_model, outputs_of
from wsi_mil.records import Bag
from wsi_mil.tasks import Multilabel, Regression, Survival, Task, Truth
from wsi_mil.train import fit
from wsi_mil.train.loop import predict_logits

TASKS: dict[str, Task] = {
    "multilabel": Multilabel(("er", "pr", "her2")),
    "regression": Regression("log1p"),
    "discrete": Survival("discrete", 3),
    "cox": Survival("cox"),
}
LABELS = {
    "multilabel": ["1 0 ?", "0 1 1", "1 1 0", "0 0 1", "? 1 0", "1 0 0"],
    "regression": ["0.0", "3.0", "9.5", "100.0", "7.0", "1.0"],
    "discrete": ["2.0 1", "4.0 1", "6.0 0", "3.0 1", "9.0 1", "8.0 0"],
}
LABELS["cox"] = LABELS["discrete"]
ENTRIES = {
    "abmil": {"model": "abmil"},
    "transmil": {"model": "transmil", "embed_dim": 16, "heads": 2, "attention": "exact"},
    "dsmil": {"model": "dsmil"},
    "instance_max": {"model": "instance_pool"},
    "instance_mean": {"model": "instance_pool", "pool": "mean"},
    "embedding": {"model": "embedding_pool"},
}
KRAUS = {f"kraus_{joint}": {"model": "kraus_pool", "joint": joint} for joint in (True, False)}
PAIRS = [(entry, kind) for entry in ENTRIES for kind in TASKS] + [(entry, "multilabel") for entry in KRAUS]


def bags(kind: str, n: int = 6) -> BagSet:
    """Bags of 5 to 10 instances of six features, one for each label, whose numbers are in the first features."""
    rng, made = np.random.default_rng(0), []
    for i, label in enumerate(TASKS[kind].encode(LABELS[kind][:n])):
        features = rng.normal(size=(5 + i, 6))
        features[:, : label.size] += np.nan_to_num(np.log1p(label))
        made.append(LabelledBag(Bag(f"s{i}", features.astype(np.float16), np.zeros((5 + i, 2), np.int64)), label))
    return BagSet.of(made)


def settings_of(entry: str, **train: object) -> dict[str, object]:
    settings = {**ENTRIES, **KRAUS}[entry]
    return {"embed_dim": 8, **settings, "train": {"min_epochs": 0, "select": "last", "lr": 0.01, **train}}


def model_of(entry: str, outputs: Outputs) -> MILModel:
    torch.manual_seed(0)
    return create_model(parse_base(settings_of(entry)), feature_dim=6, outputs=outputs)


@pytest.mark.parametrize(("entry", "kind"), PAIRS)
def test_training_lowers_the_loss_of_every_kind(entry: str, kind: str) -> None:
    train = bags(kind)
    task = TASKS[kind].fitted(train.truth)
    model = model_of(entry, outputs_of(task))
    quiet = {"instance_dropout": 0.0, "cox_lr": 0.05, "cox_updates": 40, "epochs": 50}
    settings = parse_base(settings_of(entry, **quiet)).train
    weights = task.loss_weights(train.truth.labels, balanced=True)
    before = task.validation_loss(predict_logits(model, train), train.truth, weights)
    fit(model, train, train, settings, task=task)
    assert task.validation_loss(predict_logits(model, train), train.truth, weights) < 0.8 * before


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("base", ["abmil", "transmil", "dsmil"])
def test_mhim_learns_every_kind_over_its_bases(base: str, kind: str) -> None:
    train = bags(kind)
    task = TASKS[kind].fitted(train.truth)
    teacher, student = (model_of(base, outputs_of(task)) for _ in range(2))
    start = {name: value.clone() for name, value in student.state_dict().items()}
    model = create_mhim(base=teacher, student=student, train={"epochs": 2, "cox_updates": 2, "select": "last", "min_epochs": 0})
    history, _ = fit(model, train, train, model.settings.train, task=task)
    assert all(np.isfinite(epoch.val_loss) for epoch in history)
    assert model.outputs == outputs_of(task) and any((value != start[name]).any() for name, value in student.state_dict().items())


@pytest.mark.parametrize(("entry", "kind"), [(e, k) for e, k in PAIRS if e not in KRAUS])
def test_only_classes_and_labels_have_probabilities_of_instances(entry: str, kind: str) -> None:
    model = model_of(entry, outputs_of(TASKS[kind].fitted(bags(kind).truth))).eval()
    scores = model.instance_scores(torch.rand(1, 7, 6), 0)
    assert tuple(scores) == model.provides
    assert ("probability" in scores) == (kind == "multilabel" and entry in ("dsmil", "instance_max", "instance_mean"))
    assert all(value.shape == (7,) and torch.isfinite(value).all() for value in scores.values())


@pytest.mark.parametrize("kind", TASKS)
def test_evidence_is_the_scalar_of_a_bag_of_that_instance_alone(kind: str) -> None:
    outputs = outputs_of(TASKS[kind].fitted(bags(kind).truth))
    bag = torch.rand(1, 5, 6, generator=torch.Generator().manual_seed(3))
    for entry in ("abmil", "embedding"):
        model = model_of(entry, outputs).eval()
        last = outputs.n - 1 if kind == "multilabel" else 0
        alone = torch.stack([outputs.scalar(model(bag[:, i : i + 1]).logits[0].double(), last) for i in range(5)])
        assert_close(model.instance_scores(bag, last)["evidence"], alone.detach(), rtol=1e-5, atol=1e-6)


def test_the_instance_of_the_highest_value_is_the_bag_of_a_maximum_pool() -> None:
    model = model_of("instance_max", outputs_of(TASKS["regression"])).eval()
    bag = torch.rand(1, 9, 6)
    assert_close(model(bag).logits[0, 0].double(), model.instance_scores(bag, 0)["evidence"].max())


@pytest.mark.parametrize("kind", ["multilabel", "discrete"])
def test_a_mean_pool_is_the_mean_of_probabilities_or_hazards_and_of_values_the_mean(kind: str) -> None:
    bag = torch.rand(1, 9, 6)
    model = model_of("instance_mean", outputs_of(TASKS[kind].fitted(bags(kind).truth))).eval()
    output = model(bag)
    assert_close(torch.sigmoid(output.logits[0]), torch.sigmoid(output.instance_logits[0]).mean(dim=0))
    number = model_of("instance_mean", outputs_of(TASKS["cox"])).eval()(bag)
    assert_close(number.logits[0], number.instance_logits[0].mean(dim=0))


@pytest.mark.parametrize("entry", ["instance_mean", "dsmil", "kraus_True", "abmil", "embedding"])
@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_padding_changes_nothing(entry: str, kind: str) -> None:
    if entry in KRAUS and kind == "regression":
        return
    model = model_of(entry, outputs_of(TASKS[kind])).eval()
    bag = torch.rand(1, 4, 6)
    padded, mask = torch.cat([bag, torch.full((1, 3, 6), 9.0)], dim=1), torch.tensor([[True] * 4 + [False] * 3])
    assert_close(model(padded, mask).logits, model(bag).logits)


@pytest.mark.parametrize("entry", KRAUS)
def test_a_pool_of_two_labels_learns_each_by_itself(entry: str) -> None:
    task = Multilabel(("a", "b"))
    model = model_of(entry, outputs_of(task)).eval()
    loss = create_loss(task, torch.ones(2, 2))
    bag = torch.rand(1, 5, 6)
    log_p = model.pooled(model.embed(bag)).log_p[0]
    expected = -log_p[0] / 2
    if entry == "kraus_True":
        expected = expected - torch.nn.functional.logsigmoid(model(bag).logits[0, 0]) / 2
    assert_close(model.training_loss(bag, torch.tensor([[1.0, float("nan")]]), loss), expected)


def test_records_say_what_models_can_learn() -> None:
    learns = {name: settings.learns for name, settings in MODELS.items()}
    assert learns["clam"] == learns["dtfd"] == ("classes",) and learns["kraus_pool"] == ("classes", "multilabel")
    every = ("classes", "multilabel", "regression", "survival")
    assert {name for name, kinds in learns.items() if kinds == every} == {
        "mean_linear", "instance_pool", "embedding_pool", "abmil", "transmil", "dsmil", "clinical", "mhim",
    }  # fmt: skip


def test_a_model_is_created_for_classes_or_for_other_outputs(make: Callable[..., MILModel]) -> None:
    with pytest.raises(TypeError, match="expected n_classes or outputs"):
        create_model(parse_base({"model": "abmil"}), feature_dim=6)
    assert make("abmil").outputs.n == 2 and Truth.of([0, 1]).patients == ("0", "1")
