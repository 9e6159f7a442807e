"""Import a file of features: write the receipts and stores that `tile` and `extract` would have written."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import FeatureUnit
from wsi_mil.errors import FeatureFileError
from wsi_mil.files import write_bytes, write_text
from wsi_mil.interchange.layouts import read_file
from wsi_mil.interchange.scale import ImportOptions, TilePlacement, place_tiles, slide_mpp_of
from wsi_mil.interchange.slide_preview import SlidePreview, plain_preview, slide_metadata_of
from wsi_mil.interchange.sources import FeatureSource
from wsi_mil.interchange.tile_features import AS_VECTORS, TileFeatures
from wsi_mil.receipts import IMPORTED, array_digest, fingerprint, read_receipt, receipt_text, store_path, write_receipt
from wsi_mil.records import SlideRow, Status, TileGrid
from wsi_mil.results import Results
from wsi_mil.store import FeatureStore, features_digest, read_attributes, remove_store, write_grid
from wsi_mil.tile.stage import qc_image, tissue_geojson

log = logging.getLogger(__name__)

STAGE_VERSION = 1

NOT_STORED = ("status", "reason", "warnings", "n_tiles", "n_corrupt", "dim", "digest")
"""Keys of the receipt that are no attributes of the store."""

BATCH = 256
"""Rows per shard are a multiple of this."""

MAX_FLOAT16, MIN_NORMAL_FLOAT16 = float(np.finfo(np.float16).max), float(np.finfo(np.float16).tiny)
"""Largest float16 number, and the smallest with full precision."""


@dataclass(frozen=True)
class ImportResult:
    """Outcome of the import of one slide.

    Attributes:
        is_new: whether anything was written; the same content is not written again.
        rounded: largest relative error of a feature by rounding to float16; 0 if there is none.
        of: what a vector describes.
    """

    slide_id: str
    layout: str
    n_tiles: int
    dim: int
    is_new: bool
    rounded: float
    warnings: tuple[str, ...]
    of: FeatureUnit = "tile"

    @property
    def size(self) -> str:
        """Number of vectors and their length, in words."""
        return f"{self.n_tiles} tiles × {self.dim}" if self.of == "tile" else f"a vector of {self.dim}"


def import_slide(source: FeatureSource, results: Path, entry: str, options: ImportOptions, layout: str = "auto") -> ImportResult:
    """Import the features of a slide.

    Args:
        source: file of the features, and row of the sheet.
        results: folder of results.
        entry: encoder entry of the features.
        options: information that the files lack; overrides that of the files.
        layout: "auto" or one of `LAYOUTS`.

    Raises:
        FeatureFileError: the file cannot be imported, or would replace tiles or features computed here; nothing is written.
    """
    row = source.row
    require_no_own_results(results, entry, row.slide_id, of="tile")
    name, tile_features = read_file(source.path, layout)
    tile_features = _with_coords(source, tile_features)
    features, rounded_by = float16(source.path, tile_features.features)
    slide = slide_metadata_of(row, slide_mpp_of(tile_features, options, row.mpp))
    place = place_tiles(source.path, tile_features, options, slide.mpp, slide.dimensions)
    place = replace(place, warnings=(*slide.warnings, *place.warnings))
    _require_finite(source, tile_features.features, place.coords)
    preview = slide.preview or plain_preview(place, tile_features.scale.bounds)
    inputs = {
        **_feature_attributes(tile_features, features, place, options),
        "slide_hash": preview.slide_hash or f"features-{array_digest(features)}",
        "reader": preview.metadata["reader"],
        "layout": name,
    }
    tiles, content = _receipts(row, place, preview, inputs, features)
    is_new = _write(results, entry, row.slide_id, tiles, content, (place, preview, features))
    return ImportResult(row.slide_id, name, len(features), features.shape[1], is_new, rounded_by, tuple(tiles["warnings"]))


def require_no_own_results(results: Path, entry: str, slide_id: str, *, of: FeatureUnit) -> None:
    """Raise if a slide has tiles or features that were computed here, which may have taken days, or features of the other kind.

    Args:
        results: folder of results.
        entry: encoder entry of the import.
        slide_id: the slide.
        of: what is imported.

    Raises:
        FeatureFileError: there are such tiles or features.
    """
    for stage, import_key in (("tiles", IMPORTED), ("features", "layout")):
        receipt = results / stage / entry / f"{slide_id}.json"
        store = store_path(receipt)
        if receipt.is_file():
            path, content = receipt, read_receipt(receipt)
        elif stage == "features" and (store / "zarr.json").is_file():
            path, content = store, read_attributes(store)
        else:
            continue
        mend = "choose another name for the encoder entry, or delete it"
        if import_key not in content:
            raise FeatureFileError(path, f"was computed by a run in this results folder, not imported; {mend}")
        if stage == "features" and content.get("of", "tile") != of:
            raise FeatureFileError(path, f"has imported features of a {content.get('of', 'tile')}, not of a {of}; {mend}")


def _with_coords(source: FeatureSource, tile_features: TileFeatures) -> TileFeatures:
    """Features with coords and scale, from the file of coords if there is one."""
    if source.coords is not None:
        _, other = read_file(source.coords)
        if other.coords is None:
            raise FeatureFileError(source.coords, "has no coords")
        if tile_features.coords is None:
            tile_features = replace(tile_features, coords=other.coords, unit=other.unit)
        elif not np.array_equal(tile_features.coords, other.coords):
            raise FeatureFileError(source.coords, f"its coords differ from those of {source.path}, or are in another order")
        tile_features = replace(tile_features, scale=tile_features.scale.filled(other.scale))
    if tile_features.coords is None:
        reason = "has features without coords, so their place on the slide is unknown"
        raise FeatureFileError(source.path, f"{reason}; give the file or folder with the coords as --coords")
    if len(tile_features.coords) != len(tile_features.features):
        n, m = len(tile_features.features), len(tile_features.coords)
        fix = f"; {AS_VECTORS}" if n == 1 else ""
        raise FeatureFileError(source.path, f"has features of {n} tiles, but coords of {m}: they are not of the same tiles{fix}")
    return tile_features


def float16(path: Path, features: NDArray[Any]) -> tuple[NDArray[np.float16], float]:
    """Return the features of a file in float16, and the largest relative rounding error.

    Raises:
        FeatureFileError: there are none, or they are no floating-point numbers.
    """
    if not features.shape[1]:
        raise FeatureFileError(path, "has coords and no features; give it as --coords, together with files of features")
    if features.dtype.kind != "f":
        what = f"features are {features.dtype} of shape {features.shape}"
        raise FeatureFileError(path, f"{what}, expected floating-point numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        stored = features.astype(np.float16)
        parts = [slice(start, start + BATCH) for start in range(0, len(features), BATCH)]
        return stored, max((_relative_loss(stored[part], features[part]) for part in parts), default=0.0)


def _relative_loss(stored: NDArray[np.float16], features: NDArray[Any]) -> float:
    lost = np.abs(stored.astype(np.float64) - features) / np.maximum(np.abs(features), MIN_NORMAL_FLOAT16)
    return float(np.nan_to_num(lost, posinf=0.0).max(initial=0.0))


def _require_finite(source: FeatureSource, features: NDArray[Any], coords: NDArray[np.int64]) -> None:
    """Raise if a tile's features are not finite, or beyond the range of float16."""
    with np.errstate(invalid="ignore"):
        unfit = np.flatnonzero(~(np.abs(features) <= MAX_FLOAT16).all(axis=1))
    if len(unfit):
        first = int(unfit[0])
        x, y = coords[first]
        values = features[first]
        what = (
            "not finite"
            if not np.isfinite(values).all()
            else f"beyond the ±{MAX_FLOAT16:,.0f} of float16 ({np.abs(values).max():g})"
        )
        more = f", and of {len(unfit) - 1} more tiles" if len(unfit) > 1 else ""
        raise FeatureFileError(
            source.path,
            f"slide {source.row.slide_id}: features of tile {first} at ({x}, {y}) are {what}{more}; extract them again",
        )


