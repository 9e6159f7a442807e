"""Stage `extract`: slide + tiles + encoder → features, shard by shard, going on where a killed run stopped."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Encoder
from wsi_mil.encoders import network_identity
from wsi_mil.errors import (
    DataError,
    MissingFileError,
    NotFiniteError,
    SlideAccessError,
    StoreError,
    StoreMismatchError,
    UnreachableError,
)
from wsi_mil.geometry import Mpp
from wsi_mil.receipts import fingerprint, read_receipt, store_path, write_receipt
from wsi_mil.records import SlideRow, Status, TileGrid
from wsi_mil.runtime.progress import ProgressMeter
from wsi_mil.slides import TileBatch, is_same_slide, open_slide, read_tiles
from wsi_mil.store import FeatureStore, read_grid, remove_store

log = logging.getLogger(__name__)

STAGE_VERSION = 4

FAULTS_OF_A_SLIDE = (MissingFileError, UnreachableError, NotFiniteError, StoreError)
"""That are no status, since they can be mended; the next slide may have none."""

BATCHES_IN_FLIGHT = 2
"""Batches that a device has to work on while the next is read and the last is written."""


class Encoding(Protocol):
    """Features of a batch that a device is computing."""

    def result(self) -> NDArray[np.float16]:
        """Features `(n, dim)`; waits until they are there."""
        ...

    def seconds(self) -> float:
        """How long the device worked on them, after `result`."""
        ...


class Encodes(Protocol):
    """What is needed of an encoder."""

    dim: int

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array to put tiles in."""
        ...

    def begin(self, tiles: NDArray[np.uint8]) -> Encoding:
        """Set the device to work on tiles `(n, height, width, 3)`."""
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
        encoder: makes the encoder, or gives the one that is made; not called where there is nothing left to encode.
        threads: tiles read at once.
    """
    tiled = read_receipt(tiles_receipt)
    if tiled["status"] != Status.OK:
        about = {key: tiled[key] for key in ("status", "reason", "warnings")}
        remove_store(store_path(receipt))
        write_receipt(receipt, {"slide_id": row.slide_id, **about})
        return Status(tiled["status"])
    grid, attributes = read_grid(store_path(tiles_receipt)), _attributes(tiled, row, settings, dtype)
    opened = partial(FeatureStore, store_path(receipt), coords=grid.coords, batch_size=settings.batch_size, attributes=attributes)
    with opened() as store:
        exists = store.is_complete
    if not exists:
        _refuse_changed(row, tiled)
        encoder()  # claims a device: were that waited for under the store's lock, the device's owner could wait for the store
    with opened() as store:
        if not store.is_complete:
            receipt.unlink(missing_ok=True)  # of what the store held before
        try:
            _encode_rest(tiled, grid, row, store, encoder, threads)
            content = {**_verdict(store, settings), **attributes, "dim": store.dim, "digest": store.digest()}
        except SlideAccessError as error:
            raise MissingFileError(row.path, f"is gone since it was tiled ({error})") from error
        except DataError as error:
            content = {"status": Status.FAILED, "reason": str(error)}
        write_receipt(receipt, {"slide_id": row.slide_id, "warnings": tiled["warnings"], **content})
    log.info("%s: %s %s", row.slide_id, content["status"], content.get("reason", ""))
    return Status(str(content["status"]))


def write_failure_receipt(tiles_receipt: Path, row: SlideRow, receipt: Path, reason: str) -> None:
    """A receipt that says why a slide has no features; what of them lies beside it stays until it is run again."""
    content = {"status": Status.FAILED, "reason": f"{row.path}: {reason}"}
    write_receipt(receipt, {"slide_id": row.slide_id, "warnings": read_receipt(tiles_receipt)["warnings"], **content})


def _encode_rest(
    tiled: dict[str, Any], grid: TileGrid, row: SlideRow, store: FeatureStore, encoder: Callable[[], Encodes], threads: int
) -> None:
    """Encode what is not yet on disk."""
    if store.is_complete:
        log.info("%s: all %d tiles are encoded already", row.slide_id, len(grid.coords))
        return
    made, busy = encoder(), 0.0
    store.begin(made.dim)
    shards = _Shards(store, lambda: _refuse_changed(row, tiled))
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
                empty=made.empty,
            )
        ) as batches,  # whatever happens, its threads end before the slide is closed under them
    ):
        for batch, encoding in _in_flight(batches, made):
            shards.add(batch, encoding.result())
            busy += encoding.seconds()
            meter.advance(len(batch.tiles), f"the encoder waited {max(0.0, 1 - busy / meter.seconds()):.0%} of the time")


def _attributes(tiled: dict[str, Any], row: SlideRow, settings: Encoder, dtype: str) -> dict[str, object]:
    """What goes into the store's attributes: all that decides its content, and the fingerprint over it."""
    tiling, network = tiled["settings"]["tiling"], network_identity(settings)
    deciding = {
        "slide_hash": tiled["slide_hash"],
        "reader": tiled["reader"],
        "slide_mpp": tiled["mpp"],
        "mpp": tiling["mpp"],
        "tile_px": tiling["tile_px"],
        "tile_px_level0": tiled["tile_px_level0"],
        "coords_digest": tiled["coords_digest"],
        **network,
        "dtype": dtype,
        "stage_version": STAGE_VERSION,
    }
    return {"slide_id": row.slide_id, **deciding, "fingerprint": fingerprint(deciding)}


