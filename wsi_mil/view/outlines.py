"""Outlines over the slide: what was annotated, and what was taken for tissue."""

from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.annotations import TISSUE_CLASS, Frame, read_annotation, simplified_rings
from wsi_mil.config import Truth
from wsi_mil.errors import AnnotationError, UnknownNameError
from wsi_mil.view.catalogue import Catalogue, tiled_or_nothing

KINDS = ("truth", "tissue")
MAX_POINTS = 200_000
"""Of all outlines of one kind; larger ones are drawn with fewer corners."""


def outlines(catalogue: Catalogue, slide_id: str, kind: str, tiling: str) -> dict[str, Any]:
    """Rings [[x, y, x, y, …], …] in level-0 pixels, and in words what there is to say of them.

    Raises:
        UnknownNameError: no such slide, kind or tiling.
    """
    receipts = catalogue.tiles_receipts(slide_id)
    if kind not in KINDS or tiling not in receipts:
        raise UnknownNameError(f"no outlines {kind} of {slide_id} in {tiling}")
    about = tiled_or_nothing(receipts[tiling])
    if "bounds" not in about or "dimensions" not in about:
        return {"rings": [], "note": f"the receipt of `tile` does not say where {slide_id} lies"}
    annotation = catalogue.row(slide_id).annotation
    if kind == "truth" and annotation is None:
        return {"rings": [], "note": "no annotation"}
    path = annotation if kind == "truth" and annotation else receipts[tiling].with_suffix(".geojson")
    if kind == "tissue" and not path.is_file():
        return {"rings": [], "note": "the outline of the tissue is gone; run `tile` again"}
    truth = catalogue.truth if kind == "truth" else Truth(include=(TISSUE_CLASS,), exclude=())
    return _read(path, truth, Frame.of(about))


def _read(path: Path, truth: Truth, frame: Frame) -> dict[str, Any]:
    try:
        found = read_annotation(path, truth, frame)
    except AnnotationError as error:
        return {"rings": [], "note": str(error)}
    points = [np.rint(ring).astype(int).ravel().tolist() for ring in simplified_rings(found.region, MAX_POINTS)]
    return {"rings": points, "note": "; ".join(found.notes)}
