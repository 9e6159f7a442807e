"""Heatmap layers: the scores of a slide by one method, coloured as in the heatmap files, and the score at a position."""

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

from wsi_mil.config import Scale, is_fine, method_of, usual_name
from wsi_mil.errors import StoreError, UnknownNameError
from wsi_mil.heatmaps.cohort_scale import is_scale_of, method_range, read_cohort_scale
from wsi_mil.heatmaps.colour_maps import colours, rgba
from wsi_mil.heatmaps.gallery import top_and_bottom
from wsi_mil.heatmaps.slide_scores import SlideScores, read_slide_scores
from wsi_mil.metrics import mid_ranks
from wsi_mil.rasterise import sum_raster
from wsi_mil.view.catalogue import UNREADABLE, Catalogue, Entry, receipt_or_empty
from wsi_mil.view.deepzoom import View

log = logging.getLogger(__name__)

MAX_LAYERS = 24
"""Number of layers kept in memory; one with 100,000 tiles takes about 8 MB."""

PNG_EFFORT = 1
BAR_PX = 256


@dataclass(frozen=True)
class Layer:
    """Scores of a slide with the footprints of their tiles.

    Attributes:
        scored: scores, the rescaled scores that are shown, and their tile grid.
        version: changes with the image of the layer.
        note: remark about its scale, or "".
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
        """Share of the scores that are lower, `(n,)` of `tiles`; ties count half."""
        return np.asarray(mid_ranks(self.scored.values[self.tiles]), np.float64)

    def raster(self, view: View) -> NDArray[np.float64]:
        """Return the shown scores [height, width] of a view: the mean of overlapping tiles, NaN outside of tiles.

        A tile covers the pixels between its rounded edges, at least one in each direction.
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
        """Return a PNG of a view, transparent outside of tiles and below `threshold`, a position on the colour bar (0 to 1)."""
        place = self.scored.display.positions(self.raster(view))
        place[place < threshold] = np.nan
        return _png(rgba(place, colormap))

    def at(self, x: float, y: float) -> dict[str, Any] | None:
        """Return the score at a position in level-0 pixels; None outside of tiles."""
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
        """Return the `n` tiles with the highest scores: index, score, box (left, top, right, bottom), colour."""
        best = top_and_bottom(self.scored, n)[0]
        shown = self.scored.display
        positions = np.searchsorted(self.tiles, best)
        tile_colours = colours(shown.positions(shown.values[best]), colormap)
        return [
            {"index": int(i), "value": float(self.scored.values[i]), "box": self.sides[at].tolist(), "colour": list(colour)}
            for i, at, colour in zip(best, positions, tile_colours, strict=True)
        ]

    def box_of(self, index: int) -> tuple[float, float, float, float]:
        """Return (left, top, right, bottom) of a tile. Raises UnknownNameError if it has no score."""
        at = np.flatnonzero(self.tiles == index)
        if not len(at):
            raise UnknownNameError(f"no tile {index}")
        left, top, right, bottom = self.sides[at[0]].tolist()
        return left, top, right, bottom


