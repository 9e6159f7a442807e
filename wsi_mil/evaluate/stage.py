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
from wsi_mil.evaluate.slides import Reading, ScoredSlide, Sources, Truths
from wsi_mil.evaluate.thresholds import Thresholds, select_thresholds
from wsi_mil.files import write_table
from wsi_mil.receipts import write_receipt
from wsi_mil.records import SlideRow
from wsi_mil.tasks import task_of_stamp

log = logging.getLogger(__name__)

STAGE_VERSION = 3
FIGURES = ("tile_auroc", "tile_auprc", "threshold", "f1", "f1_oracle")
RECALLS = tuple(f"recall_at_{most}fp" for most in FALSE_POSITIVES)
TURNS = ("turn", "random_turn")
"""Share of tiles whose removal turns the prediction, hottest first and in random order."""
COLUMNS = (
    *("slide_id", "patient_id", "label", "role", "protocol", "method", "output", "is_shown", "n_tiles", "n_true", *FIGURES),
    *("n_lesions", *RECALLS, *AREAS, *GAINS, *TURNS),
)


@dataclass(frozen=True)
class _Evaluation:
    """Results to write: held-out slides, the figures by method of those with known truth, and thresholds."""

    slides: list[ScoredSlide]
    figures: dict[str, dict[str, SlideFigures]]
    thresholds: Thresholds

    def content(self, *, draws: int) -> dict[str, Any]:
        """Return the figures of the methods, as JSON."""
        with_truth = {method: list(by_slide.values()) for method, by_slide in self.figures.items() if by_slide}
        tile_truths = [slide.truth for slide in self.slides if slide.truth is not None]
        methods = {
            method: {
                **(method_figures(with_truth[method], draws=draws) if method in with_truth else {}),
                "comparable": _is_comparable(self.slides, method),
                "threshold": {str(fold): t for fold, t in self.thresholds.by_method.get(method, {}).items()},
                **gain_figures(self.slides, method, draws=draws),
            }
            for method in self.figures
        }
        return {
            "n_with_truth": len(tile_truths) if with_truth else 0,
            "n_with_lesion": sum(truth.n_lesions > 0 for truth in tile_truths),
            "methods": methods,
            "differences": differences(with_truth, draws=draws),
            "threshold_notes": list(self.thresholds.notes),
        }


def evaluate_cohort(rows: Iterable[SlideRow], sources: Sources, settings: Predict, figures: Path) -> None:
    """Evaluate a model's methods; write a JSON file of figures, and a CSV table of each slide and method beside it.

    Only slides that the models were not trained on are counted. Validation slides serve only to select thresholds. Of several
    outputs that are explained on a slide, the first counts, mostly the predicted one. Outputs that are explained on every slide
    have figures of their own in the entry `outputs`.

    Args:
        rows: labelled, usable slides, each with a receipt of `explain`.
        sources: input of the stage.
        settings: number of bootstrap draws.
        figures: JSON file to write.
    """
    truths = Truths(rows, sources)
    for slide_id, row in truths.rows.items():
        for note in truths.of(slide_id, row.label).notes:
            log.warning("%s: %s", slide_id, note)
    first = _evaluate(Reading(sources, truths))
    further = {output: _evaluate(Reading(sources, truths, output)) for output in _outputs_of_all(first.slides)}
    outputs = {sources.task.output_name(output): evaluation for output, evaluation in further.items()}
    write_table(figures.with_suffix(".csv"), list(COLUMNS), _table(first, further))
    write_receipt(figures, _content(first, outputs, truths, sources, draws=settings.bootstrap))
    log.info("%d slides, %d with known truth", len(first.slides), sum(s.truth is not None for s in first.slides))


def _evaluate(read: Reading) -> _Evaluation:
    """Figures of each slide for an output; empty if no slide has a known lesion."""
    slides = read.held_out()
    methods = sorted({method_of(name) for slide in slides for name in slide.receipt["methods"]})
    if not any(slide.truth.n_lesions for slide in slides if slide.truth is not None):
        return _Evaluation(slides, {method: {} for method in methods}, Thresholds({}))
    folds = {fold for slide in slides for fold in slide.receipt["folds"]}
    thresholds = select_thresholds(folds, methods, read)
    figures = {
        method: {s.row.slide_id: slide_figures(s, s.truth, method, thresholds) for s in slides if s.truth is not None}
        for method in methods
    }
    return _Evaluation(slides, figures, thresholds)


def _outputs_of_all(slides: Sequence[ScoredSlide]) -> list[int]:
    """Outputs that have scores on every slide because they were asked for; none where predictions alone decide."""
    each = [{entry["output"] for entry in slide.receipt["methods"].values()} - {None} for slide in slides]
    by_prediction = [set(slide.receipt.get("asked_by_prediction", own)) for slide, own in zip(slides, each, strict=True)]
    is_asked = any(own - predicted for own, predicted in zip(each, by_prediction, strict=True))
    return sorted(set.intersection(*each)) if is_asked else []


def _content(
    first: _Evaluation, outputs: Mapping[str, _Evaluation], truths: Truths, sources: Sources, *, draws: int
) -> dict[str, object]:
    slides = first.slides
    return {
        "stage_version": STAGE_VERSION,
        **sources.task.stamp(),
        "protocol": slides[0].receipt["protocol"] if slides else "held_out",
        "truth": sources.truth.model_dump(mode="json"),
        "n_slides": len(slides),
        "n_patients": len({slide.row.patient_id for slide in slides}),
        **first.content(draws=draws),
        "outputs": {name: evaluation.content(draws=draws) for name, evaluation in outputs.items()},
        "notes": {slide_id: list(notes) for slide_id, notes in truths.notes.items()},
    }


def _is_comparable(slides: Sequence[ScoredSlide], method: str) -> bool:
    """Whether a method's weighted scores can be compared across slides; otherwise pooled figures are only approximate."""
    entries = [slide.receipt["methods"][slide.names[method]] for slide in slides if method in slide.names]
    return all(entry["comparable_weighed"] for entry in entries if not entry["reason"])


def _table(first: _Evaluation, further: Mapping[int, _Evaluation]) -> list[list[object]]:
    """Rows of the table: each slide, method and output that has figures or curves."""
    table = [cells for number in range(len(first.slides)) for cells in _cells_of(first, number)]
    for output, evaluation in further.items():
        for number, slide in enumerate(evaluation.slides):
            if slide.receipt["output"] != output:  # the first one has its rows
                table += _cells_of(evaluation, number)
    return [_table_row(cells) for cells in sorted(table, key=lambda cells: cells["slide_id"])]


def _cells_of(evaluation: _Evaluation, number: int) -> list[dict[str, Any]]:
    """Rows of one slide."""
    slide, rows = evaluation.slides[number], []
    for method, by_slide in evaluation.figures.items():
        name = slide.names.get(method, method)
        cells = _cells(by_slide[slide.row.slide_id]) if slide.row.slide_id in by_slide else {}
        entry = slide.receipt["methods"].get(name, {})
        if "curves" in entry:
            curves = entry["curves"]
            turns = {name: "" if curves.get(name) is None else curves[name] for name in TURNS}
            cells |= {name: curves[name] for name in AREAS} | curve_gains(curves) | turns
        if cells:
            rows.append({**_slide_cells(slide), "method": name, "output": _output_name(slide, name), **cells})
    return rows


def _output_name(slide: ScoredSlide, name: str) -> str:
    output = slide.receipt["methods"].get(name, {}).get("output")
    return "" if output is None else task_of_stamp(slide.receipt).output_name(output)


def _slide_cells(slide: ScoredSlide) -> dict[str, Any]:
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
