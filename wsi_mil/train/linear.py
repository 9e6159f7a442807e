"""Penalised linear models of every kind of target, fitted on design matrices. No I/O.

What is minimised is the mean loss of the training rows plus `penalty` / 2 · ‖w‖², w the coefficients of standardised columns;
intercepts are not penalised. In scikit-learn's terms `C` = 1 / (n · penalty) and Ridge's `alpha` = n · penalty; it is the
`penalizer` of lifelines.

With more columns than rows the solution lies in the span of the rows, and lengths are the same in any orthonormal basis of it.
So the fit takes as many columns as there are rows, and turns the coefficients back: exact, and fast.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from wsi_mil.tasks import Survival, Task, Truth, mean_by_patient, partial_likelihood

Array = NDArray[np.float64]

TOLERANCE = 1e-7
"""Largest derivative of the mean loss at a fit that has converged."""
MOST_STEPS = 5_000
"""Steps of L-BFGS; a fit that needs more has not converged."""


@dataclass(frozen=True)
class LinearProblem:
    """What is to be fitted.

    Attributes:
        task: the task that labels belong to, with the constants of the training rows (`Task.fitted`).
        design: float64 `(n, k)` training rows, not standardised.
        truth: their labels and patients.
        val_design: float64 `(n_val, k)` rows that choose the penalty.
        val_truth: their labels and patients.
        penalties: of which one is chosen, each above zero.
        balanced: whether classes are weighted by the inverse of their share, as `class_weights` of a training.
    """

    task: Task
    design: Array
    truth: Truth
    val_design: Array
    val_truth: Truth
    penalties: tuple[float, ...]
    balanced: bool = True


@dataclass(frozen=True)
class Trial:
    """A fit with one penalty.

    Attributes:
        penalty: of the fit.
        train_loss: mean loss of the training rows, without the penalty.
        val_loss: of the validation rows.
        val_figure: the task's selection figure of the validation rows.
        converged: whether the fit converged.
    """

    penalty: float
    train_loss: float
    val_loss: float
    val_figure: float
    converged: bool


@dataclass(frozen=True)
class LinearFit:
    """A fitted linear model: logits = coefficients · (row - centre) / scale + intercepts.

    Attributes:
        centre: `(k,)` means of the training rows.
        scale: `(k,)` their standard deviations, 1 of a constant column.
        coefficients: `(n_outputs, k)` of standardised columns; of two classes the first row is zero.
        intercepts: `(n_outputs,)`; zero for Cox's model.
        trials: fits with each penalty, the largest first.
        chosen: index of the trial with the lowest validation loss; of equal ones that with the largest penalty.
    """

    centre: Array
    scale: Array
    coefficients: Array
    intercepts: Array
    trials: tuple[Trial, ...]
    chosen: int

    @property
    def penalty(self) -> float:
        """The penalty that was chosen."""
        return self.trials[self.chosen].penalty

    @property
    def of_raw_columns(self) -> tuple[Array, Array]:
        """Coefficients `(n_outputs, k)` and intercepts `(n_outputs,)` for columns that are not standardised."""
        weight = self.coefficients / self.scale
        return weight, self.intercepts - weight @ self.centre

    def logits(self, design: Array) -> Array:
        """Return logits `(n, n_outputs)` of rows `(n, k)`."""
        return (design - self.centre) / self.scale @ self.coefficients.T + self.intercepts


class Solution(NamedTuple):
    """Coefficients `(n_outputs, k)`, intercepts `(n_outputs,)`, and whether they converged."""

    coefficients: Array
    intercepts: Array
    converged: bool


class Rows(NamedTuple):
    """Training rows in the basis of the fit `(n, r)`, their labels, and the task's weights of classes."""

    design: Array
    truth: Truth
    weights: NDArray[np.float32]


