"""Problems for `fit_linear`, with more of one class than of the other."""

import numpy as np

from tests.train.kinds import TASKS
from wsi_mil.tasks import Classes, Labels, Task, Truth
from wsi_mil.train.linear import LinearProblem


def problem_of(task: Task, design: np.ndarray, labels: Labels, penalty: float, *, balanced: bool = True) -> LinearProblem:
    """Return a problem with one penalty, whose validation rows are its training rows."""
    truth = Truth.of(labels)
    return LinearProblem(task, design, truth, design, truth, (penalty,), balanced)


def lopsided(kind: str, *, n: int, k: int) -> LinearProblem:
    """Return a problem of a kind: labels follow the first two columns, and a third of the rows choose the penalty."""
    rng = np.random.default_rng(4)
    design = rng.normal(size=(n + n // 3 + 2, k)) * np.linspace(0.5, 3, k) + 2
    driver = 1.5 * design[:, 0] - design[:, 1] / 2 + rng.normal(size=len(design)) / 2
    labels = _labels(kind, driver, rng)
    train, val = Truth.of(labels[:n]), Truth.of(labels[n:])
    task = (Classes.numbered(2) if kind == "classes" else TASKS[kind]).fitted(train)
    return LinearProblem(task, design[:n], train, design[n:], val, (0.01, 1.0, 100.0, 0.1, 10.0))


def _labels(kind: str, driver: np.ndarray, rng: np.random.Generator) -> Labels:
    if kind == "classes":
        return (driver > np.quantile(driver, 0.6)).astype(np.int64)
    if kind == "multilabel":
        labels = np.stack([driver > np.quantile(driver, 0.6), driver > np.quantile(driver, 0.4)], axis=1).astype(float)
        labels[3::7, 1] = np.nan
        return labels
    if kind == "regression":
        return np.exp(driver / 3)
    return np.stack(
        [np.ceil(8 * np.exp(-driver / 4) * rng.uniform(0.8, 1.2, len(driver))), rng.random(len(driver)) < 0.7], axis=1
    )
