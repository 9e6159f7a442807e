"""Tile one slide again, its grid shifted by parts of a tile, on the same tissue: stores and receipts of each shifted tiling."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_mil.config import TileSettings, parse_settings
from wsi_mil.errors import DataError, MissingFileError, SlideReadError
from wsi_mil.geometry import Mpp
from wsi_mil.receipts import array_digest, file_hash, is_current, made_from, read_receipt, store_marker, store_path, write_receipt
from wsi_mil.records import SlideRow, Status, TileGrid
from wsi_mil.shifts import Shift
from wsi_mil.slides import is_same_slide, open_slide
from wsi_mil.store import remove_store, write_grid
from wsi_mil.tile.layout import layout_shifted, layout_tiles
from wsi_mil.tile.supplied import SuppliedFiles

log = logging.getLogger(__name__)

STAGE_VERSION = 1

FROM_USUAL = ("reader", "mpp", "dimensions", "bounds", "slide_hash", "remote", "settings", "warnings")
"""Entries of the usual receipt that those of the shifted tilings have too."""


def tile_shifted(row: SlideRow, usual: Path, receipts: Mapping[Shift, Path], *, threads: int = 1) -> None:
    """Place the shifted tilings of one slide, and write a store and a receipt for each.

    Settings, reader and resolution are those of the usual tiling; the tissue is found again in the same way, and gives the same
    tiles. A tiling without tiles is empty. If the slide cannot be read, all of them have failed, with the reason.

    Args:
        row: the slide, with its annotation and mask.
        usual: receipt of `tile`; the slide must be usable.
        receipts: receipt of each shifted tiling.
        threads: number of threads that read.

    Raises:
        StoreError: there is no receipt of `tile`.
    """
    stamp = made_from({"stage_version": STAGE_VERSION, "usual": file_hash(usual)})
    if all(is_current(receipt, stamp, [store_marker(receipt)]) for receipt in receipts.values()):
        log.info("%s: unchanged", row.slide_id)
        return
    tiled = read_receipt(usual)
    common = {"slide_id": row.slide_id, **{name: tiled[name] for name in FROM_USUAL if name in tiled}}
    try:
        _require_same(row, tiled)
        grids = _grids(row, tiled, tuple(receipts), threads)
    except (DataError, MissingFileError) as error:
        write_failure(row, usual, receipts, str(error))
        return
    for shift, receipt in receipts.items():
        grid = grids[shift]
        write_grid(store_path(receipt), grid, None, {"slide_id": row.slide_id, "dimensions": tiled["dimensions"]})
        content = {**common, **_content(grid), "shift": shift.name}
        write_receipt(receipt, {**content, **stamp})
        log.info("%s: %d tiles shifted by %s", row.slide_id, len(grid.coords), shift.name)


def write_failure(row: SlideRow, usual: Path, receipts: Mapping[Shift, Path], reason: str) -> None:
    """Write receipts with the reason why a slide has no shifted tilings; they are tried again by the next job."""
    for shift, receipt in receipts.items():
        remove_store(store_path(receipt))
        content = {"slide_id": row.slide_id, "shift": shift.name, "warnings": read_receipt(usual)["warnings"]}
        write_receipt(receipt, {**content, "status": Status.FAILED, "reason": reason})
    log.warning("%s: %s", row.slide_id, reason)


def outputs(receipt: Path) -> list[Path]:
    """Return the files that the receipt of a shifted tiling stands for."""
    return [store_marker(receipt)] if read_receipt(receipt)["status"] != Status.FAILED else []


def _require_same(row: SlideRow, tiled: Mapping[str, Any]) -> None:
    if not is_same_slide(row.path, tiled):
        raise SlideReadError(row.path, "its bytes changed since it was tiled; run `tile` again")


def _grids(row: SlideRow, tiled: Mapping[str, Any], moves: tuple[Shift, ...], threads: int) -> dict[Shift, TileGrid]:
    """Grids of the shifted tilings; the usual one is placed again for its tissue, and must come out the same."""
    settings = parse_settings(TileSettings, tiled["settings"])
    supplied = SuppliedFiles(row.annotation, row.mask)
    with open_slide(row.path, tiled["reader"], mpp=Mpp(*tiled["mpp"])) as slide:
        layout = layout_tiles(slide, supplied, settings, threads=threads)
        if array_digest(layout.grid.coords) != tiled["coords_digest"]:
            raise SlideReadError(row.path, "its tissue is not the one that was tiled; run `tile` again")
        return dict(zip(moves, layout_shifted(slide, supplied, settings, layout.tissue, moves), strict=True))


def _content(grid: TileGrid) -> dict[str, object]:
    is_empty = not len(grid.coords)
    return {
        "status": Status.EMPTY if is_empty else Status.OK,
        "reason": "no tile of the shifted grid has enough tissue" if is_empty else "",
        "n_tiles": len(grid.coords),
        "tile_px_level0": list(grid.tile_px_level0),
        "coords_digest": array_digest(grid.coords),
    }
