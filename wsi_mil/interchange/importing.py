"""A file of features → the receipts and stores that `tile` and `extract` would have written."""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import FeatureFileError
from wsi_mil.files import write_bytes, write_text
from wsi_mil.interchange.layouts import read_file
from wsi_mil.interchange.scale import Given, Placed, placed, slide_mpp_of
from wsi_mil.interchange.slide_preview import Ground, plain_ground, slide_file
from wsi_mil.interchange.sources import Source
from wsi_mil.interchange.tile_features import TileFeatures
from wsi_mil.receipts import array_digest, fingerprint, read_receipt, receipt_text, store_path, write_receipt
from wsi_mil.records import SlideRow, Status, TileGrid
from wsi_mil.store import FeatureStore, features_digest, read_attributes, remove_store, write_grid
from wsi_mil.tile.stage import qc_picture, tissue_geojson

log = logging.getLogger(__name__)

STAGE_VERSION = 1
UNKNOWN = "imported"
"""What stands for the hash of weights that nobody knows."""

NOT_STORED = ("status", "reason", "warnings", "n_tiles", "n_corrupt", "dim", "digest")
"""What the receipt says beside the store's attributes."""

BATCH = 256
"""Rows whose multiples the store's shards are."""

MOST, SMALLEST = float(np.finfo(np.float16).max), float(np.finfo(np.float16).tiny)
"""Of float16: the largest number, and the smallest with full precision."""


@dataclass(frozen=True)
class Imported:
    """What became of a file.

    Attributes:
        is_new: whether anything was written: the same content is not written again.
        rounded: largest relative error that float16 made of a feature; 0 where nothing was lost.
    """

    slide_id: str
    layout: str
    n_tiles: int
    dim: int
    is_new: bool
    rounded: float
    warnings: tuple[str, ...]


def import_slide(source: Source, results: Path, entry: str, given: Given, layout: str = "auto") -> Imported:
    """Take over the features of a slide.

    Args:
        source: its file, and its row of the sheet.
        results: folder of results.
        entry: encoder entry that the features are of.
        given: what the files do not say.
        layout: "auto" or one of `LAYOUTS`.

    Raises:
        FeatureFileError: the file cannot be taken over, or tiles or features of our own lie there; nothing is written.
    """
    row = source.row
    _refuse_own_work(results, entry, row.slide_id)
    name, found = read_file(source.path, layout)
    found = _with_coords(source, found)
    features, rounded_by = _float16(source, found.features)
    slide = slide_file(row, slide_mpp_of(found, given, row.mpp))
    place = placed(source.path, found, given, slide.mpp, slide.dimensions)
    place = replace(place, warnings=(*slide.warnings, *place.warnings))
    _refuse_not_finite(source, found.features, place.coords)
    ground = slide.ground or plain_ground(place, found.scale.bounds)
    deciding = {
        **_about_features(found, features, place, given),
        "slide_hash": ground.slide_hash or f"features-{array_digest(features)}",
        "reader": ground.about["reader"],
        "layout": name,
    }
    tiles, content = _receipts(row, place, ground, deciding, features)
    is_new = _write(results, entry, row.slide_id, tiles, content, (place, ground, features))
    return Imported(row.slide_id, name, len(features), features.shape[1], is_new, rounded_by, tuple(tiles["warnings"]))


def _refuse_own_work(results: Path, entry: str, slide_id: str) -> None:
    """Raise where tiles or features lie that were made here: days of computing may stand in them."""
    for stage, mark in (("tiles", "imported"), ("features", "layout")):
        receipt = results / stage / entry / f"{slide_id}.json"
        store = store_path(receipt)
        if receipt.is_file():
            made = receipt, read_receipt(receipt)
        elif stage == "features" and (store / "zarr.json").is_file():
            made = store, read_attributes(store)
        else:
            continue
        if mark not in made[1]:
            reason = "was made by this results folder's own run, not imported; choose another name for the encoder entry"
            raise FeatureFileError(made[0], f"{reason}, or delete it")


def _with_coords(source: Source, found: TileFeatures) -> TileFeatures:
    """With coords and scale from the file that is given for them."""
    if source.coords is not None:
        _, other = read_file(source.coords)
        if other.coords is None:
            raise FeatureFileError(source.coords, "has no coords")
        if found.coords is None:
            found = replace(found, coords=other.coords, unit=other.unit)
        elif found.coords.shape != other.coords.shape or (found.coords != other.coords).any():
            raise FeatureFileError(source.coords, f"its coords are others than those of {source.path}, or in another order")
        found = replace(found, scale=found.scale.filled(other.scale))
    if found.coords is None:
        reason = "features without coords: heatmaps would show them in wrong places"
        raise FeatureFileError(source.path, f"{reason}; give the file or folder that has them with --coords")
    if len(found.coords) != len(found.features):
        n, m = len(found.features), len(found.coords)
        raise FeatureFileError(source.path, f"features of {n} tiles, but coords of {m}: they are not of the same tiles")
    return found


def _float16(source: Source, features: NDArray[Any]) -> tuple[NDArray[np.float16], float]:
    """Features as stores hold them, and the largest relative error that this made."""
    if not features.shape[1]:
        raise FeatureFileError(source.path, "holds coords and no features; give it with --coords, beside files of features")
    if features.dtype.kind != "f":
        what = f"features are {features.dtype} of shape {features.shape}"
        raise FeatureFileError(source.path, f"{what}, expected numbers with a fraction")
    with np.errstate(over="ignore", invalid="ignore"):
        stored = features.astype(np.float16)
        parts = [slice(start, start + BATCH) for start in range(0, len(features), BATCH)]
        return stored, max((_relative_loss(stored[part], features[part]) for part in parts), default=0.0)


