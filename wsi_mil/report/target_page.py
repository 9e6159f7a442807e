"""The page of one target: its models, predictions and heatmaps."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wsi_mil.cohort.splits import read_splits
from wsi_mil.config import Config, architecture_of
from wsi_mil.files import write_text
from wsi_mil.records import SlideRow, Status
from wsi_mil.report.baseline import Against, baseline_summary, beside_baselines
from wsi_mil.report.batch_effects import batch_effects, write_effects
from wsi_mil.report.cohort import Cohort
from wsi_mil.report.comparison import Comparison, Groups, compare_models, evaluated_rows, least_p_holm
from wsi_mil.report.covariates import added_summary, covariate_limitations, no_evidence_of_regions, what_is_added
from wsi_mil.report.gallery import colour_stops, galleries, models_that_fit, outputs_shown
from wsi_mil.report.groups import group_section
from wsi_mil.report.model_page import ModelPage, best_first, model_summary, read_model
from wsi_mil.report.overview import TargetSummary, summarised
from wsi_mil.report.registry import report_of
from wsi_mil.report.scatter import BOTTOM, LEFT, RIGHT, TOP
from wsi_mil.report.summary import CohortOverview, describe_cohort, describe_results, limitations
from wsi_mil.report.task_report import TaskReport
from wsi_mil.report.templating import render
from wsi_mil.report.transfer import transfer_limitations, transfers
from wsi_mil.results import Results
from wsi_mil.statistics import PERMUTATIONS
from wsi_mil.tasks import task_of

log = logging.getLogger(__name__)

ANNOTATION_FIGURES = {
    "tile_auroc": "Tile AUROC",
    "tile_auprc": "Tile AUPRC",
    "pooled_auroc": "Pooled AUROC",
    "f1": "F1",
    "f1_oracle": "F1, oracle",
    "froc_mean": "Lesion recall",
}
CURVE_FIGURES = {"symmetric_gain": "Symmetric gain", "deletion_gain": "Deletion gain", "insertion_gain": "Insertion gain"}
"""Figures of methods with their titles, in order: those that need annotations, and those that do not."""


def write_target(cohort: Cohort, target: str, page: Path) -> TargetSummary:
    """Write the page of a target, and its table of batch effects; return what the overview says about it."""
    config = cohort.config
    rows = [row.for_target(target) for row in cohort.rows]
    report = report_of(task_of(config.targets[target]))
    models = best_first([read_model(config, report, target, *entry) for entry in config.combinations(target)], report)
    splits = None if config.trained else read_splits(Results(config.results).target(target).splits)
    effects = batch_effects(rows, report, cohort.features, splits)
    compared_groups = _compared_groups(models, rows, config)
    comparisons = _comparisons(models, report, config, compared_groups)
    usable = [row for row in rows if cohort.status[row.slide_id] is Status.OK]
    shown = models_that_fit(models, [row.slide_id for row in usable], config, report)
    units = {model.of for model in models}
    about = CohortOverview(rows, cohort.status, report, config.bag, config.trained is not None, cohort.duplicates, units)
    beside = _beside_baselines(models, comparisons, config)
    of_best, no_evidence = baseline_summary(models[0].name, beside)
    groups, moved = group_section(usable, models, report, config), transfers(models, report, config)
    further = [*(groups.limitations if groups else []), *transfer_limitations(moved)]
    added = what_is_added(models, comparisons, config.models)
    results = [*describe_results(models[0], len(models), about), *of_best, *added_summary(added)]
    no_evidence += no_evidence_of_regions(models[0], beside, added, config.models)
    cautions = further + limitations(models, effects, about, [*no_evidence, *covariate_limitations(models)])
    drawn = galleries(usable, shown, cohort.images, report)
    html = render(
        "target.html",
        config=config,
        target=target,
        task_report=report,
        rows=rows,
        statuses=cohort.statuses,
        models=models,
        shown=shown,
        not_shown=models[len(shown) :],
        galleries=drawn,
        outputs=outputs_shown(drawn.values()),
        colour_stops=colour_stops(config.heatmap.colormap),
        figures={name: title for name, title in report.figures.items() if any(name in m.metrics for m in models)},
        comparisons=comparisons,
        compared_group=compared_groups.column if compared_groups else "",
        beside_baselines=beside,
        added=added,
        least_p_holm=least_p_holm(len(comparisons), config.predict.bootstrap),
        batch_effects=effects,
        groups=groups,
        transfers=moved,
        frame=(LEFT, TOP, RIGHT, BOTTOM),
        permutations=PERMUTATIONS,
        columns=_columns(models),
        notes=_notes(models),
        has_seen_slides=any(p["role"] in ("train", "val") for m in models for p in m.predictions.values()),
        cohort_sentences=describe_cohort(about),
        result_sentences=results,
        limitations=[*cautions, *cohort.limitations],
    )
    write_effects(effects, page.with_suffix(".batch_effects.csv"))
    write_text(page, html)
    for model in models:
        log.info("%s, %s: %s", target, model.name, model_summary(model, report))
    return summarised(target, about, models, results, cautions)


def _columns(models: list[ModelPage]) -> dict[str, str]:
    """Figures of methods that at least one model has."""
    with_truth = ANNOTATION_FIGURES if any(m.has_truth for m in models) else {}
    return {**with_truth, **(CURVE_FIGURES if any(m.has_curves for m in models) else {})}


def _notes(models: list[ModelPage]) -> dict[str, str]:
    """Warnings about the annotation of each slide, by slide_id."""
    all_notes: dict[str, list[str]] = {}
    for model in models:
        for slide_id, notes in model.explanations["notes"].items():
            all_notes.setdefault(slide_id, []).extend(notes)
    return {slide_id: "; ".join(dict.fromkeys(notes)) for slide_id, notes in all_notes.items()}


def _compared_groups(models: Sequence[ModelPage], rows: Sequence[SlideRow], config: Config) -> Groups | None:
    """Groups within which models are compared; None if no column is named, or evaluated slides are not of several groups."""
    evaluated = {row["slide_id"] for model in models for row in evaluated_rows(model.predictions.values())}
    of = {row.slide_id: row.group for row in rows}
    groups = {of[slide_id] for slide_id in evaluated}
    return Groups(config.split.group, of) if config.split.group and len(groups) > 1 and "" not in groups else None


def _comparisons(models: Sequence[ModelPage], report: TaskReport, config: Config, groups: Groups | None) -> list[Comparison]:
    """Comparisons of all pairs of models that have evaluated slides in common."""
    predictions = {m.name: m.predictions.values() for m in models}
    return [pair for pair in compare_models(predictions, report, draws=config.predict.bootstrap, groups=groups) if pair.n]


def _beside_baselines(models: Sequence[ModelPage], comparisons: Sequence[Comparison], config: Config) -> list[Against]:
    """Every model that sees slides beside the baselines on the features of the same encoder, which have no covariates."""
    seeing = [m for m in models if config.models[m.model].has_instances]
    by_encoder = {
        encoder: {m.name: config.models[m.model].baseline for m in seeing if m.encoder == encoder} for encoder in config.encoders
    }
    pairs = [pair for entries in by_encoder.values() for pair in beside_baselines(entries, comparisons)]
    using = {m.name for m in seeing if architecture_of(config.models, m.model).uses_covariates}
    return [replace(p, about=f"{p.about} without covariates") if p.model in using else p for p in pairs]
