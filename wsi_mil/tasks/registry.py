"""The task of a configuration, of a checkpoint or receipt, and of a row of predictions."""

from collections.abc import Mapping
from typing import Any

from wsi_mil.config import Config
from wsi_mil.tasks.base import ShownPrediction, Task
from wsi_mil.tasks.classes import Classes, shown_prediction


def task_of(config: Config) -> Task:
    """Return what the models of a configuration learn."""
    return Classes(config.classes)


def task_of_stamp(content: Mapping[str, Any]) -> Task:
    """Return the task that a checkpoint, metrics or a receipt was written for.

    Raises:
        KeyError: it names none.
    """
    return Classes(tuple(content["classes"]))


def read_shown_prediction(row: Mapping[str, str]) -> ShownPrediction:
    """Return what a row of `predictions.csv` shows; nothing of an empty row."""
    return shown_prediction(row)
