"""Outlines of annotations and tissue, drawn over the slide."""

from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.annotations import TISSUE_CLASS, Frame, read_annotation, simplified_rings
from wsi_mil.config import Truth
from wsi_mil.errors import AnnotationError, UnknownNameError
from wsi_mil.view.catalogue import Catalogue, tile_receipt_or_empty

KINDS = ("truth", "tissue")
MAX_POINTS = 200_000
"""Upper bound on the points of all outlines of one kind; larger ones are simplified."""


def outlines(catalogue: Catalogue, slide_id: str, kind: str, tiling: str) -> dict[str, Any]:
    """Return rings [[x, y, x, y, …], …] in level-0 pixels, and a note about them.

    Raises:
        UnknownNameError: there is no such slide, kind or tiling.
    """
    receipts = catalogue.tiles_receipts(slide_id)
    if kind not in KINDS or tiling not in receipts:
        raise UnknownNameError(f"no outlines {kind} of {slide_id} in {tiling}")
    receipt = tile_receipt_or_empty(receipts[tiling])
    if "bounds" not in receipt or "dimensions" not in receipt:
        return {"rings": [], "note": f"the receipt of `tile` has no dimensions or bounds of {slide_id}; run `tile` again"}
    annotation = catalogue.row(slide_id).annotation
    if kind == "truth" and annotation is None:
        return {"rings": [], "note": "no annotation"}
    path = annotation if kind == "truth" and annotation else receipts[tiling].with_suffix(".geojson")
    if kind == "tissue" and not path.is_file():
        return {"rings": [], "note": "the tissue outline is missing; run `tile` again"}
    truth = catalogue.truth if kind == "truth" else Truth(include=(TISSUE_CLASS,), exclude=())
    return _read(path, truth, Frame.of(receipt))


def _read(path: Path, truth: Truth, frame: Frame) -> dict[str, Any]:
    try:
        annotation = read_annotation(path, truth, frame)
    except AnnotationError as error:
        return {"rings": [], "note": str(error)}
    points = [np.rint(ring).astype(int).ravel().tolist() for ring in simplified_rings(annotation.region, MAX_POINTS)]
    return {"rings": points, "note": "; ".join(annotation.notes)}
