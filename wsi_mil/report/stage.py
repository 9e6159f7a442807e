"""Stage `report`: put the results of all stages on one self-contained page that opens from disk."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jinja2
import yaml

from wsi_mil.cohort import SlideStatus, read_status
from wsi_mil.cohort.status import duplicate_slides
from wsi_mil.config import Config
from wsi_mil.files import write_text
from wsi_mil.records import SlideRow, Status
from wsi_mil.report.batch_effects import BatchEffects, batch_effects, write_effects
from wsi_mil.report.comparison import Comparison, compare_models, least_p_holm
from wsi_mil.report.contact_sheet import MaskPicture, contact_sheet
from wsi_mil.report.gallery import colour_stops, galleries, models_that_fit
from wsi_mil.report.model_page import ModelPage, best_first, model_summary, read_model
from wsi_mil.report.registry import report_of
from wsi_mil.report.scatter import BOTTOM, LEFT, RIGHT, TOP
from wsi_mil.report.summary import CohortOverview, describe_cohort, describe_results, limitations
from wsi_mil.report.survival import p_text
from wsi_mil.report.task_report import TaskReport, decimals, digits
from wsi_mil.results import Results
from wsi_mil.statistics import PERMUTATIONS
from wsi_mil.tasks import task_of

log = logging.getLogger(__name__)

PACKAGES = ("wsi_mil", "torch", "timm", "zarr", "openslide-python", "snakemake")

ANNOTATION_FIGURES = {
    "tile_auroc": "Tile AUROC",
    "tile_auprc": "Tile AUPRC",
    "pooled_auroc": "Pooled AUROC",
    "f1": "F1",
    "f1_oracle": "F1, oracle",
    "froc_mean": "Lesion recall",
}
CURVE_FIGURES = {"deletion_gain": "Deletion gain", "insertion_gain": "Insertion gain"}
"""Figures of methods with their titles, in order: those that need annotations, and those that do not."""


def write_report(rows: Iterable[SlideRow], config: Config, folder: Path) -> None:
    """Write a page for each target, and a table of batch effects beside it; `index.html` is the page of the first target.

    Args:
        rows: all rows of the sheet.
        config: the whole configuration.
        folder: gets {target}.html and {target}.batch_effects.csv for each target, and index.html.
    """
    rows = list(rows)
    for name in config.targets:
        _write_page([row.for_target(name) for row in rows], config, name, folder / f"{name}.html")
    first = folder / f"{next(iter(config.targets))}.html"
    write_text(folder / "index.html", first.read_text(encoding="utf-8"))


def _write_page(rows: list[SlideRow], config: Config, target: str, page: Path) -> None:
    """Write the page of a target, and its table of batch effects."""
    statuses = {s.slide_id: s for s in read_status(Results(config.results).cohort_status)}
    task_report = report_of(task_of(config.targets[target]))
    entries = [(encoder, model) for encoder in config.encoders for model in config.models]
    models = best_first([read_model(config, task_report, target, *entry) for entry in entries], task_report)
    comparisons = _comparisons(models, task_report, config)
    effects = batch_effects(rows, task_report, config, target)
    masks = contact_sheet(rows, config)
    usable = [row for row in rows if statuses[row.slide_id].status is Status.OK]
    shown = models_that_fit(models, len(usable), config)
    html = _template().render(
        config=config,
        target=target,
        task_report=task_report,
        rows=rows,
        unused=[row for row in rows if row not in usable],
        statuses=statuses,
        models=models,
        shown=shown,
        not_shown=models[len(shown) :],
        galleries=galleries(usable, shown, config),
        colour_stops=colour_stops(config.heatmap.colormap),
        figures={name: title for name, title in task_report.figures.items() if any(name in m.metrics for m in models)},
        comparisons=comparisons,
        least_p_holm=least_p_holm(len(comparisons), config.predict.bootstrap),
        masks=masks,
        batch_effects=effects,
        frame=(LEFT, TOP, RIGHT, BOTTOM),
        permutations=PERMUTATIONS,
        columns=_columns(models),
        notes=_notes(models),
        has_seen_slides=any(p["role"] in ("train", "val") for m in models for p in m.predictions.values()),
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        versions=installed_versions(PACKAGES),
        **_summary(rows, statuses, models, effects, masks, task_report, config),
    )
    write_effects(effects, page.with_suffix(".batch_effects.csv"))
    write_text(page, html)
    for model in models:
        log.info("%s, %s: %s", target, model.name, model_summary(model, task_report))


def signed(value: float | None) -> str:
    """Format a signed difference to three decimals; zero has no sign."""
    if value is None or value != value:
        return "–"
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of installed packages; Snakemake is missing if a report is made without it."""
    versions = {}
    for name in names:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _summary(
    rows: list[SlideRow],
    statuses: dict[str, SlideStatus],
    models: list[ModelPage],
    effects: list[BatchEffects],
    masks: list[MaskPicture],
    task_report: TaskReport,
    config: Config,
) -> dict[str, Any]:
    """Texts of the summary."""
    status = {slide_id: entry.status for slide_id, entry in statuses.items()}
    same = duplicate_slides([row.slide_id for row in rows], config.results / "features", list(config.encoders))
    cohort = CohortOverview(rows, status, task_report, config.bag, config.trained is not None, same)
    n_suspicious = sum(mask.is_suspicious for mask in masks if status[mask.slide_id] is Status.OK)
    return {
        "cohort_sentences": describe_cohort(cohort),
        "result_sentences": describe_results(models[0], len(models), cohort),
        "limitations": limitations(models, effects, cohort, n_suspicious),
    }


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


def _comparisons(models: list[ModelPage], task_report: TaskReport, config: Config) -> list[Comparison]:
    """Comparisons of all pairs of models that have evaluated slides in common."""
    predictions = {m.name: m.predictions.values() for m in models}
    pairs = compare_models(predictions, task_report, draws=config.predict.bootstrap)
    return [pair for pair in pairs if pair.n]


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("wsi_mil.report", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": decimals, "digits": digits, "p_text": p_text, "signed": signed}
    environment.globals["model_summary"] = model_summary
    return environment.get_template("index.html")
