import math

import numpy as np
import pytest

from wsi_mil.metrics import accuracies, auroc, patient_bootstrap, predicted_class, youden_threshold


def two(scores: list[float]) -> np.ndarray:
    positive = np.array(scores)
    return np.stack([1 - positive, positive], axis=1)


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
        "sensitivity": 1.0,
        "specificity": pytest.approx(2 / 3),
    }


def test_the_bootstrap_draws_patients_not_slides() -> None:
    rng = np.random.default_rng(0)
    truth = np.tile([0, 1], 10)
    probs = two(list(np.clip(0.5 + 0.15 * (truth * 2 - 1) + rng.normal(0, 0.2, 20), 0, 1)))
    single = patient_bootstrap(truth, probs, [f"p{i}" for i in range(20)], draws=400)
    doubled = patient_bootstrap(np.tile(truth, 4), np.tile(probs, (4, 1)), [f"p{i}" for i in range(20)] * 4, draws=400)
    assert single == doubled and single[0] < auroc(truth, probs) < single[1]
