"""Create the task of a configuration, of a checkpoint or of a receipt, and read rows of predictions."""

from collections.abc import Mapping
from typing import Any

from wsi_mil.config import Config
from wsi_mil.tasks.base import ShownPrediction, Task
from wsi_mil.tasks.classes import Classes, shown_prediction


def task_of(config: Config) -> Task:
    """Return the task of a configuration."""
    return Classes(config.classes)


def task_of_stamp(content: Mapping[str, Any]) -> Task:
    """Return the task that a checkpoint, metrics or a receipt was written for.

    Raises:
        KeyError: it has no entry about a task.
    """
    return Classes(tuple(content["classes"]))


def read_shown_prediction(row: Mapping[str, str]) -> ShownPrediction:
    """Return a row of `predictions.csv` for display; an empty row has neither value nor class."""
    return shown_prediction(row)
