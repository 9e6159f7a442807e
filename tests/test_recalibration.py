import numpy as np
import pytest
from scipy.optimize import minimize

from wsi_mil.metrics import auroc
from wsi_mil.recalibration import calibration_faults, fit_recalibration
from wsi_mil.tasks import Classes, Truth

TWO, THREE = Classes(("normal", "tumour")), Classes(("a", "b", "c"))
RNG = np.random.default_rng(2)
LABELS = np.array([0] * 30 + [1] * 18)
LOGITS = RNG.normal(size=48) + 1.5 * LABELS - 2
"""Scores that rank well, and lie too low by two."""


def probs_of(logits: np.ndarray) -> np.ndarray:
    positive = 1 / (1 + np.exp(-logits))
    return np.stack([1 - positive, positive], axis=1)


def patients(n: int = 48) -> list[str]:
    return [f"p{i}" for i in range(n)]


def test_platt_is_the_maximum_of_the_likelihood_with_his_targets() -> None:
    fitted = fit_recalibration(TWO, probs_of(LOGITS), Truth.of(LABELS, patients()), "platt")
    target = np.where(LABELS == 1, 19 / 20, 1 / 32)

    def loss(ab: np.ndarray) -> float:
        z = ab[0] * LOGITS + ab[1]
        return float((np.logaddexp(0, z) - target * z).sum())

    expected = minimize(loss, [1.0, 0.0]).x
    (curve,) = fitted.about()["platt"]
    assert [curve["slope"], curve["intercept"]] == pytest.approx(expected.tolist(), abs=1e-3)
    assert curve["intercept"] > 0.5, "what was too low is raised"


def test_the_mean_of_recalibrated_probabilities_is_that_of_the_targets() -> None:
    fitted = fit_recalibration(TWO, probs_of(LOGITS), Truth.of(LABELS), "platt")
    assert fitted.probs(probs_of(LOGITS))[:, 1].mean() == pytest.approx((18 * 19 / 20 + 30 / 32) / 48, abs=1e-4)


def test_isotonic_regression_by_hand() -> None:
    """0.2 | 0.3 0.4 | 0.6: the labels 0, 1, 0, 1 are pooled to 0, 1/2, 1/2, 1, with straight lines between, flat at the ends."""
    probs = np.array([0.2, 0.3, 0.4, 0.6])
    fitted = fit_recalibration(TWO, np.stack([1 - probs, probs], axis=1), Truth.of([0, 1, 0, 1]), "isotonic")
    asked = np.array([0.1, 0.2, 0.25, 0.35, 0.5, 0.6, 0.9])
    found = fitted.probs(np.stack([1 - asked, asked], axis=1))[:, 1]
    assert found.tolist() == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1, 1])
    assert "platt" not in fitted.about()


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_the_order_of_slides_is_kept(method) -> None:
    fitted = fit_recalibration(TWO, probs_of(LOGITS), Truth.of(LABELS), method)
    order = np.argsort(LOGITS)
    assert (np.diff(fitted.probs(probs_of(LOGITS))[order, 1]) >= 0).all()
    if method == "platt":
        assert auroc(LABELS, fitted.probs(probs_of(LOGITS))) == auroc(LABELS, probs_of(LOGITS))


def test_the_new_threshold_has_the_largest_youden_index_on_the_calibration_patients() -> None:
    fitted = fit_recalibration(TWO, probs_of(np.array([-3.0, -2, -1, -0.5, 0, 1])), Truth.of([0, 0, 0, 1, 1, 1]), "platt")
    positive = fitted.probs(probs_of(np.array([-1.0, -0.5])))[:, 1]
    assert positive[0] < fitted.threshold < positive[1]


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_probabilities_of_several_classes_sum_to_one(method) -> None:
    labels = np.array([0] * 25 + [1] * 21 + [2] * 30)
    logits = RNG.normal(size=(76, 3)) + 2 * np.eye(3)[labels]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    fitted = fit_recalibration(THREE, probs, Truth.of(labels), method)
    extreme = np.vstack([probs, np.eye(3), [[1 / 3] * 3]])
    found = fitted.probs(extreme)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(extreme))) and (found >= 0).all()
    assert fitted.threshold is None and np.isfinite(found).all()


def test_scores_that_are_reversed_are_noticed() -> None:
    fitted = fit_recalibration(TWO, probs_of(-LOGITS), Truth.of(LABELS), "platt")
    assert fitted.about()["platt"][0]["slope"] < 0


def test_too_few_patients_of_a_class_are_one_sentence() -> None:
    of = [["normal"]] * 30 + [["tumour"]] * 4
    (found,) = calibration_faults(TWO, of, "platt")
    assert found == (
        "recalibrate: platt needs 5 patients of each class, and there are 4 of class 'tumour': add patients, or leave it out"
    )
    (found,) = calibration_faults(TWO, of[:6], "isotonic")
    assert "isotonic needs 20 patients of each class, and there are 6 of class 'normal' and 0 of class 'tumour'" in found
    (found,) = calibration_faults(TWO, [["normal"]] * 30 + [["tumour"]] * 6, "isotonic")
    assert found.endswith("or use method: platt")
    assert not calibration_faults(TWO, [["normal", "normal"]] * 5 + [["tumour"]] * 5, "platt")
