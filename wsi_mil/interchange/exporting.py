"""Export feature stores to files of other tools."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_mil.errors import FeatureFileError, StoreError
from wsi_mil.geometry import Mpp
from wsi_mil.interchange.layouts import WRITERS
from wsi_mil.interchange.tile_features import Scale, TileFeatures
from wsi_mil.receipts import TILE_IDENTITY, extent_and_stride, read_receipt, store_path
from wsi_mil.records import Status
from wsi_mil.store import read_attributes, read_bag


@dataclass(frozen=True)
class ExportResult:
    """Outcome of the export of one slide.

    Attributes:
        files: files that were written.
        reason: why no files were written, or "".
        is_fault: whether that is an error.
    """

    slide_id: str
    files: tuple[Path, ...] = ()
    n_tiles: int = 0
    reason: str = ""
    is_fault: bool = False


def export_features(features: Path, layout: str, out: Path, slides: Iterable[str] = ()) -> Iterator[ExportResult]:
    """Write the valid tiles of each slide in the layout of another tool.

    Args:
        features: folder of an encoder entry, `results/features/{entry}`.
        layout: one of `LAYOUTS`.
        out: folder to write into.
        slides: slides to export; empty: all that have a receipt or a store.

    Yields:
        The outcome of each slide.
    """
    names = set(slides) or {p.stem for p in features.glob("*.json")} | {p.stem for p in features.glob("*.zarr")}
    if not names:
        raise FeatureFileError(features, "has no features; give a folder of results and the name of an encoder entry")
    for slide_id in sorted(names):
        try:
            yield _export(features / f"{slide_id}.json", layout, out)
        except StoreError as error:
            yield ExportResult(slide_id, reason=str(error), is_fault=True)


def _export(receipt: Path, layout: str, out: Path) -> ExportResult:
    slide_id = receipt.stem
    store = store_path(receipt)
    if not receipt.is_file():
        what = "its store has no receipt, so it is not finished" if store.is_dir() else "no features"
        return ExportResult(slide_id, reason=f"{what}; run `extract` for it", is_fault=True)
    extracted = read_receipt(receipt)
    if extracted["status"] != Status.OK:
        return ExportResult(slide_id, reason=f"{extracted['status']}: {extracted['reason']}")
    bag = read_bag(receipt)
    attributes = read_attributes(store)
    if attributes["fingerprint"] != extracted["fingerprint"]:
        reason = "its store and receipt differ, so it is not finished; run `extract` for it"
        return ExportResult(slide_id, reason=reason, is_fault=True)
    tile_features = TileFeatures(
        bag.features,
        bag.coords,
        scale=_scale(attributes, _tiled(receipt, attributes)),
        encoder=str(attributes["encoder"]),
        weights_hash=str(attributes["weights_hash"]),
    )
    return ExportResult(slide_id, tuple(WRITERS[layout](out, slide_id, tile_features)), len(bag.coords))


def _tiled(receipt: Path, attributes: dict[str, Any]) -> dict[str, Any]:
    """Receipt of `tile` for the tiles of the features; empty if it does not exist."""
    tiles = receipt.parent.parent.parent / "tiles"
    for path in sorted(tiles.glob(f"*/{receipt.name}")):
        tiled = read_receipt(path)
        if all(tiled.get(key) == attributes[key] for key in (*TILE_IDENTITY, "tile_px_level0")):
            return tiled
    return {}


def _scale(attributes: dict[str, Any], tiled: dict[str, Any]) -> Scale:
    (width, height), (x, y) = attributes["tile_px_level0"], attributes["slide_mpp"]
    scale = Scale(tile_px_level0=(width, height), tile_px=attributes["tile_px"], mpp=attributes["mpp"], slide_mpp=Mpp(x, y))
    if not tiled:
        return scale
    extent, stride = extent_and_stride(tiled)
    bounds = tiled["bounds"]
    geometry = Scale(dimensions=tuple(tiled["dimensions"]), bounds=bounds and tuple(bounds), extent=extent, stride=stride)
    return scale.filled(geometry)