def _relative_loss(stored: NDArray[np.float16], features: NDArray[Any]) -> float:
    lost = np.abs(stored.astype(np.float64) - features) / np.maximum(np.abs(features), SMALLEST)
    return float(np.nan_to_num(lost, posinf=0.0).max(initial=0.0))


def _refuse_not_finite(source: Source, features: NDArray[Any], coords: NDArray[np.int64]) -> None:
    """Raise where a tile's features are no numbers, or numbers that float16 cannot hold."""
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~(np.abs(features) <= MOST).all(axis=1))
    if len(bad):
        first = int(bad[0])
        x, y = coords[first]
        values = features[first]
        what = "not finite" if not np.isfinite(values).all() else f"beyond the ±{MOST:,.0f} of float16 ({np.abs(values).max():g})"
        more = f", and of {len(bad) - 1} more tiles" if len(bad) > 1 else ""
        raise FeatureFileError(
            source.path,
            f"slide {source.row.slide_id}: features of tile {first} at ({x}, {y}) are {what}{more}; extract them again",
        )


def _about_features(found: TileFeatures, features: NDArray[np.float16], place: Placed, given: Given) -> dict[str, object]:
    return {
        "slide_mpp": [place.slide_mpp.x, place.slide_mpp.y],
        "mpp": place.mpp,
        "tile_px": place.tile_px,
        "tile_px_level0": list(place.tile_px_level0),
        "coords_digest": array_digest(place.coords),
        "features_digest": array_digest(features),
        "dimensions": list(place.dimensions),
        "extent": list(place.extent),
        "stride": list(place.stride),
        "encoder": given.encoder or found.encoder or UNKNOWN,
        "weights_hash": found.weights_hash or UNKNOWN,
        "dtype": str(found.features.dtype),
        "batch_size": BATCH,
        "stage_version": STAGE_VERSION,
    }


def _receipts(
    row: SlideRow, place: Placed, ground: Ground, deciding: dict[str, object], features: NDArray[np.float16]
) -> tuple[dict[str, Any], dict[str, object]]:
    """What `tile` and `extract` would say."""
    n = len(features)
    verdict = {"status": Status.OK if n else Status.EMPTY, "reason": "" if n else "the imported file holds no tiles"}
    outline = place.outline
    share = outline.area / math.prod(place.dimensions)
    warnings = list(place.warnings)
    tiling = {"mpp": place.true_mpp, "tile_px": place.tile_px, "overlap": place.overlap}
    tiles: dict[str, Any] = {
        **ground.about,
        **verdict,
        "slide_id": row.slide_id,
        "warnings": warnings,
        "dimensions": list(place.dimensions),
        "mpp": [place.slide_mpp.x, place.slide_mpp.y],
        "mpp_source": place.mpp_source,
        "slide_hash": deciding["slide_hash"],
        "tissue_area_um2": outline.area * place.slide_mpp.area_um2,
        "tissue_share": share,
        "n_tiles": n,
        "tile_px_level0": list(place.tile_px_level0),
        "coords_digest": deciding["coords_digest"],
        "settings": {"tiling": tiling},
        "stage_version": STAGE_VERSION,
        "imported": {"layout": deciding["layout"], "extent": list(place.extent), "stride": list(place.stride)},
    }
    attributes = {"slide_id": row.slide_id, **deciding, "fingerprint": fingerprint(deciding)}
    digest = features_digest(features, np.ones(n, bool), BATCH)
    counts = {"n_tiles": n, "n_corrupt": 0, "dim": features.shape[1], "digest": digest}
    return tiles, {**attributes, **verdict, **counts, "warnings": warnings}


def _write(
    results: Path,
    entry: str,
    slide_id: str,
    tiles: dict[str, Any],
    content: dict[str, object],
    made: tuple[Placed, Ground, NDArray[np.float16]],
) -> bool:
    """Write stores, then receipts, the one of the features last; nothing where all of it is there. Whether anything was."""
    place, ground, features = made
    tile_receipt, receipt = (results / stage / entry / f"{slide_id}.json" for stage in ("tiles", "features"))
    attributes = {key: value for key, value in content.items() if key not in NOT_STORED}
    with FeatureStore(store_path(receipt), coords=place.coords, batch_size=BATCH, attributes=attributes) as store:
        exists = store.is_complete or not len(features)
        if exists and _says(tile_receipt, tiles) and _says(receipt, content) and store_path(tile_receipt).is_dir():
            return False
        receipt.unlink(missing_ok=True)
        _write_tiles(tile_receipt, tiles, place, ground)
        if len(features):
            store.begin(features.shape[1])
            while not store.is_complete:
                rows = slice(store.rows_done, store.rows_done + store.shard_rows)
                part = features[rows]
                store.append_shard(part, np.ones(len(part), bool))
        else:
            remove_store(store_path(receipt))
        write_receipt(receipt, content)
    return True


def _write_tiles(receipt: Path, content: dict[str, Any], place: Placed, ground: Ground) -> None:
    fraction = np.ones(len(place.coords), np.float32)
    grid = TileGrid(place.coords, fraction, place.tile_px, place.tile_px_level0)
    about = {"slide_id": content["slide_id"], "dimensions": content["dimensions"]}
    write_grid(store_path(receipt), grid, ground.thumbnail, about)
    write_text(receipt.with_suffix(".geojson"), tissue_geojson(place.outline, content["bounds"]))
    write_bytes(receipt.with_suffix(".png"), qc_picture(ground.thumbnail, place.outline, grid, place.dimensions))
    write_receipt(receipt, content)


def _says(receipt: Path, content: dict[str, Any]) -> bool:
    return receipt.is_file() and receipt.read_text(encoding="utf-8") == receipt_text(content)
