"""Create the report of a task."""

from collections.abc import Mapping
from typing import Any

from wsi_mil.report.classes import ClassesReport
from wsi_mil.report.multilabel import MultilabelReport
from wsi_mil.report.regression import RegressionReport
from wsi_mil.report.survival import SurvivalReport
from wsi_mil.report.task_report import TaskReport
from wsi_mil.tasks import Task

REPORTS: Mapping[str, Any] = {
    "classes": ClassesReport,
    "multilabel": MultilabelReport,
    "regression": RegressionReport,
    "survival": SurvivalReport,
}
"""Report of each kind of task; it is created from the task."""


def report_of(task: Task) -> TaskReport:
    """Return the report of a task."""
    report: TaskReport = REPORTS[task.kind](task)
    return report
