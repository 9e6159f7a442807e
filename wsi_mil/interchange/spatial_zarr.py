"""SpatialData stores (Zarr) of the tiles of one slide: squares with a table, over the slide's thumbnail."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import StoreError
from wsi_mil.interchange.annotated import annotated, float32_blocks
from wsi_mil.interchange.slide_tiles import SlideTiles
from wsi_mil.interchange.spatial_packages import spatialdata
from wsi_mil.store import part_folder, read_attributes, remove_store, replace_store

NAME = "spatialdata"
TILES, TABLE, IMAGE = "tiles", "table", "slide"
"""Names of the elements."""
PIXELS, MICROMETRES = "global", "micrometres"
"""Coordinate systems: level-0 pixels, which SpatialData's functions take unless told otherwise, and µm."""
OWN_ATTRIBUTES = "spatialdata_attrs"
"""Key of the attributes by which a store of SpatialData is known."""


def write_spatialdata(path: Path, slide: SlideTiles, *, image: bool) -> None:
    """Write a store of a slide, to a temporary folder that is then renamed.

    Args:
        path: the store.
        slide: the tiles.
        image: with the thumbnail of the slide, in several resolutions.

    Raises:
        StoreError: there is something else at `path`, or a shard of the features is missing or damaged.
    """
    if path.exists() and not _is_spatialdata(path):
        raise StoreError(path, "exists and is no store of SpatialData; choose another folder to write into")
    picture = slide.thumbnail() if image else None
    data = spatialdata().SpatialData(
        images={IMAGE: _image(picture, slide)} if picture is not None else {},
        shapes={TILES: _squares(slide)},
        tables={TABLE: _table(slide)},
    )
    part = part_folder(path)
    try:
        with _chunk_shapes():
            data.write(part)
        replace_store(part, path)
    finally:
        remove_store(part)


def _is_spatialdata(path: Path) -> bool:
    try:
        return OWN_ATTRIBUTES in read_attributes(path)
    except StoreError:
        return False


def _squares(slide: SlideTiles) -> Any:
    """Footprints of the tiles."""
    import geopandas
    import shapely

    left_top = slide.features.coords
    right_bottom = left_top + slide.size
    squares = geopandas.GeoDataFrame(geometry=shapely.box(*left_top.T, *right_bottom.T))
    return spatialdata().models.ShapesModel.parse(squares, transformations=_systems(slide, np.ones(2)))


def _table(slide: SlideTiles) -> Any:
    """Table with the features in one array of float32, filled some rows at a time."""
    import pandas as pd

    table = annotated([slide])
    features = np.empty(table.shape, np.float32)
    start = 0
    for block in float32_blocks([slide]):
        features[start : start + len(block)] = block
        start += len(block)
    table.X = features
    del table.uns["spatial"]  # that is for files without shapes and images
    table.obs["region"] = pd.Categorical.from_codes(np.zeros(len(features), int), pd.Index([TILES], dtype=object))
    table.obs["tile"] = np.arange(len(features))
    return spatialdata().models.TableModel.parse(table, region=TILES, region_key="region", instance_key="tile")


def _image(picture: NDArray[np.uint8], slide: SlideTiles) -> Any:
    """Thumbnail and its halves."""
    assert slide.scale.dimensions is not None
    per_pixel = np.array(slide.scale.dimensions) / (picture.shape[1], picture.shape[0])
    return spatialdata().models.Image2DModel.parse(
        np.moveaxis(picture, 2, 0),
        dims=("c", "y", "x"),
        c_coords=["r", "g", "b"],
        scale_factors=[2, 2],
        chunks=(3, *picture.shape[:2]),
        transformations=_systems(slide, per_pixel),
    )


def _systems(slide: SlideTiles, level0_per_unit: NDArray[np.float64]) -> dict[str, Any]:
    """Transformations from an element's own units into the coordinate systems."""
    scale = spatialdata().transformations.Scale
    axes = ("x", "y")
    return {PIXELS: scale(level0_per_unit, axes=axes), MICROMETRES: scale(level0_per_unit * slide.mpp, axes=axes)}


@contextmanager
def _chunk_shapes() -> Iterator[None]:
    """Let spatialdata 0.7.0 write images with later versions of ome-zarr: they take the shape of a chunk, no lists of sizes."""
    from spatialdata._io import io_raster

    if hasattr(io_raster, "_prepare_storage_options"):  # later versions know
        yield
        return
    original = io_raster.get_pyramid_levels

    def levels(image: Any, attr: str | None = None, n: int | None = None) -> Any:
        found = original(image, attr, n)
        return [tuple(map(max, chunks)) for chunks in found] if attr == "chunks" else found

    io_raster.get_pyramid_levels = levels
    try:
        yield
    finally:
        io_raster.get_pyramid_levels = original
