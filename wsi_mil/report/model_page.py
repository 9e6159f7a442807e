"""Results of one encoder × model on the page, from the output of predict, explain and evaluate."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wsi_mil.config import Config, FeatureUnit, drawn_methods
from wsi_mil.files import read_table
from wsi_mil.receipts import read_receipt
from wsi_mil.report.comparison import evaluated_rows
from wsi_mil.report.removal import RemovalPlot, removal_plot
from wsi_mil.report.task_report import TaskReport, decimals
from wsi_mil.results import Results
from wsi_mil.trust import UNTESTED, Trust, TrustLine, model_line, output_line, read_trust
from wsi_mil.wording import method_title

AS_PUBLISHED = "as_published"
"""Protocol that selects epoch and threshold on the test fold, to reproduce papers."""

NOT_EXPLAINED: dict[str, Any] = {"methods": {}, "outputs": {}, "n_with_truth": 0, "notes": {}}
"""Explanations of a model that supports none of the methods, for which `evaluate` does not run."""


@dataclass(frozen=True)
class ModelPage:
    """Results of one encoder × model for a target; `group`: column of groups, if its slides are of several."""

    target: str
    encoder: str
    model: str
    metrics: dict[str, Any]
    predictions: dict[str, dict[str, str]]
    explanations: dict[str, Any]
    plots: Any
    trust: Trust = UNTESTED
    of: FeatureUnit = "tile"
    sees_slides: bool = True
    group: str = ""

    @property
    def has_tiles(self) -> bool:
        """Whether it learned from tiles, of which there can be heatmaps, not from vectors of slides or covariates alone."""
        return self.sees_slides and self.of == "tile"

    @property
    def compared(self) -> Mapping[str, Any]:
        """Figures by which models are ordered and compared: the mean over groups, if there are several, else over all slides."""
        figures: Mapping[str, Any] = self.metrics["of_group"]["mean"] if self.group else self.metrics
        return figures

    @property
    def protocol(self) -> str:
        """`held_out`, or `as_published`."""
        return str(self.metrics.get("protocol", "held_out"))

    @property
    def is_as_published(self) -> bool:
        """Whether its epoch and threshold were selected on the test fold."""
        return self.protocol == AS_PUBLISHED

    @property
    def has_truth(self) -> bool:
        """Whether its methods were compared with annotations."""
        return bool(self.explanations["n_with_truth"])

    @property
    def has_curves(self) -> bool:
        """Whether a method has deletion and insertion curves."""
        return any(figures["n_curves"] for figures in self.explanations["methods"].values())

    @property
    def removal(self) -> RemovalPlot | None:
        """What removing tiles does to the prediction, by method; None without curves."""
        return removal_plot(self.explanations["methods"])

    @property
    def line(self) -> TrustLine:
        """What is known of the model itself."""
        return model_line(self.trust)

    @property
    def has_outputs(self) -> bool:
        """Whether its methods have figures of each of several outputs."""
        return bool(self.explanations.get("outputs"))

    @property
    def lines(self) -> list[tuple[str, str, dict[str, Any], TrustLine]]:
        """Titles, names, figures and trust of methods: for what slides are predicted as, then for each output with figures."""
        of_outputs = {"": self.explanations, **self.explanations.get("outputs", {})}
        return [
            (method_title(method, output), method, figures, output_line(self.trust, output, method))
            for output, about in of_outputs.items()
            for method, figures in about["methods"].items()
        ]

    @property
    def name(self) -> str:
        """Name on the page, marked if its figures are optimistic."""
        return f"{self.encoder} · {self.model}{' † as published' if self.is_as_published else ''}"


def model_summary(model: ModelPage, report: TaskReport) -> str:
    """Return the figures of one model in one line."""
    value = model.metrics.get(report.main_figure)
    if value is None and not model.metrics.get("n_slides"):
        return "no labelled slide could be evaluated"
    if value is None:
        return f"{report.main_title} cannot be computed from {_sample_size(model.metrics)}"
    tiles = "".join(
        f"; tile AUROC of {name.replace('_', ' ')} {f['tile_auroc']:.3f} over {n_slides_text(f['n_positive_slides'])}"
        for name, f in model.explanations["methods"].items()
        if f.get("tile_auroc") is not None
    )
    over_groups = f"; {_figure(report.mean_title(model.group), model.compared, report)}" if model.group else ""
    return f"{_figure(report.main_title, model.metrics, report)} over {_sample_size(model.metrics)}{over_groups}{tiles}"


def n_slides_text(n: int) -> str:
    """Return the number of slides with its noun: 1 slide, 2 slides."""
    return f"{n:,} slide" if n == 1 else f"{n:,} slides"


def _figure(title: str, figures: Mapping[str, Any], report: TaskReport) -> str:
    """Title, main figure and interval."""
    value, (low, high) = figures[report.main_figure], figures[f"{report.main_figure}_ci95"]
    return f"{title} {decimals(value)}" + ("" if low is None else f" (95 % interval {decimals(low)} to {decimals(high)})")


def _sample_size(metrics: dict[str, Any]) -> str:
    """Number of slides and bags that the figures are computed from."""
    bags = f" in {metrics['n_bags']} bags" if metrics["n_bags"] != metrics["n_slides"] else ""
    return f"{n_slides_text(metrics['n_slides'])}{bags}"


def read_model(config: Config, report: TaskReport, target: str, encoder: str, model: str) -> ModelPage:
    """Read the results of an entry of `targets`, one of `encoders` and one of `models`."""
    results = Results(config.results).target(target)
    predictions = {row["slide_id"]: row for row in read_table(results.predictions(encoder, model))}
    metrics = read_receipt(results.metrics(encoder, model))
    is_explained = bool(drawn_methods(config, target, encoder, model))
    explanations = read_receipt(results.explanations(encoder, model)) if is_explained else NOT_EXPLAINED
    rows = evaluated_rows(predictions.values())
    plots = report.plots(metrics, rows) if rows else None
    trust = read_trust(results.trust(encoder, model))
    of, sees_slides = config.encoders[encoder].of, config.models[model].has_instances
    group = config.split.group if config.split.group and len(metrics.get("of_group", {}).get("groups", {})) > 1 else ""
    return ModelPage(target, encoder, model, metrics, predictions, explanations, plots, trust, of, sees_slides, group)


def best_first(models: Iterable[ModelPage], report: TaskReport) -> list[ModelPage]:
    """Sort models by the main figure, best first; those without one are last. Of several groups it is the mean over them."""
    figures = [(model, model.compared.get(report.main_figure)) for model in models]
    return [model for model, _ in sorted(figures, key=lambda pair: -math.inf if pair[1] is None else pair[1], reverse=True)]
