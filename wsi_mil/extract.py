"""Run stage `extract` on one slide: encode its tiles to features, shard by shard; a killed run is resumed."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Encoder
from wsi_mil.encoders import network_identity
from wsi_mil.errors import (
    DataError,
    MissingFileError,
    NotFiniteError,
    SlideAccessError,
    StoreMismatchError,
)
from wsi_mil.geometry import Mpp
from wsi_mil.receipts import fingerprint, read_receipt, store_marker, store_path, write_receipt
from wsi_mil.records import SlideRow, Status, TileGrid
from wsi_mil.runtime.progress import ProgressMeter
from wsi_mil.store import FeatureStore, read_grid, remove_store

if TYPE_CHECKING:
    from wsi_mil.slides import TileBatch

log = logging.getLogger(__name__)

STAGE_VERSION = 4

BATCHES_IN_FLIGHT = 2
"""Number of batches queued on the device while the next is read and the last is written."""


class PendingFeatures(Protocol):
    """Features of a batch that a device is computing."""

    def result(self) -> NDArray[np.float16]:
        """Wait for the features and return them, `(n, dim)`."""
        ...

    def seconds(self) -> float:
        """Return the computing time on the device; valid after `result`."""
        ...


class BatchEncoder(Protocol):
    """Encoder of batches of tiles."""

    dim: int

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Allocate an array for tiles."""
        ...

    def begin(self, tiles: NDArray[np.uint8]) -> PendingFeatures:
        """Start encoding tiles `(n, height, width, 3)`."""
        ...


def extract_slide(
    tiles_receipt: Path,
    row: SlideRow,
    settings: Encoder,
    receipt: Path,
    *,
    dtype: str,
    encoder: Callable[[], BatchEncoder],
    threads: int,
) -> Status:
    """Encode the tiles of one slide.

    A slide that `tile` could not use keeps its status. A data error becomes a status too.

    Args:
        tiles_receipt: receipt of `tile`, beside its store.
        row: the slide; mpp, reader and hash are taken from the receipt.
        settings: entry of `encoders`.
        receipt: path of the receipt, which is written last.
        dtype: number format of the encoder; part of the fingerprint.
        encoder: creates the encoder or returns the existing one; not called if nothing is left to encode.
        threads: number of tiles read at once.
    """
    tiled = read_receipt(tiles_receipt)
    if tiled["status"] != Status.OK:
        outcome = {key: tiled[key] for key in ("status", "reason", "warnings")}
        remove_store(store_path(receipt))
        write_receipt(receipt, {"slide_id": row.slide_id, **outcome})
        return Status(tiled["status"])
    grid = read_grid(store_path(tiles_receipt))
    attributes = _attributes(tiled, row, settings, dtype)
    open_store = partial(_store, receipt, grid, settings, attributes)
    with open_store() as store:
        exists = store.is_complete
    if not exists:
        _require_unchanged(row, tiled)
        encoder()  # claim the device before taking the store lock; the reverse order can deadlock
    with open_store() as store:
        if not store.is_complete:
            receipt.unlink(missing_ok=True)  # it describes an earlier content of the store
        try:
            _encode_rest(tiled, grid, row, store, encoder, threads)
            content = {**_verdict(store, settings), **attributes, "dim": store.dim, "digest": store.digest()}
        except SlideAccessError as error:
            raise MissingFileError(row.path, f"is missing since it was tiled ({error})") from error
        except DataError as error:
            content = {"status": Status.FAILED, "reason": str(error)}
        write_receipt(receipt, {"slide_id": row.slide_id, "warnings": tiled["warnings"], **content})
    log.info("%s: %s %s", row.slide_id, content["status"], content.get("reason", ""))
    return Status(str(content["status"]))


def outputs(receipt: Path) -> list[Path]:
    """Return the files that a receipt of `extract` stands for: none if the slide has no features."""
    return [store_marker(receipt)] if read_receipt(receipt)["status"] == Status.OK else []


def is_extracted(tiles_receipt: Path, row: SlideRow, settings: Encoder, receipt: Path, *, dtype: str) -> bool:
    """Return whether `extract_slide` with the same arguments would encode nothing."""
    tiled = read_receipt(tiles_receipt)
    if tiled["status"] != Status.OK:
        return True
    with _store(receipt, read_grid(store_path(tiles_receipt)), settings, _attributes(tiled, row, settings, dtype)) as store:
        return store.is_complete


def write_failure_receipt(tiles_receipt: Path, row: SlideRow, receipt: Path, reason: str) -> None:
    """Write a receipt with the reason why a slide has no features; a partial store stays for the next run."""
    content = {"status": Status.FAILED, "reason": f"{row.path}: {reason}"}
    write_receipt(receipt, {"slide_id": row.slide_id, "warnings": read_receipt(tiles_receipt)["warnings"], **content})


def _store(receipt: Path, grid: TileGrid, settings: Encoder, attributes: dict[str, object]) -> FeatureStore:
    return FeatureStore(store_path(receipt), coords=grid.coords, batch_size=settings.batch_size, attributes=attributes)


