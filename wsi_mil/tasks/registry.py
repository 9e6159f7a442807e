"""Create the task of a target, of a checkpoint or of a receipt, and read rows of predictions."""

from collections.abc import Mapping
from typing import Any

from wsi_mil.config import ClassesTarget, Target
from wsi_mil.tasks.base import ShownPrediction, Task
from wsi_mil.tasks.classes import Classes, shown_prediction


def task_of(target: Target) -> Task:
    """Return what models learn for a target.

    Raises:
        TypeError: no kind of task is written for it.
    """
    if isinstance(target, ClassesTarget):
        return Classes(target.classes)
    raise TypeError(f"no task for targets of kind {target.kind}")


def task_of_stamp(content: Mapping[str, Any]) -> Task:
    """Return the task that a checkpoint, metrics or a receipt was written for.

    Raises:
        KeyError: it has no entry about a task.
    """
    return Classes(tuple(content["classes"]))


def read_shown_prediction(row: Mapping[str, str]) -> ShownPrediction:
    """Return a row of `predictions.csv` for display; an empty row has neither value nor class."""
    return shown_prediction(row)
