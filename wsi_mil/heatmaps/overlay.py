"""Draw scores over a thumbnail, with scale bar, colour bar and annotation outlines. The only importer of matplotlib."""

import io
import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wsi_mil.config import Heatmap, nearest
from wsi_mil.errors import ConfigError
from wsi_mil.heatmaps.scale import ScoreDisplay
from wsi_mil.heatmaps.scale_bar import ScaleBar

PANEL_INCHES, DPI = 6.0, 130
OUTLINE_COLOUR = "#00e5ff"
TITLE_CHARS = 140
LABEL_POINTS, CHAR_INCHES = 9, 0.075
"""Font size and width of a character of the colour bar's label, which is wrapped to fit the height of the picture."""

COLD_OPACITY = 0.25
"""Opacity of the coldest tile as a share of the hottest one's, so that the tissue under it stays visible."""

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
"""Font of the pictures, which has µ and most alphabets."""


@dataclass(frozen=True)
class Picture:
    """Content of a heatmap picture.

    Attributes:
        thumbnail: uint8 [height, width, 3], the whole slide.
        raster: float32 [height, width] of the thumbnail, NaN outside of tiles.
        display: range and label of the colour bar.
        rings: annotation outlines, `(n, 2)` (x, y) in thumbnail pixels.
        scale_bar: scale bar of the slide.
        title: slide, prediction, label.
        reason: why there is nothing to show, or "".
    """

    thumbnail: NDArray[np.uint8]
    raster: NDArray[np.float32]
    display: ScoreDisplay
    rings: list[NDArray[np.float64]]
    scale_bar: ScaleBar
    title: str
    reason: str


def draw(picture: Picture, settings: Heatmap) -> bytes:
    """Draw a PNG: the slide on the left, the slide with scores on the right.

    Raises:
        ConfigError: matplotlib has no such colour map.
    """
    require_colormap(settings.colormap)
    height, width = picture.thumbnail.shape[:2]
    figure = Figure(figsize=(2 * PANEL_INCHES + 1, PANEL_INCHES * height / width + 0.9), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    figure.suptitle("\n".join(textwrap.wrap(picture.title, TITLE_CHARS)), fontsize=11, parse_math=False)
    for axes in (left, right):
        axes.imshow(picture.thumbnail, interpolation="antialiased")
        axes.set_axis_off()
        _draw_rings(axes, picture.rings)
    _draw_scale_bar(left, width, picture.scale_bar)
    _draw_scores(figure, right, picture, settings)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def colormap_names() -> list[str]:
    """Return the valid names for `heatmap.colormap`."""
    return list(matplotlib.colormaps)


def colormap_faults(name: str) -> list[str]:
    """Return an error message, with the nearest name, if matplotlib has no such colour map; otherwise nothing."""
    names = colormap_names()
    return [] if name in names else [f"heatmap.colormap: matplotlib has no colour map {name!r}{nearest(name, names)[:60]}"]


def colours(positions: NDArray[np.float64], colormap: str) -> list[tuple[int, int, int]]:
    """Return (red, green, blue), 0 to 255, of positions `(n,)` on the colour bar; NaN has the coldest colour."""
    rgba = matplotlib.colormaps[colormap](np.nan_to_num(positions), bytes=True)
    return [(int(red), int(green), int(blue)) for red, green, blue, _ in rgba]


def rgba(positions: NDArray[np.float64], colormap: str) -> NDArray[np.float64]:
    """Return red, green, blue and opacity, 0 to 1, [height, width, 4], of positions on the colour bar [height, width].

    The coldest tile has opacity `COLD_OPACITY`, the hottest 1; NaN is transparent.
    """
    finite = np.nan_to_num(positions)
    layer = np.asarray(matplotlib.colormaps[colormap](finite), np.float64)
    layer[..., 3] = np.where(np.isnan(positions), 0.0, COLD_OPACITY + (1 - COLD_OPACITY) * np.sqrt(finite))
    return layer


def require_colormap(name: str) -> None:
    """Raise ConfigError if matplotlib has no such colour map."""
    faults = colormap_faults(name)
    if faults:
        raise ConfigError(faults)


def _draw_scores(figure: Figure, axes: Axes, picture: Picture, settings: Heatmap) -> None:
    if picture.reason:
        axes.text(
            0.5,
            0.5,
            f"nothing to show:\n{picture.reason}",
            ha="center",
            va="center",
            transform=axes.transAxes,
            wrap=True,
            parse_math=False,
            bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none"},
        )
        return
    display = picture.display
    norm = (LogNorm if display.is_log else Normalize)(display.low, display.high)
    layer = rgba(display.positions(picture.raster), settings.colormap)
    layer[..., 3] *= settings.opacity
    axes.imshow(layer, interpolation="nearest")
    bar = figure.colorbar(ScalarMappable(norm, settings.colormap), ax=axes, shrink=0.8, format="%g")
    n_chars = int(figure.get_figheight() / CHAR_INCHES)
    lines = [part for line in display.label.splitlines() for part in textwrap.wrap(line, n_chars)]
    bar.set_label("\n".join(lines), fontsize=LABEL_POINTS, parse_math=False)


def _draw_rings(axes: Axes, rings: list[NDArray[np.float64]]) -> None:
    for ring in rings:
        axes.plot(ring[:, 0], ring[:, 1], color=OUTLINE_COLOUR, linewidth=1.4)


def _draw_scale_bar(axes: Axes, width: int, bar: ScaleBar) -> None:
    bottom = axes.get_ylim()[0]
    corner = (0.03 * width, bottom - 0.05 * width)
    axes.add_patch(Rectangle(corner, bar.share * width, 0.008 * width, color="black"))
    axes.text(corner[0], corner[1] - 0.01 * width, bar.text, fontsize=9, va="bottom")
