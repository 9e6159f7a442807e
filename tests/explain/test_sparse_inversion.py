import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from wsi_mil.config import SparseInversion, parse_model
from wsi_mil.explain.evidence import evidence
from wsi_mil.explain.sparse_inversion import PIXELS, Domain, read_off, refine, shrunk, soft_threshold
from wsi_mil.models import MILModel, create_model

ONE = {"steps": 1, "tolerance": 0.0}


def test_the_soft_threshold_by_hand() -> None:
    values = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])
    assert_close(soft_threshold(values, 1.0), torch.tensor([-2.0, 0.0, 0.0, 0.0, 2.0]))
    assert_close(soft_threshold(values, 0.0), values)


def test_one_step_is_the_papers_update(toy_model: MILModel, toy_bag: Tensor) -> None:
    variable = toy_bag.clone().requires_grad_(True)
    loss = -torch.log_softmax(toy_model(variable).logits[0], 0)[1]
    (gradient,) = torch.autograd.grad(loss, variable)
    prob = torch.exp(-loss.detach())
    margin_gradient = -gradient / (1 - prob)
    m, r = toy_bag.abs().mean(), margin_gradient.square().mean().sqrt()
    expected = (toy_bag - 0.7 * m / r * gradient - 0.05 * m).clamp_min(0)
    refined = refine(toy_model, toy_bag, 1, SparseInversion(step=0.7, penalty=0.05, **ONE))
    assert_close(refined.bag, expected, rtol=1e-3, atol=1e-5)
    assert refined.log_prob[0] == pytest.approx(-float(loss.detach()), rel=1e-4)
    step = 0.7 * m / r * gradient
    assert refined.pull[0] == pytest.approx(float(step.abs().mean() / (0.05 * m)), rel=1e-3)
    assert refined.moved[1] == pytest.approx(float((expected - toy_bag).norm() / toy_bag.norm()), rel=1e-3)
    assert refined.nonzero[1] == pytest.approx(float((expected > 0).float().mean()))


@pytest.mark.parametrize("chunk", [1, 5, 36, 37])
def test_chunks_change_nothing(toy_model: MILModel, toy_bag: Tensor, chunk: int) -> None:
    whole = refine(toy_model, toy_bag, 1, SparseInversion())
    cut = refine(toy_model, toy_bag, 1, SparseInversion(chunk=chunk))
    assert_close(cut.bag, whole.bag, rtol=1e-4, atol=1e-6)
    assert cut.log_prob == pytest.approx(whole.log_prob, rel=1e-4)


def test_a_bag_as_it_is_stored_is_refined_as_in_float32(toy_model: MILModel, toy_bag: Tensor) -> None:
    stored = toy_bag.half()
    refined = [refine(toy_model, bag, 1, SparseInversion()) for bag in (stored, stored.float())]
    assert torch.equal(refined[0].bag, refined[1].bag) and refined[0].log() == refined[1].log()
    assert torch.equal(shrunk(stored, 0.02, 3), shrunk(stored.float(), 0.02, 3))


@pytest.mark.parametrize("kind", ["instance_pool", "embedding_pool", "abmil", "transmil", "dsmil", "clam", "dtfd", "kraus_pool"])
def test_the_gradient_in_chunks_is_that_of_the_whole_bag_for_every_model(kind: str, toy_bag: Tensor) -> None:
    small = {"heads": 2, "landmarks": 4} if kind == "transmil" else {}
    torch.manual_seed(3)
    model = create_model(parse_model({"model": kind, "embed_dim": 16, **small}), feature_dim=12, n_classes=3).eval()
    first = [refine(model, toy_bag, 2, SparseInversion(chunk=c, **ONE), threshold=0.0) for c in (7, 1000)]
    assert_close(first[0].bag, first[1].bag, rtol=1e-4, atol=1e-5)
    assert not torch.equal(first[0].bag, shrunk(toy_bag, 0.02, 1)), "the model has a say"


