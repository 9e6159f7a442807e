"""Stage `evaluate`: evaluate every explanation method of a model against annotations, and by deletion and insertion."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_mil.config import Predict, method_of
from wsi_mil.evaluate.figures import (
    AREAS,
    GAINS,
    SlideFigures,
    curve_gains,
    differences,
    gain_figures,
    method_figures,
    slide_figures,
)
from wsi_mil.evaluate.localisation import FALSE_POSITIVES, froc
from wsi_mil.evaluate.slides import ScoredSlide, SlideTruth, Sources, read_scored_slide, slide_truth
from wsi_mil.evaluate.thresholds import Thresholds, select_thresholds
from wsi_mil.files import write_table
from wsi_mil.receipts import write_receipt
from wsi_mil.records import SlideRow

log = logging.getLogger(__name__)

STAGE_VERSION = 1
FIGURES = ("tile_auroc", "tile_auprc", "threshold", "f1", "f1_oracle")
RECALLS = tuple(f"recall_at_{most}fp" for most in FALSE_POSITIVES)
TURNS = ("turn", "random_turn")
"""Share of tiles whose removal turns the prediction, hottest first and in random order."""
COLUMNS = (
    *("slide_id", "patient_id", "label", "role", "protocol", "method", "is_shown", "n_tiles", "n_true", *FIGURES),
    *("n_lesions", *RECALLS, *AREAS, *GAINS, *TURNS),
)


@dataclass(frozen=True)
class _Evaluation:
    """Results to write: held-out slides, the figures by method of those with known truth, and thresholds."""

    slides: list[ScoredSlide]
    figures: dict[str, dict[str, SlideFigures]]
    thresholds: Thresholds


def evaluate_cohort(rows: Iterable[SlideRow], sources: Sources, settings: Predict, figures: Path) -> None:
    """Evaluate a model's methods; write a JSON file of figures, and a CSV table of each slide and method beside it.

    Only slides that the models were not trained on are counted. Validation slides serve only to select thresholds. Of several
    labels that are explained on a slide, the most probable counts.

    Args:
        rows: labelled, usable slides, each with a receipt of `explain`.
        sources: input of the stage.
        settings: number of bootstrap draws.
        figures: JSON file to write.
    """
    truths = {row.slide_id: (row, slide_truth(row, sources)) for row in sorted(rows, key=lambda row: row.slide_id)}
    for slide_id, (_, truth) in truths.items():
        for note in truth.notes:
            log.warning("%s: %s", slide_id, note)
    evaluation = _evaluate([read_scored_slide(row, truth, sources) for row, truth in truths.values()], truths, sources)
    write_table(figures.with_suffix(".csv"), list(COLUMNS), _table(evaluation))
    write_receipt(figures, _content(evaluation, truths, sources, draws=settings.bootstrap))
    log.info("%d slides, %d with known truth", len(evaluation.slides), sum(s.truth is not None for s in evaluation.slides))


def _evaluate(
    candidates: Sequence[ScoredSlide], truths: Mapping[str, tuple[SlideRow, SlideTruth]], sources: Sources
) -> _Evaluation:
    """Figures of each slide; empty if no slide has a known lesion."""
    slides = [slide for slide in candidates if slide.is_held_out]
    methods = sorted({name for slide in slides for name in slide.receipt["methods"] if name == method_of(name)})
    if not any(slide.truth.n_lesions for slide in slides if slide.truth is not None):
        return _Evaluation(slides, {method: {} for method in methods}, Thresholds({}))
    folds = {fold for slide in slides for fold in slide.receipt["folds"]}
    thresholds = select_thresholds(folds, methods, truths, sources)
    figures = {
        method: {s.row.slide_id: slide_figures(s, s.truth, method, thresholds) for s in slides if s.truth is not None}
        for method in methods
    }
    return _Evaluation(slides, figures, thresholds)


def _content(
    evaluation: _Evaluation, truths: Mapping[str, tuple[SlideRow, SlideTruth]], sources: Sources, *, draws: int
) -> dict[str, object]:
    slides = evaluation.slides
    with_truth = {m: list(f.values()) for m, f in evaluation.figures.items() if f}
    methods = {
        method: {
            **(method_figures(with_truth[method], draws=draws) if method in with_truth else {}),
            "comparable": _is_comparable(slides, method),
            "threshold": {str(fold): t for fold, t in evaluation.thresholds.by_method.get(method, {}).items()},
            **gain_figures(slides, method, draws=draws),
        }
        for method in evaluation.figures
    }
    tile_truths = [slide.truth for slide in slides if slide.truth is not None]
    return {
        "stage_version": STAGE_VERSION,
        **sources.task.stamp(),
        "protocol": slides[0].receipt["protocol"] if slides else "held_out",
        "truth": sources.truth.model_dump(mode="json"),
        "n_slides": len(slides),
        "n_with_truth": len(tile_truths) if with_truth else 0,
        "n_with_lesion": sum(truth.n_lesions > 0 for truth in tile_truths),
        "n_patients": len({slide.row.patient_id for slide in slides}),
        "methods": methods,
        "beats_random": dict(sources.trust.beats_random),
        "randomised": dict(sources.trust.randomised),
        "differences": differences(with_truth, draws=draws),
        "notes": {slide_id: list(truth.notes) for slide_id, (_, truth) in truths.items() if truth.notes},
        "threshold_notes": list(evaluation.thresholds.notes),
    }


def _is_comparable(slides: Sequence[ScoredSlide], method: str) -> bool:
    """Whether a method's weighted scores can be compared across slides; otherwise pooled figures are only approximate."""
    entries = [slide.receipt["methods"][method] for slide in slides if method in slide.receipt["methods"]]
    return all(entry["comparable_weighed"] for entry in entries if not entry["reason"])


def _table(evaluation: _Evaluation) -> list[list[object]]:
    """Rows of the table: each slide and method that has figures or curves."""
    table = []
    for slide in evaluation.slides:
        for method, by_slide in evaluation.figures.items():
            cells = _cells(by_slide[slide.row.slide_id]) if slide.row.slide_id in by_slide else {}
            curves = slide.receipt["methods"].get(method, {}).get("curves")
            if curves:
                turns = {name: "" if curves.get(name) is None else curves[name] for name in TURNS}
                cells |= {name: curves[name] for name in AREAS} | curve_gains(curves) | turns
            if cells:
                table.append(_table_row({**_slide_cells(slide), "method": method, **cells}))
    return table


def _slide_cells(slide: ScoredSlide) -> dict[str, object]:
    row = slide.row
    role = slide.receipt["role"] or ""
    protocol = slide.receipt["protocol"]
    return {"slide_id": row.slide_id, "patient_id": row.patient_id, "label": row.label, "role": role, "protocol": protocol}


def _cells(slide: SlideFigures) -> dict[str, Any]:
    counts = {"is_shown": slide.is_shown, "n_tiles": len(slide.scores), "n_true": int(slide.positive.sum())}
    recalls = dict(zip(RECALLS, froc([slide.detections])[0].tolist(), strict=True))
    figures = {name: getattr(slide, name) for name in FIGURES}
    return {**counts, **figures, "n_lesions": len(slide.detections.lesions), **recalls}


def _table_row(cells: Mapping[str, Any]) -> list[object]:
    """Row in the order of the columns; undefined figures are empty cells."""
    values = [cells.get(name, "") for name in COLUMNS]
    return ["" if value != value else round(value, 6) if isinstance(value, float) else value for value in values]
