"""Contributions sum to what is explained, for every model, and agree with formulas where there are formulas."""

import numpy as np
import pytest
import torch
from torch import Tensor

from wsi_mil.config import parse_base
from wsi_mil.explain.base import Values
from wsi_mil.explain.contribution import decompose
from wsi_mil.explain.registry import METHODS
from wsi_mil.models import (
    ClassOutputs,
    HazardOutputs,
    LabelOutputs,
    MILModel,
    MILOutput,
    Outputs,
    ValueOutputs,
    create_model,
)

SMALL_TRANSMIL = {"model": "transmil", "embed_dim": 16, "heads": 2, "position_start": "random"}
OF_CLASSES = [
    {"model": "clam"},
    {"model": "clam", "branches": "multi"},
    {"model": "dtfd"},
    {"model": "dtfd", "distil": "maxs"},
    {"model": "dtfd", "distil": "maxmins", "draws": 3},
    *({"model": "kraus_pool", "pool": pool} for pool in ("noisy_and", "noisy_or", "isr", "generalised_mean", "log_sum_exp")),
    {"model": "kraus_pool", "pool": "noisy_and", "joint": False},
]
OF_ALL_KINDS = [
    {"model": "abmil"},
    {"model": "abmil", "gated": False, "embed_dim": None},
    {"model": "dsmil"},
    {"model": "dsmil", "value_layer": False, "average": False},
    {**SMALL_TRANSMIL, "attention": "exact"},
    {**SMALL_TRANSMIL, "attention": "nystrom", "landmarks": 8},
    {"model": "instance_pool", "pool": "max"},
    {"model": "instance_pool", "pool": "mean"},
    {"model": "embedding_pool", "pool": "max"},
    {"model": "embedding_pool", "pool": "mean"},
    {"model": "mean_linear"},
    {"model": "mean_linear", "statistics": "mean_std"},
]
CLASSES = (ClassOutputs(2), ClassOutputs(3))
OTHERS = (LabelOutputs(3), ValueOutputs(centre=0.3), HazardOutputs(4, 0.2))
CASES = [(entry, outputs) for entry in OF_CLASSES + OF_ALL_KINDS for outputs in CLASSES]
CASES += [(entry, outputs) for entry in OF_ALL_KINDS for outputs in OTHERS]


def made(entry: dict[str, object], outputs: Outputs) -> MILModel:
    """A model in float64 whose biases are not zero."""
    torch.manual_seed(0)
    model = create_model(parse_base(entry), feature_dim=12, outputs=outputs).eval().requires_grad_(False).double()
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter) if parameter.ndim == 1 else 0)
    return model


