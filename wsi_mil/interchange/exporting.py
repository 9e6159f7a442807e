"""Export feature stores to files of other tools."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsi_mil.errors import FeatureFileError, StoreError
from wsi_mil.geometry import Mpp
from wsi_mil.interchange import h5ad, spatial_zarr
from wsi_mil.interchange.layouts import WRITERS
from wsi_mil.interchange.slide_tiles import (
    SlideTiles,
    TileScores,
    known_labels,
    require_scores,
    scores_of,
    tissue_fraction,
)
from wsi_mil.interchange.spatial_packages import require
from wsi_mil.interchange.tile_features import Scale, TileFeatures
from wsi_mil.receipts import TILE_IDENTITY, extent_and_stride, read_receipt, store_path
from wsi_mil.records import Status
from wsi_mil.store import FeatureRows, read_attributes, read_bag

TOGETHER = "cohort.h5ad"
"""Name of the file with the tiles of all slides."""


@dataclass(frozen=True)
class ExportResult:
    """Outcome of the export of one slide.

    Attributes:
        files: files that were written.
        reason: why no files were written, or "".
        is_fault: whether that is an error.
        warnings: what the files lack.
    """

    slide_id: str
    files: tuple[Path, ...] = ()
    n_tiles: int = 0
    reason: str = ""
    is_fault: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableOptions:
    """What tables of tiles have beside features.

    Attributes:
        scores: folder with the receipts of `explain` of a model, or None.
        together: one file for all slides.
        image: the thumbnail of each slide.
    """

    scores: Path | None = None
    together: bool = False
    image: bool = True


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

    def write(receipt: Path) -> ExportResult:
        bag = read_bag(receipt)
        attributes = read_attributes(store_path(receipt))
        tile_features = TileFeatures(
            bag.features,
            bag.coords,
            scale=_scale(attributes, _tiled_receipt(receipt, attributes)),
            encoder=str(attributes["encoder"]),
            weights_hash=str(attributes["weights_hash"]),
        )
        return ExportResult(receipt.stem, tuple(WRITERS[layout](out, receipt.stem, tile_features)), len(bag.coords))

    return _of_each(features, slides, write)


def export_tables(
    features: Path, layout: str, out: Path, options: TableOptions, slides: Iterable[str] = ()
) -> Iterator[ExportResult]:
    """Write the valid tiles of each slide as a table, with what else is known of them.

    Args:
        features: folder of an encoder entry, `results/features/{entry}`.
        layout: one of `TABLES`.
        out: folder to write into.
        options: what the tables have.
        slides: slides to export; empty: all that have a receipt or a store.

    Yields:
        The outcome of each slide.

    Raises:
        ConfigError: a package is not installed, or the folder of scores has none.
        FeatureFileError: there are no features.
    """
    packages = ("anndata", "h5py") if layout == h5ad.NAME else ("spatialdata",)
    require(*packages, needed_by=f"--layout {layout}")
    if options.scores is not None:
        require_scores(options.scores)
    labels = known_labels(features)
    kept: list[SlideTiles] = []

    def write(receipt: Path) -> ExportResult:
        slide = _slide_tiles(receipt, labels, options)
        done = ExportResult(slide.slide_id, n_tiles=len(slide.features), warnings=_warnings(slide))
        if options.together:
            if reason := kept and _difference(slide, kept[0]):
                return ExportResult(slide.slide_id, reason=reason, is_fault=True)
            kept.append(slide)
            return done
        if layout == h5ad.NAME:
            file = out / f"{slide.slide_id}.h5ad"
            h5ad.write_h5ad(file, [slide], image=options.image)
        else:
            file = out / f"{slide.slide_id}.zarr"
            spatial_zarr.write_spatialdata(file, slide, image=options.image)
        return replace(done, files=(file,))

    if not options.together:
        yield from _of_each(features, slides, write)
        return
    outcomes = list(_of_each(features, slides, write))
    if kept:
        h5ad.write_h5ad(out / TOGETHER, kept, image=options.image)
    yield from (done if done.reason else replace(done, files=(out / TOGETHER,)) for done in outcomes)


def _of_each(features: Path, slides: Iterable[str], write: Callable[[Path], ExportResult]) -> Iterator[ExportResult]:
    """Write slides that are finished; the outcome of each."""
    names = set(slides) or {p.stem for p in features.glob("*.json")} | {p.stem for p in features.glob("*.zarr")}
    if not names:
        raise FeatureFileError(features, "has no features; give a folder of results and the name of an encoder entry")
    for slide_id in sorted(names):
        receipt = features / f"{slide_id}.json"
        try:
            yield _unfinished(receipt) or write(receipt)
        except StoreError as error:
            yield ExportResult(slide_id, reason=str(error), is_fault=True)


def _unfinished(receipt: Path) -> ExportResult | None:
    """Why a slide has no features to export, or None. Raises StoreError if its store is not finished."""
    store = store_path(receipt)
    if not receipt.is_file():
        what = "its store has no receipt, so it is not finished" if store.is_dir() else "no features"
        return ExportResult(receipt.stem, reason=f"{what}; run `extract` for it", is_fault=True)
    extracted = read_receipt(receipt)
    if extracted["status"] != Status.OK:
        return ExportResult(receipt.stem, reason=f"{extracted['status']}: {extracted['reason']}")
    if extracted.get("of") == "slide":
        reason = "is a vector of the whole slide, and layouts have features of tiles; take the file that was imported"
        return ExportResult(receipt.stem, reason=reason, is_fault=True)
    FeatureRows(receipt)
    if read_attributes(store)["fingerprint"] != extracted["fingerprint"]:
        reason = "its store and receipt differ, so it is not finished; run `extract` for it"
        return ExportResult(receipt.stem, reason=reason, is_fault=True)
    return None


def _slide_tiles(receipt: Path, labels: dict[str, tuple[str, dict[str, str]]], options: TableOptions) -> SlideTiles:
    features, attributes = FeatureRows(receipt), read_attributes(store_path(receipt))
    tiled = _tiled_receipt(receipt, attributes)
    store = None if tiled is None else store_path(tiled)
    patient_id, own_labels = labels.get(receipt.stem, ("", {}))
    return SlideTiles(
        features,
        scale=_scale(attributes, tiled),
        encoder=str(attributes["encoder"]),
        weights_hash=str(attributes["weights_hash"]),
        tissue_fraction=tissue_fraction(features, store),
        scores=TileScores() if options.scores is None else scores_of(options.scores, features),
        patient_id=patient_id,
        labels=own_labels,
        tiled=store,
    )


def _warnings(slide: SlideTiles) -> tuple[str, ...]:
    """Columns of scores without values, those of the same reason in one sentence."""
    reasons: dict[str, list[str]] = {}
    for name, reason in slide.scores.empty.items():
        reasons.setdefault(reason, []).append(name)
    return tuple(f"{', '.join(names)}: no values ({reason})" for reason, names in reasons.items())


def _difference(slide: SlideTiles, first: SlideTiles) -> str:
    """Why the features of two slides cannot be in one table, or ""."""
    own, expected = ((s.encoder, s.weights_hash, s.features.dim, s.scale.mpp, s.scale.tile_px) for s in (slide, first))
    if own == expected:
        return ""
    values = [f"encoder {encoder}, {dim} features, {px} px at {mpp} µm" for encoder, _, dim, mpp, px in (own, expected)]
    weights = " (other weights)" if values[0] == values[1] else ""
    return f"expected features as of {first.slide_id} ({values[1]}), found {values[0]}{weights}; run `extract` for it"


def _tiled_receipt(receipt: Path, attributes: dict[str, Any]) -> Path | None:
    """Receipt of `tile` for the tiles of the features; None if it does not exist."""
    tiles = receipt.parent.parent.parent / "tiles"
    for path in sorted(tiles.glob(f"*/{receipt.name}")):
        tiled = read_receipt(path)
        if all(tiled.get(key) == attributes[key] for key in (*TILE_IDENTITY, "tile_px_level0")):
            return path
    return None


def _scale(attributes: dict[str, Any], receipt: Path | None) -> Scale:
    """Size and place of the tiles; the slide's size and the grid from the receipt of `tile` if there is one."""
    (width, height), (x, y) = attributes["tile_px_level0"], attributes["slide_mpp"]
    scale = Scale(tile_px_level0=(width, height), tile_px=attributes["tile_px"], mpp=attributes["mpp"], slide_mpp=Mpp(x, y))
    if receipt is None:
        return scale
    tiled = read_receipt(receipt)
    extent, stride = extent_and_stride(tiled)
    bounds = tiled["bounds"]
    geometry = Scale(dimensions=tuple(tiled["dimensions"]), bounds=bounds and tuple(bounds), extent=extent, stride=stride)
    return scale.filled(geometry)
