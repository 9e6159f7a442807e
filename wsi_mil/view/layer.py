"""Scores of a slide by one method as a layer over it: tiles coloured as the heatmaps are, and what is said of a place."""

import hashlib
import io
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_mil.config import Scale
from wsi_mil.errors import StoreError, UnknownNameError
from wsi_mil.heatmaps.cohort_scale import method_range, read_cohort_scale
from wsi_mil.heatmaps.gallery import top_and_bottom
from wsi_mil.heatmaps.overlay import colours, rgba
from wsi_mil.heatmaps.slide_scores import SlideScores, read_slide_scores
from wsi_mil.metrics import mid_ranks
from wsi_mil.rasterise import sum_raster
from wsi_mil.view.catalogue import UNREADABLE, Catalogue, Entry, receipt_or_nothing
from wsi_mil.view.deepzoom import View

log = logging.getLogger(__name__)

KEPT = 24
"""Layers that stay in memory; of 100,000 tiles each takes about 8 MB."""

PNG_EFFORT = 1
BAR_PX = 256


@dataclass(frozen=True)
class Layer:
    """Scores with the footprints of their tiles.

    Attributes:
        scored: values, what is shown of them, and their grid.
        version: changes with what is painted.
        note: what is to be said of its scale, or "".
    """

    scored: SlideScores
    version: str
    note: str = ""

    @cached_property
    def tiles(self) -> NDArray[np.int64]:
        """Indices of the tiles that have a score."""
        return np.flatnonzero(np.isfinite(self.scored.display.values))

    @cached_property
    def sides(self) -> NDArray[np.float64]:
        """(left, top, right, bottom) `(n, 4)` of `tiles`, level-0 pixels."""
        return self.scored.grid.footprints()[self.tiles]

    @cached_property
    def below(self) -> NDArray[np.float64]:
        """Share of the scores that are lower, `(n,)` of `tiles`, equal ones counting half."""
        return np.asarray(mid_ranks(self.scored.values[self.tiles]), np.float64)

    def raster(self, view: View) -> NDArray[np.float64]:
        """Shown scores [height, width] of a view; where tiles overlap their mean, where none is NaN.

        A tile covers the pixels between its rounded edges, at least one each way.
        """
        width, height = view.size
        left, top = view.corner
        right, bottom = left + view.extent[0], top + view.extent[1]
        sides = self.sides
        hit = (sides[:, 0] < right) & (sides[:, 2] > left) & (sides[:, 1] < bottom) & (sides[:, 3] > top)
        if not hit.any():
            return np.full((height, width), np.nan)
        low = np.rint((sides[hit, :2] - view.corner) / view.downsample).astype(np.int64)
        high = np.maximum(np.rint((sides[hit, 2:] - view.corner) / view.downsample).astype(np.int64), low + 1)
        (x0, y0), (x1, y1) = (np.clip(at, 0, view.size).T for at in (low, high))
        count = sum_raster(np.ones(len(x0)), (x0, y0, x1, y1), (height, width))
        total = sum_raster(self.scored.display.values[self.tiles[hit]].astype(np.float64), (x0, y0, x1, y1), (height, width))
        return np.where(count > 0.5, total / np.maximum(count, 1), np.nan)

    def picture(self, view: View, colormap: str, threshold: float) -> bytes:
        """PNG of a view, transparent where no tile is or where it stands below `threshold` on the colour bar (0 to 1)."""
        place = self.scored.display.positions(self.raster(view))
        place[place < threshold] = np.nan
        return _png(rgba(place, colormap))

    def at(self, x: float, y: float) -> dict[str, Any] | None:
        """What is painted at a place, level-0 pixels; None where no tile is."""
        sides = self.sides
        hit = np.flatnonzero((sides[:, 0] <= x) & (x < sides[:, 2]) & (sides[:, 1] <= y) & (y < sides[:, 3]))
        if not len(hit):
            return None
        values, shown = (
            scores[self.tiles[hit]].astype(np.float64) for scores in (self.scored.values, self.scored.display.values)
        )
        return {
            "value": float(values.mean()),
            "shown": float(shown.mean()),
            "place": float(self.scored.display.positions(shown.mean(keepdims=True))[0]),
            "n_tiles": len(hit),
            "below": float(self.below[hit].mean()),
            "rank": int((self.scored.values[self.tiles] > values.mean()).sum()) + 1,
            "n": len(self.tiles),
            "box": [float(side) for side in sides[hit[0]]],
        }

    def top(self, n: int, colormap: str) -> list[dict[str, Any]]:
        """The `n` best tiles, best first: index, score, box (left, top, right, bottom), colour."""
        best, shown = top_and_bottom(self.scored, n)[0], self.scored.display
        found = np.searchsorted(self.tiles, best)
        painted = colours(shown.positions(shown.values[best]), colormap)
        return [
            {"index": int(i), "value": float(self.scored.values[i]), "box": self.sides[at].tolist(), "colour": list(colour)}
            for i, at, colour in zip(best, found, painted, strict=True)
        ]

    def box_of(self, index: int) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of a tile. Raises UnknownNameError where it has no score."""
        at = np.flatnonzero(self.tiles == index)
        if not len(at):
            raise UnknownNameError(f"no tile {index}")
        left, top, right, bottom = self.sides[at[0]].tolist()
        return left, top, right, bottom


class Layers:
    """Layers as they are asked for, the longest unused forgotten first. Safe in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], Layer] = OrderedDict()
        self._ranges: dict[tuple[Entry, str], tuple[tuple[Any, ...], _Range]] = {}

    def of(self, catalogue: Catalogue, slide_id: str, entry: Entry, method: str, scale: Scale) -> Layer:
        """A layer.

        Raises:
            UnknownNameError: no such slide, entry or method.
            StoreError: what there is of it cannot be read.
        """
        path = catalogue.scores_receipt(slide_id, entry)
        if not path.is_file():
            raise UnknownNameError(f"no scores of {slide_id} by {entry.name}")
        cohort = self._cohort_range(catalogue, entry, method) if scale == "cohort" else _Range()
        key = (path, path.stat().st_mtime_ns, method, scale, *cohort.by_method.items())
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        receipt = catalogue.scores(slide_id, entry)
        if not receipt:
            raise StoreError(path, "not a readable receipt of this version; run `explain` again")
        if method not in receipt["methods"]:
            raise UnknownNameError(f"no method {method}")
        version = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        try:
            row, tiles = catalogue.row(slide_id), self._tiles(catalogue, slide_id, entry)
            layer = Layer(read_slide_scores(row, path, tiles, method, scale=scale, ranges=cohort.by_method), version, cohort.note)
        except StoreError:
            raise
        except UNREADABLE as error:
            raise StoreError(path, f"cannot be read ({type(error).__name__}: {error}); run `explain` again") from error
        with self._lock:
            self._kept[key] = layer
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return layer

    def _tiles(self, catalogue: Catalogue, slide_id: str, entry: Entry) -> Path:
        """Receipt of `tile` that the scores belong to."""
        tiling = catalogue.tiling_of(slide_id, catalogue.scores(slide_id, entry))
        if tiling is None:
            path = catalogue.scores_receipt(slide_id, entry)
            raise StoreError(path, "its tiles are gone, or are others than those it scored; run `explain` again")
        return catalogue.tiles_receipts(slide_id)[tiling]

    def _cohort_range(self, catalogue: Catalogue, entry: Entry, method: str) -> "_Range":
        """What `heatmap-scale` wrote, or the same from the labelled slides that have scores by now."""
        written = catalogue.cohort_scale(entry)
        try:
            if written.is_file():
                return _Range({name: found for name, found in read_cohort_scale(written).items() if name == method})
            receipts = catalogue.labelled_scores(entry)
            stamp = tuple((path, path.stat().st_mtime_ns) for path in receipts)
            known = self._ranges.get((entry, method))
            if known is None or known[0] != stamp:
                known = stamp, _range_of(method, receipts)
                self._ranges[entry, method] = known
            return known[1]
        except UNREADABLE as error:
            raise StoreError(written, f"no range of the cohort's scores ({error})") from error


