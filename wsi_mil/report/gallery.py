"""Every slide with its heatmaps: the slide image once, and a layer over it for each model and method, within a size limit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from wsi_mil.config import Config, drawn_methods, fine_name, usual_name
from wsi_mil.heatmaps.cohort_scale import read_cohort_scale
from wsi_mil.heatmaps.colour_maps import colours, rgba
from wsi_mil.heatmaps.slide_scores import Ranges, SlideScores, names_of, read_scores_by_method
from wsi_mil.rasterise import tile_raster
from wsi_mil.receipts import USUAL, file_hash, read_receipt
from wsi_mil.records import SlideRow
from wsi_mil.report.base_images import SIDES_PX, BaseImage, BaseImages, source_of
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.pictures import largest_url, webp_url
from wsi_mil.report.task_report import TaskReport
from wsi_mil.results import Results
from wsi_mil.tasks import wanted_outputs
from wsi_mil.tasks.shown import explained_label
from wsi_mil.trust import NO_LINE, TrustLine, trust_line
from wsi_mil.wording import method_title

LAYERS_MB = 8.0
"""Upper limit on all layers, as text in the page."""

LEAST_LAYER_KB = 8.0
"""Below this size a layer of a large slide is too coarse to be useful: fewer models are shown instead."""

STEPS = 48
"""Number of colours of a layer: needs a third of the space, and cannot be distinguished from more by eye."""

COLOUR_BAR_STEPS = 16


@dataclass(frozen=True)
class HeatmapPanel:
    """Heatmap of a slide by one model and method.

    Attributes:
        base_image: key of the image under it.
        name: name of the model.
        method: name of the method, in words, with the output that it explains where that does not go without saying.
        output: name of that output, or "".
        url: data URL of the layer, "" if there is nothing to show.
        ends: numbers at both ends of the colour bar.
        label: unit of the numbers, and the scale.
        reason: why there is nothing to show, or "".
        trust: how far it can be trusted.
    """

    base_image: str
    name: str
    method: str
    output: str
    url: str
    ends: tuple[str, str]
    label: str
    reason: str
    trust: TrustLine = NO_LINE


@dataclass
class SlideGallery:
    """Base images, by the name that CSS has for them, and heatmaps of a slide."""

    base_images: dict[str, BaseImage] = field(default_factory=dict)
    panels: list[HeatmapPanel] = field(default_factory=list)

    def panels_on(self, key: str) -> list[HeatmapPanel]:
        """Return the panels over a base image, in order."""
        return [panel for panel in self.panels if panel.base_image == key]


def models_that_fit(models: Sequence[ModelPage], slide_ids: Sequence[str], config: Config, report: TaskReport) -> list[ModelPage]:
    """Return the first models, as many as the size limit of the page allows, but at least one."""
    n_layers_left = LAYERS_MB * 1000 / LEAST_LAYER_KB
    fitting = list[ModelPage]()
    for model in models:
        n_layers_left -= _n_layers(model, slide_ids, config, report)
        if fitting and n_layers_left < 0:
            break
        fitting.append(model)
    return fitting


def galleries(
    rows: Sequence[SlideRow], models: Sequence[ModelPage], images: BaseImages, report: TaskReport
) -> dict[str, SlideGallery]:
    """Return the galleries of usable slides, with heatmaps of `models`, by slide_id."""
    slide_ids = [row.slide_id for row in rows]
    n_layers = sum(_n_layers(model, slide_ids, images.config, report) for model in models)
    drawing = _Drawing(images, report, int(LAYERS_MB * 1e6 / max(1, n_layers)))
    with_ranges = [(model, _ranges(model, images.config)) for model in models]
    return {row.slide_id: drawing.gallery(number, row, with_ranges) for number, row in enumerate(rows)}


def outputs_shown(galleries: Iterable[SlideGallery]) -> list[str]:
    """Return the outputs among which readers can choose; none if there is one at most."""
    names = sorted({panel.output for gallery in galleries for panel in gallery.panels if panel.output})
    return names if len(names) > 1 else []


def colour_stops(colormap: str) -> str:
    """Return a colour map, from cold to hot, as the stops of a CSS gradient."""
    return ", ".join(f"rgb{colour}" for colour in colours(np.linspace(0, 1, COLOUR_BAR_STEPS), colormap))


@dataclass(frozen=True)
class _Drawing:
    """Draws galleries: images of slides, report of the target, and upper limit on the characters of a layer."""

    images: BaseImages
    report: TaskReport
    max_bytes: int

    def gallery(self, number: int, row: SlideRow, models: Sequence[tuple[ModelPage, Ranges]]) -> SlideGallery:
        """Return the gallery of one slide; models whose tiles come from the same slide file share its image."""
        gallery, keys = SlideGallery(), dict[object, str]()
        config = self.images.config
        for model, ranges in models:
            results = Results(config.results)
            tiles_receipt = results.tiles_receipt(config.encoders[model.encoder].tiling, row.slide_id)
            scores_receipt = results.target(model.target).scores_receipt(model.encoder, model.model, row.slide_id)
            methods = drawn_methods(config, model.target, model.encoder, model.model)
            if not methods:
                continue
            shown = names_of(read_receipt(scores_receipt), methods)
            scored = read_scores_by_method(row, scores_receipt, tiles_receipt, shown, scale=config.heatmap.scale, ranges=ranges)
            scored |= self._fine(row, model, shown, ranges)
            for scores in sorted(scored.values(), key=lambda scores: shown.index(usual_name(scores.method))):
                key = keys.setdefault(source_of(scores), f"g{number}-{len(keys)}")
                gallery.base_images[key] = self.images.of(row, scores, tiles_receipt)
                trust = trust_line(model.trust, scores.receipt, scores.method)
                panel = self._panel(key, model.name, scores, gallery.base_images[key].size)
                gallery.panels.append(replace(panel, trust=trust))
        return gallery

    def _fine(self, row: SlideRow, model: ModelPage, shown: Sequence[str], ranges: Ranges) -> dict[str, SlideScores]:
        """Finer scores of a slide that is chosen for them, if the usual ones that they were made with are still there."""
        config = self.images.config
        if row.slide_id not in config.heatmap.fine.slides or config.encoders[model.encoder].is_imported:
            return {}
        usual, fine = (results.target(model.target) for results in (Results(config.results), Results(config.results).fine))
        names = (model.encoder, model.model, row.slide_id)
        receipt, cells = fine.scores_receipt(*names), fine.cells_receipt(*names)
        if not receipt.is_file() or read_receipt(receipt).get(USUAL) != file_hash(usual.scores_receipt(*names)):
            return {}
        methods = [fine_name(name) for name in shown]
        return read_scores_by_method(row, receipt, cells, methods, scale=config.heatmap.scale, ranges=ranges)

    def _panel(self, key: str, name: str, scores: SlideScores, size: tuple[int, int]) -> HeatmapPanel:
        output = explained_label(scores.receipt, scores.method)
        method = method_title(scores.method, output)
        reason = scores.metadata["reason"]
        if reason:
            return HeatmapPanel(key, name, method, output, "", ("", ""), "", reason)
        colormap = self.images.config.heatmap.colormap
        url = largest_url(lambda side: _layer(scores, size, side, colormap), SIDES_PX, self.max_bytes)
        display = scores.display
        label = f"{display.label}\nlogarithmic colour bar" if display.is_log else display.label
        return HeatmapPanel(key, name, method, output, url, (f"{display.low:.3g}", f"{display.high:.3g}"), label, "")


def _n_layers(model: ModelPage, slide_ids: Iterable[str], config: Config, report: TaskReport) -> int:
    """Number of heatmaps of a model: of each slide one for each method and output shown, two of one with finer heatmaps."""
    chosen, n_maps = len(wanted_outputs(report.task, config.explain.outputs)), dict.fromkeys(config.heatmap.fine.slides, 2)
    n_outputs = sum(
        n_maps.get(s, 1) * (chosen or report.n_shown(model.predictions[s]) if s in model.predictions else 1) for s in slide_ids
    )
    return n_outputs * len(drawn_methods(config, model.target, model.encoder, model.model))


def _ranges(model: ModelPage, config: Config) -> Ranges:
    path = Results(config.results).target(model.target).cohort_scale(model.encoder, model.model)
    return read_cohort_scale(path) if config.heatmap.scale == "cohort" else {}


def _layer(scores: SlideScores, size: tuple[int, int], side: int, colormap: str) -> str:
    """Layer as drawn in the heatmap, but in `STEPS` colours; transparent outside of tiles."""
    width, height = (max(1, round(length * side / max(size))) for length in size)
    grid = scores.grid
    raster = tile_raster(scores.display.values, grid.coords, box=grid.box, dimensions=grid.dimensions, shape=(height, width))
    positions = np.rint(scores.display.positions(raster) * (STEPS - 1)) / (STEPS - 1)
    return webp_url(Image.fromarray(np.rint(rgba(positions, colormap) * 255).astype(np.uint8)), None)
