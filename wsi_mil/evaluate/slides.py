"""Slides with their scores, and the ground truth of their tiles."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.annotations import NOTHING, Annotation, Frame, lesion_hits, overlap_fractions, read_annotation
from wsi_mil.config import Truth, method_of
from wsi_mil.errors import AnnotationError
from wsi_mil.evaluate.localisation import Floats, TileTruth, nan_to_neg_inf, neighbours
from wsi_mil.receipts import read_receipt, read_tile_receipt, store_path
from wsi_mil.records import Role, SlideRow
from wsi_mil.score_scaling import probability_weighted, score_context
from wsi_mil.store import read_scores
from wsi_mil.tasks import Task


@dataclass(frozen=True)
class Sources:
    """Input of the stage.

    Attributes:
        scores: folder with the receipts of `explain`.
        tiles: folder with the receipts of `tile`.
        validation: folder with the receipts of `explain-validation` of each fold, or None.
        task: task of the models.
        truth: settings of `truth`.
    """

    scores: Path
    tiles: Path
    validation: Path | None
    task: Task
    truth: Truth


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
    """A slide with its scores for one output and the ground truth of its tiles.

    Attributes:
        row: the slide.
        store: store of its scores.
        receipt: receipt of its scores.
        names: names of its scores for the output by method; {} where they must not be compared with what is annotated.
        truth: ground truth of its tiles; None if unknown.
    """

    row: SlideRow
    store: Path
    receipt: Mapping[str, Any]
    names: Mapping[str, str]
    truth: TileTruth | None

    @property
    def is_held_out(self) -> bool:
        """Whether its models were neither fitted nor validated on it."""
        return _is_held_out(self.receipt)

    def scores(self, method: str) -> Floats:
        """Return a method's scores `(n,)`, weighted by the predicted probability; -inf where the method shows nothing."""
        if method not in self.names:
            return np.full(self.receipt["n_instances"], -np.inf)
        name = self.names[method]
        _, values = read_scores(self.store, name)
        return nan_to_neg_inf(probability_weighted(values, score_context(self.receipt, name)))


class Truths:
    """Ground truth of slides for each output, each annotation read once for the same annotation classes.

    Attributes:
        rows: labelled slides by slide_id.
    """

    def __init__(self, rows: Iterable[SlideRow], sources: Sources):
        self.rows = {row.slide_id: row for row in sorted(rows, key=lambda row: row.slide_id)}
        self._sources, self._known = sources, dict[tuple[str, str], SlideTruth]()

    def of(self, slide_id: str, output: str = "") -> SlideTruth:
        """Return the ground truth of a slide for scores of an output, see `slide_truth`."""
        key = slide_id, output if output in self._sources.truth.tied else ""
        if key not in self._known:
            self._known[key] = slide_truth(self.rows[slide_id], self._sources, key[1])
        return self._known[key]

    @property
    def notes(self) -> dict[str, tuple[str, ...]]:
        """Warnings about annotations that were read, by slide_id."""
        notes: dict[str, dict[str, None]] = {}
        for (slide_id, _), truth in sorted(self._known.items()):
            notes.setdefault(slide_id, {}).update(dict.fromkeys(truth.notes))
        return {slide_id: tuple(own) for slide_id, own in notes.items() if own}


def slide_truth(row: SlideRow, sources: Sources, output: str = "") -> SlideTruth:
    """Return the ground truth of a labelled slide for scores of an output, from its label and annotation.

    With two classes, a slide labelled with the first class has no lesion, whatever is annotated, and with more classes one of
    `truth.healthy`. Any other slide has the annotated lesions; without an annotation that can be used, its truth is unknown, and
    it must not count as a slide without lesions. Of several labels, a slide without any has no lesion; of numbers and follow-up,
    only annotated slides are known. Where `truth.classes` names the annotation classes of the output, only these are its
    lesions, and an annotated slide of another class that has none of them has no lesion of this output.
    """
    task, truth = sources.task, sources.truth
    is_own = output not in task.explainable or task.is_of(row.label, task.explainable.index(output))
    is_tied = output in truth.tied
    is_negative = task.lacks_evidence(row.label, truth.healthy) and not (is_tied and is_own)
    default = Annotation(NOTHING) if is_negative else None
    if row.annotation is None:
        return SlideTruth(default)
    try:
        frame = Frame.of(read_tile_receipt(sources.tiles / f"{row.slide_id}.json"))
        annotation = read_annotation(row.annotation, truth, frame, output=output)
    except AnnotationError as error:
        return SlideTruth(default, (str(error),))
    notes = [f"annotation: {note}" for note in annotation.notes]
    if is_negative:
        notes += [] if annotation.region.is_empty else [_ignored(row, sources)]
        return SlideTruth(default, tuple(notes))
    if annotation.region.is_empty and not (is_tied and not is_own):
        what = f"no region of {output}" if is_tied else "no region to count"
        return SlideTruth(None, (*notes, f"annotation: contains {what}, so what it shows is unknown"))
    return SlideTruth(annotation, tuple(notes))


