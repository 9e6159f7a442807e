"""Import vectors of whole slides: write the receipts and stores of features that `extract` would have written, without tiles."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_mil.cohort import SLIDE_ID
from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange.importing import (
    BATCH,
    MAX_FLOAT16,
    ImportResult,
    float16,
    require_no_own_results,
    write_features,
)
from wsi_mil.interchange.slide_vectors import SlideVector
from wsi_mil.receipts import IMPORTED, array_digest, fingerprint, read_receipt
from wsi_mil.records import NO_PATH, SlideRow, Status
from wsi_mil.results import Results
from wsi_mil.store import features_digest

STAGE_VERSION = 1

NO_PLACE = np.zeros((1, 2), np.int64)
"""Coords of a vector that has no place on its slide."""


@dataclass(frozen=True)
class VectorSource:
    """A slide and its vector."""

    slide_id: str
    vector: SlideVector


def match_vectors(vectors: Mapping[str, SlideVector], rows: Iterable[SlideRow] | None) -> tuple[list[VectorSource], list[str]]:
    """Return the vector of each slide of the sheet, and notes on slides and vectors without a match.

    Args:
        vectors: by name: a slide_id, or the name of a slide file.
        rows: the sheet; None: every name is a slide_id.

    Raises:
        FeatureFileError: a name fits two slides, or without a sheet is no valid slide_id.
    """
    if rows is None:
        for name, vector in vectors.items():
            if not SLIDE_ID.fullmatch(name):
                raise FeatureFileError(vector.path, f"{name!r} is no valid slide_id; give the sheet (--slides), or rename it")
        return [VectorSource(name, vector) for name, vector in vectors.items()], []
    sources: dict[str, VectorSource] = {}
    notes = []
    for row in rows:
        name = next((name for name in _names(row) if name in vectors), "")
        if not name:
            notes.append(f"{row.slide_id}: no vector")
            continue
        source = sources.setdefault(name, VectorSource(row.slide_id, vectors[name]))
        if source.slide_id != row.slide_id:
            both = f"{source.slide_id} and {row.slide_id}"
            raise FeatureFileError(source.vector.path, f"{name} fits two slides of the sheet, {both}; name vectors by slide_id")
    notes += [f"{vector.path}, {name}: no slide of the sheet" for name, vector in vectors.items() if name not in sources]
    return list(sources.values()), notes


def _names(row: SlideRow) -> list[str]:
    file = Path(row.path)
    return [row.slide_id, file.name, file.stem] if row.path != NO_PATH else [row.slide_id]


def of_one_length(sources: Sequence[VectorSource], results: Path, entry: str) -> tuple[list[VectorSource], list[str]]:
    """Return the vectors that are as long as most of an entry, those imported before included, and faults of the others.

    Args:
        sources: vectors to import.
        results: folder of results.
        entry: encoder entry of the import.
    """
    replaced = {source.slide_id for source in sources}
    earlier = {path: read_receipt(path).get("dim") for path in sorted(Results(results).features(entry).glob("[!.]*.json"))}
    kept = [(str(path), dim) for path, dim in earlier.items() if dim and path.stem not in replaced]
    new = [(f"{source.vector.path} (slide {source.slide_id})", len(source.vector.values)) for source in sources]
    lengths = Counter(dim for _, dim in kept + new)
    usual = max(lengths, key=lambda dim: lengths[dim], default=0)
    example = next((name for name, dim in kept + new if dim == usual), "")
    faults = [
        f"{source.vector.path}: the vector of slide {source.slide_id} has {len(source.vector.values)} numbers, but that of"
        f" {example} has {usual}; give vectors of one encoder, and those of another under an entry of their own"
        for source in sources
        if len(source.vector.values) != usual
    ]
    return [source for source in sources if len(source.vector.values) == usual], faults


def import_vector(source: VectorSource, results: Path, entry: str, encoder: str = "") -> ImportResult:
    """Import the vector of a slide.

    Args:
        source: the slide and its vector.
        results: folder of results.
        entry: encoder entry of the vector.
        encoder: name of the encoder; "": that of the file.

    Raises:
        FeatureFileError: the vector is not finite, or would replace other features; nothing is written.
    """
    slide_id, vector = source.slide_id, source.vector
    require_no_own_results(results, entry, slide_id, of="slide")
    rows = vector.values[None]
    features, rounded_by = float16(vector.path, rows)
    _require_finite(source)
    inputs: dict[str, object] = {
        "of": "slide",
        "mpp": None,
        "tile_px": None,
        "coords_digest": array_digest(NO_PLACE),
        "features_digest": array_digest(features),
        "slide_hash": f"features-{array_digest(features)}",
        "encoder": encoder or vector.encoder or IMPORTED,
        "weights_hash": IMPORTED,
        "dtype": str(vector.values.dtype),
        "batch_size": BATCH,
        "stage_version": STAGE_VERSION,
        "layout": vector.layout,
    }
    attributes = {"slide_id": slide_id, **inputs, "fingerprint": fingerprint(inputs)}
    digest = features_digest(features, np.ones(1, bool), BATCH)
    counts = {"n_tiles": 1, "n_corrupt": 0, "dim": features.shape[1], "digest": digest}
    content = {**attributes, **counts, "status": Status.OK, "reason": "", "warnings": []}
    is_new = write_features(Results(results).features_receipt(entry, slide_id), content, NO_PLACE, features)
    return ImportResult(slide_id, vector.layout, 1, features.shape[1], is_new, rounded_by, (), of="slide")


def _require_finite(source: VectorSource) -> None:
    values = source.vector.values
    with np.errstate(invalid="ignore"):
        unfit = np.flatnonzero(~(np.abs(values) <= MAX_FLOAT16))
    if len(unfit):
        first = int(unfit[0])
        what = "not finite" if not np.isfinite(values[first]) else f"beyond the ±{MAX_FLOAT16:,.0f} of float16"
        where = f"slide {source.slide_id}: number {first + 1} of {len(values)} is {values[first]:g}, {what}"
        raise FeatureFileError(source.vector.path, f"{where}; compute the vector again, or remove the slide from the sheet")
