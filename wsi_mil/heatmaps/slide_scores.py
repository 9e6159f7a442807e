"""Scores of one slide by one method, with their tile grid, from the receipts of `explain` and `tile`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Scale, method_of, usual_name
from wsi_mil.errors import StoreError, StoreMismatchError
from wsi_mil.geometry import Mpp, grid_cells
from wsi_mil.heatmaps.scale import ScoreDisplay, score_display
from wsi_mil.receipts import TILE_IDENTITY, extent_and_stride, read_receipt, read_tile_receipt, store_path
from wsi_mil.records import SlideRow
from wsi_mil.score_scaling import score_context
from wsi_mil.store import read_scores
from wsi_mil.tasks import task_of_stamp
from wsi_mil.trust import NO_LINE, Trust, TrustLine, trust_line

REMEDY = "run `extract` and `explain` again on these tiles, or give the tiles that the scores were computed on"

Ranges = Mapping[str, tuple[float, float]]
"""Lower and upper end of the colour bar of scale "cohort", by method."""


@dataclass(frozen=True)
class HeatmapGrid:
    """Tile grid of a slide.

    Attributes:
        coords: int64 `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of a footprint, rounded to level-0 pixels.
        extent: (width, height) of a footprint, unrounded.
        stride: distance between corners along x and y, level-0 pixels, unrounded.
        dimensions: (width, height) of the slide, level-0 pixels.
        mpp: µm per level-0 pixel.
        bounds: (x, y) of the top-left corner of the scanned area, level-0 pixels; (0, 0) if the file does not give it.
    """

    coords: NDArray[np.int64]
    box: tuple[int, int]
    extent: tuple[float, float]
    stride: tuple[float, float]
    dimensions: tuple[int, int]
    mpp: Mpp
    bounds: tuple[int, int]

    def footprints(self) -> NDArray[np.float64]:
        """Return (left, top, right, bottom) `(n, 4)`, level-0 pixels, rounded so that there is no gap between neighbours."""
        corners = grid_cells(self.coords, self.stride) * self.stride if self.on_lattice else self.coords
        return np.hstack([self.coords, np.rint(corners + np.asarray(self.extent))])

    @cached_property
    def on_lattice(self) -> bool:
        """Whether every corner is a multiple of the stride: always after `tile`, not always in imported features."""
        offset = np.abs(self.coords - grid_cells(self.coords, self.stride) * self.stride)
        return bool((offset <= 1).all())


@dataclass(frozen=True)
class SlideScores:
    """Scores of one slide by one method.

    Attributes:
        method: name of the method.
        metadata: entry of the method in the receipt: unit, kind, reason, …
        values: float32 `(n,)` as stored, NaN where there is nothing to show.
        display: the scores as they are shown.
        grid: tile grid, in the order of `values`.
        stamp: slide_id, method, output, role and protocol, which every exported file contains.
        receipt: receipt of `explain`.
        tile_receipt: receipt of `tile`.
        trust: how far the scores can be trusted; `stamp` has its text.
    """

    method: str
    metadata: dict[str, Any]
    values: NDArray[np.float32]
    display: ScoreDisplay
    grid: HeatmapGrid
    stamp: dict[str, str]
    receipt: dict[str, Any]
    tile_receipt: dict[str, Any]
    trust: TrustLine = NO_LINE


def trusted(scores: Mapping[str, SlideScores], trust: Trust) -> dict[str, SlideScores]:
    """Return scores of a slide with their trust lines, from what is known of their model."""
    lines = {name: trust_line(trust, own.receipt, own.method) for name, own in scores.items()}
    return {name: replace(own, trust=lines[name], stamp={**own.stamp, "trust": lines[name].text}) for name, own in scores.items()}


def names_of(receipt: Mapping[str, Any], methods: Sequence[str]) -> list[str]:
    """Return the names of a slide's scores by some methods: those of further outputs stand after the method's first."""
    return [name for method in methods for name in (method, *(n for n in receipt["methods"] if n != method == method_of(n)))]


def read_slide_scores(
    row: SlideRow,
    scores_receipt: Path,
    tiles_receipt: Path,
    method: str,
    *,
    scale: Scale,
    ranges: Ranges,
) -> SlideScores:
    """Read the scores of one slide by one method, as `read_scores_by_method`."""
    return read_scores_by_method(row, scores_receipt, tiles_receipt, [method], scale=scale, ranges=ranges)[method]


def read_scores_by_method(
    row: SlideRow,
    scores_receipt: Path,
    tiles_receipt: Path,
    methods: Sequence[str],
    *,
    scale: Scale,
    ranges: Ranges,
) -> dict[str, SlideScores]:
    """Read the scores of one slide by several methods, each receipt once.

    Args:
        row: the slide.
        scores_receipt: receipt of `explain`, beside its store.
        tiles_receipt: receipt of `tile`; its store is not needed.
        methods: names of the methods.
        scale: setting `heatmap.scale`.
        ranges: ranges of the cohort.

    Raises:
        StoreMismatchError: scores of another slide or of other tiles, or tiles of an earlier version.
        StoreError: there are no scores of one of the methods.
    """
    receipt = read_receipt(scores_receipt)
    tile_receipt = read_tile_receipt(tiles_receipt)
    _require_same_tiles(row, (scores_receipt, receipt), (tiles_receipt, tile_receipt))
    missing = [method for method in methods if method not in receipt["methods"]]
    if missing:
        available = ", ".join(receipt["methods"]) or "none"
        names = " or ".join(map(repr, missing))
        raise StoreError(scores_receipt, f"has no scores of method {names}, only {available}; run `explain` with it")
    found = {}
    for method in methods:
        coords, values = read_scores(store_path(scores_receipt), method)
        display = score_display(
            values, score_context(receipt, method), scale, cohort_range=ranges.get(usual_name(method_of(method)))
        )
        stamp = _stamp(row.slide_id, method, receipt)
        grid = _grid(coords, tile_receipt)
        found[method] = SlideScores(method, receipt["methods"][method], values, display, grid, stamp, receipt, tile_receipt)
    return found


def _stamp(slide_id: str, method: str, receipt: Mapping[str, Any]) -> dict[str, str]:
    output = receipt["methods"][method]["output"]
    name = "" if output is None else task_of_stamp(receipt).output_name(output)
    about = {"slide_id": slide_id, "method": method_of(method), "output": name}
    return {**about, "role": receipt["role"] or "new", "protocol": receipt["protocol"]}


def _grid(coords: NDArray[np.int64], tile_receipt: dict[str, Any]) -> HeatmapGrid:
    extent, stride = extent_and_stride(tile_receipt)
    x, y = (tile_receipt["bounds"] or (0, 0))[:2]
    (box_width, box_height), (width, height) = tile_receipt["tile_px_level0"], tile_receipt["dimensions"]
    return HeatmapGrid(
        coords=coords,
        box=(box_width, box_height),
        extent=extent,
        stride=stride,
        dimensions=(width, height),
        mpp=Mpp(*tile_receipt["mpp"]),
        bounds=(x, y),
    )


def _require_same_tiles(
    row: SlideRow, scores_entry: tuple[Path, dict[str, Any]], tiles_entry: tuple[Path, dict[str, Any]]
) -> None:
    """Raise unless both receipts, given with their paths, are of this slide and of the same tiles."""
    scores_path, scores = scores_entry
    tiles_path, tiles = tiles_entry
    for path, receipt in (scores_entry, tiles_entry):
        if receipt["slide_id"] != row.slide_id:
            raise StoreMismatchError(
                path, f"is of slide {receipt['slide_id']!r}, expected {row.slide_id!r}; give the receipt of that slide"
            )
    if "tiles" not in scores:
        reason = "does not name the tiles of its scores (written by an earlier version); run `explain` again"
        raise StoreMismatchError(scores_path, reason)
    for name in TILE_IDENTITY:
        expected = scores["tiles"].get(name)
        received = tiles.get(name)
        if expected is None or expected != received:
            reason = f"has scores of tiles with {name} {expected}, but {tiles_path} has {received}"
            raise StoreMismatchError(scores_path, f"{reason}; {REMEDY}")
