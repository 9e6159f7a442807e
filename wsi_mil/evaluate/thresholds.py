"""Score thresholds for hot tiles, selected on validation slides of other patients."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wsi_mil.evaluate.localisation import best_threshold
from wsi_mil.evaluate.slides import Reading, ScoredSlide
from wsi_mil.receipts import read_receipt


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of each method and fold.

    Attributes:
        by_method: threshold of each fold that has one, by method.
        patients: patients of each fold's annotated validation slides.
        notes: messages on folds without a threshold.
    """

    by_method: Mapping[str, Mapping[int, float]]
    patients: Mapping[int, frozenset[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def for_slide(self, slide: ScoredSlide, method: str) -> float:
        """Return the mean threshold of the folds whose models scored the slide; NaN without any.

        A fold without a threshold uses the mean over other folds whose validation slides do not include this patient.
        """
        by_fold = self.by_method.get(method, {})
        substitutes = [t for fold, t in by_fold.items() if slide.row.patient_id not in self.patients[fold]]
        substitute = float(np.mean(substitutes)) if substitutes else float("nan")
        return float(np.mean([by_fold.get(fold, substitute) for fold in slide.receipt["folds"]]))


def select_thresholds(folds: Iterable[int], methods: Sequence[str], read: Reading) -> Thresholds:
    """Return the thresholds with the best F1 on each fold's validation tiles, scored by its own model.

    Each fold has its own threshold, since scores of different models can be on different scales. A fold has none if it has
    no annotated validation slide, or if a method shows nothing there.

    Args:
        folds: folds that need a threshold.
        methods: names of the methods.
        read: reads slides for the output that is evaluated.
    """
    if read.sources.validation is None:
        return Thresholds({})
    by_fold = {fold: _fold_thresholds(read.sources.validation, fold, methods, read) for fold in sorted(folds)}
    by_method = {m: {fold: values[m] for fold, (values, _) in by_fold.items() if m in values} for m in methods}
    notes = []
    for method, thresholds in by_method.items():
        missing = [str(fold) for fold in by_fold if fold not in thresholds]
        if missing:
            remedy = "the mean of folds without the patient is used" if thresholds else "there is none"
            noun = "fold" if len(missing) == 1 else "folds"
            notes.append(f"{method}: validation slides give no threshold for {noun} {', '.join(missing)}: {remedy}")
    return Thresholds(by_method, {fold: patients for fold, (_, patients) in by_fold.items()}, tuple(notes))


def _fold_thresholds(
    validation: Path, fold: int, methods: Sequence[str], read: Reading
) -> tuple[dict[str, float], frozenset[str]]:
    """Threshold of each method that has one in a fold, and the patients of the slides used."""
    receipts = read_receipt(validation / f"fold-{fold}.json")["slides"]
    slides = [
        read.slide(name, validation / f"fold-{fold}" / f"{name}.zarr", receipts[name])
        for name in sorted(receipts)
        if name in read.truths.rows
    ]
    slides = [slide for slide in slides if slide.truth is not None]  # of several labels, the explained one may not be known
    patients = frozenset(slide.row.patient_id for slide in slides)
    positives = [slide.truth.positive for slide in slides if slide.truth is not None]
    if not any(positive.any() for positive in positives):
        return {}, patients
    positive = np.concatenate(positives)
    thresholds = {m: best_threshold(positive, np.concatenate([s.scores(m) for s in slides])) for m in methods}
    return {method: threshold for method, threshold in thresholds.items() if not np.isnan(threshold)}, patients