def _feature_attributes(
    original: TileFeatures, features: NDArray[np.float16], place: TilePlacement, options: ImportOptions
) -> dict[str, object]:
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
        "encoder": options.encoder or original.encoder or IMPORTED,
        "weights_hash": original.weights_hash or IMPORTED,
        "dtype": str(original.features.dtype),
        "batch_size": BATCH,
        "stage_version": STAGE_VERSION,
    }


def _receipts(
    row: SlideRow, place: TilePlacement, preview: SlidePreview, inputs: dict[str, object], features: NDArray[np.float16]
) -> tuple[dict[str, Any], dict[str, object]]:
    """Receipts that `tile` and `extract` would have written."""
    n = len(features)
    verdict = {"status": Status.OK if n else Status.EMPTY, "reason": "" if n else "the imported file has no tiles"}
    outline = place.outline
    share = outline.area / math.prod(place.dimensions)
    warnings = list(place.warnings)
    tiling = {"mpp": place.true_mpp, "tile_px": place.tile_px, "overlap": place.overlap}
    tiles: dict[str, Any] = {
        **preview.metadata,
        **verdict,
        "slide_id": row.slide_id,
        "warnings": warnings,
        "dimensions": list(place.dimensions),
        "mpp": [place.slide_mpp.x, place.slide_mpp.y],
        "mpp_source": place.mpp_source,
        "slide_hash": inputs["slide_hash"],
        "tissue_area_um2": outline.area * place.slide_mpp.area_um2,
        "tissue_share": share,
        "n_tiles": n,
        "tile_px_level0": list(place.tile_px_level0),
        "coords_digest": inputs["coords_digest"],
        "settings": {"tiling": tiling},
        "stage_version": STAGE_VERSION,
        IMPORTED: {"layout": inputs["layout"], "extent": list(place.extent), "stride": list(place.stride)},
    }
    attributes = {"slide_id": row.slide_id, **inputs, "fingerprint": fingerprint(inputs)}
    digest = features_digest(features, np.ones(n, bool), BATCH)
    counts = {"n_tiles": n, "n_corrupt": 0, "dim": features.shape[1], "digest": digest}
    return tiles, {**attributes, **verdict, **counts, "warnings": warnings}