class LayerCache:
    """Cache of layers, which drops the least recently used. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._layers: OrderedDict[tuple[Any, ...], Layer] = OrderedDict()
        self._ranges: dict[tuple[Entry, str], tuple[tuple[Any, ...], _Range]] = {}

    def layer(self, catalogue: Catalogue, slide_id: str, entry: Entry, method: str, scale: Scale) -> Layer:
        """Return a layer, from the cache if its files have not changed.

        Raises:
            UnknownNameError: there is no such slide, entry or method.
            StoreError: the scores cannot be read.
        """
        path = catalogue.fine_receipts(slide_id, entry)[0] if is_fine(method) else catalogue.scores_receipt(slide_id, entry)
        if not path.is_file():
            raise UnknownNameError(f"no scores of {slide_id} by {entry.name}")
        cohort = self._cohort_range(catalogue, slide_id, entry, usual_name(method)) if scale == "cohort" else _Range()
        key = (path, path.stat().st_mtime_ns, method, scale, *cohort.by_method.items())
        with self._lock:
            if key in self._layers:
                self._layers.move_to_end(key)
                return self._layers[key]
        receipt = catalogue.scores(slide_id, entry)
        if not receipt:
            raise StoreError(path, "the receipt cannot be read or is of another version; run `explain` again")
        if method not in (catalogue.fine_methods(slide_id, entry) if is_fine(method) else receipt["methods"]):
            raise UnknownNameError(f"no method {method}")
        version = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        try:
            row = catalogue.row(slide_id)
            fine = catalogue.fine_receipts(slide_id, entry)[1] if is_fine(method) else None
            tiles = fine or self._tiles(catalogue, slide_id, entry)
            layer = Layer(read_slide_scores(row, path, tiles, method, scale=scale, ranges=cohort.by_method), version, cohort.note)
        except StoreError:
            raise
        except UNREADABLE as error:
            raise StoreError(path, f"cannot be read ({type(error).__name__}: {error}); run `explain` again") from error
        with self._lock:
            self._layers[key] = layer
            while len(self._layers) > MAX_LAYERS:
                self._layers.popitem(last=False)
        return layer

    def _tiles(self, catalogue: Catalogue, slide_id: str, entry: Entry) -> Path:
        """Receipt of the tiles that the scores belong to."""
        tiling = catalogue.tiling_of(slide_id, catalogue.scores(slide_id, entry))
        if tiling is None:
            path = catalogue.scores_receipt(slide_id, entry)
            raise StoreError(path, "the tiles that it scored are missing or have changed; run `explain` again")
        return catalogue.tiles_receipts(slide_id)[tiling]

    def _cohort_range(self, catalogue: Catalogue, slide_id: str, entry: Entry, name: str) -> "_Range":
        """The range written by `heatmap-scale` for the slide's models, or computed from the labelled slides with scores so far.

        The file is written only where `heatmap.scale` is cohort, so it may be of models that were trained earlier.
        """
        scale_file, method = catalogue.cohort_scale(entry), method_of(name)
        models = catalogue.scores(slide_id, entry).get("models", "")
        try:
            if is_scale_of(scale_file, models):
                return _Range({own: ends for own, ends in read_cohort_scale(scale_file).items() if own == method})
            receipts = catalogue.labelled_scores(entry)
            stamps = tuple((path, path.stat().st_mtime_ns) for path in receipts)
            cached = self._ranges.get((entry, method))
            if cached is None or cached[0] != (models, stamps):
                cached = (models, stamps), _range_of(method, models, receipts)
                self._ranges[entry, method] = cached
            return cached[1]
        except UNREADABLE as error:
            raise StoreError(scale_file, f"the range of the cohort's scores cannot be determined ({error})") from error


@dataclass(frozen=True)
class _Range:
    """Ends of the cohort's colour bar by method (none for methods that cannot be compared across slides), and a remark."""

    by_method: dict[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""


def _range_of(method: str, models: str, receipts: list[Path]) -> _Range:
    """Range of the scores by these models of all slides that can be read, for all of their outputs."""
    contents = {path: receipt_or_empty(path) for path in receipts}
    of_models = [path for path, content in contents.items() if content.get("models", "") == models]
    with_method = [path for path in of_models if method in map(method_of, contents[path].get("methods", {}))]
    readable = [path for path in with_method if _is_readable(path, method)]
    ends = method_range(method, readable)
    missing = [path.stem for path in with_method if path not in readable]
    note = f"computed without {', '.join(missing)}, whose scores cannot be read" if missing else ""
    return _Range({method: (_number(ends["low"]), _number(ends["high"]))} if ends else {}, note)


def _is_readable(receipt: Path, method: str) -> bool:
    try:
        method_range(method, [receipt])
    except UNREADABLE as error:
        log.warning("excluded from the cohort's range: %s", error)
        return False
    return True


def colour_bar(colormap: str) -> bytes:
    """Return a PNG of a colour map from cold to hot, one pixel high."""
    bar = rgba(np.linspace(0.0, 1.0, BAR_PX)[None], colormap)
    bar[..., 3] = 1.0
    return _png(bar)


def _number(value: object) -> float:
    return float(str(value))


def _png(painted: NDArray[np.float64]) -> bytes:
    """PNG file of RGBA colours [height, width, 4] from 0 to 1."""
    file = io.BytesIO()
    Image.fromarray(np.rint(painted * 255).astype(np.uint8)).save(file, "PNG", compress_level=PNG_EFFORT)
    return file.getvalue()
