"""The figures of a cohort: pooled over folds with intervals, and fold by fold."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from wsi_mil.metrics import interval95, patient_draws
from wsi_mil.tasks import Outcomes, Task


def cohort_figures(
    task: Task, outcomes: Outcomes, patients: Sequence[str], parts: Mapping[int, Outcomes], *, draws: int
) -> dict[str, object]:
    """Return every figure of a task, with its 95 % interval over draws of whole patients, and over folds.

    A draw or a fold for which a figure is not defined (it lacks a class, say) is left out of it. A figure that is defined
    nowhere is NaN, and so is the standard deviation of fewer than two folds.

    Args:
        task: what was learned.
        outcomes: at least one row, each what was predicted at once: a slide, or a patient's bag. Out of fold; with repeated
            folds the mean over those that held the row out.
        patients: patient of each row.
        parts: the bags that each fold held out, predicted by its own model; one without rows is left out.
        draws: of the bootstrap.

    Returns:
        Ready for JSON: each figure under its name and `{name}_ci95`; the task's summary; `n_bags`, `n_patients`;
        `of_fold` with the figures of each fold, and `fold_mean` and `fold_sd` (n - 1) of them.
    """
    pooled = task.point_figures(outcomes)
    drawn = [task.point_figures(outcomes.rows(rows)) for rows in patient_draws(patients, draws=draws)]
    intervals = {f"{name}_ci95": list(interval95(np.array([figures[name] for figures in drawn]))) for name in pooled}
    return {
        "n_bags": len(outcomes),
        "n_patients": len(set(patients)),
        **pooled,
        **intervals,
        **task.summary(outcomes),
        **_over_folds(task, parts, list(pooled)),
    }


def _over_folds(task: Task, parts: Mapping[int, Outcomes], names: list[str]) -> dict[str, object]:
    of_fold = {str(fold): task.point_figures(part) for fold, part in parts.items() if len(part)}
    known = {name: [figures[name] for figures in of_fold.values() if figures[name] == figures[name]] for name in names}
    return {
        "of_fold": of_fold,
        "fold_mean": {name: statistics.fmean(values) if values else float("nan") for name, values in known.items()},
        "fold_sd": {name: statistics.stdev(values) if len(values) > 1 else float("nan") for name, values in known.items()},
    }
