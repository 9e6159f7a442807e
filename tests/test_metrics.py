import math

import numpy as np
import pytest

from wsi_mil.metrics import (
    accuracies,
    auprc,
    auroc,
    brier,
    confusion,
    expected_calibration_error,
    f1,
    holm,
    interval95,
    mae,
    mid_ranks,
    paired_difference,
    patient_draws,
    patient_weights,
    pearson,
    predicted_class,
    r2,
    reliability_curve,
    rmse,
    roc_points,
    spearman,
    youden_threshold,
)


def two(scores: list[float]) -> np.ndarray:
    positive = np.array(scores)
    return np.stack([1 - positive, positive], axis=1)


def random_samples(n_classes: int, *, n: int = 70, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lopsided classes, all of them there, and probabilities of one digit, so that many are tied."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum()
    truth = np.concatenate([np.arange(n_classes), rng.choice(n_classes, n - n_classes, p=shares)])
    return truth, rng.multinomial(10, np.full(n_classes, 1 / n_classes), n) / 10


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    assert auroc(np.array([0, 0, 1, 1]), two([0.1, 0.6, 0.4, 0.9])) == 0.75


def test_auroc_of_one_class_is_unknown() -> None:
    assert math.isnan(auroc(np.array([1, 1]), two([0.1, 0.6])))


def test_auroc_of_three_classes_is_the_mean_over_classes() -> None:
    probs = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.4, 0.3, 0.3]])
    truth = np.array([0, 1, 2, 1])
    expected = (1.0 + 1.0 + 1.0) / 3
    assert auroc(truth, probs) == pytest.approx(expected)
    assert auroc(np.array([1, 1, 2, 0]), probs) == pytest.approx((2 / 3 + 1 / 2 + 1.0) / 3)


def test_the_threshold_cuts_the_gap_in_its_middle() -> None:
    positive = np.array([False, False, True, True])
    threshold = youden_threshold(positive, np.array([0.1, 0.2, 0.4, 0.9]))
    assert threshold == pytest.approx(0.3)


def test_the_threshold_of_one_class_is_a_half() -> None:
    assert youden_threshold(np.array([True, True]), np.array([0.1, 0.9])) == 0.5


def test_of_equal_thresholds_the_nearest_to_a_half_is_taken() -> None:
    positive = np.array([False, True, False, True])
    assert youden_threshold(positive, np.array([0.1, 0.3, 0.6, 0.8])) == pytest.approx(0.7)


def test_a_probability_at_the_threshold_is_positive() -> None:
    assert predicted_class(np.array([0.7, 0.3]), 0.3) == 1 and predicted_class(np.array([0.7, 0.3]), 0.31) == 0
    assert predicted_class(np.array([0.2, 0.5, 0.3]), None) == 1


def test_accuracies_by_hand() -> None:
    figures = accuracies(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
    assert figures == {
        "accuracy": 0.75,
        "balanced_accuracy": pytest.approx(5 / 6),
        "f1": pytest.approx(2 / 3),
        "sensitivity": 1.0,
        "specificity": pytest.approx(2 / 3),
    }


def test_accuracies_of_three_classes_by_hand() -> None:
    figures = accuracies(np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 2, 2]), 3)
    of_class = [6 / 7, 2 / 4, 2 / 3]
    assert figures == {
        "accuracy": pytest.approx(5 / 7),
        "balanced_accuracy": pytest.approx((3 / 4 + 1 / 2 + 1) / 3),
        "f1": pytest.approx(sum(of_class) / 3),
    }


def test_what_needs_a_class_that_is_missing_is_unknown() -> None:
    figures = accuracies(np.array([0, 0, 0]), np.array([0, 0, 1]), 2)
    assert math.isnan(figures["sensitivity"]) and math.isnan(figures["balanced_accuracy"])
    assert figures["accuracy"] == figures["specificity"] == pytest.approx(2 / 3) and figures["f1"] == 0
    assert math.isnan(accuracies(np.array([0, 0]), np.array([0, 0]), 2)["f1"])
    assert math.isnan(auprc(np.array([0, 0]), two([0.1, 0.6])))


