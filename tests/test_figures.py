import json
import math
from pathlib import Path

import numpy as np
import pytest

from wsi_mil.figures import cohort_figures, group_figures
from wsi_mil.metrics import auroc
from wsi_mil.receipts import write_receipt
from wsi_mil.tasks import Classes, Outcomes

TASK = Classes(("normal", "tumour"))
TRUTH = np.array([0, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0])
POSITIVE = np.array([0.1, 0.3, 0.55, 0.2, 0.8, 0.4, 0.45, 0.9, 0.05, 0.7, 0.6])
PATIENTS = ["a", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
FOLDS = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
"""Seven slides, three, one of class 0 alone, and none of the fourth fold."""

NAMES = ["auroc", "auprc", "accuracy", "balanced_accuracy", "f1", "sensitivity", "specificity", "brier", "ece"]


def two(positive: np.ndarray) -> np.ndarray:
    return np.stack([1 - positive, positive], axis=1)


def outcomes(positive: np.ndarray) -> Outcomes:
    return Outcomes(TRUTH, two(positive), (positive >= 0.5).astype(int))


def binary(**settings: object) -> dict:
    whole = outcomes(POSITIVE)
    parts = {fold: whole.rows(np.flatnonzero(fold == FOLDS)) for fold in range(4)}
    return cohort_figures(TASK, whole, PATIENTS, **{"parts": parts, "draws": 300, **settings})


def test_pooled_figures_by_hand() -> None:
    figures = binary()
    assert (figures["n_bags"], figures["n_patients"], figures["n_of_class"]) == (11, 10, {"normal": 7, "tumour": 4})
    assert figures["auroc"] == pytest.approx((7 + 5 + 7 + 7) / 28)
    assert (figures["sensitivity"], figures["specificity"]) == (3 / 4, 5 / 7)
    assert figures["f1"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    assert figures["confusion_matrix"] == [[5, 2], [1, 3]]
    assert sum(point["count"] for point in figures["reliability"]) == 11


def test_every_figure_has_an_interval_that_holds_it() -> None:
    figures = binary()
    for name in set(NAMES) - {"ece"}:  # resamples are less calibrated than the sample
        low, high = figures[f"{name}_ci95"]
        assert low < figures[name] < high, name
    assert 0 <= figures["ece_ci95"][0] < figures["ece_ci95"][1] <= 1


def test_figures_of_a_fold_are_those_of_its_own_slides() -> None:
    figures = binary()
    assert figures["of_fold"]["0"]["auroc"] == pytest.approx(auroc(TRUTH[:7], two(POSITIVE[:7]))) == pytest.approx(0.9)
    assert figures["of_fold"]["1"]["auroc"] == 1 and list(figures["of_fold"]) == ["0", "1", "2"]


def test_a_fold_that_lacks_a_class_is_left_out_of_the_figures_that_need_it() -> None:
    figures = binary()
    assert math.isnan(figures["of_fold"]["2"]["auroc"]) and figures["of_fold"]["2"]["accuracy"] == 0
    assert figures["fold_mean"]["auroc"] == pytest.approx(0.95)
    assert figures["fold_sd"]["auroc"] == pytest.approx(np.std([0.9, 1.0], ddof=1))
    assert figures["fold_mean"]["accuracy"] == pytest.approx((5 / 7 + 1 + 0) / 3)
    assert set(figures["fold_mean"]) == set(figures["fold_sd"]) == set(NAMES)


def test_one_fold_has_no_deviation() -> None:
    figures = binary(parts={0: outcomes(POSITIVE)})
    assert figures["fold_mean"]["auroc"] == figures["auroc"] and math.isnan(figures["fold_sd"]["auroc"])


def test_with_repeated_folds_a_slide_counts_once_in_the_pool_and_in_each_of_its_parts() -> None:
    whole = outcomes(POSITIVE)
    again = Outcomes(TRUTH, two(1 - POSITIVE), (POSITIVE < 0.5).astype(int))
    figures = binary(parts={0: whole, 1: again})
    assert figures["n_bags"] == 11 and figures["fold_mean"]["auroc"] == pytest.approx(0.5)
    assert figures["auroc"] == binary()["auroc"]


def test_three_classes_have_figures_over_classes_and_no_sensitivity() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    probs = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.3, 0.5, 0.2], [0.2, 0.7, 0.1], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7]])
    whole = Outcomes(truth, probs, probs.argmax(axis=1))
    parts = {0: whole.rows(np.arange(3)), 1: whole.rows(np.arange(3, 6))}
    figures = cohort_figures(Classes(("a", "b", "c")), whole, list("abcdef"), parts, draws=200)
    assert figures["confusion_matrix"] == [[2, 1, 0], [1, 1, 0], [0, 0, 1]] and "sensitivity" not in figures
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert figures["auroc"] == pytest.approx((8 / 9 + 7 / 8 + 1) / 3)
    assert not math.isnan(figures["auroc_ci95"][0]), "draws that lack the one slide of class c are left out"
    assert math.isnan(figures["fold_mean"]["auroc"])