def fit_linear(problem: LinearProblem) -> LinearFit:
    """Fit a linear model with each penalty, and keep the one with the lowest loss of the validation rows.

    - classes: logistic regression, of more than two the multinomial one;
    - multilabel: a logistic regression for each label, on the rows that have it;
    - regression: ridge regression of standardised values. The target's loss, if not the squared one, chooses the penalty only;
    - survival, loss cox: Cox's regression with Efron's ties on patients, whose row is the mean of their rows;
    - survival, loss discrete: logistic regression of the hazards, with a slope that is the same in every interval.

    Raises:
        ValueError: a value of a design is not finite, the columns differ, a penalty is not above zero, or a class or a
            label's value has no row.
    """
    _check(problem)
    task, centre, scale = problem.task, problem.design.mean(axis=0), column_scale(problem.design)
    varies = np.isfinite(scale)
    train, val = ((design - centre) / scale for design in (problem.design, problem.val_design))  # zero where none varies
    basis = row_basis(train)
    weights = task.loss_weights(problem.truth.labels, balanced=problem.balanced)
    rows, solve = Rows(train @ basis, problem.truth, weights), _solver(task)
    trials, solutions = [], []
    for penalty in sorted(problem.penalties, reverse=True):
        own = solve(rows, task, penalty)
        solution = own._replace(coefficients=own.coefficients @ basis.T * varies)
        train_loss, _ = _judged(solution, train, task, problem.truth, weights)
        val_loss, figure = _judged(solution, val, task, problem.val_truth, weights)
        trials.append(Trial(penalty, train_loss, val_loss, figure, solution.converged))
        solutions.append(solution)
    chosen = min(range(len(trials)), key=lambda index: (np.nan_to_num(trials[index].val_loss, nan=np.inf), index))
    coefficients, intercepts, _ = solutions[chosen]
    return LinearFit(centre, np.where(varies, scale, 1.0), coefficients, intercepts, tuple(trials), chosen)


def column_scale(design: Array) -> Array:
    """Return the standard deviation of each column `(k,)`; infinity where it is nothing but rounding, of a constant column."""
    sd = design.std(axis=0)
    return np.where(sd > np.abs(design).max(axis=0, initial=0.0) * len(design) * np.finfo(np.float64).eps, sd, np.inf)


def row_basis(design: Array) -> Array:
    """Return an orthonormal basis `(k, r)` of a space that has all rows `(n, k)`: r = min(n, k)."""
    n, k = design.shape
    return np.eye(k) if k <= n else np.asarray(np.linalg.qr(design.T)[0])


def _check(problem: LinearProblem) -> None:
    """Raise what `fit_linear` says."""
    for name, design in (("design", problem.design), ("val_design", problem.val_design)):
        if not np.isfinite(design).all():
            raise ValueError(f"{name} must be finite, but row {int(np.argwhere(~np.isfinite(design))[0, 0])} is not")
    if problem.design.shape[1] != problem.val_design.shape[1]:
        raise ValueError(f"design has {problem.design.shape[1]} columns, but val_design {problem.val_design.shape[1]}")
    if not problem.penalties or min(problem.penalties) <= 0:
        raise ValueError(f"penalties must be above zero, and at least one, got {problem.penalties}")
    if problem.task.kind == "classes":
        counts = np.bincount(problem.truth.labels, minlength=problem.task.n_outputs)
        if not counts.all():
            raise ValueError(f"class {int(counts.argmin())} has no training row")
    if problem.task.kind == "multilabel":
        counts = np.array([(problem.truth.labels == value).sum(axis=0) for value in (0, 1)])
        if not counts.all():
            raise ValueError(f"label {int(np.argwhere(counts == 0)[0, 1])} has one value only in the training rows")


def _judged(solution: Solution, design: Array, task: Task, truth: Truth, weights: NDArray[np.float32]) -> tuple[float, float]:
    """Mean loss of standardised rows, and the figure that the task selects by."""
    logits = torch.from_numpy(design @ solution.coefficients.T + solution.intercepts)
    return task.validation_loss(logits, truth, weights), task.selection_figure(task.outputs(logits), truth)


Solver = Callable[[Rows, Task, float], Solution]


def _solver(task: Task) -> Solver:
    if isinstance(task, Survival):
        return _cox if task.loss == "cox" else _hazards
    return {"classes": _classes, "multilabel": _labels, "regression": _values}[task.kind]


def _classes(rows: Rows, task: Task, penalty: float) -> Solution:
    """Logistic regression; of two classes the first has logit zero."""
    labels = rows.truth.labels
    coefficients, intercepts, converged = _logistic(rows.design, labels, rows.weights[labels], penalty * len(labels))
    if task.n_outputs > len(intercepts):
        coefficients, intercepts = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercepts)
    return Solution(coefficients, intercepts, converged)