@dataclass(frozen=True)
class _Range:
    """Ends of the cohort's colour bar by method, which has none where scores may not be compared; and what is to be said."""

    by_method: dict[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""


def _range_of(method: str, receipts: list[Path]) -> _Range:
    """Of all slides whose scores can be read."""
    offered = [path for path in receipts if method in receipt_or_nothing(path).get("methods", {})]
    readable = [path for path in offered if _is_readable(path, method)]
    found, missing = method_range(method, readable), [path.stem for path in offered if path not in readable]
    note = f"made without {', '.join(missing)}, whose scores cannot be read" if missing else ""
    return _Range({method: (_number(found["low"]), _number(found["high"]))} if found else {}, note)


def _is_readable(receipt: Path, method: str) -> bool:
    try:
        method_range(method, [receipt])
    except UNREADABLE as error:
        log.warning("left out of the cohort's range: %s", error)
        return False
    return True


def colour_bar(colormap: str) -> bytes:
    """PNG of a colour map from cold to hot, one pixel high."""
    bar = rgba(np.linspace(0.0, 1.0, BAR_PX)[None], colormap)
    bar[..., 3] = 1.0
    return _png(bar)


def _number(value: object) -> float:
    return float(str(value))


def _png(painted: NDArray[np.float64]) -> bytes:
    """A PNG file of colours [height, width, 4] from 0 to 1."""
    file = io.BytesIO()
    Image.fromarray(np.rint(painted * 255).astype(np.uint8)).save(file, "PNG", compress_level=PNG_EFFORT)
    return file.getvalue()
