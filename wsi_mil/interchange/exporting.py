"""Our feature stores → files of other tools."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_mil.errors import FeatureFileError, StoreError
from wsi_mil.geometry import Mpp
from wsi_mil.interchange.layouts import WRITERS
from wsi_mil.interchange.tile_features import Scale, TileFeatures
from wsi_mil.receipts import extent_and_stride, read_receipt, store_path
from wsi_mil.records import Status
from wsi_mil.store import read_attributes, read_bag


@dataclass(frozen=True)
class Exported:
    """What became of a slide.

    Attributes:
        files: that were written.
        reason: why there are none.
        is_fault: whether there should have been.
    """

    slide_id: str
    files: tuple[Path, ...] = ()
    n_tiles: int = 0
    reason: str = ""
    is_fault: bool = False


def export_features(features: Path, layout: str, out: Path, slides: Iterable[str] = ()) -> Iterator[Exported]:
    """Write the valid tiles of each slide as another tool would have written them.

    Args:
        features: folder of an encoder entry, `results/features/{entry}`.
        layout: one of `LAYOUTS`.
        out: folder to write into.
        slides: those that are wanted; none: all that have a receipt or a store.

    Yields:
        What became of each slide.
    """
    names = set(slides) or {p.stem for p in features.glob("*.json")} | {p.stem for p in features.glob("*.zarr")}
    if not names:
        raise FeatureFileError(features, "has no features; give a folder of results and the name of an encoder entry")
    for slide_id in sorted(names):
        try:
            yield _export(features / f"{slide_id}.json", layout, out)
        except StoreError as error:
            yield Exported(slide_id, reason=str(error), is_fault=True)


def _export(receipt: Path, layout: str, out: Path) -> Exported:
    slide_id, store = receipt.stem, store_path(receipt)
    if not receipt.is_file():
        what = "a store without its receipt: not finished" if store.is_dir() else "no features"
        return Exported(slide_id, reason=f"{what}; run `extract` for it", is_fault=True)
    said = read_receipt(receipt)
    if said["status"] != Status.OK:
        return Exported(slide_id, reason=f"{said['status']}: {said['reason']}")
    bag, attributes = read_bag(receipt), read_attributes(store)
    if attributes["fingerprint"] != said["fingerprint"]:
        return Exported(slide_id, reason="store and receipt differ: not finished; run `extract` for it", is_fault=True)
    found = TileFeatures(
        bag.features,
        bag.coords,
        scale=_scale(attributes, _tiled(receipt, attributes)),
        encoder=str(attributes["encoder"]),
        weights_hash=str(attributes["weights_hash"]),
    )
    return Exported(slide_id, tuple(WRITERS[layout](out, slide_id, found)), len(bag.coords))


def _tiled(receipt: Path, attributes: dict[str, Any]) -> dict[str, Any]:
    """What the receipt says of the tiles that the features are of; nothing where it is gone."""
    tiles = receipt.parent.parent.parent / "tiles"
    for path in sorted(tiles.glob(f"*/{receipt.name}")):
        said = read_receipt(path)
        if all(said.get(key) == attributes[key] for key in ("coords_digest", "slide_hash", "tile_px_level0")):
            return said
    return {}


def _scale(attributes: dict[str, Any], tiled: dict[str, Any]) -> Scale:
    (width, height), (x, y) = attributes["tile_px_level0"], attributes["slide_mpp"]
    known = Scale(tile_px_level0=(width, height), tile_px=attributes["tile_px"], mpp=attributes["mpp"], slide_mpp=Mpp(x, y))
    if not tiled:
        return known
    extent, stride = extent_and_stride(tiled)
    bounds = tiled["bounds"]
    about = Scale(dimensions=tuple(tiled["dimensions"]), bounds=bounds and tuple(bounds), extent=extent, stride=stride)
    return known.filled(about)
