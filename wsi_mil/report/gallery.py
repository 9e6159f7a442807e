"""Every slide with its heatmaps: the slide image once, and a layer over it for each model and method, within a size limit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_mil.annotations import Frame
from wsi_mil.config import Config, methods_of
from wsi_mil.heatmaps.cohort_scale import read_cohort_scale
from wsi_mil.heatmaps.colour_maps import colours, rgba
from wsi_mil.heatmaps.scale_bar import ScaleBar, scale_bar
from wsi_mil.heatmaps.slide_scores import Ranges, SlideScores, read_slide_scores
from wsi_mil.heatmaps.stage import annotation_rings, base_image
from wsi_mil.rasterise import tile_raster
from wsi_mil.receipts import IMPORTED, store_path
from wsi_mil.records import SlideRow
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.pictures import largest_url, smaller, webp_url
from wsi_mil.results import Results

BASE_IMAGES_MB, LAYERS_MB = 12.0, 8.0
"""Upper limits on the base images of all slides, and on all layers, as text in the page."""

LEAST_LAYER_KB = 8.0
"""Below this size a layer of a large slide is too coarse to be useful: fewer models are shown instead."""

SIDES_PX = (900, 720, 560, 420, 300, 200, 120)
"""Longest sides to try, in decreasing order."""

QUALITY = 62
STEPS = 48
"""Number of colours of a layer: needs a third of the space, and cannot be distinguished from more by eye."""

COLOUR_BAR_STEPS = 16
MAX_CORNERS = 600
"""Upper limit on the corners of a slide's annotation outlines."""


@dataclass(frozen=True)
class BaseImage:
    """Image of a slide under the layers.

    Attributes:
        key: name of the image, used in CSS.
        url: data URL of the whole slide.
        size: (width, height) of the frame that it is shown in, the unit of `outlines`.
        outlines: SVG path of the annotation, or "".
        bar: scale bar.
        note: remark for the caption, or "".
    """

    key: str
    url: str
    size: tuple[int, int]
    outlines: str
    bar: ScaleBar
    note: str


@dataclass(frozen=True)
class HeatmapPanel:
    """Heatmap of a slide by one model and method.

    Attributes:
        base_image: key of the image under it.
        name: name of the model.
        method: name of the method, in words.
        url: data URL of the layer, "" if there is nothing to show.
        ends: numbers at both ends of the colour bar.
        label: unit of the numbers, and the scale.
        reason: why there is nothing to show, or "".
    """

    base_image: str
    name: str
    method: str
    url: str
    ends: tuple[str, str]
    label: str
    reason: str


@dataclass
class SlideGallery:
    """Base images and heatmaps of a slide."""

    base_images: dict[str, BaseImage] = field(default_factory=dict)
    panels: list[HeatmapPanel] = field(default_factory=list)

    def panels_on(self, key: str) -> list[HeatmapPanel]:
        """Return the panels over a base image, in order."""
        return [panel for panel in self.panels if panel.base_image == key]


def models_that_fit(models: Sequence[ModelPage], n_slides: int, config: Config) -> list[ModelPage]:
    """Return the first models, as many as the size limit of the page allows, but at least one."""
    n_layers_left = LAYERS_MB * 1000 / LEAST_LAYER_KB
    fitting = list[ModelPage]()
    for model in models:
        n_layers_left -= n_slides * len(methods_of(config, model.target, model.model))
        if fitting and n_layers_left < 0:
            break
        fitting.append(model)
    return fitting


def galleries(rows: Iterable[SlideRow], models: Sequence[ModelPage], config: Config) -> dict[str, SlideGallery]:
    """Return the galleries of usable slides, with heatmaps of `models`, by slide_id."""
    rows = list(rows)
    n_layers = len(rows) * sum(len(methods_of(config, model.target, model.model)) for model in models)
    max_bytes = (int(BASE_IMAGES_MB * 1e6 / max(1, len(rows))), int(LAYERS_MB * 1e6 / max(1, n_layers)))
    with_ranges = [(model, _ranges(model, config)) for model in models]
    return {row.slide_id: _gallery(number, row, with_ranges, config, max_bytes) for number, row in enumerate(rows)}