def test_rows_of_the_confusion_matrix_are_the_truth() -> None:
    counts = confusion(np.array([0, 0, 0, 1, 2]), np.array([0, 1, 1, 1, 0]), 3)
    assert counts.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_give_what_scikit_learn_gives_ties_included(seed: int) -> None:
    import sklearn.metrics as sk

    truth, probs = random_samples(2, seed=seed) if seed else (np.array([0, 1, 1]), two([0.4, 0.4, 0.4]))
    predicted = (probs[:, 1] >= 0.4).astype(int)
    figures = accuracies(truth, predicted, 2)
    assert auroc(truth, probs) == pytest.approx(sk.roc_auc_score(truth, probs[:, 1]), abs=1e-12)
    assert auprc(truth, probs) == pytest.approx(sk.average_precision_score(truth, probs[:, 1]), abs=1e-12)
    assert brier(truth, probs) == pytest.approx(sk.brier_score_loss(truth, probs[:, 1]), abs=1e-12)
    assert figures["f1"] == pytest.approx(sk.f1_score(truth, predicted))
    assert figures["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert figures["sensitivity"] == pytest.approx(sk.recall_score(truth, predicted))
    assert confusion(truth, predicted, 2).tolist() == sk.confusion_matrix(truth, predicted).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_three_classes_give_what_scikit_learn_gives_ties_included(seed: int) -> None:
    import sklearn.metrics as sk

    truth, probs = random_samples(3, seed=seed)
    predicted, one_hot = probs.argmax(axis=1), np.eye(3)[truth]
    figures = accuracies(truth, predicted, 3)
    assert auroc(truth, probs) == pytest.approx(sk.roc_auc_score(truth, probs, multi_class="ovr"), abs=1e-12)
    assert auprc(truth, probs) == pytest.approx(sk.average_precision_score(one_hot, probs), abs=1e-12)
    assert figures["f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    assert figures["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert "sensitivity" not in figures


def test_average_precision_by_hand() -> None:
    assert auprc(np.array([0, 0, 0, 1, 1]), two([0.1, 0.2, 0.6, 0.5, 0.9])) == pytest.approx((1 + 2 / 3) / 2)


def test_the_roc_curve_runs_from_corner_to_corner_and_has_the_area() -> None:
    truth, probs = random_samples(2, seed=3)
    false_positive, true_positive = roc_points(truth, probs[:, 1])
    assert (false_positive[0], true_positive[0], false_positive[-1], true_positive[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true_positive, false_positive) == pytest.approx(auroc(truth, probs))


def test_the_brier_score_by_hand() -> None:
    assert brier(np.array([0, 1, 1]), two([0.2, 0.6, 1.0])) == pytest.approx((0.04 + 0.16 + 0) / 3)
    three = np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]])
    assert brier(np.array([0, 1]), three) == pytest.approx((0.25 + 0.09 + 0.04 + 2) / 2)


def test_the_reliability_curve_by_hand() -> None:
    truth, probs = np.array([0, 0, 1, 1, 1, 0]), two([0.02, 0.06, 0.08, 0.55, 0.85, 0.95])
    predicted, observed, counts = reliability_curve(truth, probs)
    assert predicted == pytest.approx([0.16 / 3, 0.55, 0.85, 0.95]) and observed == pytest.approx([1 / 3, 1, 1, 0])
    assert counts.tolist() == [3, 1, 1, 1]
    expected = (3 * (1 / 3 - 0.16 / 3) + 0.45 + 0.15 + 0.95) / 6
    assert expected_calibration_error(truth, probs) == pytest.approx(expected)


def test_of_three_classes_reliability_is_that_of_the_most_probable() -> None:
    probs = np.array([[0.62, 0.3, 0.08], [0.1, 0.68, 0.22], [0.02, 0.03, 0.95]])
    predicted, observed, counts = reliability_curve(np.array([0, 0, 2]), probs)
    assert predicted == pytest.approx([0.65, 0.95]) and observed.tolist() == [0.5, 1] and counts.tolist() == [2, 1]
    assert expected_calibration_error(np.array([0, 0, 2]), probs) == pytest.approx((2 * 0.15 + 0.05) / 3)


