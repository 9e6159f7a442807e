"""One encoder × model as the page shows it, from what predict, evaluate and explain left."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wsi_mil.config import Config, methods_of
from wsi_mil.files import read_table
from wsi_mil.receipts import read_receipt
from wsi_mil.report.comparison import counted
from wsi_mil.report.curves import Dot, reliability_dots
from wsi_mil.report.kinds import Kind
from wsi_mil.results import Results

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
    curve: str
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


def in_words(model: ModelPage, kind: Kind) -> str:
    """The figures of one model in a line."""
    value = model.metrics.get(kind.main_figure)
    if value is None:
        return "no labelled slide to count"
    low, high = model.metrics[f"{kind.main_figure}_ci95"]
    interval = "" if low is None else f" (95 % interval {low:.3f} to {high:.3f})"
    tiles = "".join(
        f"; tile AUROC of {name.replace('_', ' ')} {f['tile_auroc']:.3f} over {slides_in_words(f['n_positive_slides'])}"
        for name, f in model.explanations["methods"].items()
        if f.get("tile_auroc") is not None
    )
    return f"{kind.main_title} {value:.3f}{interval} over {_counted(model.metrics)}{tiles}"


def slides_in_words(n: int) -> str:
    """As 1 slide, 2 slides."""
    return f"{n:,} slide" if n == 1 else f"{n:,} slides"


def _counted(metrics: dict[str, Any]) -> str:
    """What the figures stand on."""
    bags = f" in {metrics['n_bags']} bags" if metrics["n_bags"] != metrics["n_slides"] else ""
    return f"{slides_in_words(metrics['n_slides'])}{bags}"


def read_model(config: Config, kind: Kind, encoder: str, model: str) -> ModelPage:
    """What the results folder holds of entries of `encoders` and `models`."""
    results = Results(config.results)
    predictions = {row["slide_id"]: row for row in read_table(results.predictions(encoder, model))}
    metrics = read_receipt(results.metrics(encoder, model))
    is_explained = bool(methods_of(config, model))
    explanations = read_receipt(results.explanations(encoder, model)) if is_explained else NOT_EXPLAINED
    curve = kind.curve(counted(predictions.values()))
    dots = reliability_dots(metrics.get("reliability", []))
    return ModelPage(encoder, model, metrics, predictions, explanations, curve, dots)


def best_first(models: Iterable[ModelPage], kind: Kind) -> list[ModelPage]:
    """Models by their main figure, those without one last."""
    figures = [(model, model.metrics.get(kind.main_figure)) for model in models]
    return [model for model, _ in sorted(figures, key=lambda pair: -math.inf if pair[1] is None else pair[1], reverse=True)]
