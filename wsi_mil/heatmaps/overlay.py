"""Thumbnail + painted scores → a picture with scale bar, colour bar and outline. The only importer of matplotlib."""

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
from wsi_mil.heatmaps.scale import Shown

PANEL_INCHES, DPI = 6.0, 130
OUTLINE_COLOUR = "#00e5ff"
LETTERS_OF_TITLE = 140
LABEL_POINTS, LETTER_INCHES = 9, 0.075
"""Of the colour bar's label, which is wrapped so that it fits the picture's height."""

NICE_LENGTHS = (1, 2, 5)
COLD_OPACITY = 0.25
"""The coldest tile has this share of the hottest one's opacity, so that the tissue stays visible under it."""

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
"""The font of the pictures; it knows µ and most alphabets."""

BAR_SHARE = 0.25
"""A scale bar is at most this share of the slide's width."""


@dataclass(frozen=True)
class Picture:
    """What is drawn.

    Attributes:
        thumbnail: [height, width, 3] of the whole slide.
        raster: float32 [height, width] of the thumbnail, NaN where no tile is.
        shown: range and label of the colour bar.
        rings: outlines of the truth, `(n, 2)` (x, y) in thumbnail pixels.
        um_per_px: µm per thumbnail pixel, along x.
        title: slide, prediction, label.
        reason: why there is nothing to show, or "".
    """

    thumbnail: NDArray[np.uint8]
    raster: NDArray[np.float32]
    shown: Shown
    rings: list[NDArray[np.float64]]
    um_per_px: float
    title: str
    reason: str


def draw(picture: Picture, settings: Heatmap) -> bytes:
    """PNG: the slide as it is on the left, the scores over it on the right.

    Raises:
        ConfigError: no such colour map.
    """
    require_colormap(settings.colormap)
    height, width = picture.thumbnail.shape[:2]
    figure = Figure(figsize=(2 * PANEL_INCHES + 1, PANEL_INCHES * height / width + 0.9), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    figure.suptitle("\n".join(textwrap.wrap(picture.title, LETTERS_OF_TITLE)), fontsize=11, parse_math=False)
    for axes in (left, right):
        axes.imshow(picture.thumbnail, interpolation="antialiased")
        axes.set_axis_off()
        _draw_rings(axes, picture.rings)
    _draw_scale_bar(left, width, picture.um_per_px)
    _draw_scores(figure, right, picture, settings)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def colormap_names() -> list[str]:
    """The names that `heatmap.colormap` may have."""
    return list(matplotlib.colormaps)


def colormap_faults(name: str) -> list[str]:
    """A fault, with the nearest name, where matplotlib has no such colour map."""
    known = colormap_names()
    return [] if name in known else [f"heatmap.colormap: matplotlib has no {name!r}{nearest(name, known)[:60]}"]


def colours(place: NDArray[np.float64], colormap: str) -> list[tuple[int, int, int]]:
    """(red, green, blue) 0–255 of places `(n,)` on the colour bar; those that are NaN are as the coldest."""
    rgba = matplotlib.colormaps[colormap](np.nan_to_num(place), bytes=True)
    return [(int(red), int(green), int(blue)) for red, green, blue, _ in rgba]


def rgba(place: NDArray[np.float64], colormap: str) -> NDArray[np.float64]:
    """Red, green, blue and opacity, 0 to 1, [height, width, 4] of places on the colour bar [height, width].

    The coldest tile has `COLD_OPACITY`, the hottest 1; what is NaN is transparent.
    """
    known = np.nan_to_num(place)
    painted = np.asarray(matplotlib.colormaps[colormap](known), np.float64)
    painted[..., 3] = np.where(np.isnan(place), 0.0, COLD_OPACITY + (1 - COLD_OPACITY) * np.sqrt(known))
    return painted


def require_colormap(name: str) -> None:
    """Raise ConfigError where matplotlib has no such colour map."""
    faults = colormap_faults(name)
    if faults:
        raise ConfigError(faults)


def bar_length_um(width_um: float) -> float:
    """The longest of 1, 2, 5 × 10ⁿ µm that is at most a quarter of the width."""
    longest = width_um * BAR_SHARE
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(n * power for n in NICE_LENGTHS if n * power <= longest))


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
    shown = picture.shown
    norm = (LogNorm if shown.is_log else Normalize)(shown.low, shown.high)
    painted = rgba(shown.place(picture.raster), settings.colormap)
    painted[..., 3] *= settings.opacity
    axes.imshow(painted, interpolation="nearest")
    bar = figure.colorbar(ScalarMappable(norm, settings.colormap), ax=axes, shrink=0.8, format="%g")
    letters = int(figure.get_figheight() / LETTER_INCHES)
    lines = [part for line in shown.label.splitlines() for part in textwrap.wrap(line, letters)]
    bar.set_label("\n".join(lines), fontsize=LABEL_POINTS, parse_math=False)


def _draw_rings(axes: Axes, rings: list[NDArray[np.float64]]) -> None:
    for ring in rings:
        axes.plot(ring[:, 0], ring[:, 1], color=OUTLINE_COLOUR, linewidth=1.4)


def _draw_scale_bar(axes: Axes, width: int, um_per_px: float) -> None:
    length_um = bar_length_um(width * um_per_px)
    bottom = axes.get_ylim()[0]
    corner = (0.03 * width, bottom - 0.05 * width)
    axes.add_patch(Rectangle(corner, length_um / um_per_px, 0.008 * width, color="black"))
    text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    axes.text(corner[0], corner[1] - 0.01 * width, text, fontsize=9, va="bottom")
