"""Slides with their scores, and the ground truth of their tiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.annotations import NOTHING, Annotation, Frame, lesion_hits, overlap_fractions, read_annotation
from wsi_mil.config import Truth
from wsi_mil.errors import AnnotationError
from wsi_mil.evaluate.localisation import Floats, TileTruth, nan_to_neg_inf, neighbours
from wsi_mil.receipts import read_receipt, read_tile_receipt, store_path
from wsi_mil.records import Role, SlideRow
from wsi_mil.score_scaling import probability_weighted, score_context
from wsi_mil.store import read_scores
from wsi_mil.tasks import Task
from wsi_mil.trust import UNTESTED, Trust


@dataclass(frozen=True)
class Sources:
    """Input of the stage.

    Attributes:
        scores: folder with the receipts of `explain`.
        tiles: folder with the receipts of `tile`.
        validation: folder with the receipts of `explain-validation` of each fold, or None.
        task: task of the models.
        truth: settings of `truth`.
        trust: what is known of the methods from validation slides.
    """

    scores: Path
    tiles: Path
    validation: Path | None
    task: Task
    truth: Truth
    trust: Trust = UNTESTED


@dataclass(frozen=True)
class SlideTruth:
    """Ground truth of a slide.

    Attributes:
        annotation: its lesions, none on a negative slide; None if they are unknown.
        notes: warnings about its annotation.
    """

    annotation: Annotation | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoredSlide:
    """A slide with its scores and the ground truth of its tiles.

    Attributes:
        row: the slide.
        store: store of its scores.
        receipt: receipt of its scores.
        is_of_its_class: whether the class shown is that of the slide's label, or one whose lesions it can have.
        truth: ground truth of its tiles; None if unknown.
    """

    row: SlideRow
    store: Path
    receipt: Mapping[str, Any]
    is_of_its_class: bool
    truth: TileTruth | None

    @property
    def is_held_out(self) -> bool:
        """Whether its models were neither fitted nor validated on it."""
        return _is_held_out(self.receipt)

    def scores(self, method: str) -> Floats:
        """Return a method's scores `(n,)`, weighted by the predicted probability; -inf where the method shows nothing."""
        if method not in self.receipt["methods"] or not self.is_of_its_class:
            return np.full(self.receipt["n_instances"], -np.inf)
        _, values = read_scores(self.store, method)
        return nan_to_neg_inf(probability_weighted(values, score_context(self.receipt, method)))


def slide_truth(row: SlideRow, sources: Sources) -> SlideTruth:
    """Return the ground truth of a labelled slide from its label and annotation.

    With two classes, a slide labelled with the first class has no lesion, whatever is annotated. A slide labelled with the
    last class has the annotated lesions; without an annotation that can be used, its truth is unknown, and it must not
    count as a slide without lesions. With more classes, each annotated slide has lesions of its own class; other slides
    are unknown, since no class is known to be the healthy one. Of several labels, a slide without any has no lesion; of numbers
    and follow-up, only annotated slides are known.
    """
    is_negative = sources.task.lacks_evidence(row.label)
    default = Annotation(NOTHING) if is_negative else None
    if row.annotation is None:
        return SlideTruth(default)
    try:
        frame = Frame.of(read_tile_receipt(sources.tiles / f"{row.slide_id}.json"))
        annotation = read_annotation(row.annotation, sources.truth, frame)
    except AnnotationError as error:
        return SlideTruth(default, (str(error),))
    notes = [f"annotation: {note}" for note in annotation.notes]
    if is_negative and not annotation.region.is_empty:
        notes.append(f"annotation: ignored on a slide labelled {sources.task.label_words(row.label)}")
    elif not is_negative and annotation.region.is_empty:
        notes.append("annotation: contains no region to count, so what it shows is unknown")
    return SlideTruth(default if is_negative or annotation.region.is_empty else annotation, tuple(notes))


def scored_slide(
    row: SlideRow, slide_truth: SlideTruth, store: Path, receipt: Mapping[str, Any], sources: Sources
) -> ScoredSlide:
    """Return a slide with its scores and ground truth; `store` and `receipt` are from `explain` or `explain-validation`."""
    output = receipt.get("output")
    is_of_its_class = sources.task.may_show_evidence(row.label, output)
    is_known = output is None or sources.task.is_known(row.label, output)
    truth = None
    if slide_truth.annotation is not None and receipt["methods"] and is_known:
        truth = _tile_truth(slide_truth.annotation, store, receipt, sources.truth.overlap)
    return ScoredSlide(row, store, receipt, is_of_its_class, truth)


def read_scored_slide(row: SlideRow, slide_truth: SlideTruth, sources: Sources) -> ScoredSlide:
    """Read the scores of a slide written by `explain`; its truth is unknown unless the slide was held out."""
    path = sources.scores / f"{row.slide_id}.json"
    receipt = read_receipt(path)
    usable_truth = slide_truth if _is_held_out(receipt) else SlideTruth(None)
    return scored_slide(row, usable_truth, store_path(path), receipt, sources)


def _is_held_out(receipt: Mapping[str, Any]) -> bool:
    return receipt["role"] in (Role.TEST, "", None)


def _tile_truth(annotation: Annotation, store: Path, receipt: Mapping[str, Any], overlap: float) -> TileTruth:
    """Ground truth of tiles: positive if at least the share `overlap` is annotated, else negative, at edges too."""
    coords, _ = read_scores(store, next(iter(receipt["methods"])))
    width, height = receipt["tile_px_level0"]
    box = (int(width), int(height))
    positive = overlap_fractions(annotation.region, coords, box=box) >= overlap
    hits = lesion_hits(annotation.lesions, coords, box=box)
    return TileTruth(coords, positive, len(annotation.lesions), hits, neighbours(coords, box=box))
