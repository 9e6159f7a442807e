"""Stage `report`: read what the other stages wrote, and put it on one page that opens from disk."""

import base64
import io
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from PIL import Image

from wsi_mil.cohort import SlideStatus, read_status, read_table, write_table
from wsi_mil.config import Config
from wsi_mil.metrics import roc_points
from wsi_mil.records import SlideRow, Status
from wsi_mil.report.truth import SlideTruth, damaged_annotations, slide_truths
from wsi_mil.store import read_receipt, write_text

log = logging.getLogger(__name__)

PICTURE_PX, PICTURE_QUALITY = 1000, 78
VERSIONS_OF = ("wsi_mil", "torch", "timm", "zarr", "openslide-python", "snakemake")


@dataclass(frozen=True)
class MethodSummary:
    """A method against the truth over the truly positive slides that have one."""

    method: str
    mean_auroc: float
    n_slides: int
    n_not_shown: int


@dataclass(frozen=True)
class ModelPage:
    """What the page says about one encoder × model."""

    encoder: str
    model: str
    metrics: dict[str, Any]
    predictions: dict[str, dict[str, str]]
    roc: str
    truths: list[SlideTruth]
    methods: list[MethodSummary]

    @property
    def name(self) -> str:
        """How it is called on the page."""
        return f"{self.encoder} · {self.model}"


def write_report(rows: Iterable[SlideRow], config: Config, page: Path) -> None:
    """Write `index.html`, and beside it `explanations.csv` with each slide's figures behind the summary."""
    rows = list(rows)
    statuses = {s.slide_id: s for s in read_status(config.results / "cohort_status.csv")}
    models = [_model_page(rows, config, encoder, model) for encoder in config.encoders for model in config.models]
    html = _template().render(
        config=config,
        positive=config.classes[-1],
        rows=rows,
        statuses=statuses,
        counts=_counts(rows, statuses),
        models=models,
        pictures=_pictures(rows, statuses, config),
        damaged=damaged_annotations(rows),
        has_seen_slides=any(p["role"] in ("train", "val") for m in models for p in m.predictions.values()),
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        versions={name: version(name) for name in VERSIONS_OF},
        nan=float("nan"),
    )
    write_text(page, html)
    table = [[m.encoder, m.model, *vars(t).values()] for m in models for t in m.truths]
    write_table(page.parent / "explanations.csv", ["encoder", "model", *SlideTruth.__annotations__], table)
    for model in models:
        log.info("%s: %s", model.name, in_words(model))


def in_words(model: ModelPage) -> str:
    """The figures of one model in a line."""
    auroc = model.metrics.get("auroc")
    if auroc is None:
        return "no labelled slide to count"
    low, high = model.metrics["auroc_ci95"]
    interval = "" if low is None else f" (95 % interval {low:.3f} to {high:.3f})"
    tiles = "".join(f"; tile AUROC of {m.method} {m.mean_auroc:.3f} over {m.n_slides} slides" for m in model.methods)
    return f"AUROC {auroc:.3f}{interval} over {model.metrics['n_slides']} slides{tiles}"


def _model_page(rows: list[SlideRow], config: Config, encoder: str, model: str) -> ModelPage:
    results, name = config.results, f"{encoder}/{model}"
    predictions = {row["slide_id"]: row for row in read_table(results / "predictions" / f"{name}.csv")}
    truths = [
        truth
        for row in rows
        if row.label == config.classes[-1] and row.slide_id in predictions and predictions[row.slide_id]["role"] in ("test", "")
        for truth in slide_truths(row, results / "scores" / name / f"{row.slide_id}.json", overlap=config.report.truth_overlap)
    ]
    metrics = read_receipt(results / "metrics" / f"{name}.json")
    summaries = [_summary(method, [t for t in truths if t.method == method]) for method in config.explain.methods]
    roc = _roc_polyline(list(predictions.values()), config.classes) if metrics.get("auroc") is not None else ""
    return ModelPage(encoder, model, metrics, predictions, roc, truths, [s for s in summaries if s.n_slides])


def _summary(method: str, truths: list[SlideTruth]) -> MethodSummary:
    mean = float(np.mean([t.auroc for t in truths])) if truths else float("nan")
    return MethodSummary(method, mean, len(truths), sum(not t.shown for t in truths))


def _roc_polyline(predictions: list[dict[str, str]], classes: tuple[str, ...]) -> str:
    """Points of an SVG polyline in the unit square, y downwards; only for two classes."""
    counted = [p for p in predictions if p["label"] and p["role"] in ("test", "")]
    if len(classes) != 2:
        return ""
    truth = np.array([p["label"] == classes[1] for p in counted], np.int64)
    false_positive, true_positive = roc_points(truth, np.array([float(p[f"prob_{classes[1]}"]) for p in counted]))
    return " ".join(f"{x:.4f},{1 - y:.4f}" for x, y in zip(false_positive, true_positive, strict=True))


def _counts(rows: list[SlideRow], statuses: dict[str, SlideStatus]) -> dict[str, int]:
    counts = {str(status): sum(statuses[r.slide_id].status is status for r in rows) for status in Status}
    return {**counts, "unlabelled": sum(not r.label for r in rows), "patients": len({r.patient_id for r in rows})}


def _pictures(rows: list[SlideRow], statuses: dict[str, SlideStatus], config: Config) -> dict[str, list[tuple[str, str]]]:
    """(caption, data URL) of every heatmap of every usable slide."""
    return {
        row.slide_id: [
            (f"{encoder} · {model} · {method.replace('_', ' ')}", _data_url(folder / row.slide_id / f"{method}.png"))
            for encoder in config.encoders
            for model in config.models
            for folder in [config.results / "heatmaps" / encoder / model]
            for method in config.explain.methods
        ]
        for row in rows
        if statuses[row.slide_id].status is Status.OK
    }


def _data_url(path: Path) -> str:
    image = Image.open(path).convert("RGB")
    image.thumbnail((PICTURE_PX, PICTURE_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=PICTURE_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("wsi_mil.report", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = lambda value: "–" if value is None or value != value else f"{value:.3f}"
    environment.globals["in_words"] = in_words
    return environment.get_template("index.html")