def _ignored(row: SlideRow, sources: Sources) -> str:
    return f"annotation: ignored on a slide labelled {sources.task.label_words(row.label)}"


@dataclass(frozen=True)
class Reading:
    """Reads scored slides for one output.

    Attributes:
        sources: input of the stage.
        truths: ground truth of the labelled slides.
        output: index of the output; None: of each slide the one that its first scores are for, mostly the predicted one.
    """

    sources: Sources
    truths: Truths
    output: int | None = None

    def held_out(self) -> list[ScoredSlide]:
        """Return the labelled slides that the models were neither fitted nor validated on."""
        stores = {slide_id: self.sources.scores / f"{slide_id}.json" for slide_id in self.truths.rows}
        slides = (self.slide(slide_id, store_path(path), read_receipt(path)) for slide_id, path in stores.items())
        return [slide for slide in slides if slide.is_held_out]

    def slide(self, slide_id: str, store: Path, receipt: Mapping[str, Any]) -> ScoredSlide:
        """Return a slide; `store` and `receipt` are from `explain` or `explain-validation`."""
        row = self.truths.rows[slide_id]
        names, annotation = self._first(row, receipt) if self.output is None else self._of(self.output, row, receipt)
        if annotation is None or not receipt["methods"]:
            return ScoredSlide(row, store, receipt, names, None)
        return ScoredSlide(row, store, receipt, names, _tile_truth(annotation, store, receipt, self.sources.truth.overlap))

    def _first(self, row: SlideRow, receipt: Mapping[str, Any]) -> tuple[dict[str, str], Annotation | None]:
        """Names and truth of a slide's first scores.

        Where the prediction is wrong, nothing that is annotated can be found: scores count as none. Where another output was
        asked for than the predicted one, the truth is unknown, unless the output is that of the slide.
        """
        task, output = self.sources.task, receipt.get("output")
        names = {name: name for name in receipt["methods"] if name == method_of(name)}
        if output is None or not task.is_known(row.label, output):
            return names, None
        is_shown = self._is_healthy(row) or task.is_of(row.label, output)
        if not is_shown and output not in receipt.get("asked_by_prediction", [output]):
            return {}, None
        if is_shown or row.label not in task.explainable:
            return names if is_shown else {}, self.truths.of(row.slide_id, task.output_name(output)).annotation
        return {}, self.truths.of(row.slide_id, row.label).annotation

    def _of(self, output: int, row: SlideRow, receipt: Mapping[str, Any]) -> tuple[dict[str, str], Annotation | None]:
        """Names and truth of a slide's scores for an output, whatever the slide is predicted as.

        The truth is known where there is nothing to find, where the output is true of the slide, and where `truth.classes` names
        its annotation classes; of several labels, a slide that is known to be negative has no evidence of the label.
        """
        task = self.sources.task
        name = task.output_name(output)
        names = {method_of(n): n for n, entry in receipt["methods"].items() if entry["output"] == output}
        if not names or not task.is_known(row.label, output):
            return names, None
        if self._is_healthy(row) or task.is_of(row.label, output) or name in self.sources.truth.tied:
            return names, self.truths.of(row.slide_id, name).annotation
        return names, Annotation(NOTHING) if task.is_independent else None

    def _is_healthy(self, row: SlideRow) -> bool:
        return self.sources.task.lacks_evidence(row.label, self.sources.truth.healthy)


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
