"""Explanations of every kind of task: methods against autograd and numbers by hand, and what is written of a slide."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.train.kinds import TASKS, Trained
from wsi_mil.config import Explain, further_name, method_of, parse_base, supports
from wsi_mil.errors import ConfigError
from wsi_mil.explain.registry import CONTROL, METHODS
from wsi_mil.explain.sparse_inversion import refine
from wsi_mil.explain.stage import explain_slide
from wsi_mil.models import ClassOutputs, HazardOutputs, LabelOutputs, MILModel, Outputs, ValueOutputs, create_model
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.score_scaling import score_context
from wsi_mil.store import read_scores

OUTPUTS: dict[str, Outputs] = {
    "multilabel": LabelOutputs(3),
    "regression": ValueOutputs(),
    "discrete": HazardOutputs(4, 0.7),
    "cox": ValueOutputs(centre=-0.4),
}
ENTRIES: dict[str, dict[str, object]] = {
    "abmil": {"model": "abmil", "embed_dim": 8},
    "transmil": {"model": "transmil", "embed_dim": 16, "heads": 2, "attention": "exact"},
    "dsmil": {"model": "dsmil", "embed_dim": 8},
    "instance_max": {"model": "instance_pool", "embed_dim": 8},
    "instance_mean": {"model": "instance_pool", "pool": "mean", "embed_dim": 8},
    "embedding": {"model": "embedding_pool", "embed_dim": 8},
}
LINEAR = {"model": "embedding_pool", "pool": "mean", "embed_dim": None, "dropout": 0}


def model_of(entry: dict[str, object], outputs: Outputs) -> MILModel:
    torch.manual_seed(3)
    return create_model(parse_base(entry), feature_dim=6, outputs=outputs).eval().requires_grad_(False)


def bag_of(n: int = 11) -> Tensor:
    return torch.rand(1, n, 6, generator=torch.Generator().manual_seed(5))


def scored(model: MILModel, method: str, output: int) -> np.ndarray:
    return METHODS[method].of_model(model, bag_of(), output).scores


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_gradient_times_input_is_that_of_the_kinds_scalar_by_autograd(entry: str, kind: str) -> None:
    model = model_of(ENTRIES[entry], OUTPUTS[kind])
    output = 2 if kind == "multilabel" else 0
    bag = bag_of().requires_grad_()
    logits = model(bag).logits[0]
    scalar = {
        "multilabel": lambda z: torch.log(torch.sigmoid(z[2]) / (1 - torch.sigmoid(z[2]))),
        "discrete": lambda z: torch.log(-torch.log(torch.prod(1 - torch.sigmoid(z)))),
    }.get(kind, lambda z: z[0])(logits)
    (gradient,) = torch.autograd.grad(scalar, bag)
    expected = 11 * (gradient * bag)[0].sum(dim=1).detach().numpy()
    assert np.allclose(scored(model, "gradient_input", output), expected, rtol=1e-3, atol=1e-5)


def test_scores_of_a_linear_model_by_hand() -> None:
    """Of a mean pool and weights w, b: a risk is w·x + b less its centre, and each instance's share is w·x."""
    bag = bag_of()[0].double()
    for kind in ("regression", "cox"):
        model = model_of(LINEAR, OUTPUTS[kind])
        product = (bag @ model.classifier.weight.double().T)[:, 0].numpy()
        centre = -0.4 if kind == "cox" else 0.0
        assert np.allclose(scored(model, "evidence", 0), product + float(model.classifier.bias) - centre, atol=1e-6)
        assert np.allclose(scored(model, "gradient_input", 0), product, atol=1e-6)
    model = model_of(LINEAR, OUTPUTS["discrete"])
    z = functional.linear(bag, model.classifier.weight.double(), model.classifier.bias.double())
    own = np.log(np.log1p(np.exp(z.numpy())).sum(axis=1)) - 0.7
    assert np.allclose(scored(model, "evidence", 0), own, atol=1e-6)
    of_bag = z.mean(dim=0)
    slope = torch.sigmoid(of_bag) / functional.softplus(of_bag).sum()
    assert np.allclose(
        scored(model, "gradient_input", 0), ((bag @ model.classifier.weight.double().T) @ slope).numpy(), atol=1e-6
    )


