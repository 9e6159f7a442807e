"""Figures of a method: of each slide, pooled, and with confidence intervals over patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluate.localisation import (
    FALSE_POSITIVES,
    Detections,
    Floats,
    TileTruth,
    best_f1,
    bootstrap_figures,
    detections,
    f1,
    froc,
    patient_histograms,
    tile_figures,
)
from wsi_mil.evaluate.slides import ScoredSlide
from wsi_mil.evaluate.thresholds import Thresholds
from wsi_mil.metrics import holm, interval95, paired_difference, patient_weights

GAINS = ("symmetric_gain", "deletion_gain", "insertion_gain")
"""Gains over random order, of which the first is the sum of the others."""

AREAS = ("deletion_area", "insertion_area", "random_deletion_area", "random_insertion_area")
"""Keys of each method's curves written by `explain`: mean value along them, hottest tiles first and in random order."""

CURVES = ("shares", "deletion", "insertion", "random_deletion")
"""Keys of the curves themselves: shares of the tiles, and the values after removing them or with them alone."""


@dataclass(frozen=True)
class SlideFigures:
    """Figures of a method on one slide.

    Attributes:
        patient: patient of the slide.
        is_shown: whether the method shows anything on the slide.
        positive: `(n,)`, which tiles are truly positive.
        scores: `(n,)`, -inf for tiles that are never hot.
        detections: lesions and false positives.
        tile_auroc: AUROC of tiles; NaN if all are positive, or none.
        tile_auprc: AUPRC of tiles; NaN likewise.
        threshold: score from which a tile is hot; NaN if none could be selected.
        f1: F1 at that threshold; NaN without a threshold or a positive tile.
        f1_oracle: F1 at the best threshold for this slide.
    """

    patient: str
    is_shown: bool
    positive: NDArray[np.bool_]
    scores: Floats
    detections: Detections
    tile_auroc: float
    tile_auprc: float
    threshold: float
    f1: float
    f1_oracle: float

    @property
    def hot(self) -> NDArray[np.bool_]:
        """Which tiles are at or above the threshold; none without a threshold."""
        return self.scores >= self.threshold


def slide_figures(slide: ScoredSlide, truth: TileTruth, method: str, thresholds: Thresholds) -> SlideFigures:
    """Return the figures of a method on one slide."""
    scores = slide.scores(method)
    is_shown = bool(np.isfinite(scores).any())
    area, precision = tile_figures(truth.positive, scores)
    threshold = thresholds.for_slide(slide, method)
    return SlideFigures(
        patient=slide.row.patient_id,
        is_shown=is_shown,
        positive=truth.positive,
        scores=scores,
        detections=detections(scores, truth),
        tile_auroc=area,
        tile_auprc=precision,
        threshold=threshold,
        f1=f1(truth.positive, scores >= threshold) if threshold == threshold else float("nan"),
        f1_oracle=best_f1(truth.positive, scores),
    )


def method_figures(slides: Sequence[SlideFigures], *, draws: int) -> dict[str, Any]:
    """Return the figures of a method over slides with known truth, as JSON: each as `{name}` and `{name}_ci95`.

    Args:
        slides: figures of each slide, at least one of them with a lesion.
        draws: number of bootstrap draws of patients.
    """
    names, patient_of = np.unique([s.patient for s in slides], return_inverse=True)
    weights = patient_weights(len(names), draws=draws)
    points, drawn = _pooled(slides, patient_of, weights)
    recalls = froc([s.detections for s in slides])[0]
    froc_drawn = froc([s.detections for s in slides], weights[:, patient_of])
    points |= {"froc_mean": float(recalls.mean())}
    drawn |= {"froc_mean": froc_drawn.mean(axis=1)}
    for name in ("tile_auroc", "tile_auprc"):
        points[name], drawn[name] = mean_over_slides([getattr(s, name) for s in slides], [s.patient for s in slides], draws)
    with_lesion = [s for s in slides if s.positive.any()]
    return {
        "n_slides": len(slides),
        "n_positive_slides": len(with_lesion),
        "n_not_shown": sum(not s.is_shown for s in with_lesion),
        "n_lesions": sum(len(s.detections.lesions) for s in slides),
        **points,
        **{f"{name}_ci95": list(interval95(values)) for name, values in drawn.items()},
        "froc": dict(zip(map(str, FALSE_POSITIVES), recalls.tolist(), strict=True)),
        "froc_ci95": {str(f): list(interval95(froc_drawn[:, i])) for i, f in enumerate(FALSE_POSITIVES)},
    }


def mean_over_slides(values: Sequence[float], patients: Sequence[str], draws: int) -> tuple[float, Floats]:
    """Return the mean over slides, without NaN, and that of each bootstrap draw of patients, `(draws,)`."""
    kept = [(value, patient) for value, patient in zip(values, patients, strict=True) if value == value]
    if not kept:
        return float("nan"), np.full(draws, np.nan)
    finite = np.array([value for value, _ in kept])
    names, patient_of = np.unique([patient for _, patient in kept], return_inverse=True)
    weights = patient_weights(len(names), draws=draws)
    return float(finite.mean()), (weights @ np.bincount(patient_of, finite)) / (weights @ np.bincount(patient_of))


