"""Stage `evaluate`: every method of one model against the annotated truth, and against the model itself."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_mil.config import Predict
from wsi_mil.evaluate.figures import AREAS, SlideFigures, curve_gains, differences, gains, method_figures, slide_figures
from wsi_mil.evaluate.localisation import FALSE_POSITIVES, froc
from wsi_mil.evaluate.slides import Known, ScoredSlide, Sources, known_truth, read_scored
from wsi_mil.evaluate.thresholds import Thresholds, chosen_thresholds
from wsi_mil.files import write_table
from wsi_mil.receipts import write_receipt
from wsi_mil.records import SlideRow

log = logging.getLogger(__name__)

STAGE_VERSION = 1
FIGURES = ("tile_auroc", "tile_auprc", "threshold", "f1", "f1_oracle")
RECALLS = tuple(f"recall_at_{most}fp" for most in FALSE_POSITIVES)
GAINS = ("deletion_gain", "insertion_gain")
COLUMNS = (
    *("slide_id", "patient_id", "label", "role", "protocol", "method", "is_shown", "n_tiles", "n_true", *FIGURES),
    *("n_lesions", *RECALLS, *AREAS, *GAINS),
)


@dataclass(frozen=True)
class _Evaluation:
    """What is written: slides, and by method the figures of those whose truth is known."""

    slides: list[ScoredSlide]
    of_method: dict[str, dict[str, SlideFigures]]
    thresholds: Thresholds


def evaluate_cohort(rows: Iterable[SlideRow], sources: Sources, settings: Predict, figures: Path) -> None:
    """Write a model's figures (JSON), and beside them a table of each slide and method (CSV).

    Only slides that the models never saw are counted. Validation slides serve to choose thresholds, and nothing else.

    Args:
        rows: labelled, usable slides, each with a receipt of `explain`.
        sources: where to read.
        settings: draws of the bootstrap.
        figures: JSON file to write.
    """
    known = {row.slide_id: (row, known_truth(row, sources)) for row in sorted(rows, key=lambda row: row.slide_id)}
    for slide_id, (_, truth) in known.items():
        for note in truth.notes:
            log.warning("%s: %s", slide_id, note)
    evaluation = _evaluate([read_scored(row, truth, sources) for row, truth in known.values()], known, sources)
    write_table(figures.with_suffix(".csv"), list(COLUMNS), _table(evaluation))
    write_receipt(figures, _content(evaluation, known, sources, draws=settings.bootstrap))
    log.info("%d slides, %d with known truth", len(evaluation.slides), sum(s.truth is not None for s in evaluation.slides))


def _evaluate(scored: Sequence[ScoredSlide], known: Mapping[str, tuple[SlideRow, Known]], sources: Sources) -> _Evaluation:
    """Figures slide by slide; none at all where no slide has a lesion that is known, since there is nothing to find."""
    slides = [slide for slide in scored if slide.is_held_out]
    methods = sorted({method for slide in slides for method in slide.receipt["methods"]})
    if not any(slide.truth.n_lesions for slide in slides if slide.truth is not None):
        return _Evaluation(slides, {method: {} for method in methods}, Thresholds({}))
    folds = {fold for slide in slides for fold in slide.receipt["folds"]}
    thresholds = chosen_thresholds(folds, methods, known, sources)
    of_method = {
        method: {s.row.slide_id: slide_figures(s, s.truth, method, thresholds) for s in slides if s.truth is not None}
        for method in methods
    }
    return _Evaluation(slides, of_method, thresholds)


def _content(
    evaluation: _Evaluation, known: Mapping[str, tuple[SlideRow, Known]], sources: Sources, *, draws: int
) -> dict[str, object]:
    slides, with_truth = evaluation.slides, {m: list(f.values()) for m, f in evaluation.of_method.items() if f}
    methods = {
        method: {
            **(method_figures(with_truth[method], draws=draws) if method in with_truth else {}),
            "comparable": _is_comparable(slides, method),
            "threshold": {str(fold): t for fold, t in evaluation.thresholds.of_method.get(method, {}).items()},
            **gains(slides, method, draws=draws),
        }
        for method in evaluation.of_method
    }
    truths = [slide.truth for slide in slides if slide.truth is not None]
    return {
        "stage_version": STAGE_VERSION,
        **sources.task.stamp(),
        "protocol": slides[0].receipt["protocol"] if slides else "held_out",
        "truth": sources.truth.model_dump(mode="json"),
        "n_slides": len(slides),
        "n_with_truth": len(truths) if with_truth else 0,
        "n_with_lesion": sum(truth.n_lesions > 0 for truth in truths),
        "n_patients": len({slide.row.patient_id for slide in slides}),
        "methods": methods,
        "differences": differences(with_truth, draws=draws),
        "notes": {slide_id: list(truth.notes) for slide_id, (_, truth) in known.items() if truth.notes},
        "threshold_notes": list(evaluation.thresholds.notes),
    }


def _is_comparable(slides: Sequence[ScoredSlide], method: str) -> bool:
    """Whether a method's weighed scores of different slides may be compared; figures across slides are rough where not."""
    found = [slide.receipt["methods"][method] for slide in slides if method in slide.receipt["methods"]]
    return all(about["comparable_weighed"] for about in found if not about["reason"])


def _table(evaluation: _Evaluation) -> list[list[object]]:
    """A line for each slide and method of which there is anything to say."""
    lines = []
    for slide in evaluation.slides:
        for method, of_slide in evaluation.of_method.items():
            cells = _cells_of(of_slide[slide.row.slide_id]) if slide.row.slide_id in of_slide else {}
            curves = slide.receipt["methods"].get(method, {}).get("curves")
            if curves:
                cells |= {name: curves[name] for name in AREAS} | curve_gains(curves)
            if cells:
                lines.append(_line({**_about(slide), "method": method, **cells}))
    return lines


def _about(slide: ScoredSlide) -> dict[str, object]:
    row = slide.row
    about = {"slide_id": row.slide_id, "patient_id": row.patient_id, "label": row.label}
    return {**about, "role": slide.receipt["role"] or "", "protocol": slide.receipt["protocol"]}


def _cells_of(found: SlideFigures) -> dict[str, Any]:
    counts = {"is_shown": found.is_shown, "n_tiles": len(found.scores), "n_true": int(found.positive.sum())}
    recalls = dict(zip(RECALLS, froc([found.found])[0].tolist(), strict=True))
    figures = {name: getattr(found, name) for name in FIGURES}
    return {**counts, **figures, "n_lesions": len(found.found.lesions), **recalls}


def _line(cells: Mapping[str, Any]) -> list[object]:
    """In the order of the columns; a figure that is not defined is an empty cell."""
    values = [cells.get(name, "") for name in COLUMNS]
    return ["" if value != value else round(value, 6) if isinstance(value, float) else value for value in values]
