"""Every store of a results folder held against its receipt."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wsi_mil.errors import MissingFileError, StoreError
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import Status
from wsi_mil.store import bytes_on_disk, feature_faults, grid_faults, remove_store, shards_missing

Verdict = Literal["sound", "unfinished", "damaged"]

HAS_STORE = {"tiles": (Status.OK, Status.EMPTY), "features": (Status.OK,)}
"""Of which statuses a stage keeps a store; a slide that failed may have one."""

FAULTS: dict[str, Callable[[Path, Mapping[str, Any]], list[str]]] = {"tiles": grid_faults, "features": feature_faults}


@dataclass(frozen=True)
class Verified:
    """What was found of one slide in one stage.

    Attributes:
        receipt: path of it, whether it is there or not.
        verdict: an unfinished store is one that the next run goes on with.
        faults: in words; of an unfinished store, what is missing.
        n_bytes: of the store.
    """

    receipt: Path
    verdict: Verdict
    faults: tuple[str, ...] = ()
    n_bytes: int = 0


def verify(results: Path, *, threads: int = 1) -> Iterator[Verified]:
    """Read every store of tiles and features below a results folder, in the order of their paths.

    Args:
        results: of a run, finished or not.
        threads: stores read at once.

    Raises:
        MissingFileError: there are no receipts or stores of tiles or features.
    """
    receipts = sorted({path for stage in FAULTS for path in _receipts(results / stage)})
    if not receipts:
        raise MissingFileError(results, "neither tiles/*/*.json nor features/*/*.json here; expected a results folder")
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(_verified, receipts)


def discard(found: Verified) -> None:
    """Take away a damaged store with its receipt, so that the next run makes them anew."""
    found.receipt.unlink(missing_ok=True)
    remove_store(store_path(found.receipt))


def _receipts(stage: Path) -> set[Path]:
    """Of every slide that has a receipt or a store."""
    stores = {path.with_suffix(".json") for path in stage.glob("*/*.zarr") if not path.name.startswith(".")}
    return stores | {path for path in stage.glob("*/*.json") if not path.name.startswith(".")}


def _verified(receipt: Path) -> Verified:
    stage, store = receipt.parts[-3], store_path(receipt)
    n_bytes = bytes_on_disk(store)
    try:
        missing = shards_missing(store) if stage == "features" and store.exists() else 0
        if not receipt.exists():
            what = f"{missing} shards are" if missing else "the store is whole, its receipt is"
            return Verified(receipt, "unfinished", (f"{what} still to be written",), n_bytes)
        about = read_receipt(receipt)
        has_store = about.get("status") in HAS_STORE[stage]
        if not store.exists():
            faults = ["its store is missing"] if has_store else []
        elif missing:  # of a slide that failed, what was written before it did
            faults = [f"{missing} shards were never written, which the receipt does not say"] if has_store else []
        else:
            faults = FAULTS[stage](store, about)
    except (StoreError, KeyError) as error:
        faults = [f"no {error}" if isinstance(error, KeyError) else str(error)]
    return Verified(receipt, "damaged" if faults else "sound", tuple(faults), n_bytes)