def _refuse_changed(row: SlideRow, tiled: dict[str, Any]) -> None:
    if not is_same_slide(row.path, tiled):
        raise StoreMismatchError(row.path, "its bytes changed since it was tiled; run `tile` again, then `extract`")


def _verdict(store: FeatureStore, settings: Encoder) -> dict[str, object]:
    n, corrupt = len(store.coords), int((~store.valid()).sum())
    counts = {"n_tiles": n - corrupt, "n_corrupt": corrupt}
    if corrupt > settings.max_corrupt * n or corrupt == n:
        return {"status": Status.FAILED, "reason": f"{corrupt} of {n} tiles cannot be read", **counts}
    return {"status": Status.OK, "reason": "", **counts}


def _in_flight(batches: Iterable[TileBatch], encoder: Encodes) -> Iterator[tuple[TileBatch, Encoding]]:
    """Batches with their features, in order: while a device works on some, the next are read."""
    begun = deque[tuple[TileBatch, Encoding]]()
    for batch in batches:
        begun.append((batch, encoder.begin(batch.tiles)))
        if len(begun) > BATCHES_IN_FLIGHT:
            yield begun.popleft()
    yield from begun


class _Shards:
    """Gathers the features of batches, and writes each shard when it is full."""

    def __init__(self, store: FeatureStore, still_there: Callable[[], None]):
        """`still_there` raises where the slide is not what it was."""
        self.store, self.still_there = store, still_there
        self._blank()

    def _blank(self) -> None:
        rows = min(self.store.shard_rows, len(self.store.coords) - self.store.rows_done)
        self.features, self.valid = np.zeros((rows, self.store.dim), np.float16), np.zeros(rows, bool)

    def add(self, batch: TileBatch, features: NDArray[np.float16]) -> None:
        """Take the next batch; none reaches beyond the end of a shard."""
        _refuse_not_finite(self.store, batch, features)
        at = batch.start - self.store.rows_done
        part = slice(at, at + len(features))
        self.features[part], self.valid[part] = np.where(batch.readable[:, None], features, 0), batch.readable
        if part.stop == len(self.features):
            if not self.valid.all():
                self.still_there()  # or a disk that dropped out would leave holes for ever
            self.store.append_shard(self.features, self.valid)
            self._blank()


def _refuse_not_finite(store: FeatureStore, batch: TileBatch, features: NDArray[np.float16]) -> None:
    bad = np.flatnonzero(batch.readable & ~np.isfinite(features).all(axis=1))
    if len(bad):
        tile = batch.start + int(bad[0])
        raise NotFiniteError(store.path.stem, features_are_finite=False, tile=(tile, *store.coords[tile].tolist()))