def test_refining_makes_the_bag_sparser_and_leaves_bag_and_model_as_they_were(toy_model: MILModel, toy_bag: Tensor) -> None:
    before, weights = toy_bag.clone(), [p.clone() for p in toy_model.parameters()]
    refined = refine(toy_model, toy_bag, 1, SparseInversion(steps=6, penalty=0.05, tolerance=0))
    assert refined.nonzero[-1] < refined.nonzero[0] and len(refined.log_prob) == 7 and refined.stopped == "all steps taken"
    assert torch.equal(toy_bag, before)
    assert all(torch.equal(a, b) for a, b in zip(toy_model.parameters(), weights, strict=True))


def test_without_a_penalty_the_probability_only_rises(toy_model: MILModel, toy_bag: Tensor) -> None:
    log_prob = refine(toy_model, toy_bag, 1, SparseInversion(penalty=0.0, step=0.05)).log_prob
    assert all(later >= earlier - 1e-7 for earlier, later in itertools.pairwise(log_prob))


def test_without_step_and_penalty_the_bag_stays_as_it_was(toy_model: MILModel, toy_bag: Tensor) -> None:
    refined = refine(toy_model, toy_bag, 1, SparseInversion(step=0, penalty=0))
    assert torch.equal(refined.bag, toy_bag) and refined.stopped == "converged" and refined.moved[-1] == 0
    assert refined.pull == (math.inf,)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 2), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_after_one_step_a_larger_penalty_never_leaves_more(
    toy_model: MILModel, toy_bag: Tensor, step: float, first: float, second: float, signed: bool
) -> None:
    bag = toy_bag - 0.5 * signed
    lower, higher = sorted((first, second))
    shares = [
        refine(toy_model, bag, 1, SparseInversion(step=step, penalty=p, **ONE), threshold=0.0).nonzero[1] for p in (lower, higher)
    ]
    assert shares[1] <= shares[0]


@pytest.mark.parametrize("signed", [False, True])
def test_the_control_is_the_refinement_with_a_step_of_zero(toy_model: MILModel, toy_bag: Tensor, signed: bool) -> None:
    bag = toy_bag - 0.8 * signed
    refined = refine(toy_model, bag, 1, SparseInversion(step=0, penalty=0.03, steps=5, tolerance=0), threshold=0.0)
    assert_close(refined.bag, shrunk(bag, 0.03, 5), rtol=1e-4, atol=1e-6)
    assert refined.pull == (0.0,) * 5 and (float(refined.bag.min()) < 0) == signed


def test_a_bag_that_is_not_predicted_as_the_target_is_refused_before_any_step(toy_model: MILModel, toy_bag: Tensor) -> None:
    negative = toy_bag.clamp_max(1)
    refined = refine(toy_model, negative, 1, SparseInversion())
    assert refined.refused == "this model predicts otherwise" and refined.pull == () and torch.equal(refined.bag, negative)


def test_the_threshold_decides_what_is_predicted(toy_model: MILModel, toy_bag: Tensor) -> None:
    prob = math.exp(refine(toy_model, toy_bag, 1, SparseInversion(step=0, penalty=0)).log_prob[0])
    assert refine(toy_model, toy_bag, 1, SparseInversion(), threshold=prob + (1 - prob) / 2).refused
    assert not refine(toy_model, toy_bag, 1, SparseInversion(), threshold=prob - 1e-3).refused


def test_a_prediction_that_flips_on_the_way_is_refused_at_that_step(toy_model: MILModel, toy_bag: Tensor) -> None:
    negative, shrinking = toy_bag.clamp_max(2), SparseInversion(step=0, penalty=0.1, steps=6)
    log_prob = refine(toy_model, negative, 0, shrinking).log_prob
    assert log_prob[2] > log_prob[3] > log_prob[4], "this model takes faint instances for less negative ones"
    refined = refine(toy_model, negative, 0, shrinking, threshold=math.exp((log_prob[2] + log_prob[3]) / 2))
    assert refined.refused == "the prediction flipped while the bag was refined" and len(refined.pull) == 3
    assert refined.log_prob == pytest.approx(log_prob[:4])


def test_it_stops_when_half_of_the_values_are_gone(toy_model: MILModel, toy_bag: Tensor) -> None:
    refined = refine(toy_model, toy_bag, 1, SparseInversion(step=1, penalty=0.3, steps=100), threshold=0.0)
    assert refined.stopped == "half of the values became background" or "lost every feature" in refined.refused
    assert refined.nonzero[-1] < 0.5 * refined.nonzero[0] <= refined.nonzero[-2]


