"""Performance figures of a cohort: pooled over folds, with intervals, and of each fold."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def group_figures(
    task: Task, outcomes: Outcomes, patients: Sequence[str], groups: Sequence[str], *, draws: int
) -> dict[str, dict[str, Any]]:
    """Return the figures of each group by itself, and their mean over groups.

    Scores of different groups come from different models, and a model that knows only which group a slide is from ranks slides
    of different groups well. So the figure of a cohort of several groups is the mean over groups. Its interval resamples patients
    within the groups: it is about these groups, not about others. In each draw the mean is over the groups that have a figure.

    Args:
        task: the task the models were trained for.
        outcomes: at least one row, a row per bag.
        patients: patient of each row.
        groups: group of each row.
        draws: number of bootstrap draws.

    Returns:
        Under `groups`, for each group what `cohort_figures` returns, without figures of folds. Under `mean`, each figure over
        the groups in which it is defined, its `{name}_ci95`, and `n_groups`, the number of groups with the main figure.
    """
    index = {group: np.array([i for i, own in enumerate(groups) if own == group]) for group in sorted(set(groups))}
    parts = {g: task.unit_outcomes(outcomes.rows(rows), [patients[i] for i in rows]) for g, rows in index.items()}
    of_group, drawn = dict[str, Any](), list[dict[str, NDArray[np.float64]]]()
    for seed, (group, (part, own)) in enumerate(parts.items()):
        points = task.point_figures(part)
        resampled = [task.point_figures(part.rows(rows)) for rows in patient_draws(own, draws=draws, seed=seed)]
        drawn.append({name: np.array([figures[name] for figures in resampled]) for name in points})
        intervals = {f"{name}_ci95": list(interval95(drawn[-1][name])) for name in points}
        sizes = {"n_bags": len(index[group]), "n_patients": len(set(own))}
        of_group[group] = {**sizes, **task.arranged({**points, **intervals}), **task.summary(part)}
    points_of = [task.point_figures(part) for part, _ in parts.values()]
    mean: dict[str, object] = {"n_groups": sum(not math.isnan(next(iter(points.values()))) for points in points_of)}
    for name in points_of[0]:
        defined = [k for k, points in enumerate(points_of) if not math.isnan(points[name])]
        values = np.array([points_of[k][name] for k in defined])
        mean[name] = float(values.mean()) if defined else math.nan
        mean[f"{name}_ci95"] = [math.nan] * 2
        if defined:
            mean[f"{name}_ci95"] = list(interval95(mean_of_defined([drawn[k][name] for k in defined])))
    return {"groups": of_group, "mean": mean}


def mean_of_defined(drawn: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean over groups `(draws,)`, in each draw of the groups in which the figure is defined; NaN if there is none.

    A small group easily lacks a class in a draw; without this rule few draws of many small groups would count, or none.
    """
    values = np.stack(drawn)
    n_defined = (~np.isnan(values)).sum(axis=0)
    return np.where(n_defined > 0, np.nansum(values, axis=0) / np.maximum(n_defined, 1), np.nan)


def _over_folds(task: Task, parts: Mapping[int, Outcomes], names: list[str]) -> dict[str, object]:
    of_fold = {str(fold): task.point_figures(part) for fold, part in parts.items() if len(part)}
    defined = {name: [figures[name] for figures in of_fold.values() if not math.isnan(figures[name])] for name in names}
    return {
        "of_fold": of_fold,
        "fold_mean": {name: statistics.fmean(values) if values else math.nan for name, values in defined.items()},
        "fold_sd": {name: statistics.stdev(values) if len(values) > 1 else math.nan for name, values in defined.items()},
    }