def gain_figures(slides: Sequence[ScoredSlide], method: str, *, draws: int) -> dict[str, Any]:
    """Return the mean gains of a method's deletion and insertion curves over random order, with intervals; as JSON.

    They need no annotation, and are computed over the slides predicted as the class shown. A bag of several slides has one
    curve and counts once.
    """
    first_of_bag: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for slide in slides:
        curves = slide.receipt["methods"].get(slide.names.get(method, method), {}).get("curves")
        if curves:
            first_of_bag.setdefault(slide.receipt["bag"], (slide.row.patient_id, curves))
    patients = [patient for patient, _ in first_of_bag.values()]
    gains = [curve_gains(curves) for _, curves in first_of_bag.values()]
    figures: dict[str, Any] = {"n_curves": len(gains)}
    for name in GAINS:
        figures[name], drawn = mean_over_slides([gain[name] for gain in gains], patients, draws)
        figures[f"{name}_ci95"] = list(interval95(drawn))
    return {**figures, "mean_curves": mean_curves([curves for _, curves in first_of_bag.values()])}


def mean_curves(each: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the mean of the curves of several bags and of their random orders; {} without curves.

    Args:
        each: curves as `explain` writes them, all with the same number of points.
    """
    return {name: np.mean([curves[name] for curves in each], axis=0).round(6).tolist() for name in CURVES} if each else {}


def curve_gains(curves: Mapping[str, Any]) -> dict[str, float]:
    """Return the areas between a slide's curves and those of random order; larger is better.

    Insertion is deletion with the least important tiles first, read from its end, so the sum is the symmetric relevance gain.
    """
    deletion, insertion, random_deletion, random_insertion = (curves[name] for name in AREAS)
    gains = {"deletion_gain": random_deletion - deletion, "insertion_gain": insertion - random_insertion}
    return {"symmetric_gain": sum(gains.values()), **gains}


def differences(by_method: Mapping[str, Sequence[SlideFigures]], *, draws: int) -> list[dict[str, Any]]:
    """Compare every pair of methods by mean tile AUROC, on the same slides and draws; `p_holm` is corrected for all pairs."""
    means = {
        name: mean_over_slides([s.tile_auroc for s in slides], [s.patient for s in slides], draws)
        for name, slides in by_method.items()
    }
    pairs = list(combinations(means, 2))
    tests = [paired_difference((means[a][0], means[b][0]), means[a][1], means[b][1]) for a, b in pairs]
    adjusted = holm(np.array([difference.p for difference in tests]))
    return [
        {"first": a, "second": b, "value": d.value, "ci95": list(d.ci95), "p": d.p, "p_holm": float(p)}
        for (a, b), d, p in zip(pairs, tests, adjusted, strict=True)
    ]


def _pooled(
    slides: Sequence[SlideFigures], patient_of: NDArray[np.int64], weights: NDArray[np.int64]
) -> tuple[dict[str, float], dict[str, Floats]]:
    """Figures over all tiles of all slides together, and of each draw."""
    positive = np.concatenate([s.positive for s in slides])
    scores = np.concatenate([s.scores for s in slides])
    patient_of_tile = np.repeat(patient_of, [len(s.scores) for s in slides])
    drawn = bootstrap_figures(patient_histograms(positive, scores, patient_of_tile, weights.shape[1]), weights)
    area, precision = tile_figures(positive, scores)
    points = {"pooled_auroc": area, "pooled_auprc": precision, "f1_oracle": best_f1(positive, scores), "f1": float("nan")}
    f1_drawn = np.full(len(weights), np.nan)
    numbers = [i for i, s in enumerate(slides) if s.threshold == s.threshold]
    if numbers:
        with_threshold = [slides[i] for i in numbers]
        hot = np.concatenate([s.hot for s in with_threshold])
        points["f1"] = f1(np.concatenate([s.positive for s in with_threshold]), hot)
        f1_drawn = _drawn_f1(with_threshold, weights[:, patient_of[numbers]])
    names = {"auroc": "pooled_auroc", "auprc": "pooled_auprc", "f1_oracle": "f1_oracle"}
    return points, {**{names[name]: values for name, values in drawn.items()}, "f1": f1_drawn}


def _drawn_f1(slides: Sequence[SlideFigures], weights: NDArray[np.int64]) -> Floats:
    """Pooled F1 of each draw at the slides' own thresholds; `weights` is `(draws, n_slides)`."""
    hits = weights @ np.array([(s.positive & s.hot).sum() for s in slides])
    positive = weights @ np.array([s.positive.sum() for s in slides])
    hot = weights @ np.array([s.hot.sum() for s in slides])
    return np.asarray(2 * hits / np.where(positive > 0, positive + hot, np.nan))
