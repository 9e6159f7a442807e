"""From which score on a tile is called hot: chosen on slides that are neither the slide itself nor of its patient."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wsi_mil.evaluate.localisation import best_threshold
from wsi_mil.evaluate.slides import Known, ScoredSlide, Sources, scored_slide
from wsi_mil.receipts import read_receipt
from wsi_mil.records import SlideRow


@dataclass(frozen=True)
class Thresholds:
    """By method and fold.

    Attributes:
        of_method: threshold of each fold that could choose one, by method.
        patients: of the validation slides of each fold.
        notes: which folds have none of their own, in words.
    """

    of_method: Mapping[str, Mapping[int, float]]
    patients: Mapping[int, frozenset[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of_slide(self, slide: ScoredSlide, method: str) -> float:
        """Mean over the folds whose models gave the slide its scores; NaN where there is none.

        A fold without a threshold of its own has the mean of those of other folds that did not choose on this patient.
        """
        of_fold = self.of_method.get(method, {})
        lent = [t for fold, t in of_fold.items() if slide.row.patient_id not in self.patients[fold]]
        instead = float(np.mean(lent)) if lent else float("nan")
        return float(np.mean([of_fold.get(fold, instead) for fold in slide.receipt["folds"]]))


def chosen_thresholds(
    folds: Iterable[int], methods: Sequence[str], known: Mapping[str, tuple[SlideRow, Known]], sources: Sources
) -> Thresholds:
    """Thresholds of the best F1 over each fold's validation tiles, by its own model.

    Scores of different folds' models need not be on one scale: that is why each fold has its own. A fold whose
    validation part has no annotated slide, or on which a method shows nothing, has none.

    Args:
        folds: those that are needed.
        methods: names.
        known: rows and truth of all slides, by slide_id.
        sources: where to read.
    """
    if sources.validation is None:
        return Thresholds({})
    own = {fold: _of_fold(sources.validation, fold, methods, known, sources) for fold in sorted(folds)}
    of_method = {m: {fold: found[m] for fold, (found, _) in own.items() if m in found} for m in methods}
    notes = []
    for method, found in of_method.items():
        missing = [str(fold) for fold in own if fold not in found]
        if missing:
            instead = "the mean of folds that did not choose on the patient holds" if found else "there is none"
            notes.append(f"{method}: no threshold can be chosen on validation slides of fold {', '.join(missing)}: {instead}")
    return Thresholds(of_method, {fold: patients for fold, (_, patients) in own.items()}, tuple(notes))


def _of_fold(
    validation: Path, fold: int, methods: Sequence[str], known: Mapping[str, tuple[SlideRow, Known]], sources: Sources
) -> tuple[dict[str, float], frozenset[str]]:
    """A threshold for each method that has one, and the patients of the slides that were looked at."""
    receipts = read_receipt(validation / f"fold-{fold}.json")["slides"]
    slides = [
        scored_slide(*known[name], validation / f"fold-{fold}" / f"{name}.zarr", receipts[name], sources)
        for name in sorted(receipts)
        if name in known and known[name][1].annotation is not None
    ]
    patients = frozenset(slide.row.patient_id for slide in slides)
    truths = [slide.truth.positive for slide in slides if slide.truth is not None]
    if not any(positive.any() for positive in truths):
        return {}, patients
    positive = np.concatenate(truths)
    found = {method: best_threshold(positive, np.concatenate([s.scores(method) for s in slides])) for method in methods}
    return {method: threshold for method, threshold in found.items() if not np.isnan(threshold)}, patients