def colour_stops(colormap: str) -> str:
    """Return a colour map, from cold to hot, as the stops of a CSS gradient."""
    return ", ".join(f"rgb{colour}" for colour in colours(np.linspace(0, 1, COLOUR_BAR_STEPS), colormap))


def _gallery(
    number: int, row: SlideRow, models: Sequence[tuple[ModelPage, Ranges]], config: Config, max_bytes: tuple[int, int]
) -> SlideGallery:
    """Gallery of one slide; models whose tiles come from the same slide file share its image."""
    gallery, keys = SlideGallery(), dict[object, str]()
    for model, ranges in models:
        results = Results(config.results)
        tiles_receipt = results.tiles_receipt(config.encoders[model.encoder].tiling, row.slide_id)
        scores_receipt = results.target(model.target).scores_receipt(model.encoder, model.model, row.slide_id)
        for method in methods_of(config, model.target, model.model):
            scores = read_slide_scores(row, scores_receipt, tiles_receipt, method, scale=config.heatmap.scale, ranges=ranges)
            source = (scores.grid.dimensions, scores.tile_receipt["slide_hash"], scores.tile_receipt["reader"] == IMPORTED)
            if source not in keys:
                key = keys[source] = f"g{number}-{len(keys)}"
                gallery.base_images[key] = _base_image(key, row, scores, tiles_receipt, config, max_bytes[0])
            image = gallery.base_images[keys[source]]
            gallery.panels.append(_panel(model.name, scores, image, config.heatmap.colormap, max_bytes[1]))
    return gallery


def _ranges(model: ModelPage, config: Config) -> Ranges:
    path = Results(config.results).target(model.target).cohort_scale(model.encoder, model.model)
    return read_cohort_scale(path) if config.heatmap.scale == "cohort" else {}


def _base_image(key: str, row: SlideRow, scores: SlideScores, tiles_receipt: Path, config: Config, max_bytes: int) -> BaseImage:
    pixels, note = base_image(scores, store_path(tiles_receipt))
    image = Image.fromarray(pixels)
    url = largest_url(lambda side: webp_url(smaller(image, side), QUALITY), SIDES_PX, max_bytes)
    dimensions = np.array(scores.grid.dimensions)
    width, height = (max(1, round(float(side))) for side in dimensions * SIDES_PX[0] / dimensions.max())
    to_frame = np.array((width, height)) / dimensions
    rings = annotation_rings(row, Frame.of(scores.tile_receipt), config.truth, to_frame, most=MAX_CORNERS)
    bar = scale_bar(scores.grid.dimensions, scores.grid.mpp)
    return BaseImage(key, url, (width, height), _svg_path(rings), bar, note)


def _svg_path(rings: Iterable[NDArray[np.float64]]) -> str:
    """Closed rings as an SVG path."""
    return "".join(f"M{' '.join(f'{x:.1f},{y:.1f}' for x, y in ring)}z" for ring in rings)


def _panel(name: str, scores: SlideScores, image: BaseImage, colormap: str, max_bytes: int) -> HeatmapPanel:
    method = scores.method.replace("_", " ")
    reason = scores.metadata["reason"]
    if reason:
        return HeatmapPanel(image.key, name, method, "", ("", ""), "", reason)
    url = largest_url(lambda side: _layer(scores, image.size, side, colormap), SIDES_PX, max_bytes)
    display = scores.display
    label = f"{display.label}\nlogarithmic colour bar" if display.is_log else display.label
    return HeatmapPanel(image.key, name, method, url, (f"{display.low:.3g}", f"{display.high:.3g}"), label, "")


def _layer(scores: SlideScores, size: tuple[int, int], side: int, colormap: str) -> str:
    """Layer as drawn in the heatmap, but in `STEPS` colours; transparent outside of tiles."""
    width, height = (max(1, round(length * side / max(size))) for length in size)
    grid = scores.grid
    raster = tile_raster(scores.display.values, grid.coords, box=grid.box, dimensions=grid.dimensions, shape=(height, width))
    positions = np.rint(scores.display.positions(raster) * (STEPS - 1)) / (STEPS - 1)
    return webp_url(Image.fromarray(np.rint(rgba(positions, colormap) * 255).astype(np.uint8)), None)
