"""Read a slide's features a few rows at a time, without holding the whole slide in memory."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.receipts import store_path
from wsi_mil.store.features import finished_tiles
from wsi_mil.store.zarr_files import is_raw, metadata, open_store, outer_chunk, read_raw_rows

BLOCK_ROWS = 2048
"""Largest number of rows read at once."""


class FeatureRows:
    """Finished feature store whose features stay on disk; corrupt tiles are skipped.

    Attributes:
        receipt: receipt of `extract`.
        slide_id: the slide.
        dim: length of a feature vector.
        coords: int64 `(n, 2)` of the valid tiles, (x, y), level-0 pixels.
    """

    def __init__(self, receipt: Path):
        """Open a store and read everything but the features.

        Raises:
            IncompleteStoreError: the store was never finished.
            StoreError: the store is missing, or its arrays differ in their number of tiles.
        """
        self.receipt = receipt
        self._path = store_path(receipt)
        self._metadata = metadata(self._path, "features")
        coords, self._valid = finished_tiles(self._path, self._metadata)
        self.slide_id = receipt.name.removesuffix(".json")
        self.dim = int(self._metadata["shape"][1])
        self.coords = coords[self._valid]

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Return the row of each valid tile in the store `(n,)`."""
        return np.flatnonzero(self._valid)

    def blocks(self) -> Iterator[NDArray[np.float16]]:
        """Yield all valid rows `(up to BLOCK_ROWS, dim)`, in order. Raises StoreError if a shard is missing or damaged."""
        n = len(self._valid)
        chunk = outer_chunk(self._metadata)[0]
        for begin in range(0, n, chunk):
            for start in range(begin, min(begin + chunk, n), BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, begin + chunk, n)
                valid = self._valid[start:stop]
                rows = self._rows(start, stop)
                yield rows if valid.all() else rows[valid]

    def place(self, number: int) -> tuple[int, int, int]:
        """Return a tile's row in the store and its level-0 (x, y), by its number among the valid tiles."""
        x, y = self.coords[number].tolist()
        return int(np.flatnonzero(self._valid)[number]), x, y

    def at(self, numbers: NDArray[np.int64]) -> NDArray[np.float16]:
        """Read rows `(m, dim)` by their numbers among the valid tiles."""
        features = np.empty((len(numbers), self.dim), np.float16)
        for i, row in enumerate(np.flatnonzero(self._valid)[numbers].tolist()):
            features[i] = self._rows(row, row + 1)[0]
        return features

    def _rows(self, start: int, stop: int) -> NDArray[np.float16]:
        """Rows of one chunk, valid or not."""
        if not is_raw(self._metadata):
            return np.asarray(self._array[start:stop])
        chunk = outer_chunk(self._metadata)[0]
        rows: NDArray[np.float16] = np.empty((stop - start, self.dim), "<f2")
        read_raw_rows(self._path / "features", self._metadata, start // chunk, start % chunk, rows)
        return rows

    @cached_property
    def _array(self) -> Any:
        return open_store(self._path)["features"]
