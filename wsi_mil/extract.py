"""Stage `extract`: slide + tiles + encoder → features, shard by shard, going on where a killed run stopped."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Encoder
from wsi_mil.encoders import weights_hash
from wsi_mil.errors import DataError, MissingFileError, NotFiniteError, StoreMismatchError
from wsi_mil.geometry import Mpp
from wsi_mil.progress import ProgressMeter
from wsi_mil.receipts import fingerprint, read_receipt, store_path, write_receipt
from wsi_mil.records import SlideRow, Status, TileGrid
from wsi_mil.slides import Slide, open_slide, read_tiles, slide_hash
from wsi_mil.store import FeatureStore, read_grid, remove_store

log = logging.getLogger(__name__)

STAGE_VERSION = 2


class Encodes(Protocol):
    """What is needed of an encoder."""

    dim: int

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Features `(n, dim)` of tiles `(n, height, width, 3)`."""
        ...


def extract_slide(
    tiles_receipt: Path,
    row: SlideRow,
    settings: Encoder,
    receipt: Path,
    *,
    dtype: str,
    encoder: Callable[[], Encodes],
    threads: int,
) -> Status:
    """Encode the tiles of one slide.

    A slide that `tile` could not use keeps its status. A fault of the data becomes a status too.

    Args:
        tiles_receipt: receipt of `tile`, beside its store.
        row: the slide; mpp, reader and hash are those of the receipt.
        settings: entry of `encoders`.
        receipt: to write, last.
        dtype: number format that the encoder computes in; part of the fingerprint.
        encoder: makes the encoder; not called where there is nothing left to encode.
        threads: tiles read at once.
    """
    tiled = read_receipt(tiles_receipt)
    if tiled["status"] != Status.OK:
        about = {key: tiled[key] for key in ("status", "reason", "warnings")}
        remove_store(store_path(receipt))
        write_receipt(receipt, {"slide_id": row.slide_id, **about})
        return Status(tiled["status"])
    try:
        content = _extract(tiles_receipt, row, settings, store_path(receipt), dtype, encoder, threads)
    except DataError as error:
        content = {"status": Status.FAILED, "reason": str(error)}
    write_receipt(receipt, {"slide_id": row.slide_id, "warnings": tiled["warnings"], **content})
    log.info("%s: %s %s", row.slide_id, content["status"], content.get("reason", ""))
    return Status(str(content["status"]))


def _extract(
    tiles_receipt: Path, row: SlideRow, settings: Encoder, path: Path, dtype: str, encoder: Callable[[], Encodes], threads: int
) -> dict[str, object]:
    tiled, grid = read_receipt(tiles_receipt), read_grid(store_path(tiles_receipt))
    attributes = _attributes(tiled, row, settings, dtype)
    with FeatureStore(path, coords=grid.coords, batch_size=settings.batch_size, attributes=attributes) as store:
        if store.is_complete:
            log.info("%s: all %d tiles are encoded already", row.slide_id, len(grid.coords))
        else:
            _refuse_changed(row, tiled)
            made = encoder()
            store.begin(made.dim)
            mpp = float(tiled["settings"]["tiling"]["mpp"])
            with open_slide(row.path, tiled["reader"], mpp=Mpp(*tiled["mpp"])) as slide:
                _encode_rest(slide, grid, mpp, store, made, settings.batch_size, threads, lambda: _refuse_changed(row, tiled))
        corrupt = int((~store.valid()).sum())
        dim = store.dim
    return {**_verdict(corrupt, len(grid.coords), settings), **attributes, "dim": dim, "n_corrupt": corrupt}


def _attributes(tiled: dict[str, Any], row: SlideRow, settings: Encoder, dtype: str) -> dict[str, object]:
    """What goes into the store's attributes: all that decides its content, and the fingerprint over it."""
    tiling = tiled["settings"]["tiling"]
    deciding = {
        "slide_hash": tiled["slide_hash"],
        "reader": tiled["reader"],
        "slide_mpp": tiled["mpp"],
        "mpp": tiling["mpp"],
        "tile_px": tiling["tile_px"],
        "tile_px_level0": tiled["tile_px_level0"],
        "coords_digest": tiled["coords_digest"],
        "encoder": settings.encoder,
        "weights_hash": weights_hash(settings.encoder, settings.weights),
        "dtype": dtype,
        "batch_size": settings.batch_size,
        "stage_version": STAGE_VERSION,
    }
    return {"slide_id": row.slide_id, **deciding, "fingerprint": fingerprint(deciding)}


def _refuse_changed(row: SlideRow, tiled: dict[str, Any]) -> None:
    if not row.path.is_file():
        raise MissingFileError(row.path, "no such file")
    if slide_hash(row.path) != tiled["slide_hash"]:
        raise StoreMismatchError(row.path, "its bytes changed since it was tiled; run `tile` again, then `extract`")


def _verdict(corrupt: int, n: int, settings: Encoder) -> dict[str, object]:
    if corrupt > settings.max_corrupt * n or corrupt == n:
        return {"status": Status.FAILED, "reason": f"{corrupt} of {n} tiles cannot be read", "n_tiles": n - corrupt}
    return {"status": Status.OK, "reason": "", "n_tiles": n - corrupt}


def _encode_rest(
    slide: Slide,
    grid: TileGrid,
    mpp: float,
    store: FeatureStore,
    encoder: Encodes,
    batch_size: int,
    threads: int,
    still_there: Callable[[], None],
) -> None:
    """Encode what is not yet on disk; batches never straddle a shard. `still_there` raises where the slide is not."""
    n, start = len(grid.coords), store.rows_done
    with ProgressMeter(f"extract {store.path.stem}", total=n, unit="tiles", already=start) as meter:
        features, valid = _blank_shard(store, start, n)
        for batch in read_tiles(slide, grid, mpp=mpp, batch_size=batch_size, threads=threads, start=start):
            encoded = encoder.encode(batch.tiles)
            if not np.isfinite(encoded[batch.readable]).all():
                raise NotFiniteError(store.path.stem, features_are_finite=False)
            at = batch.start - store.rows_done
            part = slice(at, at + len(batch.tiles))
            features[part], valid[part] = np.where(batch.readable[:, None], encoded, 0), batch.readable
            meter.advance(len(batch.tiles))
            if part.stop == len(features):
                if not valid.all():
                    still_there()  # or a disk that dropped out would leave holes for ever
                store.append_shard(features, valid)
                features, valid = _blank_shard(store, store.rows_done, n)


def _blank_shard(store: FeatureStore, first: int, n: int) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Features `(rows, dim)` and validity `(rows,)` of the shard that begins at row `first` of `n`."""
    rows = min(store.shard_rows, n - first)
    return np.zeros((rows, store.dim), np.float16), np.zeros(rows, bool)
