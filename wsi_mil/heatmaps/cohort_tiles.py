"""The tiles with the highest scores of all slides, by a method whose scores can be compared between slides."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import method_of
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.store import read_scores
from wsi_mil.tasks import task_of_stamp

PREFERRED = ("direction", "evidence", "probability")
"""Methods in order of preference; after them any other whose scores can be compared."""

N_TILES = 20
SEEN = ("train", "val")
"""Roles of slides that the models were trained or validated on, whose tiles are no finding."""


@dataclass(frozen=True)
class CohortTile:
    """One of the highest scoring tiles of a cohort.

    Attributes:
        slide_id: its slide.
        name: name of the scores.
        index: its place in the store of the scores.
        corner: (x, y) of the top-left corner, level-0 pixels.
        box: (width, height) of its footprint, level-0 pixels.
        score: stored score.
    """

    slide_id: str
    name: str
    index: int
    corner: tuple[int, int]
    box: tuple[int, int]
    score: float

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of its centre, level-0 pixels."""
        return self.corner[0] + self.box[0] / 2, self.corner[1] + self.box[1] / 2


@dataclass(frozen=True)
class OutputTiles:
    """The highest scoring tiles for an output.

    Attributes:
        output: its name.
        method: by which method.
        kind: what the scores are, in words.
        n_slides: number of slides with scores for it.
        tiles: highest first.
        is_as_published: whether one of these slides may have chosen the epoch of a model that scored it.
    """

    output: str
    method: str
    kind: str
    n_slides: int
    tiles: tuple[CohortTile, ...]
    is_as_published: bool = False


@dataclass(frozen=True)
class _Scores:
    """Scores of a slide for an output: their name, the receipt, and its path."""

    name: str
    path: Path
    receipt: Mapping[str, Any]

    def tiles(self, n: int) -> list[CohortTile]:
        """Return the `n` tiles with the highest scores; ties are in the order of (y, x)."""
        coords, values = read_scores(store_path(self.path), self.name)
        width, height = self.receipt["tile_px_level0"]
        highest = _highest(coords, values, n)
        return [
            CohortTile(
                slide_id=self.receipt["slide_id"],
                name=self.name,
                index=int(i),
                corner=(int(coords[i, 0]), int(coords[i, 1])),
                box=(round(width), round(height)),
                score=float(values[i]),
            )
            for i in highest
        ]


def highest_tiles(receipts: Iterable[Path], *, n: int = N_TILES) -> list[OutputTiles]:
    """Return the highest scoring tiles of each output over all held-out and new slides.

    Outputs are in the order of the task; one for which no method has comparable scores is left out. Of equal scores the slide
    that comes first by name is first.

    Args:
        receipts: receipts of `explain` of one model.
        n: number of tiles for each output.

    Raises:
        StoreError: scores cannot be read.
    """
    found: dict[tuple[int, str], dict[str, list[_Scores]]] = {}
    for path in sorted(receipts, key=lambda path: path.stem):
        receipt = read_receipt(path)
        for name, entry in receipt["methods"].items() if receipt.get("role") not in SEEN else ():
            if entry["comparable"] and not entry["reason"] and entry["output"] is not None:
                key = entry["output"], task_of_stamp(receipt).output_name(entry["output"])
                found.setdefault(key, {}).setdefault(method_of(name), []).append(_Scores(name, path, receipt))
    return [_of_output(output, by_method, n) for (_, output), by_method in sorted(found.items())]


def _of_output(output: str, by_method: Mapping[str, list[_Scores]], n: int) -> OutputTiles:
    method = next((name for name in PREFERRED if name in by_method), min(by_method))
    slides = by_method[method]
    tiles = sorted((tile for slide in slides for tile in slide.tiles(n)), key=lambda tile: -tile.score)
    kind = slides[0].receipt["methods"][slides[0].name]["kind"]
    chose = any(slide.receipt["protocol"] == "as_published" and slide.receipt["role"] == "test" for slide in slides)
    return OutputTiles(output, method, kind, len(slides), tuple(tiles[:n]), chose)


def _highest(coords: NDArray[np.int64], values: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Indices of the highest finite values, highest first."""
    finite = np.flatnonzero(np.isfinite(values))
    x, y = coords[finite].T
    return np.asarray(finite[np.lexsort((x, y, -values[finite]))][:n], np.int64)