def test_where_no_draw_can_have_a_figure_it_has_no_interval() -> None:
    pair = Outcomes(np.array([0, 1]), two(np.array([0.1, 0.9])), np.array([0, 1]))
    figures = cohort_figures(TASK, pair, ["a", "a"], {}, draws=100)
    assert figures["auroc_ci95"] == [1, 1] and figures["of_fold"] == {} and math.isnan(figures["fold_mean"]["auroc"])
    alone = cohort_figures(TASK, pair.rows(np.array([0])), ["a"], {}, draws=100)
    assert math.isnan(alone["auroc"]) and all(math.isnan(bound) for bound in alone["auroc_ci95"])


def test_renaming_and_reordering_change_no_figure() -> None:
    order = np.random.default_rng(0).permutation(11)
    moved = TASK.point_figures(outcomes(POSITIVE).rows(order))
    assert moved == pytest.approx(TASK.point_figures(outcomes(POSITIVE))) and list(moved) == NAMES


def test_the_figures_are_written_as_json(tmp_path: Path) -> None:
    write_receipt(tmp_path / "m.json", binary())
    content = json.loads((tmp_path / "m.json").read_text())
    assert content["of_fold"]["2"]["auroc"] is None and content["reliability"][0]["count"] == 2


SITES = ["A"] * 5 + ["B"] * 4 + ["C"] * 2
"""A: truth 0 0 0 0 1; B: 0 1 1 0; C: 1 0."""


def of_sites(positive: np.ndarray, sites: list[str] = SITES, truth: np.ndarray = TRUTH) -> dict:
    whole = Outcomes(truth, two(positive), (positive >= 0.5).astype(int))
    return group_figures(TASK, whole, PATIENTS, sites, draws=200)


def test_figures_of_a_group_and_their_mean_by_hand() -> None:
    """A ranks 4 of 4 pairs rightly; B 0.45 over 0.4 and 0.05, 0.9 over both; C 0.7 over 0.6."""
    found = of_sites(np.where(np.array(SITES) == "B", np.array([0, 0, 0, 0, 0, 0.4, 0.3, 0.9, 0.05, 0, 0]), POSITIVE))
    assert [found["groups"][site]["auroc"] for site in "ABC"] == [1, 3 / 4, 1]
    assert found["mean"]["auroc"] == pytest.approx((1 + 3 / 4 + 1) / 3) and found["mean"]["n_groups"] == 3
    assert found["mean"]["sensitivity"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found["groups"]["A"]["n_patients"] == 4 and found["groups"]["A"]["n_of_class"] == {"normal": 4, "tumour": 1}
    low, high = found["mean"]["auroc_ci95"]
    assert low <= found["mean"]["auroc"] <= high


def test_a_group_of_one_class_is_left_out_of_the_mean() -> None:
    truth = TRUTH.copy()
    truth[4] = 0
    found = of_sites(POSITIVE, truth=truth)
    assert math.isnan(found["groups"]["A"]["auroc"]) and found["groups"]["A"]["specificity"] == pytest.approx(3 / 5)
    assert found["mean"]["n_groups"] == 2 and found["mean"]["specificity"] == pytest.approx((3 / 5 + 2 / 2 + 0) / 3)
    only = of_sites(POSITIVE, truth=np.zeros(11, np.int64))
    assert only["mean"]["n_groups"] == 0 and math.isnan(only["mean"]["auroc"]) and math.isnan(only["mean"]["auroc_ci95"][0])


def test_many_small_groups_have_an_interval_though_in_each_draw_some_of_them_lack_a_class() -> None:
    """25 groups of one positive and four negative patients: nearly every draw has a group without the positive one."""
    truth, groups = np.tile([1, 0, 0, 0, 0], 25), np.repeat([f"g{i:02d}" for i in range(25)], 5).tolist()
    positive = np.tile([0.6, 0.1, 0.2, 0.3, 0.9], 25)  # three of four pairs are ranked rightly
    whole = Outcomes(truth, two(positive), (positive >= 0.5).astype(int))
    mean = group_figures(TASK, whole, [f"p{i}" for i in range(125)], groups, draws=200)["mean"]
    low, high = mean["auroc_ci95"]
    assert mean["auroc"] == pytest.approx(0.75) and 0.6 < low < 0.72 < 0.78 < high < 0.9


def test_scores_that_know_the_group_only_are_at_chance_in_the_mean_and_not_in_the_pool() -> None:
    truth, sites = np.array([0, 0, 0, 0, 1] * 2 + [1, 1, 1, 1, 0] * 2), ["A"] * 10 + ["B"] * 10
    positive = np.repeat([0.2, 0.8], 10)
    whole = Outcomes(truth, two(positive), (positive >= 0.5).astype(int))
    patients = [f"p{i}" for i in range(20)]
    assert group_figures(TASK, whole, patients, sites, draws=100)["mean"]["auroc"] == 0.5
    assert cohort_figures(TASK, whole, patients, {}, draws=100)["auroc"] == pytest.approx(0.8)
