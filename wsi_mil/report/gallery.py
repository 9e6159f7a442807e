"""Every slide with its heatmaps: the slide once, and over it a layer for each model and method, all within a given size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_mil.annotations import Frame
from wsi_mil.config import Config, methods_of
from wsi_mil.heatmaps.cohort_scale import read_cohort_scale
from wsi_mil.heatmaps.overlay import bar_length_um, colours, rgba
from wsi_mil.heatmaps.slide_scores import Ranges, Scored, read_scored
from wsi_mil.heatmaps.stage import ground_of, truth_rings
from wsi_mil.rasterise import painted
from wsi_mil.receipts import IMPORTED, store_path
from wsi_mil.records import SlideRow
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.pictures import largest_url, smaller, webp_url
from wsi_mil.results import Results

GROUNDS_MB, LAYERS_MB = 12.0, 8.0
"""Of all slides' pictures and of all layers, as text in the page."""

LEAST_LAYER_KB = 8.0
"""Below it a layer of a large slide is too coarse to be of use: rather fewer models are shown."""

SIDES_PX = (900, 720, 560, 420, 300, 200, 120)
"""Longest sides that are tried, the largest first."""

QUALITY = 62
STEPS = 48
"""Colours of a layer; so few take a third of the space, and no eye tells them from more."""

BAR_STEPS = 16
MAX_CORNERS = 600
"""Of a slide's truth outlines."""


@dataclass(frozen=True)
class Ground:
    """What layers lie on.

    Attributes:
        key: a name for it, of use in CSS.
        url: data URL of the whole slide.
        size: (width, height) of the frame that it is shown in; outlines count in it.
        outlines: SVG path of the truth, or "".
        bar: (length in words, share of the width) of the scale bar.
        note: what is to be said of it, or "".
    """

    key: str
    url: str
    size: tuple[int, int]
    outlines: str
    bar: tuple[str, float]
    note: str


@dataclass(frozen=True)
class Panel:
    """A heatmap.

    Attributes:
        ground: key of its ground.
        name: of the model.
        method: in words.
        url: data URL of the layer, "" where there is nothing to show.
        ends: numbers at both ends of the colour bar.
        label: what they are, and on which scale.
        reason: why there is nothing to show, or "".
    """

    ground: str
    name: str
    method: str
    url: str
    ends: tuple[str, str]
    label: str
    reason: str


@dataclass
class SlideGallery:
    """All that is shown of a slide."""

    grounds: dict[str, Ground] = field(default_factory=dict)
    panels: list[Panel] = field(default_factory=list)

    def of_ground(self, key: str) -> list[Panel]:
        """The panels that lie on a ground, in order."""
        return [panel for panel in self.panels if panel.ground == key]


def models_with_room(models: Sequence[ModelPage], n_slides: int, config: Config) -> list[ModelPage]:
    """The first of the models, as many as there is room for; one at least."""
    room, shown = LAYERS_MB * 1000 / LEAST_LAYER_KB, list[ModelPage]()
    for model in models:
        room -= n_slides * len(methods_of(config, model.model))
        if shown and room < 0:
            break
        shown.append(model)
    return shown


def galleries(rows: Iterable[SlideRow], models: Sequence[ModelPage], config: Config) -> dict[str, SlideGallery]:
    """By slide_id, the pictures of usable slides by `models`."""
    rows = list(rows)
    n_layers = len(rows) * sum(len(methods_of(config, model.model)) for model in models)
    most = (int(GROUNDS_MB * 1e6 / max(1, len(rows))), int(LAYERS_MB * 1e6 / max(1, n_layers)))
    ranged = [(model, _ranges(model, config)) for model in models]
    return {row.slide_id: _gallery(number, row, ranged, config, most) for number, row in enumerate(rows)}


def colour_stops(colormap: str) -> str:
    """The colour map from cold to hot as stops of a CSS gradient."""
    return ", ".join(f"rgb{colour}" for colour in colours(np.linspace(0, 1, BAR_STEPS), colormap))


def _gallery(
    number: int, row: SlideRow, models: Sequence[tuple[ModelPage, Ranges]], config: Config, most: tuple[int, int]
) -> SlideGallery:
    """Models whose tiles lie on the same picture share it."""
    found, keys = SlideGallery(), dict[object, str]()
    for model, ranges in models:
        results = Results(config.results)
        tiles = results.tiles_receipt(config.encoders[model.encoder].tiling, row.slide_id)
        scores = results.scores_receipt(model.encoder, model.model, row.slide_id)
        for method in methods_of(config, model.model):
            scored = read_scored(row, scores, tiles, method, scale=config.heatmap.scale, ranges=ranges)
            like = (scored.grid.dimensions, scored.tiled["slide_hash"], scored.tiled["reader"] == IMPORTED)
            if like not in keys:
                keys[like] = f"g{number}-{len(keys)}"
                found.grounds[keys[like]] = _ground(keys[like], row, scored, tiles, config, most[0])
            ground = found.grounds[keys[like]]
            found.panels.append(_panel(model.name, scored, ground, config.heatmap.colormap, most[1]))
    return found


def _ranges(model: ModelPage, config: Config) -> Ranges:
    path = Results(config.results).cohort_scale(model.encoder, model.model)
    return read_cohort_scale(path) if config.heatmap.scale == "cohort" else {}


def _ground(key: str, row: SlideRow, scored: Scored, tiles: Path, config: Config, most: int) -> Ground:
    thumbnail, note = ground_of(scored, store_path(tiles))
    image = Image.fromarray(thumbnail)
    url = largest_url(lambda side: webp_url(smaller(image, side), QUALITY), SIDES_PX, most)
    dimensions = np.array(scored.grid.dimensions)
    width, height = (max(1, round(float(side))) for side in dimensions * SIDES_PX[0] / dimensions.max())
    rings = truth_rings(row, Frame.of(scored.tiled), config.truth, np.array((width, height)) / dimensions, most=MAX_CORNERS)
    width_um = scored.grid.mpp.x * scored.grid.dimensions[0]
    length = bar_length_um(width_um)
    words = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return Ground(key, url, (width, height), _path(rings), (words, length / width_um), note)


def _path(rings: Iterable[NDArray[np.float64]]) -> str:
    """Closed rings as an SVG path."""
    return "".join(f"M{' '.join(f'{x:.1f},{y:.1f}' for x, y in ring)}z" for ring in rings)


def _panel(name: str, scored: Scored, ground: Ground, colormap: str, most: int) -> Panel:
    shown, method, reason = scored.shown, scored.method.replace("_", " "), scored.about["reason"]
    if reason:
        return Panel(ground.key, name, method, "", ("", ""), "", reason)
    url = largest_url(lambda side: _layer(scored, ground.size, side, colormap), SIDES_PX, most)
    label = f"{shown.label}, logarithmic" if shown.is_log else shown.label
    return Panel(ground.key, name, method, url, (f"{shown.low:.3g}", f"{shown.high:.3g}"), label, "")


def _layer(scored: Scored, size: tuple[int, int], side: int, colormap: str) -> str:
    """The scores as they are painted in the heatmap, in `STEPS` colours, transparent where there are none."""
    width, height = (max(1, round(length * side / max(size))) for length in size)
    grid = scored.grid
    raster = painted(scored.shown.values, grid.coords, box=grid.box, dimensions=grid.dimensions, shape=(height, width))
    place = np.rint(scored.shown.place(raster) * (STEPS - 1)) / (STEPS - 1)
    return webp_url(Image.fromarray(np.rint(rgba(place, colormap) * 255).astype(np.uint8)), None)
