"""One method's scores of one slide with the grid that they lie on, from the receipts of `explain` and `tile`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Scale
from wsi_mil.errors import StoreError, StoreMismatchError
from wsi_mil.geometry import Mpp, grid_cells
from wsi_mil.heatmaps.scale import Shown, shown_scores
from wsi_mil.receipts import TILE_IDENTITY, extent_and_stride, read_receipt, read_tile_receipt, store_path
from wsi_mil.records import SlideRow
from wsi_mil.score_scaling import meaning_of
from wsi_mil.store import read_scores

MEND = "run `extract` and `explain` again on these tiles, or give the tiles that the scores were made on"


Ranges = Mapping[str, tuple[float, float]]
"""By method, lower and upper end of the colour bar of scale "cohort"."""


@dataclass(frozen=True)
class Grid:
    """Where the tiles of a slide lie.

    Attributes:
        coords: int64 `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of a footprint, whole level-0 pixels.
        extent: the same, unrounded.
        stride: distance of corners along x and y, level-0 pixels, unrounded.
        dimensions: (width, height) of the slide, level-0 pixels.
        mpp: of level 0.
        bounds: (x, y) of the corner of what was scanned, level-0 pixels; (0, 0) where the file names none.
    """

    coords: NDArray[np.int64]
    box: tuple[int, int]
    extent: tuple[float, float]
    stride: tuple[float, float]
    dimensions: tuple[int, int]
    mpp: Mpp
    bounds: tuple[int, int]

    def footprints(self) -> NDArray[np.float64]:
        """(left, top, right, bottom) `(n, 4)`, level-0 pixels, rounded so that neighbours leave no slit between them."""
        corners = grid_cells(self.coords, self.stride) * self.stride if self.on_lattice else self.coords
        return np.hstack([self.coords, np.rint(corners + np.asarray(self.extent))])

    @cached_property
    def on_lattice(self) -> bool:
        """Whether every corner is a multiple of the stride, as all are that `tile` laid; imported ones need not be."""
        off = np.abs(self.coords - grid_cells(self.coords, self.stride) * self.stride)
        return bool((off <= 1).all())


@dataclass(frozen=True)
class Scored:
    """One method's scores of one slide.

    Attributes:
        method: its name.
        about: what the receipt says of the method: unit, kind, reason, …
        values: float32 `(n,)` as stored, NaN where there is nothing to show.
        shown: what is painted of them.
        grid: where the tiles lie, row by row with `values`.
        stamp: slide_id, method, role and protocol: what every file made of these scores says.
        receipt: of `explain`.
        tiled: receipt of `tile`.
    """

    method: str
    about: dict[str, Any]
    values: NDArray[np.float32]
    shown: Shown
    grid: Grid
    stamp: dict[str, str]
    receipt: dict[str, Any]
    tiled: dict[str, Any]


def read_scored(
    row: SlideRow,
    scores_receipt: Path,
    tiles_receipt: Path,
    method: str,
    *,
    scale: Scale,
    ranges: Mapping[str, tuple[float, float]],
) -> Scored:
    """Read one method's scores.

    Args:
        row: the slide.
        scores_receipt: of `explain`, beside its store.
        tiles_receipt: of `tile`; its store is not needed.
        method: which scores.
        scale: which numbers are shown.
        ranges: of the cohort.

    Raises:
        StoreMismatchError: scores of another slide or of other tiles, or tiles of an earlier version.
        StoreError: no scores of that method.
    """
    receipt, tiled = read_receipt(scores_receipt), read_tile_receipt(tiles_receipt)
    _refuse_others(row, (scores_receipt, receipt), (tiles_receipt, tiled))
    if method not in receipt["methods"]:
        found = ", ".join(receipt["methods"]) or "none"
        raise StoreError(scores_receipt, f"has no scores of method {method!r}, only {found}; run `explain` with it")
    coords, values = read_scores(store_path(scores_receipt), method)
    shown = shown_scores(values, meaning_of(receipt, method), scale, cohort_range=ranges.get(method))
    stamp = {"slide_id": row.slide_id, "method": method, "role": receipt["role"] or "new", "protocol": receipt["protocol"]}
    return Scored(method, receipt["methods"][method], values, shown, _grid(coords, tiled), stamp, receipt, tiled)


def _grid(coords: NDArray[np.int64], tiled: dict[str, Any]) -> Grid:
    extent, stride = extent_and_stride(tiled)
    x, y = (tiled["bounds"] or (0, 0))[:2]
    (box_width, box_height), (width, height) = tiled["tile_px_level0"], tiled["dimensions"]
    return Grid(
        coords=coords,
        box=(box_width, box_height),
        extent=extent,
        stride=stride,
        dimensions=(width, height),
        mpp=Mpp(*tiled["mpp"]),
        bounds=(x, y),
    )


def _refuse_others(row: SlideRow, scored: tuple[Path, dict[str, Any]], tiled: tuple[Path, dict[str, Any]]) -> None:
    """Raise where scores and tiles are not both of this slide, and of the same tiles of it."""
    (scores_path, scores), (tiles_path, tiles) = scored, tiled
    for path, receipt in (scored, tiled):
        if receipt["slide_id"] != row.slide_id:
            raise StoreMismatchError(path, f"of slide {receipt['slide_id']!r}, expected {row.slide_id!r}; give its own receipt")
    if "tiles" not in scores:
        reason = "does not say which tiles it scored (written by an earlier version); run `explain` again"
        raise StoreMismatchError(scores_path, reason)
    for name in TILE_IDENTITY:
        expected, found = scores["tiles"].get(name), tiles.get(name)
        if expected is None or expected != found:
            reason = f"scores of tiles with {name} {expected}, but {tiles_path} has {found}"
            raise StoreMismatchError(scores_path, f"{reason}; {MEND}")
