"""Figures of each group of patients, such as a site: held out, external, or in another cohort; and what the group tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsi_mil.cohort.label_association import LabelAssociation, association_text, label_association, learned_word
from wsi_mil.config import Config
from wsi_mil.records import SlideRow
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.summary import Limitation
from wsi_mil.report.task_report import TaskReport, decimals
from wsi_mil.results import Results
from wsi_mil.statistics import Telling, read_slide_means, telling
from wsi_mil.wording import listed

SECTION = "groups"
"""Id of the section."""


@dataclass(frozen=True)
class GroupLine:
    """A row of the table: a group, or the mean over groups.

    Attributes:
        name: name of the group, or what the row is.
        role: how its slides were predicted.
        size: numbers of slides or patients with their nouns.
        figures: figures by name, None where undefined, and their intervals under `{name}_ci95`.
        lacks: what the group has no slide of, so that figures are missing, or "".
        is_mean: whether it is the mean over groups.
    """

    name: str
    role: str
    size: str
    figures: Mapping[str, Any]
    lacks: str = ""
    is_mean: bool = False


@dataclass(frozen=True)
class GroupSection:
    """What the page says about groups.

    Attributes:
        column: column of the sheet.
        held_out: whether whole groups were held out.
        lines: rows of the table for each model, by its name.
        sentences: on how well the group is recognised in features, and how it goes together with the label.
        limitations: warnings about the figures, the most important first.
    """

    column: str
    held_out: bool
    lines: Mapping[str, Sequence[GroupLine]]
    sentences: Sequence[str]
    limitations: Sequence[Limitation]


def group_section(
    rows: Sequence[SlideRow], models: Sequence[ModelPage], report: TaskReport, config: Config
) -> GroupSection | None:
    """Return what the page says about groups; None if the configuration names no column.

    Args:
        rows: usable slides with their groups and labels.
        models: of the target, the best first.
        report: of the target.
        config: the whole configuration.
    """
    column = config.split.group
    if column is None:
        return None
    inner = [row for row in rows if row.group not in config.split.external or config.trained is not None]
    found = label_association(inner, report.task)
    told = {encoder: _telling(inner, encoder, config) for encoder in config.encoders}
    held_out = config.split.holds_out_groups and config.trained is None
    sentences = [_told_text(encoder, column, own) for encoder, own in told.items()] + [_association_text(found, report, column)]
    return GroupSection(
        column=column,
        held_out=held_out,
        lines={model.name: _lines(model, report, config) for model in models if model.metrics.get("n_slides")},
        sentences=sentences,
        limitations=[Limitation(text, SECTION) for text in _warnings(found, models, report, column)],
    )


def _lines(model: ModelPage, report: TaskReport, config: Config) -> list[GroupLine]:
    unit = "patient" if config.bag == "patient" or report.task.is_of_patient else "slide"
    by_group, external = (model.metrics.get(key, {}) for key in ("of_group", "of_external"))
    is_here = config.trained is not None
    lines = [
        _line(name, "models of the earlier run" if is_here else _folds_text(own["folds"], config), own, unit)
        for name, own in by_group.get("groups", {}).items()
    ]
    if by_group and len(lines) > 1:
        n = by_group["mean"]["n_groups"]
        lines.append(GroupLine("mean", f"{report.main_title} over the {n} that have one", "", by_group["mean"], is_mean=True))
    return lines + [_line(name, "external, mean of all folds", own, unit) for name, own in external.get("groups", {}).items()]


def _line(name: str, role: str, own: Mapping[str, Any], unit: str) -> GroupLine:
    n, n_patients = own["n_bags"], own["n_patients"]
    size = f"{n} {unit}{'s' if n != 1 else ''}"
    if unit == "slide":
        size += f", {n_patients} patient{'s' if n_patients != 1 else ''}"
    else:
        size = f"{n_patients} patient{'s' if n_patients != 1 else ''}"
    return GroupLine(name, role, size, own, own.get("lacks", ""))


def _folds_text(folds: Sequence[int], config: Config) -> str:
    names = ", ".join(map(str, folds))
    by = f"fold{'s' if len(folds) > 1 else ''} {names}"
    return f"held out by {by}" if config.split.holds_out_groups else f"{by}, by patient"


def _telling(rows: Sequence[SlideRow], encoder: str, config: Config) -> Telling | None:
    ids, means = read_slide_means(Results(config.results).statistics(encoder))
    by_id = {row.slide_id: row for row in rows if row.group}
    kept = [i for i, slide_id in enumerate(ids) if slide_id in by_id]
    own = [by_id[ids[i]] for i in kept]
    return telling(means[kept], [row.group for row in own], [row.patient_id for row in own])


def _told_text(encoder: str, column: str, told: Telling | None) -> str:
    if told is None:
        return f"{encoder}: whether features tell the {column} cannot be tested: two with two patients each are needed."
    left_out = f"; left out, with one patient: {', '.join(told.left_out)}" if told.left_out else ""
    return (
        f"{encoder}: from the mean features of {told.n_patients} patients, a logistic regression tells the {column} with"
        f" AUROC {decimals(told.auroc)} ({_range(told.ci95)}; 0.5 is chance) and balanced accuracy"
        f" {decimals(told.balanced_accuracy)} ({decimals(1 / told.n_groups)} is chance), cross-validated by patient{left_out}."
    )


def _association_text(of: LabelAssociation | None, report: TaskReport, column: str) -> str:
    if of is None:
        what = f"Whether {column} and {learned_word(report.task)} go together cannot be measured"
        return f"{what}: one of them has a single value, or one that a single patient has."
    found, detail = of.found, f"; {of.detail}" if of.detail else ""
    by_chance = " Labels that are independent of it can give as much by chance." if of.is_by_chance else ""
    return (
        f"{column} and {of.what}: Cramér's V {decimals(found.cramers_v)} (0: independent, 1: one follows from the other{detail})."
        f" The {column} alone, without any image, predicts {of.told} with AUROC {decimals(found.auroc)} ({_range(found.ci95)}),"
        f" cross-validated by patient over {found.n_patients} patients.{by_chance}"
    )


def _warnings(found: LabelAssociation | None, models: Sequence[ModelPage], report: TaskReport, column: str) -> list[str]:
    """What to know before relying on figures: the group alone does as well as a model, and models that fail within groups."""
    return _reached(found, models, report, column) + _fail_within(models, report, column)


def _reached(of: LabelAssociation | None, models: Sequence[ModelPage], report: TaskReport, column: str) -> list[str]:
    if of is None or not of.is_above_chance:
        return []
    best = models[0].metrics.get(report.main_figure)
    if best is None or not report.task.can_be_recalibrated or not of.reaches(best):
        return [f"{association_text(of, column)}."]
    model = f"{models[0].name} {decimals(best)} over all slides"
    return [
        f"The {column} alone predicts the label as well as the best model does (AUROC {decimals(of.found.auroc)},"
        f" {_range(of.found.ci95)}, without any image; {model}): that figure may show that the model knows the {column}, not the"
        f" {report.answer}. Look at the figures of each {column}."
    ]


def _fail_within(models: Sequence[ModelPage], report: TaskReport, column: str) -> list[str]:
    parts = []
    for model in models:
        mean = model.metrics.get("of_group", {}).get("mean", {})
        low, high = mean.get(f"{report.main_figure}_ci95", (None, None))
        if mean.get("n_groups", 0) and (low is None or low <= report.chance):
            parts.append(f"{model.name} ({decimals(mean[report.main_figure])}, {_range((low, high))})")
    if not parts:
        return []
    verb = "has" if len(parts) == 1 else "have"
    within = f"Within a {column}, {listed(parts)} {verb} not been shown to be better than chance"
    return [f"{within} ({report.mean_title(column)}). Do not rely on a better figure over all slides."]


def _range(ends: Sequence[float | None]) -> str:
    return f"{decimals(ends[0])} to {decimals(ends[1])}"