def _labels(rows: Rows, task: Task, penalty: float) -> Solution:
    """For each label a regression on the rows in which it is known."""
    fits = []
    for label, weights in zip(rows.truth.labels.T, rows.weights.T, strict=True):
        known = ~np.isnan(label)
        positive = label[known] == 1
        fits.append(_logistic(rows.design[known], positive, weights[positive.astype(int)], penalty * len(positive)))
    coefficients, intercepts = (np.concatenate(parts) for parts in list(zip(*fits, strict=True))[:2])
    return Solution(coefficients, intercepts, all(fit.converged for fit in fits))


def _values(rows: Rows, task: Task, penalty: float) -> Solution:
    """Ridge regression of standardised values."""
    from sklearn.linear_model import Ridge

    fitted = Ridge(alpha=penalty * len(rows.truth), solver="svd").fit(rows.design, task.learned(rows.truth.labels))
    return Solution(fitted.coef_.reshape(1, -1), np.array([fitted.intercept_]), True)


def _hazards(rows: Rows, task: Task, penalty: float) -> Solution:
    """Log odds of the hazard in each interval: one slope for all, and an intercept for each (Cox 1972, in discrete time).

    An intercept would be infinite where nobody lived through an interval: there half a patient, of mean features, does and dies.
    """
    assert isinstance(task, Survival)
    learned, n_outputs, k = task.learned(rows.truth.labels), task.n_outputs, rows.design.shape[1]
    event, intervals = learned[:, 1:] == 1, np.arange(n_outputs)
    weights = task.bag_weights(rows.truth.patients)[:, None] * np.where(event, 1, 1 - task.uncensored_weight) / len(learned)
    at_risk = weights * (intervals <= learned[:, :1])  # (n, n_outputs); who is censored in an interval lived through it
    died = weights * (intervals == learned[:, :1]) * event
    half = np.where((at_risk > died).any(axis=0), 0, 0.5 / len(learned))

    def loss(values: Array) -> tuple[float, Array]:
        w, intercepts = values[:k], values[k:]
        logits = (rows.design @ w)[:, None] + intercepts
        slopes = at_risk * expit(logits) - died
        value = (at_risk * np.logaddexp(0, logits) - died * logits).sum() + penalty / 2 * (w @ w)
        value += half @ (2 * np.logaddexp(0, intercepts) - intercepts)
        of_intercepts = slopes.sum(axis=0) + half * (2 * expit(intercepts) - 1)
        return float(value), np.concatenate([slopes.sum(axis=1) @ rows.design + penalty * w, of_intercepts])

    values, converged = _minimum(loss, k + n_outputs)
    return Solution(np.tile(values[:k], (n_outputs, 1)), values[k:], converged)


def _cox(rows: Rows, task: Task, penalty: float) -> Solution:
    """Cox's regression on patients; its loss is per patient, as that of lifelines."""
    design, labels = (mean_by_patient(values, rows.truth.patients) for values in (rows.design, rows.truth.labels))
    time, event = labels[:, 0], labels[:, 1] == 1
    share = event.mean()

    def loss(w: Array) -> tuple[float, Array]:
        value, slopes = partial_likelihood(design @ w, time, event)
        return float(share * value + penalty / 2 * (w @ w)), share * (slopes @ design) + penalty * w

    values, converged = _minimum(loss, design.shape[1])
    return Solution(values[None], np.zeros(1), converged)


def _minimum(loss: Callable[[Array], tuple[float, Array]], n: int) -> tuple[Array, bool]:
    """Where a convex loss of `n` values, given with its derivatives, is least; and whether it was reached."""
    found = minimize(
        loss,
        np.zeros(n),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": TOLERANCE, "ftol": 0.0, "maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS},
    )
    slopes = loss(found.x)[1]
    return found.x, bool(np.abs(slopes).max(initial=0.0) <= 10 * TOLERANCE)  # at the limit of rounding the search gives up


def _logistic(design: Array, labels: NDArray[np.generic], weights: NDArray[np.floating], strength: float) -> Solution:
    """Logistic regression of labels; `strength` multiplies ‖w‖² / 2 beside the sum of losses. Of two labels one output."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model = LogisticRegression(C=1 / strength, tol=TOLERANCE, max_iter=MOST_STEPS)
        model.fit(design, labels, sample_weight=np.asarray(weights, np.float64))
    return Solution(model.coef_, model.intercept_, not any(issubclass(w.category, ConvergenceWarning) for w in caught))
