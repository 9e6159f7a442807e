"""The page with the highest scoring tiles of all slides, each of which leads to its place in the slide."""

import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from wsi_mil.errors import StoreError
from wsi_mil.heatmaps.cohort_tiles import CohortTile, OutputTiles, highest_tiles
from wsi_mil.tasks.shown import label_text
from wsi_mil.trust import UNTESTED, Trust, output_line
from wsi_mil.view.catalogue import UNREADABLE, Catalogue, Entry
from wsi_mil.view.pages import render
from wsi_mil.wording import digits

AROUND_TILE = 5
"""Width of the view that a tile leads to, in tiles."""


class TilesCache:
    """Highest tiles by entry, found again when the scores of a slide have changed. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[Entry, tuple[list[tuple[Path, int]], list[OutputTiles]]] = {}

    def tiles(self, catalogue: Catalogue, entry: Entry) -> list[OutputTiles]:
        """Return the highest tiles of an encoder × model.

        Raises:
            StoreError: scores cannot be read.
        """
        paths, _ = catalogue.current_scores(entry)
        stamps = [(path, path.stat().st_mtime_ns) for path in paths]
        with self._lock:
            if self._found.get(entry, ([], []))[0] != stamps:
                self._found[entry] = stamps, _highest(paths)
            return self._found[entry][1]


def _highest(paths: list[Path]) -> list[OutputTiles]:
    try:
        return highest_tiles(paths)
    except StoreError:
        raise
    except UNREADABLE as error:
        raise StoreError(paths[0].parent, f"has scores of another version ({error}); run `explain` again") from error


def tiles_page(catalogue: Catalogue, target: str, entry: Entry | None, cache: TilesCache) -> str:
    """Return the HTML of the page for a target and one of its entries."""
    found = cache.tiles(catalogue, entry) if entry else []
    trust = _trust(catalogue, entry) if entry else UNTESTED
    return render(
        "tiles.html",
        targets=catalogue.targets,
        target=target,
        entries=catalogue.entries_of(target),
        entry=entry,
        is_as_published=any(own.is_as_published for own in found),
        outputs=[_output_json(catalogue, entry, trust, own) for own in found] if entry else [],
    )


def _trust(catalogue: Catalogue, entry: Entry) -> Trust:
    """What is known of the models whose scores the page shows: nothing if they were trained since."""
    _, models = catalogue.current_scores(entry)
    return catalogue.trust(entry).of({"models": models} if models else {})


def _output_json(catalogue: Catalogue, entry: Entry, trust: Trust, own: OutputTiles) -> dict[str, Any]:
    tiles = [_tile_json(catalogue, entry, tile) for tile in own.tiles]
    line = output_line(trust, own.output, own.method)
    about = {"trust": line.text, "is_warning": line.is_warning}
    return {**about, "name": own.output, "method": own.method, "kind": own.kind, "n_slides": own.n_slides, "tiles": tiles}


def _tile_json(catalogue: Catalogue, entry: Entry, tile: CohortTile) -> dict[str, str]:
    """Texts and addresses of a tile: its picture, and its place in the slide."""
    slide = f"/slides/{quote(tile.slide_id, safe='')}"
    names = [entry.target, entry.encoder, entry.model, tile.name, "raw"]
    x, y = tile.centre
    place = {"target": entry.target, "entry": f"{entry.encoder}/{entry.model}", "method": tile.name}
    place |= {"x": f"{x:g}", "y": f"{y:g}", "w": str(AROUND_TILE * max(tile.box))}
    label = catalogue.label(entry.target, tile.slide_id)
    return {
        "slide_id": tile.slide_id,
        "score": digits(tile.score),
        "label": label_text(catalogue.task(entry.target), label) if label else "no label",
        "corner": f"({tile.corner[0]}, {tile.corner[1]})",
        "picture": f"{slide}/layers/{'/'.join(quote(name, safe='') for name in names)}/tiles/{tile.index}.jpg",
        "page": f"{slide}#{urlencode(place)}",
    }
