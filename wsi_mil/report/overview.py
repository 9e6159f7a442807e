"""What the overview says about each target. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

from wsi_mil.records import Status
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.summary import CohortOverview, Limitation, describe_labels, is_at_chance
from wsi_mil.report.task_report import TaskReport

MAX_LIMITATIONS = 3
"""Upper limit on limitations of a target; its page has all of them."""


@dataclass(frozen=True)
class ModelLine:
    """One encoder × model in the table of all targets.

    Attributes:
        name: name of the model.
        is_optimistic: whether its epoch and threshold were selected on the test fold.
        figure: title of the main figure, or of its mean over groups.
        value: this figure.
        interval: its 95 % interval, or "" if there is none.
        is_at_chance: whether it has not been shown to be better than chance.
        n_slides: number of slides evaluated.
        n_patients: number of their patients.
    """

    name: str
    is_optimistic: bool
    figure: str
    value: str
    interval: str
    is_at_chance: bool
    n_slides: int
    n_patients: int


@dataclass(frozen=True)
class TargetSummary:
    """A target on the overview.

    Attributes:
        name: name of the target.
        page: file name of its page.
        headline: what is asked.
        lines: its models, the best first.
        labels: how many slides have which label.
        sentences: performance of the best model.
        limitations: the most important ones.
        n_more: number of limitations that only its page has.
        shown_ids: slides that its page shows.
        label_of: label of each labelled slide as readers know it, by slide_id.
    """

    name: str
    page: str
    headline: str
    lines: tuple[ModelLine, ...]
    labels: str
    sentences: tuple[str, ...]
    limitations: tuple[Limitation, ...]
    n_more: int
    shown_ids: frozenset[str]
    label_of: dict[str, str]


def summarised(
    name: str,
    cohort: CohortOverview,
    models: Sequence[ModelPage],
    sentences: Sequence[str],
    limitations: Sequence[Limitation],
) -> TargetSummary:
    """Return the summary of a target.

    Args:
        name: name of the target.
        cohort: the cohort with the labels of the target.
        models: its models, the best first.
        sentences: on the performance of the best model.
        limitations: of the target, the most important first.
    """
    report = cohort.task_report
    return TargetSummary(
        name=name,
        page=f"{name}.html",
        headline=report.headline,
        lines=tuple(_line(model, report) for model in models),
        labels=describe_labels(cohort.rows, report),
        sentences=tuple(sentences),
        limitations=tuple(limitations[:MAX_LIMITATIONS]),
        n_more=max(0, len(limitations) - MAX_LIMITATIONS),
        shown_ids=frozenset(slide_id for slide_id, status in cohort.status.items() if status is Status.OK),
        label_of={row.slide_id: report.label_text(row.label) for row in cohort.rows if row.label},
    )


def _line(model: ModelPage, report: TaskReport) -> ModelLine:
    name, metrics, figures = report.main_figure, model.metrics, model.compared
    low, high = figures.get(f"{name}_ci95", (None, None))
    interval = "" if low is None else f"{report.figure_text(name, low)}–{report.figure_text(name, high)}"
    return ModelLine(
        name=model.name,
        is_optimistic=model.is_as_published,
        figure=report.mean_title(model.group),
        value=report.figure_text(name, figures.get(name)),
        interval=interval,
        is_at_chance=is_at_chance(model, report),
        n_slides=metrics.get("n_slides", 0),
        n_patients=metrics.get("n_patients", 0),
    )