def test_the_reliability_curve_is_that_of_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    truth, probs = random_samples(2, seed=4)
    predicted, observed, counts = reliability_curve(truth, probs, bins=4)
    shares, means = calibration_curve(truth, probs[:, 1], n_bins=4)
    assert predicted == pytest.approx(means) and observed == pytest.approx(shares) and counts.sum() == len(truth)


def test_of_no_sample_every_figure_is_unknown() -> None:
    truth, probs = np.zeros(0, int), np.zeros((0, 2))
    figures = [auroc(truth, probs), auprc(truth, probs), brier(truth, probs), expected_calibration_error(truth, probs)]
    assert all(math.isnan(value) for value in [*figures, *accuracies(truth, truth, 2).values(), f1(confusion(truth, truth, 3))])


def test_a_draw_takes_whole_patients_as_many_as_there_are() -> None:
    patients = ["b", "a", "b", "c", "b", "d"]
    rows_of = {"a": [1], "b": [0, 2, 4], "c": [3], "d": [5]}
    for rows in patient_draws(patients, draws=50):
        times = {name: (rows == having[0]).sum() for name, having in rows_of.items()}
        assert sum(times.values()) == 4
        assert all((rows == row).sum() == times[name] for name, having in rows_of.items() for row in having)


def test_weights_of_patients_are_the_draws_of_their_rows() -> None:
    patients = list("cabbac")
    weights = patient_weights(3, draws=30)
    for values, rows in zip(weights, patient_draws(patients, draws=30), strict=True):
        assert [np.count_nonzero(np.array(patients)[rows] == name) for name in "abc"] == (2 * values).tolist()
    assert (weights.sum(axis=1) == 3).all()


def test_the_same_seed_draws_the_same_rows() -> None:
    first, again, other = ([r.tolist() for r in patient_draws(list("abcdef"), draws=5, seed=seed)] for seed in (1, 1, 2))
    assert first == again != other


def test_more_slides_of_the_same_patients_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    truth = np.tile([0, 1], 10)
    probs = two(list(np.clip(0.5 + 0.15 * (truth * 2 - 1) + rng.normal(0, 0.2, 20), 0, 1)))
    patients = [f"p{i}" for i in range(20)]
    single = np.array([auroc(truth[r], probs[r]) for r in patient_draws(patients, draws=400)])
    fourfold, many = np.tile(truth, 4), np.tile(probs, (4, 1))
    quadrupled = np.array([auroc(fourfold[r], many[r]) for r in patient_draws(patients * 4, draws=400)])
    assert interval95(single) == interval95(quadrupled)
    assert interval95(single)[0] < auroc(truth, probs) < interval95(single)[1]


def test_an_interval_leaves_out_the_draws_without_a_figure() -> None:
    assert interval95(np.array([*np.linspace(0, 1, 41), math.nan])) == pytest.approx((0.025, 0.975))
    assert all(math.isnan(bound) for bound in interval95(np.full(3, math.nan)))


def test_the_same_figures_differ_by_nothing() -> None:
    values = np.array([0.7, 0.8, math.nan, 0.9])
    difference = paired_difference((0.8, 0.8), values, values)
    assert (difference.value, difference.ci95, difference.p) == (0, (0, 0), 1)


def test_a_paired_difference_by_hand() -> None:
    first = np.array([0.9, 0.8, 0.7, 0.9, 0.8, 0.9, 0.8, 0.9, 0.4])
    difference = paired_difference((0.85, 0.5), first, np.full(9, 0.5))
    assert difference.value == pytest.approx(0.35) and difference.p == pytest.approx(2 * (1 + 1) / (9 + 1))
    assert difference.ci95 == pytest.approx(tuple(np.quantile(first - 0.5, [0.025, 0.975])))


