"""Stage `report`: read what the other stages wrote, and put it on one page that opens from disk."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import yaml

from wsi_mil.cohort import SlideStatus, read_status, read_table
from wsi_mil.config import Config, methods_of
from wsi_mil.files import write_text
from wsi_mil.receipts import read_receipt
from wsi_mil.records import SlideRow, Status
from wsi_mil.report.batch_effects import batch_effects, write_effects
from wsi_mil.report.comparison import Comparison, compared, least_p_holm
from wsi_mil.report.contact_sheet import contact_sheet
from wsi_mil.report.curves import Dot, reliability_dots, roc_polyline
from wsi_mil.report.pictures import jpeg_url, read_smaller
from wsi_mil.report.scatter import BOTTOM, LEFT, RIGHT, TOP
from wsi_mil.statistics import DRAWS

log = logging.getLogger(__name__)

PICTURE_PX, PICTURE_QUALITY = 1000, 78
VERSIONS_OF = ("wsi_mil", "torch", "timm", "zarr", "openslide-python", "snakemake")

FIGURES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "f1": "F1",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "brier": "Brier score",
    "ece": "Calibration error",
}
"""Figures of the table, in order, and what they are called."""

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

AS_PUBLISHED = "as_published"
"""Protocol under which epoch and threshold are chosen on the test fold, to reproduce papers."""


NOT_EXPLAINED: dict[str, Any] = {"methods": {}, "n_with_truth": 0, "notes": {}}
"""What stands for the figures of a model that offers none of the methods; nothing is evaluated for it."""


@dataclass(frozen=True)
class ModelPage:
    """What the page says about one encoder × model."""

    encoder: str
    model: str
    metrics: dict[str, Any]
    predictions: dict[str, dict[str, str]]
    explanations: dict[str, Any]
    roc: str
    reliability: list[Dot]

    @property
    def protocol(self) -> str:
        """`held_out`, or `as_published`."""
        return str(self.metrics.get("protocol", "held_out"))

    @property
    def is_as_published(self) -> bool:
        """Whether its epoch and threshold were chosen on the test fold."""
        return self.protocol == AS_PUBLISHED

    @property
    def has_truth(self) -> bool:
        """Whether any lesion is known to hold its methods against."""
        return bool(self.explanations["n_with_truth"])

    @property
    def has_curves(self) -> bool:
        """Whether a method has deletion and insertion curves."""
        return any(figures["n_curves"] for figures in self.explanations["methods"].values())

    @property
    def name(self) -> str:
        """How it is called on the page: marked where its figures are optimistic."""
        return f"{self.encoder} · {self.model}{' † as published' if self.is_as_published else ''}"


def write_report(rows: Iterable[SlideRow], config: Config, page: Path) -> None:
    """Write `index.html`, and beside it a table of batch effects."""
    rows = list(rows)
    statuses = {s.slide_id: s for s in read_status(config.results / "cohort_status.csv")}
    models = _by_auroc(_model_page(config, encoder, model) for encoder in config.encoders for model in config.models)
    comparisons = _comparisons(models, config)
    effects = batch_effects(rows, config)
    html = _template().render(
        config=config,
        positive=config.classes[-1],
        rows=rows,
        statuses=statuses,
        counts=_counts(rows, statuses),
        models=models,
        figures={name: title for name, title in FIGURES.items() if any(name in m.metrics for m in models)},
        comparisons=comparisons,
        least_p_holm=least_p_holm(len(comparisons), config.predict.bootstrap),
        pictures={row.slide_id: _pictures(row, models, config) for row in rows if _is_ok(row, statuses)},
        masks=contact_sheet(rows, config),
        batch_effects=effects,
        frame=(LEFT, TOP, RIGHT, BOTTOM),
        draws=DRAWS,
        columns=_columns(models),
        notes=_notes(models),
        has_seen_slides=any(p["role"] in ("train", "val") for m in models for p in m.predictions.values()),
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        versions={name: version(name) for name in VERSIONS_OF},
    )
    write_effects(effects, page.with_name("batch_effects.csv"))
    write_text(page, html)
    for model in models:
        log.info("%s: %s", model.name, in_words(model))


def in_words(model: ModelPage) -> str:
    """The figures of one model in a line."""
    auroc = model.metrics.get("auroc")
    if auroc is None:
        return "no labelled slide to count"
    low, high = model.metrics["auroc_ci95"]
    interval = "" if low is None else f" (95 % interval {low:.3f} to {high:.3f})"
    tiles = "".join(
        f"; tile AUROC of {name.replace('_', ' ')} {figures['tile_auroc']:.3f} over {figures['n_positive_slides']} slides"
        for name, figures in model.explanations["methods"].items()
        if figures.get("tile_auroc") is not None
    )
    return f"AUROC {auroc:.3f}{interval} over {_counted(model.metrics)}{tiles}"


def _counted(metrics: dict[str, Any]) -> str:
    """What the figures stand on."""
    bags = f" in {metrics['n_bags']} bags" if metrics["n_bags"] != metrics["n_slides"] else ""
    return f"{metrics['n_slides']} slides{bags}"


def _model_page(config: Config, encoder: str, model: str) -> ModelPage:
    results, name = config.results, f"{encoder}/{model}"
    predictions = {row["slide_id"]: row for row in read_table(results / "predictions" / f"{name}.csv")}
    metrics = read_receipt(results / "metrics" / f"{name}.json")
    is_explained = bool(methods_of(config, model))
    explanations = read_receipt(results / "explanations" / f"{name}.json") if is_explained else NOT_EXPLAINED
    roc = roc_polyline(predictions.values(), config.classes)
    dots = reliability_dots(metrics.get("reliability", []))
    return ModelPage(encoder, model, metrics, predictions, explanations, roc, dots)


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


def _by_auroc(models: Iterable[ModelPage]) -> list[ModelPage]:
    """The best first, those without an AUROC last."""
    return sorted(models, key=lambda m: -1 if m.metrics.get("auroc") is None else m.metrics["auroc"], reverse=True)


def _comparisons(models: list[ModelPage], config: Config) -> list[Comparison]:
    """Every pair of models with a slide that counts in both."""
    pairs = compared({m.name: m.predictions.values() for m in models}, config.classes, draws=config.predict.bootstrap)
    return [pair for pair in pairs if pair.n]


def _counts(rows: list[SlideRow], statuses: dict[str, SlideStatus]) -> dict[str, int]:
    counts = {str(status): sum(statuses[r.slide_id].status is status for r in rows) for status in Status}
    return {**counts, "unlabelled": sum(not r.label for r in rows), "patients": len({r.patient_id for r in rows})}


def _is_ok(row: SlideRow, statuses: dict[str, SlideStatus]) -> bool:
    return statuses[row.slide_id].status is Status.OK


def _pictures(row: SlideRow, models: list[ModelPage], config: Config) -> list[tuple[str, str]]:
    """(caption, data URL) of every heatmap of a slide: of each model, by the methods that it offers."""
    return [
        (
            f"{model.name} · {method.replace('_', ' ')}",
            _heatmap_url(config.results / "heatmaps" / model.encoder / model.model / row.slide_id / f"{method}.png"),
        )
        for model in models
        for method in methods_of(config, model.model)
    ]


def _heatmap_url(path: Path) -> str:
    return jpeg_url(read_smaller(path, PICTURE_PX), PICTURE_QUALITY)


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("wsi_mil.report", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = lambda value: "–" if value is None or value != value else f"{value:.3f}"
    environment.filters["signed"] = lambda value: "–" if value is None or value != value else f"{value:+.3f}".replace("-", "−")
    environment.globals["in_words"] = in_words
    return environment.get_template("index.html")
