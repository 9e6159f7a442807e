"""How well each method's scores find the annotated truth."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_mil.annotations import overlap_fractions, read_annotation
from wsi_mil.errors import AnnotationError
from wsi_mil.metrics import auroc
from wsi_mil.records import SlideRow
from wsi_mil.store import read_receipt, read_scores, store_path

CHANCE = 0.5
"""Tile AUROC counted for a positive slide whose scores a method refuses: it finds nothing there."""


@dataclass(frozen=True)
class SlideTruth:
    """A method against the truth on one slide.

    Attributes:
        auroc: of tiles, or `CHANCE` where the method shows nothing.
        shown: whether it shows anything.
        n_true: tiles that are truly positive.
    """

    slide_id: str
    method: str
    auroc: float
    shown: bool
    n_true: int


def damaged_annotations(rows: Iterable[SlideRow]) -> dict[str, str]:
    """Why an annotation cannot be read, by slide_id."""
    found = {}
    for row in rows:
        if row.annotation is not None:
            try:
                read_annotation(row.annotation)
            except AnnotationError as error:
                found[row.slide_id] = str(error)
    return found


def slide_truths(row: SlideRow, scores_receipt: Path, methods: Iterable[str], *, overlap: float) -> list[SlideTruth]:
    """Each method of a slide against its annotation; nothing where no tile, or every tile, is truly positive.

    A tile is truly positive when at least `overlap` of its footprint is annotated; all others are negative, those
    that touch the annotation's edge too.
    """
    if row.annotation is None:
        return []
    try:
        region = read_annotation(row.annotation)
    except AnnotationError:
        return []
    found = []
    for method in methods:
        width, height = read_receipt(scores_receipt)["tile_px_level0"]
        coords, values = read_scores(store_path(scores_receipt), method)
        positive = overlap_fractions(region, coords, box=(width, height)) >= overlap
        if positive.any() and not positive.all():
            shown = bool(np.isfinite(values).all())
            area = auroc(positive.astype(np.int64), np.stack([-values, values], axis=1)) if shown else CHANCE
            found.append(SlideTruth(row.slide_id, method, area, shown, int(positive.sum())))
    return found