def _write(
    results: Path,
    entry: str,
    slide_id: str,
    tiles: dict[str, Any],
    content: dict[str, object],
    data: tuple[TilePlacement, SlidePreview, NDArray[np.float16]],
) -> bool:
    """Write stores, then receipts, that of the features last, unless all exists already; return whether anything was written."""
    place, preview, features = data
    layout = Results(results)
    tile_receipt, receipt = layout.tiles_receipt(entry, slide_id), layout.features_receipt(entry, slide_id)
    is_tiled = _has_content(tile_receipt, tiles) and store_path(tile_receipt).is_dir()

    def write_tiles() -> None:
        _write_tiles(tile_receipt, tiles, place, preview)

    return write_features(receipt, content, place.coords, features, before=None if is_tiled else write_tiles)


def write_features(
    receipt: Path,
    content: dict[str, object],
    coords: NDArray[np.int64],
    features: NDArray[np.float16],
    *,
    before: Callable[[], None] | None = None,
) -> bool:
    """Write a store of features, then its receipt, unless all exists already; return whether anything was written.

    Args:
        receipt: the receipt; its store is written beside it.
        content: of the receipt; all but `NOT_STORED` are attributes of the store.
        coords: int64 `(n, 2)`.
        features: `(n, d)`.
        before: writes what else is missing, before the store and while no receipt exists.
    """
    attributes = {key: value for key, value in content.items() if key not in NOT_STORED}
    with FeatureStore(store_path(receipt), coords=coords, batch_size=BATCH, attributes=attributes) as store:
        exists = store.is_complete or not len(features)
        if exists and before is None and _has_content(receipt, content):
            return False
        receipt.unlink(missing_ok=True)
        if before is not None:
            before()
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


def _write_tiles(receipt: Path, content: dict[str, Any], place: TilePlacement, preview: SlidePreview) -> None:
    fraction = np.ones(len(place.coords), np.float32)
    grid = TileGrid(place.coords, fraction, place.tile_px, place.tile_px_level0)
    attributes = {"slide_id": content["slide_id"], "dimensions": content["dimensions"]}
    write_grid(store_path(receipt), grid, preview.thumbnail, attributes)
    write_text(receipt.with_suffix(".geojson"), tissue_geojson(place.outline, content["bounds"]))
    write_bytes(receipt.with_suffix(".png"), qc_image(preview.thumbnail, place.outline, grid, place.dimensions))
    write_receipt(receipt, content)


def _has_content(receipt: Path, content: dict[str, Any]) -> bool:
    return receipt.is_file() and receipt.read_text(encoding="utf-8") == receipt_text(content)
