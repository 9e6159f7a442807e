"""Stage `report`: read what the other stages wrote, and put it on one page that opens from disk."""

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
from wsi_mil.report.classes import kind_of
from wsi_mil.report.comparison import Comparison, compared, least_p_holm
from wsi_mil.report.contact_sheet import MaskPicture, contact_sheet
from wsi_mil.report.gallery import colour_stops, galleries, models_with_room
from wsi_mil.report.kinds import Kind
from wsi_mil.report.model_page import ModelPage, best_first, in_words, read_model
from wsi_mil.report.scatter import BOTTOM, LEFT, RIGHT, TOP
from wsi_mil.report.words import Cohort, cautions, what_came_out, what_was_done
from wsi_mil.results import Results
from wsi_mil.statistics import PERMUTATIONS
from wsi_mil.tasks import task_of

log = logging.getLogger(__name__)

VERSIONS_OF = ("wsi_mil", "torch", "timm", "zarr", "openslide-python", "snakemake")

AGAINST_TRUTH = {
    "tile_auroc": "Tile AUROC",
    "tile_auprc": "Tile AUPRC",
    "pooled_auroc": "Pooled AUROC",
    "f1": "F1",
    "f1_oracle": "F1, oracle",
    "froc_mean": "Lesions found",
}
AGAINST_MODEL = {"deletion_gain": "Deletion gain", "insertion_gain": "Insertion gain"}
"""Figures of a method, in order, and what they are called: with annotations, and without any."""


def write_report(rows: Iterable[SlideRow], config: Config, page: Path) -> None:
    """Write `index.html`, and beside it a table of batch effects."""
    rows = list(rows)
    statuses = {s.slide_id: s for s in read_status(Results(config.results).cohort_status)}
    kind = kind_of(task_of(config))
    models = best_first([read_model(config, kind, e, m) for e in config.encoders for m in config.models], kind)
    comparisons = _comparisons(models, kind, config)
    effects, masks = batch_effects(rows, kind.label_order, config), contact_sheet(rows, config)
    usable = [row for row in rows if statuses[row.slide_id].status is Status.OK]
    shown = models_with_room(models, len(usable), config)
    html = _template().render(
        config=config,
        kind=kind,
        rows=rows,
        unused=[row for row in rows if row not in usable],
        statuses=statuses,
        models=models,
        shown=shown,
        not_shown=models[len(shown) :],
        galleries=galleries(usable, shown, config),
        colour_stops=colour_stops(config.heatmap.colormap),
        figures={name: title for name, title in kind.figures.items() if any(name in m.metrics for m in models)},
        comparisons=comparisons,
        least_p_holm=least_p_holm(len(comparisons), config.predict.bootstrap),
        masks=masks,
        batch_effects=effects,
        frame=(LEFT, TOP, RIGHT, BOTTOM),
        draws=PERMUTATIONS,
        columns=_columns(models),
        notes=_notes(models),
        has_seen_slides=any(p["role"] in ("train", "val") for m in models for p in m.predictions.values()),
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        versions=installed_versions(VERSIONS_OF),
        **_in_words(rows, statuses, models, effects, masks, kind, config),
    )
    write_effects(effects, page.with_name("batch_effects.csv"))
    write_text(page, html)
    for model in models:
        log.info("%s: %s", model.name, in_words(model, kind))


def figure(value: float | None) -> str:
    """A figure in three decimals, a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference in three decimals with its sign, which what is zero in them has not."""
    if value is None or value != value:
        return "–"
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Of those packages that are installed: Snakemake is not where a report is made by hand."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _in_words(
    rows: list[SlideRow],
    statuses: dict[str, SlideStatus],
    models: list[ModelPage],
    effects: list[BatchEffects],
    masks: list[MaskPicture],
    kind: Kind,
    config: Config,
) -> dict[str, Any]:
    """The summary."""
    status = {slide_id: found.status for slide_id, found in statuses.items()}
    same = duplicate_slides([row.slide_id for row in rows], config.results / "features", list(config.encoders))
    cohort = Cohort(rows, status, kind, config.bag, config.trained is not None, same)
    n_suspicious = sum(mask.is_suspicious for mask in masks if status[mask.slide_id] is Status.OK)
    return {
        "done": what_was_done(cohort),
        "came_out": what_came_out(models[0], len(models), cohort),
        "cautions": cautions(models, effects, cohort, n_suspicious),
    }


def _columns(models: list[ModelPage]) -> dict[str, str]:
    """Figures of methods that any model has."""
    with_truth = AGAINST_TRUTH if any(m.has_truth for m in models) else {}
    return {**with_truth, **(AGAINST_MODEL if any(m.has_curves for m in models) else {})}


def _notes(models: list[ModelPage]) -> dict[str, str]:
    """What is to be said of the annotation of a slide, by slide_id."""
    found: dict[str, list[str]] = {}
    for model in models:
        for slide_id, notes in model.explanations["notes"].items():
            found.setdefault(slide_id, []).extend(notes)
    return {slide_id: "; ".join(dict.fromkeys(notes)) for slide_id, notes in found.items()}


def _comparisons(models: list[ModelPage], kind: Kind, config: Config) -> list[Comparison]:
    """Every pair of models with a slide that counts in both."""
    pairs = compared({m.name: m.predictions.values() for m in models}, kind, draws=config.predict.bootstrap)
    return [pair for pair in pairs if pair.n]


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("wsi_mil.report", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": figure, "signed": signed}
    environment.globals["in_words"] = in_words
    return environment.get_template("index.html")
