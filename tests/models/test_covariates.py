"""Covariates are one more term in the classifier of the bag's embedding: laws for every model that takes them."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.explain.test_contribution import bag as bag
from tests.explain.test_contribution import made
from wsi_mil.config import Covariates, SparseInversion, parse_base, parse_model
from wsi_mil.covariates import Coding
from wsi_mil.errors import ConfigError
from wsi_mil.explain.contribution import decompose
from wsi_mil.explain.sparse_inversion import refine
from wsi_mil.models import (
    ABMIL,
    ClassOutputs,
    EncodeClassifyModel,
    HazardOutputs,
    LabelOutputs,
    MILModel,
    Outputs,
    ValueOutputs,
    create_loss,
    create_mhim,
    create_model,
)
from wsi_mil.tasks import Classes

CODING = Coding.fitted(
    Covariates(numbers=("age",), categories=("sex",)), [{"age": 40, "sex": "f"}, {"age": 60, "sex": "m"}, {"age": 50, "sex": "f"}]
)
CELLS = {"age": "65", "sex": "m"}
TRANSMIL = {"model": "transmil", "embed_dim": 16, "heads": 2, "position_start": "random", "attention": "exact"}
LINEAR = [{"model": "abmil"}, {"model": "abmil", "embed_dim": None}, {"model": "embedding_pool"}, TRANSMIL]
OF_CLASSES = [{"model": "clam"}, {"model": "clam", "branches": "multi"}]
AVERAGING = [{"model": "dsmil"}, {"model": "dtfd"}, {"model": "dtfd", "distil": "maxmins", "draws": 3}]
ALL_OUTPUTS = (ClassOutputs(2), ClassOutputs(3), LabelOutputs(3), ValueOutputs(centre=0.3), HazardOutputs(4, 0.2))
CASES: list[tuple[dict[str, object], Outputs]] = [(entry, outputs) for entry in LINEAR for outputs in ALL_OUTPUTS]
CASES += [(entry, outputs) for entry in OF_CLASSES for outputs in ALL_OUTPUTS[:2]]
MORE = [(AVERAGING[0], outputs) for outputs in ALL_OUTPUTS] + [(e, o) for e in AVERAGING[1:] for o in ALL_OUTPUTS[:2]]


def taking(entry: dict[str, object], outputs: Outputs) -> MILModel:
    """A frozen model in float64 with weights of covariates."""
    model = made({**entry, "covariates": True}, outputs).take_covariates(CODING).double().requires_grad_(False)
    model.set_covariate_effects(torch.randn(model.covariate_weights.shape, generator=torch.Generator().manual_seed(5)))
    return model


def coded() -> Tensor:
    return torch.from_numpy(CODING.encode(CELLS)).double()  # (age, sex=f, sex=m)


@pytest.mark.parametrize(("entry", "outputs"), CASES, ids=str)
def test_logits_are_those_of_the_bag_and_a_linear_term_of_covariates(entry: dict, outputs: Outputs, bag: Tensor) -> None:
    model = taking(entry, outputs)
    without = model(bag).logits[0]
    assert_close(model.at(CELLS)(bag).logits[0], without + model.covariate_effects @ coded())
    mean = torch.tensor([0.0, 2 / 3, 1 / 3], dtype=torch.float64)  # two of three patients have sex=f
    assert_close(model.at_mean()(bag).logits[0], without + model.covariate_effects @ mean, atol=1e-6, rtol=1e-5)
    assert_close(model(bag).logits[0], without), "the model itself stays as it is"


def test_the_term_is_what_a_classifier_of_the_embedding_with_covariates_appended_has(bag: Tensor) -> None:
    model = taking({"model": "abmil"}, LabelOutputs(3))
    assert isinstance(model, ABMIL)
    embedding = model.encode(model.embed(bag)).bag[0, 0]
    appended = nn.Linear(len(embedding) + len(CODING.names), 3).double()
    with torch.no_grad():
        appended.weight.copy_(torch.cat([model.classifier.weight, model.covariate_effects], dim=1))
        appended.bias.copy_(model.classifier.bias)
    assert_close(model.at(CELLS)(bag).logits[0], appended(torch.cat([embedding, coded()])), check_dtype=True)


@pytest.mark.parametrize(("entry", "outputs"), CASES + MORE, ids=str)
def test_contributions_add_up_with_covariates_fixed_and_what_these_add_is_among_the_biases(
    entry: dict, outputs: Outputs, bag: Tensor
) -> None:
    model = taking(entry, outputs)
    for output in range(outputs.n_explained):
        at, without = (decompose(m, bag, output) for m in (model.at(CELLS), model.at_mean()))
        assert not at.refused and abs(at.residual) < 1e-9
        assert at.total != pytest.approx(without.total, abs=1e-3)
        if isinstance(outputs, LabelOutputs | ValueOutputs):
            added = float((model.covariate_effects @ (coded() - torch.tensor(CODING.mean)))[output])
            assert at.contributions == pytest.approx(without.contributions)
            assert at.biases - without.biases == pytest.approx(added, rel=1e-5)


@pytest.mark.parametrize(
    ("outputs", "stay"),
    [(ClassOutputs(2), True), (ClassOutputs(3), False), (LabelOutputs(3), True), (HazardOutputs(4, 0.2), False)],
    ids=str,
)
def test_covariates_change_contributions_where_the_explained_quantity_is_not_linear(
    outputs: Outputs, stay: bool, bag: Tensor
) -> None:
    model, last = taking({"model": "abmil"}, outputs), outputs.n_explained - 1
    at, without = (decompose(m, bag, last).contributions for m in (model.at(CELLS), model.at_mean()))
    assert (at == pytest.approx(without)) is stay
    evidence = [m.instance_scores(bag, last)["evidence"] for m in (model.at(CELLS), model.at_mean())]
    assert bool((evidence[0] - evidence[1]).std() < 1e-9) is stay


def test_contributions_do_not_depend_on_whether_weights_are_frozen(bag: Tensor) -> None:
    model = taking({"model": "abmil"}, LabelOutputs(2))
    frozen, learning = (decompose(model.requires_grad_(grad).at(CELLS), bag, 1) for grad in (False, True))
    assert not learning.refused and learning.biases == pytest.approx(frozen.biases)
    assert learning.contributions == pytest.approx(frozen.contributions)


def test_attention_stays_and_evidence_moves_by_the_term_of_covariates(bag: Tensor) -> None:
    model = taking({"model": "abmil"}, LabelOutputs(2))
    at, without = (m.instance_scores(bag, 1) for m in (model.at(CELLS), model))
    assert_close(at["attention"], without["attention"])
    assert_close(at["evidence"], without["evidence"] + (model.covariate_effects @ coded())[1])
    assert_close((at["attention"] * at["evidence"]).sum(), model.at(CELLS)(bag).logits[0, 1])


def test_a_bag_is_refined_with_its_covariates_fixed(bag: Tensor) -> None:
    model = taking({"model": "abmil"}, ClassOutputs(2)).float()
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([0.0, -1.0]))
    model.set_covariate_effects(torch.tensor([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]]))
    settings = SparseInversion(steps=2)
    refined = refine(model.at(CELLS), bag.float(), 1, settings)
    expected = float(torch.log_softmax(model.at(CELLS)(bag.float()).logits[0], 0)[1])
    assert refined.log_prob[0] == pytest.approx(expected, rel=1e-3)
    assert refine(model.at_mean(), bag.float(), 1, settings).log_prob[0] < refined.log_prob[0]


@pytest.mark.parametrize("entry", [*LINEAR, *OF_CLASSES, *AVERAGING], ids=str)
def test_a_training_step_moves_the_weights_of_covariates_and_all_others(entry: dict, bag: Tensor) -> None:
    torch.manual_seed(0)
    model = create_model(parse_base({**entry, "covariates": True}), feature_dim=12, n_classes=2).take_covariates(CODING)
    assert not model.covariate_weights.any(), "zero at the start: the model begins as the one without covariates"
    loss = create_loss(Classes(("a", "b")), torch.ones(2))
    model.at(CELLS).training_loss(bag.float(), torch.tensor([1]), loss).backward()
    assert model.covariate_weights.grad is not None and model.covariate_weights.grad.abs().sum() > 0
    plain = create_model(parse_base(entry), feature_dim=12, n_classes=2)
    plain.load_state_dict(model.state_dict(), strict=False)
    plain.training_loss(bag.float(), torch.tensor([1]), loss).backward()
    assert _learning(plain) <= _learning(model)


def _learning(model: MILModel) -> set[str]:
    """Parameters with a gradient above rounding."""
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-6}


def test_mhim_fixes_covariates_of_student_and_teacher(bag: Tensor) -> None:
    base, student = (taking({"model": "abmil"}, ClassOutputs(2)) for _ in range(2))
    assert isinstance(base, EncodeClassifyModel) and isinstance(student, EncodeClassifyModel)
    mhim = create_mhim(base=base, student=student, student_start="base").eval()
    assert_close(mhim.at(CELLS)(bag).logits, base.at(CELLS)(bag).logits)
    assert mhim.at(CELLS).teacher.classifier.bias.tolist() == base.at(CELLS).classifier.bias.tolist()


def test_a_model_with_covariates_needs_those_of_the_bag_and_one_without_takes_no_notice(bag: Tensor) -> None:
    with pytest.raises(ConfigError, match="trained with covariates: expected a bag with age, sex"):
        taking({"model": "abmil"}, ClassOutputs(2)).at(None)
    with pytest.raises(ConfigError, match="ABMIL with covariates does not know which: train it with fitted_for"):
        ABMIL(feature_dim=12, n_classes=2, covariates=True).at(CELLS)
    model = made({"model": "abmil"}, ClassOutputs(2))
    assert model.at(CELLS) is model and model.at(None) is model


@pytest.mark.parametrize("name", ["instance_pool", "kraus_pool"])
def test_models_that_pool_instances_refuse_covariates(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot take covariates: it has no embedding of the bag"):
        parse_model({"model": name, "covariates": True})
    with pytest.raises(TypeError, match="no embedding of the bag"):
        create_model(parse_base({"model": name}), feature_dim=12, n_classes=2).take_covariates(CODING)


def test_mhim_refers_to_its_base() -> None:
    with pytest.raises(ConfigError, match="mhim cannot take covariates: it has those of its base; set covariates: true there"):
        parse_model({"model": "mhim", "base": "abmil", "covariates": True})


def test_the_clinical_model_sees_covariates_alone(bag: Tensor) -> None:
    model = create_model(parse_base({"model": "clinical"}), feature_dim=12, outputs=ClassOutputs(3)).take_covariates(CODING)
    model.set_covariate_effects(torch.arange(9.0).reshape(3, 3))
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    c = coded().float()
    expected = torch.arange(9.0).reshape(3, 3) @ c + torch.tensor([1.0, 0.0, -1.0])
    assert_close(model.at(CELLS)(bag.float()).logits[0], expected)
    assert_close(model.at(CELLS)(torch.zeros(1, 1, 12)).logits[0], expected)
    assert model.provides == ()
