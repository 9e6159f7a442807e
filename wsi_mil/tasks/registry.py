"""Create the task of a target, of a checkpoint or of a receipt, and read rows of predictions."""

from collections.abc import Mapping
from typing import Any

from wsi_mil.config import ClassesTarget, MultilabelTarget, RegressionTarget, Target
from wsi_mil.tasks.base import STAMP_KEY, ShownPrediction, Task
from wsi_mil.tasks.classes import Classes, shown_prediction
from wsi_mil.tasks.multilabel import Multilabel, shown_labels
from wsi_mil.tasks.regression import Regression, shown_value
from wsi_mil.tasks.survival import Survival, shown_risk

KINDS: dict[str, type[Task]] = {task.kind: task for task in (Classes, Multilabel, Regression, Survival)}
"""The tasks by the name of their kind."""


def task_of(target: Target) -> Task:
    """Return the task of an entry of `targets`."""
    if isinstance(target, ClassesTarget):
        return Classes(target.classes)
    if isinstance(target, MultilabelTarget):
        return Multilabel(target.columns)
    if isinstance(target, RegressionTarget):
        return Regression(target.transform, target.loss, name=target.column)
    return Survival(target.loss, target.intervals, target.uncensored_weight, configured_horizons=target.horizons)


def task_of_stamp(content: Mapping[str, Any]) -> Task:
    """Return the task that a checkpoint, metrics or a receipt was written for.

    Raises:
        KeyError: it has no entry about a task.
    """
    settings = content[STAMP_KEY]
    return KINDS[settings["kind"]].of_settings(settings)


def read_shown_prediction(row: Mapping[str, str]) -> ShownPrediction:
    """Return a row of `predictions.csv` for display; an empty row has neither value nor class."""
    if row.get("risk"):
        return shown_risk(row)
    if row.get("value"):
        return shown_value(row)
    return shown_labels(row) if any(name.startswith("predicted_") for name in row) else shown_prediction(row)