@pytest.mark.parametrize("kind", OUTPUTS)
def test_attention_is_that_of_the_pooling_and_the_sum_is_of_attention_and_evidence(kind: str) -> None:
    model = model_of(ENTRIES["abmil"], OUTPUTS[kind])
    output = 1 if kind == "multilabel" else 0
    logits, evidence = (scored(model, name, output) for name in ("attention_logits", "evidence"))
    assert np.allclose(scored(model, "attention", output), np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
    both = sum((each - each.mean()) / each.std() for each in (logits, evidence))
    assert np.allclose(scored(model, "standardised_sum", output), both, atol=1e-5)


@pytest.mark.parametrize("name", ["abmil", "embedding", "instance_mean", "instance_max", "kraus"])
def test_a_label_is_explained_as_the_class_of_a_model_that_has_only_its_unit(name: str) -> None:
    """One of three labels has the scores of the positive one of two classes with the same weights, by every method."""
    entry = ENTRIES.get(name, {"model": "kraus_pool", "joint": False})
    labels, classes = model_of(entry, LabelOutputs(3)), model_of(entry, ClassOutputs(2))
    weights = {}
    for key, of_class in classes.state_dict().items():
        of_label = labels.state_dict()[key]
        own = of_label[2:3]
        padded = torch.cat([torch.zeros_like(own), own]) if len(of_class) == 2 else own  # the negative class has logit zero
        weights[key] = of_label if of_label.shape == of_class.shape else padded
    classes.load_state_dict(weights)
    methods = [method for method in METHODS if supports(labels.provides, method)]
    assert "gradient_input" in methods and labels.provides == classes.provides
    for method in methods:
        assert np.allclose(scored(labels, method, 2), scored(classes, method, 1), rtol=1e-4, atol=1e-6), method


def test_sparse_inversion_holds_as_long_as_the_label_is_above_its_own_threshold() -> None:
    model = model_of(ENTRIES["abmil"], LabelOutputs(3))
    prob = float(torch.sigmoid(model(bag_of()).logits[0, 1]))
    settings = Explain().sparse_inversion
    assert refine(model, bag_of(), 1, settings, threshold=prob + 0.01).refused == "this model predicts otherwise"
    done = refine(model, bag_of(), 1, settings, threshold=prob - 0.01)
    assert done.log_prob[0] == pytest.approx(np.log(prob), abs=1e-5) and len(done.pull) > 0


METHODS_OF_ALL = ("attention", "evidence", "gradient_input")


def explained(folder: Path, kind: str, settings: Explain, slide: int = 20) -> tuple[dict, Trained, Path]:
    cohort = Trained(folder, kind)
    row, receipt = cohort.rows[slide], folder / "scores" / f"{cohort.rows[slide].slide_id}.json"
    explain_slide(row, [folder / "f" / f"{row.slide_id}.json"], cohort.ensemble(), settings, receipt)
    return read_receipt(receipt), cohort, receipt


@pytest.mark.parametrize("kind", TASKS)
def test_curves_follow_the_kinds_own_value_and_start_at_the_prediction(tmp_path: Path, kind: str) -> None:
    settings = Explain(methods=METHODS_OF_ALL, curve_points=4)
    receipt, _, path = explained(tmp_path, kind, settings, slide=40)
    output = receipt["output"]
    value = {"multilabel": lambda: receipt["probs"][output], "regression": lambda: receipt["standardised"]}.get(
        kind, lambda: receipt["risk"]
    )()
    for method in METHODS_OF_ALL:
        entry = receipt["methods"][method]
        assert entry["output"] == output
        context = score_context(receipt, method)
        assert (context.prob is None) == (kind != "multilabel") and context.output
        curves = entry.get("curves")
        if kind == "multilabel" and not receipt["predicted"][output]:
            assert curves is None
            continue
        assert curves["deletion"][0] == pytest.approx(value, abs=1e-4) == curves["insertion"][-1]
        assert len(curves["deletion"]) == 5 and curves["random_deletion_area"] is not None
        coords, scores = read_scores(store_path(path), method)
        assert len(coords) == len(scores) == receipt["n_instances"] and np.isfinite(scores).all()


def test_methods_that_have_no_meaning_for_a_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sparse_inversion cannot explain a target of kind regression"):
        explained(tmp_path, "regression", Explain(methods=("sparse_inversion",)))


def test_every_label_that_is_predicted_positive_has_scores_of_its_own(tmp_path: Path) -> None:
    cohort = Trained(tmp_path, "multilabel")
    ensemble = cohort.ensemble()
    for fold in range(3):
        member = ensemble.folds[fold]
        ensemble.folds[fold] = replace(member, card=replace(member.card, threshold=(0.0, 0.0)))
    row = cohort.rows[7]
    receipts = [tmp_path / "f" / f"{row.slide_id}.json"]
    settings = Explain(methods=("evidence", "sparse_inversion"), curve_points=2)
    explain_slide(row, receipts, ensemble, settings, tmp_path / "s.json")
    receipt = read_receipt(tmp_path / "s.json")
    first = int(np.argmax(receipt["probs"]))
    second = 1 - first
    label = cohort.task.output_name(second)
    assert receipt["output"] == first and receipt["predicted"] == [1, 1]
    assert list(receipt["methods"]) == sorted(
        name + suffix for name in ("evidence", "sparse_inversion", CONTROL) for suffix in ("", f"@{label}")
    )
    outputs = {name: entry["output"] for name, entry in receipt["methods"].items()}
    assert outputs == {name: second if "@" in name else first for name in outputs}
    fold = receipt["folds"][0]
    model, bag = ensemble.folds[fold].model, ensemble.read_bag(row.slide_id, receipts)
    for name, output in (("evidence", first), (f"evidence@{label}", second)):
        expected = METHODS["evidence"].scores([model], bag, output).values
        assert np.allclose(read_scores(tmp_path / "s.zarr", name)[1], expected)
        assert receipt["methods"][name]["curves"]["deletion"][0] == pytest.approx(receipt["probs"][output], abs=1e-5)
        assert score_context(receipt, name).prob == receipt["probs"][output]


def test_a_slide_without_a_positive_label_is_explained_for_the_most_probable_one(tmp_path: Path) -> None:
    cohort = Trained(tmp_path, "multilabel")
    ensemble = cohort.ensemble()
    for fold in range(3):
        member = ensemble.folds[fold]
        ensemble.folds[fold] = replace(member, card=replace(member.card, threshold=(1.0, 1.0)))
    row = cohort.rows[7]
    settings = Explain(methods=("evidence", "sparse_inversion"), curve_points=2)
    explain_slide(row, [tmp_path / "f" / f"{row.slide_id}.json"], ensemble, settings, tmp_path / "s.json")
    receipt = read_receipt(tmp_path / "s.json")
    assert receipt["output"] == int(np.argmax(receipt["probs"])) and not any("@" in name for name in receipt["methods"])
    assert "curves" not in receipt["methods"]["evidence"]
    assert receipt["methods"]["sparse_inversion"]["reason"].startswith("predicted negative")


def test_names_of_further_labels_are_file_names_and_no_two_labels_share_one() -> None:
    labels = ["er", "HER2/neu", "PD-L1 > 1 %", "a~b", "a%7Eb", "a~7Eb", "α", "..", "a b", "a_b"]
    names = [further_name("attention", label) for label in labels]
    assert len(set(names)) == len(labels) and all(method_of(name) == "attention" for name in names)
    assert names[:2] == ["attention@er", "attention@HER2~2Fneu"]
    assert all(name.isascii() and not set(name) & set('/\\ <>:"|?*%') for name in names)
