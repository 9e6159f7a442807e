"""Colour maps by matplotlib's names. The only importer of matplotlib, which the usual maps do not need."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import nearest
from wsi_mil.errors import ConfigError

KEPT = Path(__file__).with_name("colour_maps.json")
"""Colours of the maps that colour-blind readers can use, as hexadecimal bytes; importing matplotlib would take 0.1 s."""

COLD_OPACITY = 0.25
"""Opacity of the coldest tile as a share of the hottest one's, so that the tissue under it stays visible."""


@lru_cache(maxsize=8)
def colour_table(name: str) -> NDArray[np.uint8]:
    """Return the colours of a map, from cold to hot: red, green and blue `(n, 3)`, 0 to 255."""
    kept = _kept()
    if name in kept:
        return np.frombuffer(bytes.fromhex(kept[name]), np.uint8).reshape(-1, 3)
    import matplotlib

    colormap = matplotlib.colormaps[name]
    return np.asarray(np.rint(colormap(np.arange(colormap.N))[:, :3] * 255), np.uint8)


def colormap_names() -> list[str]:
    """Return the valid names for `heatmap.colormap`."""
    import matplotlib

    return list(matplotlib.colormaps)


def colormap_faults(name: str) -> list[str]:
    """Return an error message, with the nearest name, if matplotlib has no such colour map; otherwise nothing."""
    if name in _kept():
        return []
    names = colormap_names()
    return [] if name in names else [f"heatmap.colormap: matplotlib has no colour map {name!r}{nearest(name, names)[:60]}"]


def require_colormap(name: str) -> None:
    """Raise ConfigError if matplotlib has no such colour map."""
    faults = colormap_faults(name)
    if faults:
        raise ConfigError(faults)


def colour_of(positions: NDArray[np.float64], colormap: str) -> NDArray[np.uint8]:
    """Return red, green and blue, 0 to 255, […, 3], of positions […] on the colour bar, 0 to 1, as matplotlib rounds them."""
    table = colour_table(colormap)
    return table[np.minimum((positions * len(table)).astype(np.intp), len(table) - 1)]


def opacity_of(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the opacity of positions on the colour bar: `COLD_OPACITY` for the coldest tile, 1 for the hottest."""
    return np.asarray(COLD_OPACITY + (1 - COLD_OPACITY) * np.sqrt(positions))


def colours(positions: NDArray[np.float64], colormap: str) -> list[tuple[int, int, int]]:
    """Return (red, green, blue), 0 to 255, of positions `(n,)` on the colour bar; NaN has the coldest colour."""
    return [(int(red), int(green), int(blue)) for red, green, blue in colour_of(np.nan_to_num(positions), colormap)]


def rgba(positions: NDArray[np.float64], colormap: str) -> NDArray[np.float64]:
    """Return red, green, blue and opacity, 0 to 1, [height, width, 4], of positions on the colour bar [height, width].

    The coldest tile has opacity `COLD_OPACITY`, the hottest 1; NaN is transparent.
    """
    finite = np.nan_to_num(positions)
    opacity = np.where(np.isnan(positions), 0.0, opacity_of(finite))
    return np.concatenate([colour_of(finite, colormap) / 255, opacity[..., None]], axis=-1)


@lru_cache(maxsize=1)
def _kept() -> dict[str, str]:
    kept: dict[str, str] = json.loads(KEPT.read_text(encoding="utf-8"))
    return kept
