"""Stores of `tile`: a slide's tiles and its thumbnail."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.records import TileGrid
from wsi_mil.store.zarr_files import array_of, attributes_of, open_store, write_whole


def write_grid(path: Path, grid: TileGrid, thumbnail: NDArray[np.uint8] | None, attributes: Mapping[str, object]) -> None:
    """Write a slide's tiles and its thumbnail [height, width, 3], which later stages use as background; None for none."""
    arrays: dict[str, NDArray[Any]] = {"coords": grid.coords, "tissue_fraction": grid.tissue_fraction}
    if thumbnail is not None:
        arrays["thumbnail"] = thumbnail
    geometry = {"tile_px": grid.tile_px, "tile_px_level0": list(grid.tile_px_level0)}
    write_whole(path, arrays, {**attributes, **geometry})


def read_grid(path: Path) -> TileGrid:
    """Read the tiles of a slide."""
    group = open_store(path)
    attributes = attributes_of(group)
    width, height = attributes["tile_px_level0"]
    return TileGrid(
        coords=array_of(group, "coords"),
        tissue_fraction=array_of(group, "tissue_fraction"),
        tile_px=int(attributes["tile_px"]),
        tile_px_level0=(int(width), int(height)),
    )


def read_thumbnail(path: Path) -> NDArray[np.uint8]:
    """Read the thumbnail of the whole slide, [height, width, 3]."""
    return array_of(open_store(path), "thumbnail")