def _encode_rest(
    tiled: dict[str, Any], grid: TileGrid, row: SlideRow, store: FeatureStore, encoder: Callable[[], BatchEncoder], threads: int
) -> None:
    """Encode the tiles whose features are not yet on disk."""
    if store.is_complete:
        log.info("%s: all %d tiles are encoded already", row.slide_id, len(grid.coords))
        return
    from wsi_mil.slides import open_slide, read_tiles  # here: a slide with nothing left to encode does without

    batch_encoder = encoder()
    busy_s = 0.0
    store.begin(batch_encoder.dim)
    shards = _Shards(store, lambda: _require_unchanged(row, tiled))
    with (
        open_slide(row.path, tiled["reader"], mpp=Mpp(*tiled["mpp"])) as slide,
        ProgressMeter(f"extract {row.slide_id}", total=len(grid.coords), unit="tiles", already=store.rows_done) as meter,
        closing(
            read_tiles(
                slide,
                grid,
                mpp=float(tiled["settings"]["tiling"]["mpp"]),
                batch_size=store.batch_size,
                threads=threads,
                start=store.rows_done,
                empty=batch_encoder.empty,
            )
        ) as batches,  # ends its threads before the slide is closed
    ):
        for batch, pending in _in_flight(batches, batch_encoder):
            shards.add(batch, pending.result())
            busy_s += pending.seconds()
            meter.advance(len(batch.tiles), f"the encoder waited {max(0.0, 1 - busy_s / meter.seconds()):.0%} of the time")


def _attributes(tiled: dict[str, Any], row: SlideRow, settings: Encoder, dtype: str) -> dict[str, object]:
    """Attributes of the store: all that determines its content, and the fingerprint of it."""
    tiling = tiled["settings"]["tiling"]
    inputs = {
        "slide_hash": tiled["slide_hash"],
        "reader": tiled["reader"],
        "slide_mpp": tiled["mpp"],
        "mpp": tiling["mpp"],
        "tile_px": tiling["tile_px"],
        "tile_px_level0": tiled["tile_px_level0"],
        "coords_digest": tiled["coords_digest"],
        **network_identity(settings),
        "dtype": dtype,
        "stage_version": STAGE_VERSION,
    }
    return {"slide_id": row.slide_id, **inputs, "fingerprint": fingerprint(inputs)}


def _require_unchanged(row: SlideRow, tiled: dict[str, Any]) -> None:
    from wsi_mil.slides import is_same_slide

    if not is_same_slide(row.path, tiled):
        raise StoreMismatchError(row.path, "its bytes changed since it was tiled; run `tile` again, then `extract`")


def _verdict(store: FeatureStore, settings: Encoder) -> dict[str, object]:
    n = len(store.coords)
    corrupt = int((~store.valid()).sum())
    counts = {"n_tiles": n - corrupt, "n_corrupt": corrupt}
    if corrupt > settings.max_corrupt * n or corrupt == n:
        return {"status": Status.FAILED, "reason": f"{corrupt} of {n} tiles cannot be read", **counts}
    return {"status": Status.OK, "reason": "", **counts}


def _in_flight(batches: Iterable["TileBatch"], encoder: BatchEncoder) -> "Iterator[tuple[TileBatch, PendingFeatures]]":
    """Batches with their pending features, in order; the next are read while the device works."""
    queue = deque[tuple["TileBatch", PendingFeatures]]()
    for batch in batches:
        queue.append((batch, encoder.begin(batch.tiles)))
        if len(queue) > BATCHES_IN_FLIGHT:
            yield queue.popleft()
    yield from queue


class _Shards:
    """Collects the features of batches, and writes each shard when it is full."""

    def __init__(self, store: FeatureStore, require_unchanged: Callable[[], None]):
        """`require_unchanged` raises if the slide has changed or is missing."""
        self.store = store
        self.require_unchanged = require_unchanged
        self._start_shard()

    def _start_shard(self) -> None:
        rows = min(self.store.shard_rows, len(self.store.coords) - self.store.rows_done)
        self.features = np.zeros((rows, self.store.dim), np.float16)
        self.valid = np.zeros(rows, bool)

    def add(self, batch: "TileBatch", features: NDArray[np.float16]) -> None:
        """Add the next batch, which never crosses the end of a shard."""
        _require_finite(self.store, batch, features)
        at = batch.start - self.store.rows_done
        part = slice(at, at + len(features))
        self.features[part] = np.where(batch.readable[:, None], features, 0)
        self.valid[part] = batch.readable
        if part.stop == len(self.features):
            if not self.valid.all():
                self.require_unchanged()  # else a disk that dropped out would leave lasting holes
            self.store.append_shard(self.features, self.valid)
            self._start_shard()


def _require_finite(store: FeatureStore, batch: "TileBatch", features: NDArray[np.float16]) -> None:
    not_finite = np.flatnonzero(batch.readable & ~np.isfinite(features).all(axis=1))
    if len(not_finite):
        tile = batch.start + int(not_finite[0])
        raise NotFiniteError(store.path.stem, features_are_finite=False, tile=(tile, *store.coords[tile].tolist()))