def test_swapping_two_models_turns_the_sign_and_keeps_p() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.8, 0.05, 99), rng.normal(0.7, 0.1, 99)
    there, back = paired_difference((0.8, 0.7), first, second), paired_difference((0.7, 0.8), second, first)
    assert (back.value, back.p) == (-there.value, there.p) and back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]))


def test_without_a_draw_in_common_a_difference_is_unsure() -> None:
    difference = paired_difference((0.8, 0.7), np.array([math.nan, 0.8]), np.array([0.7, math.nan]))
    assert difference.value == pytest.approx(0.1) and math.isnan(difference.p) and math.isnan(difference.ci95[0])


def test_holm_by_hand() -> None:
    adjusted = holm(np.array([0.04, 0.01, math.nan, 0.03, 0.5]))
    assert adjusted[[0, 1, 3, 4]] == pytest.approx([0.09, 0.04, 0.09, 0.5]) and math.isnan(adjusted[2])
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1] and len(holm(np.zeros(0))) == 0


def test_a_probability_that_is_no_number_has_no_auroc() -> None:
    truth, probs = np.array([0, 0, 1, 1]), two([0.1, 0.2, np.nan, 0.9])
    assert math.isnan(auroc(truth, probs)) and math.isnan(auprc(truth, probs))


def test_ranks_are_those_of_scipy_between_0_and_1() -> None:
    from scipy.stats import rankdata

    values = np.array([3.0, -1, 3, 7, 0, 0, 3])
    assert np.allclose(mid_ranks(values), (rankdata(values) - 0.5) / 7)


TRUE_VALUES = np.array([1.0, 2.0, 4.0, 9.0])
VALUES = np.array([2.0, 2.0, 3.0, 13.0])
"""Errors of 1, 0, -1 and 4; the truth has the mean 4 and squares of 9 + 4 + 0 + 25 about it."""


def test_errors_of_regression_by_hand() -> None:
    assert r2(TRUE_VALUES, VALUES) == pytest.approx(1 - 18 / 38)
    assert (mae(TRUE_VALUES, VALUES), rmse(TRUE_VALUES, VALUES)) == (1.5, pytest.approx(math.sqrt(4.5)))
    assert r2(TRUE_VALUES, np.full(4, 4.0)) == 0 and r2(TRUE_VALUES, TRUE_VALUES) == 1


def test_correlations_by_hand() -> None:
    """Predicted values have the mean 5 and squares of 9 + 9 + 4 + 64; ranks are 1.5, 1.5, 3, 4."""
    assert pearson(TRUE_VALUES, VALUES) == pytest.approx((-3 * -3 + -2 * -3 + 0 * -2 + 5 * 8) / math.sqrt(38 * 86))
    assert spearman(TRUE_VALUES, VALUES) == pytest.approx((1.5 + 0.5 + 0.25 + 2.25) / math.sqrt(5 * 4.5))


def test_r2_is_not_symmetric_and_correlations_ignore_scale() -> None:
    assert r2(TRUE_VALUES, VALUES) != pytest.approx(r2(VALUES, TRUE_VALUES))
    assert pearson(TRUE_VALUES, 3 * VALUES - 7) == pytest.approx(pearson(TRUE_VALUES, VALUES))
    assert spearman(TRUE_VALUES, np.exp(VALUES)) == pytest.approx(spearman(TRUE_VALUES, VALUES))


def test_figures_of_regression_are_undefined_where_values_do_not_differ() -> None:
    constant, empty = np.full(4, 0.1), np.zeros(0)
    assert math.isnan(r2(constant, VALUES)) and math.isnan(r2(TRUE_VALUES[:1], VALUES[:1])) and math.isnan(r2(empty, empty))
    assert all(math.isnan(f(a, b)) for f in (pearson, spearman) for a, b in ((constant, VALUES), (VALUES, constant)))
    assert math.isnan(mae(empty, empty)) and math.isnan(rmse(empty, empty))


def test_a_value_that_is_no_number_leaves_no_figure() -> None:
    values = np.array([1.0, np.nan, 3, 4])
    assert all(math.isnan(f(TRUE_VALUES, values)) for f in (r2, mae, rmse, pearson, spearman))
