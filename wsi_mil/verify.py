"""Check every store of a results folder against its receipt."""

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
"""Statuses with which a stage keeps a store; a failed slide may have one."""

FAULTS: dict[str, Callable[[Path, Mapping[str, Any]], list[str]]] = {"tiles": grid_faults, "features": feature_faults}


@dataclass(frozen=True)
class StoreCheck:
    """Result of the check of one store.

    Attributes:
        receipt: path of the receipt, which may not exist.
        verdict: result; an unfinished store is resumed by the next run.
        faults: faults as text; of an unfinished store, what is missing.
        n_bytes: bytes of the store.
    """

    receipt: Path
    verdict: Verdict
    faults: tuple[str, ...] = ()
    n_bytes: int = 0


def verify(results: Path, *, threads: int = 1) -> Iterator[StoreCheck]:
    """Check every store of tiles and features in a results folder, in the order of their paths.

    Args:
        results: results folder of a run, finished or not.
        threads: number of stores read at once.

    Raises:
        MissingFileError: the folder has no receipts or stores of tiles or features.
    """
    folders = [results, *results.glob("fine/*-of-*")]  # shifted tilings have tiles and features too
    receipts = sorted({path for folder in folders for stage in FAULTS for path in _receipts(folder / stage)})
    if not receipts:
        raise MissingFileError(results, "expected a results folder, but it has neither tiles/*/*.json nor features/*/*.json")
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(_check_store, receipts)


def discard(check: StoreCheck) -> None:
    """Remove a damaged store with its receipt, so that the next run computes them again."""
    check.receipt.unlink(missing_ok=True)
    remove_store(store_path(check.receipt))


def _receipts(stage: Path) -> set[Path]:
    """Receipt paths of all slides with a receipt or a store."""
    stores = {path.with_suffix(".json") for path in stage.glob("*/*.zarr") if not path.name.startswith(".")}
    return stores | {path for path in stage.glob("*/*.json") if not path.name.startswith(".")}


def _check_store(receipt: Path) -> StoreCheck:
    stage = receipt.parts[-3]
    store = store_path(receipt)
    n_bytes = bytes_on_disk(store)
    try:
        missing = shards_missing(store) if stage == "features" and store.exists() else 0
        if not receipt.exists():
            what = f"{missing} shards are" if missing else "the store is complete, but its receipt is"
            return StoreCheck(receipt, "unfinished", (f"{what} not yet written",), n_bytes)
        content = read_receipt(receipt)
        has_store = content.get("status") in HAS_STORE[stage]
        if not store.exists():
            faults = ["its store is missing"] if has_store else []
        elif missing:  # a failed slide may leave a partial store
            faults = [f"{missing} shards are missing, although the receipt says that all are written"] if has_store else []
        else:
            faults = FAULTS[stage](store, content)
    except (StoreError, KeyError) as error:
        faults = [f"key {error} is missing" if isinstance(error, KeyError) else str(error)]
    return StoreCheck(receipt, "damaged" if faults else "sound", tuple(faults), n_bytes)
