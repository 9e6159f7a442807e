"""Stores of `explain`: one score per tile and method."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import StoreError
from wsi_mil.records import InstanceScores
from wsi_mil.store.zarr_files import array_of, open_store, write_whole


def write_scores(path: Path, coords: NDArray[np.int64], scores: list[InstanceScores], attributes: Mapping[str, object]) -> None:
    """Write the scores, one float32 array per method, with their coords."""
    write_whole(path, {"coords": coords, **{s.method: s.values for s in scores}}, attributes)


def read_scores(path: Path, method: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read coords `(n, 2)`, level-0 pixels, and a method's values `(n,)`.

    Raises:
        StoreError: the store is unreadable, or a part of it is missing.
    """
    group = open_store(path)
    coords, values = array_of(group, "coords"), array_of(group, method)
    for name, array, chunk in (("coords", coords, "c/0/0"), (method, values, "c/0")):
        if len(array) and not (path / name / chunk).is_file():  # Zarr would return zeros
            raise StoreError(path, f"{name}/{chunk} is missing; run `explain` again")
    if len(coords) != len(values):
        raise StoreError(path, f"has {len(coords)} tiles, but {len(values)} scores of {method}; run `explain` again")
    return coords, values
