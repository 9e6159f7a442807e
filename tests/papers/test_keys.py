import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.papers import keys
from wsi_mil.config import SparseInversion, parse_base
from wsi_mil.explain.sparse_inversion import Domain
from wsi_mil.models import MILModel, create_model
from wsi_mil.records import Bag

DIGITS = Domain.of_pixels(0.0)


def scored_bag(name: str, positive: str, scores: list[float] | None) -> keys.ScoredBag:
    """Return a bag whose instances are labelled by `positive`, as "0110"; without scores the model predicts it as negative."""
    truth = np.array([c == "1" for c in positive])
    return keys.ScoredBag(name, truth, scores is not None, {"a": np.array(scores)} if scores is not None else {})


BAGS = [scored_bag("p", "0110", [0.0, 1.0, 0.4, 0.6]), scored_bag("q", "10", [1.0, 0.0]), scored_bag("r", "100", None)]


def test_positive_instances_of_a_missed_bag_are_missed() -> None:
    figures = keys.figures([(bag, {"a": 0.5}) for bag in BAGS])["a"]
    # hot: 1.0, 0.6 | 1.0; hits 2 of 4 positives, 1 false: F1 = 2·2 / (4 + 3)
    assert figures["f1"] == pytest.approx(4 / 7)
    # at 0.4 three hits of four with one false: 2·3 / (4 + 4)
    assert figures["f1_oracle"] == pytest.approx(6 / 8)
    # of shown bags: positives 1, .4, 1 against 0, .6, 0: only the pair .4 < .6 is wrong
    assert figures["pooled_auroc"] == pytest.approx(8 / 9)
    assert figures["tile_auroc"] == pytest.approx((3 / 4 + 1) / 2)
    assert figures["f1_ci95"][0] <= figures["f1"] <= figures["f1_ci95"][1]


def test_each_bag_is_cut_at_the_threshold_of_its_own_model() -> None:
    own = keys.figures([(BAGS[0], {"a": 0.3}), (BAGS[1], {"a": 1.5})])["a"]
    assert own["f1"] == pytest.approx(2 * 2 / (3 + 3))


def test_a_model_that_takes_all_validation_bags_for_negative_finds_nothing() -> None:
    missed = [scored_bag("v", "01", None)]
    own = keys.figures([(BAGS[0], keys.thresholds(missed)), (BAGS[1], {"a": 0.5})])["a"]
    # hits 0 + 1 of 3 positives, nothing false
    assert own["f1"] == pytest.approx(2 * 1 / (3 + 1))
    assert keys.figures([(BAGS[0], keys.thresholds(missed))])["a"]["f1"] == 0


def test_the_threshold_is_the_best_of_the_validation_bags() -> None:
    assert keys.thresholds(BAGS)["a"] == pytest.approx(0.2)


def test_scores_go_from_zero_to_one_within_a_bag() -> None:
    assert keys.within_bag(np.array([-2.0, 0.0, 6.0])).tolist() == [0.0, 0.25, 1.0]
    assert keys.within_bag(np.array([3.0, 3.0])).tolist() == [0.0, 0.0]


def test_the_best_setting_of_a_sweep_is_not_the_plain_score() -> None:
    rows = [
        {"setting": None, "attention": {"f1_oracle": 0.9}},
        {"setting": [1.0, 0.1, 5], "attention": {"f1_oracle": 0.5}},
        {"setting": [2.0, 0.2, 6], "attention": {"f1_oracle": 0.7}},
        {"setting": [3.0, 0.3, 7], "attention": {"f1_oracle": 0.7}},
    ]
    assert keys.best_of(rows, "attention") == SparseInversion(step=2.0, penalty=0.2, steps=6)


def trained_like(threshold: float) -> MILModel:
    """Return a model whose attention and class follow brightness; a mean above the threshold is positive."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    settings = parse_base({"model": "abmil", "gated": False, "embed_dim": None, "dropout": 0.0, "attention_dim": 1})
    model = create_model(settings, feature_dim=1, n_classes=2, instance_encoder=encoder)
    with torch.no_grad():
        model.hidden[0].weight.fill_(1.0)
        model.hidden[0].bias.zero_()
        model.attention.weight.fill_(3.0)
        model.classifier.weight.copy_(torch.tensor([[0.0], [10.0]]))
        model.classifier.bias.copy_(torch.tensor([0.0, -10.0 * threshold]))
    return model.eval().requires_grad_(False)


@pytest.fixture
def annotated() -> keys.AnnotatedBag:
    """Five images of brightness 0, .8, .1, .7, .2; the bright ones are positive."""
    images = np.zeros((5, 1, 4, 6), np.float32) + np.array([0, 0.8, 0.1, 0.7, 0.2], np.float32)[:, None, None, None]
    return keys.AnnotatedBag(Bag("b", images, np.zeros((5, 2), np.int64)), np.array([False, True, False, True, False]))


def test_every_score_finds_bright_images_where_brightness_is_the_class(annotated: keys.AnnotatedBag) -> None:
    inversions = [keys.Inversion(*default) for default in keys.DEFAULTS]
    (scored,) = keys.score_bags(trained_like(0.3), [annotated], inversions, DIGITS)
    assert scored.is_shown and scored.log["pixels"]["steps"] > 0 and 1 < scored.log["attended"] < 5
    assert {"attention", "evidence", "standardised_sum", "attention × norm", "pixels → attention (control)"} <= set(scored.scores)
    figures = keys.figures([(scored, keys.thresholds([scored]))])
    assert all(of["tile_auroc"] == 1.0 for of in figures.values())
    assert keys.summary([scored])["inversions"]["pixels"]["refused"] == 0


def test_a_bag_taken_for_negative_has_no_scores(annotated: keys.AnnotatedBag) -> None:
    (scored,) = keys.score_bags(trained_like(0.95), [annotated], [], DIGITS)
    assert not scored.is_shown and not scored.scores and keys.summary([scored])["bags_missed"] == 1


def test_without_penalty_the_control_is_the_plain_score(annotated: keys.AnnotatedBag) -> None:
    inversion = keys.Inversion("free", "pixels", SparseInversion(step=5.0, penalty=0.0, steps=3))
    (scored,) = keys.score_bags(trained_like(0.3), [annotated], [inversion], DIGITS)
    assert np.allclose(scored.scores["free → attention (control)"], scored.scores["attention"])
    assert not np.allclose(scored.scores["free → attention"], scored.scores["attention"], atol=1e-6)
