"""From which score on a tile is called hot, chosen on slides that no figure is made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_mil.evaluate.slides import Known, ScoredSlide, Sources, scored_slide
from wsi_mil.localisation import best_threshold
from wsi_mil.records import SlideRow
from wsi_mil.store import read_receipt


@dataclass(frozen=True)
class Thresholds:
    """By method and fold.

    Attributes:
        of_method: threshold of each fold, by method; empty where no fold has any.
        notes: which folds have none of their own, in words.
    """

    of_method: Mapping[str, Mapping[int, float]]
    notes: tuple[str, ...] = ()

    def of_slide(self, slide: ScoredSlide, method: str) -> float:
        """Mean over the folds whose models gave the slide its scores; NaN where there is none."""
        of_fold = self.of_method.get(method, {})
        known = [of_fold[fold] for fold in slide.receipt["folds"] if fold in of_fold]
        return float(np.mean(known)) if known else float("nan")


def chosen_thresholds(
    folds: Iterable[int], methods: Sequence[str], known: Mapping[str, tuple[SlideRow, Known]], sources: Sources
) -> Thresholds:
    """Thresholds of the best F1 over each fold's validation tiles, by its own model.

    A fold whose validation part has no annotated slide, or on which a method shows nothing, gets the mean of the others.
    Scores of different folds' models need not be on one scale: that is why each fold has its own.

    Args:
        folds: those that are needed.
        methods: names.
        known: rows and truth of all slides, by slide_id.
        sources: where to read.
    """
    if sources.validation is None:
        return Thresholds({})
    own = {fold: _of_fold(sources.validation, fold, methods, known, sources) for fold in sorted(folds)}
    of_method, notes = {}, []
    for method in methods:
        found = {fold: thresholds[method] for fold, thresholds in own.items() if method in thresholds}
        mean = float(np.mean(list(found.values()))) if found else float("nan")
        if found:
            of_method[method] = {fold: found.get(fold, mean) for fold in own}
        missing = [str(fold) for fold in own if fold not in found]
        if missing:
            instead = "the mean of the other folds' holds" if found else "there is none"
            notes.append(f"{method}: no threshold can be chosen on validation slides of fold {', '.join(missing)}: {instead}")
    return Thresholds(of_method, tuple(notes))


def _of_fold(
    validation: Path, fold: int, methods: Sequence[str], known: Mapping[str, tuple[SlideRow, Known]], sources: Sources
) -> dict[str, float]:
    """A threshold for each method that has one."""
    receipts = read_receipt(validation / f"fold-{fold}.json")["slides"]
    slides = [
        scored_slide(*known[name], validation / f"fold-{fold}" / f"{name}.zarr", receipts[name], sources)
        for name in sorted(receipts)
        if name in known and known[name][1].annotation is not None
    ]
    truths = [slide.truth.positive for slide in slides if slide.truth is not None]
    if not any(positive.any() for positive in truths):
        return {}
    positive = np.concatenate(truths)
    found = {method: best_threshold(positive, np.concatenate([s.scores(method) for s in slides])) for method in methods}
    return {method: threshold for method, threshold in found.items() if not np.isnan(threshold)}
