"""Performance figures of a cohort: pooled over folds, with intervals, and of each fold."""

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from wsi_mil.metrics import interval95, patient_draws
from wsi_mil.tasks import Outcomes, Task


def cohort_figures(
    task: Task, outcomes: Outcomes, patients: Sequence[str], parts: Mapping[int, Outcomes], *, draws: int
) -> dict[str, object]:
    """Return every figure of a task, with its 95 % bootstrap interval by patient, and its values over folds.

    A bootstrap draw or a fold in which a figure is undefined (for lack of a class, for example) is left out. A figure that
    is undefined throughout is NaN, and so is the standard deviation of fewer than two folds.

    Args:
        task: the task the models were trained for.
        outcomes: at least one row, a row per bag (a slide, or a patient's slides), predicted by the folds that held it out; with
            repeated folds the mean over them.
        patients: patient of each row.
        parts: outcomes of each fold's own model on the bags it held out; empty ones are left out.
        draws: number of bootstrap draws.

    Returns:
        Values for JSON: each figure under its name and `{name}_ci95`; the task's summary; `n_bags`, `n_patients`;
        `of_fold` with the figures of each fold, and their `fold_mean` and `fold_sd` (n - 1).
    """
    n_bags = len(outcomes)
    outcomes, patients = task.unit_outcomes(outcomes, patients)
    pooled = task.point_figures(outcomes)
    resampled = [task.point_figures(outcomes.rows(rows)) for rows in patient_draws(patients, draws=draws)]
    intervals = {f"{name}_ci95": list(interval95(np.array([figures[name] for figures in resampled]))) for name in pooled}
    figures = task.arranged({**pooled, **intervals, **_over_folds(task, parts, list(pooled))})
    return {"n_bags": n_bags, "n_patients": len(set(patients)), **figures, **task.summary(outcomes)}


def _over_folds(task: Task, parts: Mapping[int, Outcomes], names: list[str]) -> dict[str, object]:
    of_fold = {str(fold): task.point_figures(part) for fold, part in parts.items() if len(part)}
    defined = {name: [figures[name] for figures in of_fold.values() if not math.isnan(figures[name])] for name in names}
    return {
        "of_fold": of_fold,
        "fold_mean": {name: statistics.fmean(values) if values else math.nan for name, values in defined.items()},
        "fold_sd": {name: statistics.stdev(values) if len(values) > 1 else math.nan for name, values in defined.items()},
    }
