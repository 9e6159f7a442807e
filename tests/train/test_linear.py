"""Coefficients against those of scikit-learn and lifelines, on clinical tables that come with them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from lifelines.datasets import load_rossi
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression, Ridge

from tests.train.linear import lopsided, problem_of
from wsi_mil.tasks import Classes, Multilabel, Regression, Survival, Truth
from wsi_mil.train.linear import LinearFit, LinearProblem, column_scale, fit_linear, row_basis


def standardised(design: np.ndarray) -> np.ndarray:
    return (design - design.mean(axis=0)) / design.std(axis=0)


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_two_classes_have_the_coefficients_of_scikit_learn_on_breast_cancer(penalty: float) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    fitted = fit_linear(problem_of(Classes.numbered(2), x, y, penalty, balanced=False))
    expected = LogisticRegression(C=1 / (penalty * len(y)), tol=1e-9, max_iter=10_000).fit(standardised(x), y)
    np.testing.assert_allclose(fitted.coefficients[1], expected.coef_[0], atol=1e-5)
    assert fitted.intercepts[1] == pytest.approx(expected.intercept_[0], abs=1e-5)
    assert not fitted.coefficients[0].any() and fitted.intercepts[0] == 0


def test_balanced_classes_are_those_of_scikit_learn() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    fitted = fit_linear(problem_of(Classes.numbered(2), x, y, 0.1))
    balanced = LogisticRegression(C=1 / (0.1 * len(y)), class_weight="balanced", tol=1e-9, max_iter=10_000)
    np.testing.assert_allclose(fitted.coefficients[1], balanced.fit(standardised(x), y).coef_[0], atol=1e-5)


def test_three_classes_have_the_probabilities_of_scikit_learn_on_wine() -> None:
    x, y = load_wine(return_X_y=True)
    fitted = fit_linear(problem_of(Classes.numbered(3), x, y, 0.02, balanced=False))
    expected = LogisticRegression(C=1 / (0.02 * len(y)), tol=1e-9, max_iter=10_000).fit(standardised(x), y)
    np.testing.assert_allclose(fitted.coefficients, expected.coef_, atol=1e-5)
    powers = np.exp(fitted.logits(x))
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), expected.predict_proba(standardised(x)), atol=1e-5)


def test_each_label_is_regressed_on_the_rows_in_which_it_is_known() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    labels = np.stack([y, x[:, 0] > 14], axis=1).astype(float)
    labels[::5, 0] = np.nan
    fitted = fit_linear(problem_of(Multilabel(("a", "b")), x, labels, 0.1, balanced=False))
    known, z = ~np.isnan(labels[:, 0]), standardised(x)
    for output, rows in enumerate((known, np.ones(len(x), bool))):
        own = LogisticRegression(C=1 / (0.1 * rows.sum()), tol=1e-9, max_iter=10_000).fit(z[rows], labels[rows, output])
        np.testing.assert_allclose(fitted.coefficients[output], own.coef_[0], atol=1e-5)


def test_values_have_the_coefficients_of_ridge_regression_on_diabetes() -> None:
    x, y = load_diabetes(return_X_y=True, scaled=False)
    task = Regression().fitted(Truth.of(y))
    fitted = fit_linear(problem_of(task, x, y, 0.3))
    expected = Ridge(alpha=0.3 * len(y)).fit(standardised(x), (y - y.mean()) / y.std())
    np.testing.assert_allclose(fitted.coefficients[0], expected.coef_, atol=1e-8)
    assert fitted.intercepts[0] == pytest.approx(0, abs=1e-10)


@pytest.mark.filterwarnings("ignore")
def test_cox_has_the_coefficients_of_lifelines_on_rossi() -> None:
    rossi, penalty = load_rossi(), 0.05
    x, labels = rossi.drop(columns=["week", "arrest"]).to_numpy(float), rossi[["week", "arrest"]].to_numpy(float)
    fitted = fit_linear(problem_of(Survival("cox"), x, labels, penalty))
    table = pd.DataFrame(standardised(x)).assign(week=labels[:, 0], arrest=labels[:, 1])
    of_lifelines = penalty * (len(x) - 1) / len(x)  # lifelines penalises columns of sample standard deviation 1
    expected = CoxPHFitter(penalizer=of_lifelines).fit(table, "week", "arrest", fit_options={"precision": 1e-10})
    np.testing.assert_allclose(fitted.coefficients[0], expected.params_.to_numpy(), atol=1e-5)
    assert fitted.intercepts[0] == 0


def test_hazards_are_a_logistic_regression_on_the_intervals_that_each_patient_lived_to_see() -> None:
    """scikit-learn penalises intercepts that are columns: large ones have small coefficients, which cost next to nothing."""
    rossi = load_rossi()
    x, labels = rossi.drop(columns=["week", "arrest"]).to_numpy(float), rossi[["week", "arrest"]].to_numpy(float)
    task = Survival("discrete", 3).fitted(Truth.of(labels))
    fitted, edges = fit_linear(problem_of(task, x, labels, 0.05)), np.array(task.intervals.edges)
    columns, died = [], []
    for row, (time, event) in zip(standardised(x), labels, strict=True):
        for interval in range(np.searchsorted(edges, time, "right") + 1):
            columns.append([*row, *(300.0 * (np.arange(3) == interval))])
            died.append(bool(event) and interval == np.searchsorted(edges, time, "right"))
    expected = LogisticRegression(C=1 / (0.05 * len(x)), fit_intercept=False, solver="newton-cholesky", tol=1e-10)
    expected.fit(np.array(columns), died)
    np.testing.assert_allclose(fitted.coefficients, np.tile(expected.coef_[0, :7], (3, 1)), atol=1e-4)
    np.testing.assert_allclose(fitted.intercepts, 300 * expected.coef_[0, 7:], atol=1e-3)


@pytest.mark.parametrize(("kind", "task"), [("discrete", Survival("discrete", 3, 0.4)), ("cox", Survival("cox"))])
def test_no_step_from_the_fit_lowers_the_penalised_loss_of_the_task(kind: str, task: Survival) -> None:
    problem = lopsided(kind, n=60, k=4)
    patients = tuple(f"p{i // 2}" for i in range(20)) + tuple(f"q{i}" for i in range(40))
    labels = problem.truth.labels.copy()
    labels[1:20:2] = labels[0:20:2]
    truth = Truth(labels, patients)
    task = task.fitted(truth)
    fitted = fit_linear(replace(problem, task=task, truth=truth, penalties=(0.1,)))
    z, w, n_outputs = (problem.design - fitted.centre) / fitted.scale, fitted.coefficients[0], len(fitted.intercepts)
    share = task.encode(["1 1"])[0, 1] if kind == "discrete" else labels[np.unique(patients, return_index=True)[1], 1].mean()

    def loss(step: np.ndarray) -> float:
        logits = (z @ (w + step[:4]))[:, None] + fitted.intercepts + (step[4:] if kind == "discrete" else 0)
        return share * task.validation_loss(torch.from_numpy(logits), truth, np.empty(0)) + 0.05 * ((w + step[:4]) ** 2).sum()

    steps = 1e-3 * np.vstack([np.eye(4 + n_outputs), -np.eye(4 + n_outputs)])
    assert all(loss(step) >= loss(0 * step) - 1e-12 for step in steps) and loss(steps[0]) > loss(0 * steps[0])


@pytest.mark.parametrize("kind", ["classes", "multilabel", "regression", "cox", "discrete"])
def test_more_columns_than_rows_give_the_solution_of_the_whole_space(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = lopsided(kind, n=30, k=70)
    turned = fit_linear(problem)
    monkeypatch.setattr("wsi_mil.train.linear.row_basis", lambda design: np.eye(design.shape[1]))
    whole = fit_linear(problem)
    assert row_basis(problem.design).shape == (70, 30) and turned.penalty == whole.penalty
    np.testing.assert_allclose(turned.coefficients, whole.coefficients, atol=1e-5)


@pytest.mark.parametrize("kind", ["classes", "multilabel", "regression", "cox", "discrete"])
def test_a_constant_column_has_no_weight_and_changes_nothing(kind: str) -> None:
    problem = lopsided(kind, n=40, k=5)
    more = [np.insert(design, 2, 0.1, axis=1) for design in (problem.design, problem.val_design)]
    with_constant = fit_linear(replace(problem, design=more[0], val_design=more[1]))
    np.testing.assert_allclose(with_constant.coefficients[:, 2], 0, atol=1e-12)
    np.testing.assert_allclose(np.delete(with_constant.coefficients, 2, axis=1), fit_linear(problem).coefficients, atol=1e-5)


@pytest.mark.parametrize("kind", ["classes", "multilabel", "regression", "cox", "discrete"])
def test_units_of_columns_change_nothing_but_centre_and_scale(kind: str) -> None:
    problem, units = lopsided(kind, n=40, k=5), np.array([1e-6, 3, 1e5, 0.2, 40])
    other = replace(problem, design=problem.design * units - 7, val_design=problem.val_design * units - 7)
    own, turned = fit_linear(problem), fit_linear(other)
    np.testing.assert_allclose(turned.logits(other.val_design), own.logits(problem.val_design), atol=1e-4)


def test_validation_rows_choose_the_penalty_and_nothing_else() -> None:
    problem = lopsided("classes", n=60, k=200)
    fitted = fit_linear(problem)
    losses = [trial.val_loss for trial in fitted.trials]
    assert [trial.penalty for trial in fitted.trials] == sorted(problem.penalties, reverse=True)
    assert fitted.chosen == int(np.argmin(losses)) and len(set(losses)) == len(losses)
    alone = fit_linear(replace(problem, penalties=(fitted.penalty,)))
    np.testing.assert_array_equal(alone.coefficients, fitted.coefficients)


def test_the_row_of_a_patient_in_a_cox_regression_is_the_mean_of_its_rows() -> None:
    problem, patients = lopsided("cox", n=40, k=5), tuple(f"p{i // 2:02}" for i in range(40))
    labels = np.repeat(problem.truth.labels[::2], 2, axis=0)
    of_rows = fit_linear(replace(problem, truth=Truth(labels, patients), penalties=(1e-6,)))
    means, of_patients = problem.design.reshape(20, 2, 5).mean(axis=1), Truth.of(labels[::2])
    of_means = fit_linear(LinearProblem(problem.task, means, of_patients, means, of_patients, (1e-6,)))
    # scales, and so penalties, differ: with hardly any the coefficients in the columns' units are the same
    np.testing.assert_allclose(of_rows.coefficients / of_rows.scale, of_means.coefficients / of_means.scale, atol=1e-3)


def test_an_interval_that_nobody_lives_through_has_a_finite_hazard() -> None:
    problem = lopsided("discrete", n=30, k=4)
    labels, last = problem.truth.labels.copy(), problem.task.intervals.edges[-1]
    labels[labels[:, 0] >= last, 1] = 1
    n_last = int((labels[:, 0] >= last).sum())
    fitted = fit_linear(replace(problem, truth=Truth.of(labels), penalties=(1e7,)))
    assert n_last > 1 and np.abs(fitted.coefficients).max() < 1e-6
    assert fitted.intercepts[-1] == pytest.approx(np.log((n_last + 0.5) / 0.5), abs=1e-4)


def test_a_fit_that_stops_early_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_mil.train.linear.MOST_STEPS", 2)
    for kind in ("classes", "cox"):
        assert not any(trial.converged for trial in fit_linear(lopsided(kind, n=60, k=20)).trials[-2:])


@pytest.mark.parametrize("kind", ["classes", "multilabel", "regression", "cox", "discrete"])
def test_all_fits_converge_and_repeat_to_the_bit(kind: str) -> None:
    fits: list[LinearFit] = [fit_linear(lopsided(kind, n=50, k=120)) for _ in range(2)]
    assert all(trial.converged for trial in fits[0].trials)
    assert fits[0].coefficients.tobytes() == fits[1].coefficients.tobytes()


def test_a_column_that_differs_by_rounding_only_is_constant() -> None:
    column = np.full((7, 1), 0.1) + np.array([[0, 1, 0, 1, 0, 0, 1]]).T * 1e-17
    assert column_scale(np.hstack([column, column * 0, np.arange(7.0)[:, None]])).tolist() == [np.inf, np.inf, 2]


def test_a_label_with_one_value_is_refused() -> None:
    problem = lopsided("multilabel", n=20, k=5)
    labels = problem.truth.labels.copy()
    labels[:, 1] = np.where(labels[:, 1] == 0, np.nan, labels[:, 1])
    with pytest.raises(ValueError, match="label 1 has one value only"):
        fit_linear(replace(problem, truth=Truth.of(labels)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"penalties": (0.0,)}, "above zero"),
        ({"penalties": ()}, "at least one"),
        ({"val_design": np.ones((8, 4))}, "5 columns, but val_design 4"),
        ({"design": np.r_[np.ones((19, 5)), np.full((1, 5), np.nan)]}, "design must be finite, but row 19"),
        ({"truth": Truth.of([0] * 20)}, "class 1 has no training row"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_linear(replace(lopsided("classes", n=20, k=5), **change))