def test_a_bag_whose_instances_lost_everything_is_refused(toy_model: MILModel, toy_bag: Tensor) -> None:
    faint = torch.cat([toy_bag, torch.full((1, 40, 12), 1e-4)], dim=1)
    refined = refine(toy_model, faint, 1, SparseInversion(penalty=0.05), threshold=0.0)
    assert refined.refused.startswith("more than 20% of the tiles lost every feature")


def test_a_model_that_does_not_react_is_refused(toy_bag: Tensor) -> None:
    model = create_model(parse_model({"model": "abmil", "embed_dim": 4}), feature_dim=12, n_classes=2).eval()
    nn.init.zeros_(model.classifier.weight)
    assert refine(model, toy_bag, 1, SparseInversion(), threshold=0.0).refused == "the model does not react to this bag"


def test_numbers_that_are_none_are_refused(toy_model: MILModel, toy_bag: Tensor) -> None:
    broken = toy_bag.clone()
    broken[0, 3, 4] = torch.nan
    assert refine(toy_model, broken, 1, SparseInversion(), threshold=0.0).refused == "the model's log odds are no number"


def test_a_model_in_training_mode_is_refused(toy_bag: Tensor) -> None:
    model = create_model(parse_model({"model": "abmil"}), feature_dim=12, n_classes=2)
    with pytest.raises(ValueError, match="eval mode"):
        refine(model, toy_bag, 1, SparseInversion())


@pytest.mark.parametrize("background", [0.0, 1.0])
def test_pixels_stay_in_their_range_and_go_towards_the_background(background: float) -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4 * 3, 12))
    model = create_model(
        parse_model({"model": "abmil", "embed_dim": None}), feature_dim=12, n_classes=2, instance_encoder=encoder
    )
    model.eval().requires_grad_(False)
    images = torch.rand(1, 9, 1, 6, 5)
    domain = Domain.of_pixels(background)
    refined = refine(model, images, 0, PIXELS.model_copy(update={"chunk": 4}), threshold=0.0, domain=domain)
    assert refined.bag.shape == images.shape and float(refined.bag.min()) >= 0 and float(refined.bag.max()) <= 1
    faded = shrunk(images, 0.2, 1, domain)
    m = (images - background).abs().mean()
    assert_close(faded, (images + (0.2 * m if background else -0.2 * m)).clamp(0, 1))
    assert float(refined.moved[-1]) > 0 and not refined.refused


def test_a_refined_bag_is_scored_by_what_the_model_supports(toy_model: MILModel, toy_bag: Tensor) -> None:
    made = {
        kind: create_model(parse_model({"model": kind}), feature_dim=12, n_classes=2) for kind in ("transmil", "instance_pool")
    }
    assert [read_off(toy_model, score) for score in ("attention", "attention_logits", "standardised_sum", "evidence")] == [
        "attention",
        "attention_logits",
        "standardised_sum",
        "evidence",
    ]
    assert read_off(made["transmil"], "standardised_sum") == "standardised_contribution"
    assert read_off(made["instance_pool"], "attention") == "evidence"


def test_refining_raises_the_evidence_of_the_instances_that_carry_the_prediction(toy_model: MILModel, toy_bag: Tensor) -> None:
    refined = refine(toy_model, toy_bag, 1, SparseInversion())
    control = evidence(toy_model, shrunk(toy_bag, 0.02, len(refined.pull)), 1).scores
    gain = evidence(toy_model, refined.bag, 1).scores - control
    assert set(gain.argsort()[-2:]) == {5, 30}


@pytest.mark.parametrize("background", [0.0, 1.0])
def test_a_bag_of_nothing_but_background_is_refused(toy_model: MILModel, background: float) -> None:
    bag = torch.full((1, 5, 12), background)
    refined = refine(toy_model, bag, 1, SparseInversion(), threshold=0.0, domain=Domain.of_pixels(background))
    assert refined.refused == "the bag holds nothing but background" and torch.equal(refined.bag, bag)