@pytest.fixture
def bag() -> Tensor:
    """Thirty-seven instances of twelve features, some negative."""
    return 2 * torch.randn(1, 37, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def scored(method: str, model: MILModel, bag: Tensor, output: int = 0) -> Values:
    return METHODS[method].of_model(model, bag, output)


@pytest.mark.parametrize(("entry", "outputs"), CASES, ids=str)
def test_contributions_class_token_biases_and_pooling_sum_to_what_is_explained(
    entry: dict[str, object], outputs: Outputs, bag: Tensor
) -> None:
    model = made(entry, outputs)
    for output in range(outputs.n_explained):
        parts = decompose(model, bag, output)
        logits = model.linear_logits(model.embed(bag))[0] if entry["model"] == "dsmil" else model(bag).logits[0]
        assert parts.total == pytest.approx(float(outputs.scalar(logits, output)), abs=1e-6)
        everything = parts.contributions.sum() + parts.class_token + parts.biases + parts.pooling
        assert everything == pytest.approx(parts.total, rel=1e-9, abs=1e-9)
        assert not parts.refused


@pytest.mark.parametrize("outputs", [ClassOutputs(2), LabelOutputs(3)], ids=str)
def test_nothing_is_left_for_the_pool_where_what_is_explained_is_linear(outputs: Outputs, bag: Tensor) -> None:
    for entry in ({"model": "abmil"}, {**SMALL_TRANSMIL, "attention": "exact"}, {"model": "embedding_pool"}):
        parts = decompose(made(entry, outputs), bag, 1)
        assert parts.pooling == pytest.approx(0, abs=1e-12)
        assert (parts.class_token != 0) == (entry["model"] == "transmil") and parts.biases != 0


def test_of_abmil_contribution_is_attention_times_evidence_without_the_bias(bag: Tensor) -> None:
    model = made({"model": "abmil"}, ClassOutputs(2))
    bias = float(model.classifier.bias[1] - model.classifier.bias[0])  # type: ignore[union-attr,index]
    attention, evidence = (scored(name, model, bag, 1).scores for name in ("attention", "evidence"))
    assert np.allclose(scored("contribution", model, bag, 1).scores, attention * (evidence - bias), atol=1e-12)
    direction = scored("direction", model, bag, 1)
    assert np.allclose(direction.scores, evidence - bias, atol=1e-12) and direction.zero == pytest.approx(-bias)


def test_of_a_linear_model_all_of_them_are_the_formula(bag: Tensor) -> None:
    model = made({"model": "embedding_pool", "pool": "mean", "embed_dim": None}, ClassOutputs(2))
    weight = (model.classifier.weight[1] - model.classifier.weight[0]).numpy()  # type: ignore[union-attr,index,operator]
    features = bag[0].numpy()
    expected = features @ weight / 37
    assert np.allclose(scored("contribution", model, bag, 1).scores, expected, atol=1e-12)
    assert np.allclose(scored("integrated_gradients", model, bag, 1).scores, expected, atol=1e-12)
    centred = (features - features.mean(axis=0)) @ weight
    assert np.allclose(scored("centred_contribution", model, bag, 1).scores, centred, atol=1e-12)
    assert np.allclose(scored("direction", model, bag, 1).scores, features @ weight, atol=1e-12)
    assert np.allclose(scored("gradient_input", model, bag, 1).scores, 37 * expected, atol=1e-12)


@pytest.mark.parametrize(
    ("entry", "outputs"), [case for case in CASES if case[0]["model"] in ("abmil", "dsmil", "clam")], ids=str
)
def test_a_tile_that_is_there_twice_contributes_twice(entry: dict[str, object], outputs: Outputs, bag: Tensor) -> None:
    model, tiles = made(entry, outputs), [*range(37), 4]
    twice = decompose(model, bag[:, tiles], 0).contributions
    assert twice[4] == pytest.approx(twice[37], rel=1e-12) and twice[4] != 0
    heavier = made({"model": "embedding_pool", "embed_dim": None}, outputs)
    doubled = bag.clone()
    doubled[0, 4] *= 2
    once, again = (decompose(heavier, each, outputs.n_explained - 1) for each in (bag, doubled))
    if once.pooling == 0:
        assert again.contributions[4] == pytest.approx(2 * once.contributions[4])


def test_centred_contributions_do_not_change_if_all_tiles_have_something_in_common(bag: Tensor) -> None:
    model = made({"model": "embedding_pool", "embed_dim": None}, ClassOutputs(2))
    moved = scored("centred_contribution", model, bag + 3.0, 1).scores
    assert np.allclose(moved, scored("centred_contribution", model, bag, 1).scores, atol=1e-12)
    assert not np.allclose(scored("contribution", model, bag + 3.0, 1).scores, scored("contribution", model, bag, 1).scores)


def test_the_sum_is_that_of_both_in_standard_deviations(bag: Tensor) -> None:
    model = made({**SMALL_TRANSMIL, "attention": "exact"}, ClassOutputs(3))
    parts = [scored(name, model, bag, 2).scores for name in ("centred_contribution", "direction")]
    expected = sum((part - part.mean()) / part.std() for part in parts)
    assert np.allclose(scored("standardised_contribution", model, bag, 2).scores, expected, atol=1e-12)


class Forgetful(MILModel):
    """A model of squares, which nothing marks as constant."""

    provides = ()

    def __init__(self) -> None:
        super().__init__(ClassOutputs(2))
        self.embedding = torch.nn.Identity()

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        squares = embedded.square().sum(dim=(1, 2))
        return MILOutput(torch.stack([torch.zeros_like(squares), squares], dim=1))

    def instance_scores(self, bag: Tensor, output: int) -> dict:
        raise NotImplementedError


def test_contributions_of_a_model_that_holds_nothing_constant_are_refused(bag: Tensor) -> None:
    values = scored("contribution", Forgetful().eval(), bag, 1)
    total = float(bag.square().sum())
    assert values.log["residual"] == pytest.approx(-total, rel=1e-5)
    assert values.refused == f"the contributions sum to {2 * total:.4g}, but the model's output is {total:.4g}"


@pytest.mark.parametrize(
    "attention", [{"attention": "exact"}, *({"attention": "nystrom", "landmarks": m} for m in (1, 2, 3, 8, 64))]
)
def test_single_of_transmil_is_its_prediction_for_a_bag_of_one(attention: dict[str, object], bag: Tensor) -> None:
    model = made({**SMALL_TRANSMIL, **attention}, ClassOutputs(3))
    alone = [float(model.outputs.scalar(model(tile[None, None]).logits[0], 2)) for tile in bag[0]]
    assert np.allclose(scored("single", model, bag, 2).scores, alone, atol=2e-6)


@pytest.mark.parametrize("entry", [entry for entry in OF_CLASSES + OF_ALL_KINDS if entry["model"] != "dsmil"], ids=str)
def test_single_is_the_prediction_for_a_bag_of_one(entry: dict[str, object], bag: Tensor) -> None:
    model = made(entry, ClassOutputs(3))
    alone = [float(model.outputs.scalar(model(tile[None, None]).logits[0], 1)) for tile in bag[0, :5]]
    assert np.allclose(scored("single", model, bag[:, :5], 1).scores, alone, atol=2e-6)


def test_integrated_gradients_sum_to_the_change_from_zeros(bag: Tensor) -> None:
    values = scored("integrated_gradients", made({"model": "abmil"}, ClassOutputs(2)), bag, 1)
    assert values.scores.sum() == pytest.approx(values.log["difference"], abs=0.02)
    assert values.log["sum"] == pytest.approx(values.scores.sum(), abs=1e-6)


def test_a_slide_of_one_tile_has_contributions_and_no_deviations(bag: Tensor) -> None:
    for entry in ({"model": "abmil"}, {**SMALL_TRANSMIL, "attention": "exact"}):
        model = made(entry, ClassOutputs(2))
        parts = decompose(model, bag[:, :1], 1)
        assert parts.contributions.sum() + parts.rest == pytest.approx(parts.total)
        assert scored("centred_contribution", model, bag[:, :1], 1).scores.tolist() == pytest.approx([0.0], abs=1e-12)
        assert scored("standardised_contribution", model, bag[:, :1], 1).scores.tolist() == [0.0]


def test_a_model_in_training_is_refused_and_a_frozen_one_stays_frozen(bag: Tensor) -> None:
    model = made({"model": "abmil"}, ClassOutputs(2))
    decompose(model, bag, 1)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ValueError, match="eval mode"):
        decompose(model.train(), bag, 1)


@pytest.mark.parametrize(
    "entry", [{"model": "abmil"}, {"model": "clam"}, {"model": "dsmil"}, {**SMALL_TRANSMIL, "attention": "exact"}], ids=str
)
@pytest.mark.parametrize("method", ["standardised_sum", "standardised_contribution"])
def test_equal_tiles_have_equal_scores_and_not_those_of_rounding(entry: dict[str, object], method: str) -> None:
    tile = torch.rand(1, 1, 12, generator=torch.Generator().manual_seed(1))
    for seed in range(3):
        torch.manual_seed(seed)
        model = create_model(parse_base(entry), feature_dim=12, n_classes=2).eval().requires_grad_(False)
        if method != "standardised_sum" or "attention_logits" in model.provides:
            assert not scored(method, model, tile.expand(1, 501, 12), 1).scores.any()
