"""Slides with their scores, and what is known to be true of their tiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.annotations import NOTHING, Annotation, Frame, lesion_hits, overlap_fractions, read_annotation
from wsi_mil.config import Truth
from wsi_mil.errors import AnnotationError
from wsi_mil.evaluate.localisation import Floats, TileTruth, neighbours, never_hot
from wsi_mil.receipts import read_receipt, read_tile_receipt, store_path
from wsi_mil.records import Role, SlideRow
from wsi_mil.score_scaling import meaning_of, weighed_scores
from wsi_mil.store import read_scores
from wsi_mil.tasks import Task


@dataclass(frozen=True)
class Sources:
    """Where the stage reads, and how.

    Attributes:
        scores: folder with the receipts of `explain`.
        tiles: folder with the receipts of `tile`.
        validation: folder with the receipts of `explain-validation`, fold by fold; None where there is none.
        task: what the models learned.
        truth: how annotations are read.
    """

    scores: Path
    tiles: Path
    validation: Path | None
    task: Task
    truth: Truth


@dataclass(frozen=True)
class Known:
    """What is true of a slide.

    Attributes:
        annotation: where its lesions are, none on a negative slide; None where that is not known.
        notes: what a reader should know about its annotation.
    """

    annotation: Annotation | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoredSlide:
    """A slide with the scores that its models gave it.

    Attributes:
        store: of its scores.
        receipt: what the scores are.
        is_of_its_class: whether they are evidence of the class that the slide is labelled with, or may hold lesions of.
        truth: of its tiles; None where it is not known.
    """

    row: SlideRow
    store: Path
    receipt: Mapping[str, Any]
    is_of_its_class: bool
    truth: TileTruth | None

    @property
    def is_held_out(self) -> bool:
        """Whether its models never saw it: neither fitted nor validated on it."""
        return _is_held_out(self.receipt)

    def scores(self, method: str) -> Floats:
        """A method's scores `(n,)` as they may be compared across slides; -inf where it shows nothing."""
        if method not in self.receipt["methods"] or not self.is_of_its_class:
            return np.full(self.receipt["n_instances"], -np.inf)
        _, values = read_scores(self.store, method)
        return never_hot(weighed_scores(values, meaning_of(self.receipt, method)))


def known_truth(row: SlideRow, sources: Sources) -> Known:
    """What is true of a labelled slide, as far as sheet and annotation tell.

    Of two classes a slide labelled with the first has no lesion, whatever is annotated; one labelled with the last has
    those that are annotated, and where none is, or the file cannot be used, its truth is not known: it must not count
    as a slide without a lesion. Of more classes each annotated slide has lesions of its own class, and nothing is
    known of the others, since none of the classes is said to be the healthy one.
    """
    is_negative = sources.task.lacks_evidence(row.label)
    otherwise = Annotation(NOTHING) if is_negative else None
    if row.annotation is None:
        return Known(otherwise)
    try:
        frame = Frame.of(read_tile_receipt(sources.tiles / f"{row.slide_id}.json"))
        found = read_annotation(row.annotation, sources.truth, frame)
    except AnnotationError as error:
        return Known(otherwise, (str(error),))
    notes = [f"annotation: {note}" for note in found.notes]
    if is_negative and not found.region.is_empty:
        notes.append(f"annotation: does not count on a slide labelled {row.label}")
    elif not is_negative and found.region.is_empty:
        notes.append(f"annotation: holds nothing that counts, so it is not known where {row.label} is")
    return Known(otherwise if is_negative or found.region.is_empty else found, tuple(notes))


def scored_slide(row: SlideRow, known: Known, store: Path, receipt: Mapping[str, Any], sources: Sources) -> ScoredSlide:
    """A slide's scores beside its truth; `store` and `receipt` are those of `explain` or `explain-validation`."""
    is_own = sources.task.may_show_evidence(row.label, receipt.get("target"))
    truth = None
    if known.annotation is not None and receipt["methods"]:
        truth = _tile_truth(known.annotation, store, receipt, sources.truth.overlap)
    return ScoredSlide(row, store, receipt, is_own, truth)


def read_scored(row: SlideRow, known: Known, sources: Sources) -> ScoredSlide:
    """What `explain` wrote about a slide, beside its truth where the slide was held out."""
    path = sources.scores / f"{row.slide_id}.json"
    receipt = read_receipt(path)
    return scored_slide(row, known if _is_held_out(receipt) else Known(None), store_path(path), receipt, sources)


def _is_held_out(receipt: Mapping[str, Any]) -> bool:
    return receipt["role"] in (Role.TEST, "", None)


def _tile_truth(annotation: Annotation, store: Path, receipt: Mapping[str, Any], overlap: float) -> TileTruth:
    """A tile is truly positive from that share of annotated area; every other is negative, those at the edge too."""
    coords, _ = read_scores(store, next(iter(receipt["methods"])))
    width, height = receipt["tile_px_level0"]
    box = (int(width), int(height))
    positive = overlap_fractions(annotation.region, coords, box=box) >= overlap
    hits = lesion_hits(annotation.lesions, coords, box=box)
    return TileTruth(coords, positive, len(annotation.lesions), hits, neighbours(coords, box=box))
