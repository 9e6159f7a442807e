"""The figures of a method: slide by slide, pooled, and with intervals over patients."""

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
    counts_of_patients,
    detections,
    drawn_figures,
    f1,
    froc,
    tile_figures,
)
from wsi_mil.evaluate.slides import ScoredSlide
from wsi_mil.evaluate.thresholds import Thresholds
from wsi_mil.metrics import holm, interval95, paired_difference, patient_weights

AREAS = ("deletion_area", "insertion_area", "random_deletion_area", "random_insertion_area")
"""What `explain` writes of each method's curves: mean probability along them, hottest tiles first and in random order."""


@dataclass(frozen=True)
class SlideFigures:
    """A method on one slide.

    Attributes:
        patient: of the slide.
        is_shown: whether the method shows anything there.
        positive: `(n,)` which tiles are truly positive.
        scores: `(n,)`, -inf for never hot.
        found: lesions and false positives.
        tile_auroc: NaN on a slide whose tiles are all of one kind.
        tile_auprc: likewise.
        threshold: NaN where none could be chosen.
        f1: at that threshold; NaN without a threshold or a true tile.
        f1_oracle: at the best threshold for this very slide.
    """

    patient: str
    is_shown: bool
    positive: NDArray[np.bool_]
    scores: Floats
    found: Detections
    tile_auroc: float
    tile_auprc: float
    threshold: float
    f1: float
    f1_oracle: float

    @property
    def hot(self) -> NDArray[np.bool_]:
        """Tiles from the threshold on; none where there is no threshold."""
        return self.scores >= self.threshold


def slide_figures(slide: ScoredSlide, truth: TileTruth, method: str, thresholds: Thresholds) -> SlideFigures:
    """A method against the truth of one slide."""
    scores = slide.scores(method)
    is_shown = bool(np.isfinite(scores).any())
    area, precision = tile_figures(truth.positive, scores)
    threshold = thresholds.of_slide(slide, method)
    return SlideFigures(
        patient=slide.row.patient_id,
        is_shown=is_shown,
        positive=truth.positive,
        scores=scores,
        found=detections(scores, truth),
        tile_auroc=area,
        tile_auprc=precision,
        threshold=threshold,
        f1=f1(truth.positive, scores >= threshold) if threshold == threshold else float("nan"),
        f1_oracle=best_f1(truth.positive, scores),
    )


def method_figures(slides: Sequence[SlideFigures], *, draws: int) -> dict[str, Any]:
    """A method's figures over slides whose truth is known, ready for JSON: each under its name and `{name}_ci95`.

    Args:
        slides: at least one of them with a lesion.
        draws: of the bootstrap over patients.
    """
    names, patient_of = np.unique([s.patient for s in slides], return_inverse=True)
    weights = patient_weights(len(names), draws=draws)
    points, drawn = _pooled(slides, patient_of, weights)
    at_false_positives = froc([s.found for s in slides])[0]
    froc_drawn = froc([s.found for s in slides], weights[:, patient_of])
    points |= {"froc_mean": float(at_false_positives.mean())}
    drawn |= {"froc_mean": froc_drawn.mean(axis=1)}
    for name in ("tile_auroc", "tile_auprc"):
        points[name], drawn[name] = mean_over_slides([getattr(s, name) for s in slides], [s.patient for s in slides], draws)
    with_lesion = [s for s in slides if s.positive.any()]
    return {
        "n_slides": len(slides),
        "n_positive_slides": len(with_lesion),
        "n_not_shown": sum(not s.is_shown for s in with_lesion),
        "n_lesions": sum(len(s.found.lesions) for s in slides),
        **points,
        **{f"{name}_ci95": list(interval95(values)) for name, values in drawn.items()},
        "froc": dict(zip(map(str, FALSE_POSITIVES), at_false_positives.tolist(), strict=True)),
        "froc_ci95": {str(f): list(interval95(froc_drawn[:, i])) for i, f in enumerate(FALSE_POSITIVES)},
    }


def mean_over_slides(values: Sequence[float], patients: Sequence[str], draws: int) -> tuple[float, Floats]:
    """Mean over slides, those left out where it is NaN, and the same in each draw of their patients `(draws,)`."""
    kept = [(value, patient) for value, patient in zip(values, patients, strict=True) if value == value]
    if not kept:
        return float("nan"), np.full(draws, np.nan)
    each = np.array([value for value, _ in kept])
    names, patient_of = np.unique([patient for _, patient in kept], return_inverse=True)
    weights = patient_weights(len(names), draws=draws)
    return float(each.mean()), (weights @ np.bincount(patient_of, each)) / (weights @ np.bincount(patient_of))


def gains(slides: Sequence[ScoredSlide], method: str, *, draws: int) -> dict[str, Any]:
    """How much faster than at random the probability falls when tiles are taken away, and rises when they are put in.

    Needs no annotation: over the slides that are predicted as the class shown, of the areas between the curves, the
    hottest tiles first, and those of random order. A bag of several slides has one curve, and counts once.
    """
    first_of_bag: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for slide in slides:
        curves = slide.receipt["methods"].get(method, {}).get("curves")
        if curves:
            first_of_bag.setdefault(slide.receipt["bag"], (slide.row.patient_id, curves))
    patients, each = [p for p, _ in first_of_bag.values()], [curve_gains(curves) for _, curves in first_of_bag.values()]
    found: dict[str, Any] = {"n_curves": len(each)}
    for name in ("deletion_gain", "insertion_gain"):
        found[name], drawn = mean_over_slides([gain[name] for gain in each], patients, draws)
        found[f"{name}_ci95"] = list(interval95(drawn))
    return found


def curve_gains(curves: Mapping[str, Any]) -> dict[str, float]:
    """Areas between a slide's curves and those of random order: the larger, the better."""
    deletion, insertion, random_deletion, random_insertion = (curves[name] for name in AREAS)
    return {"deletion_gain": random_deletion - deletion, "insertion_gain": insertion - random_insertion}


def differences(of_method: Mapping[str, Sequence[SlideFigures]], *, draws: int) -> list[dict[str, Any]]:
    """Every pair of methods by mean tile AUROC, on the same slides and draws; `p_holm` allows for the number of pairs."""
    means = {
        name: mean_over_slides([s.tile_auroc for s in slides], [s.patient for s in slides], draws)
        for name, slides in of_method.items()
    }
    pairs = list(combinations(means, 2))
    found = [paired_difference((means[a][0], means[b][0]), means[a][1], means[b][1]) for a, b in pairs]
    adjusted = holm(np.array([difference.p for difference in found]))
    return [
        {"first": a, "second": b, "value": d.value, "ci95": list(d.ci95), "p": d.p, "p_holm": float(p)}
        for (a, b), d, p in zip(pairs, found, adjusted, strict=True)
    ]


def _pooled(
    slides: Sequence[SlideFigures], patient_of: NDArray[np.int64], weights: NDArray[np.int64]
) -> tuple[dict[str, float], dict[str, Floats]]:
    """Figures over all tiles of all slides together, and in each draw."""
    positive, scores = np.concatenate([s.positive for s in slides]), np.concatenate([s.scores for s in slides])
    of_tile = np.repeat(patient_of, [len(s.scores) for s in slides])
    drawn = drawn_figures(counts_of_patients(positive, scores, of_tile, weights.shape[1]), weights)
    area, precision = tile_figures(positive, scores)
    points = {"pooled_auroc": area, "pooled_auprc": precision, "f1_oracle": best_f1(positive, scores), "f1": float("nan")}
    f1_drawn = np.full(len(weights), np.nan)
    judged = [i for i, s in enumerate(slides) if s.threshold == s.threshold]
    if judged:
        points["f1"] = f1(*(np.concatenate([getattr(slides[i], name) for i in judged]) for name in ("positive", "hot")))
        f1_drawn = _drawn_f1([slides[i] for i in judged], weights[:, patient_of[judged]])
    names = {"auroc": "pooled_auroc", "auprc": "pooled_auprc", "f1_oracle": "f1_oracle"}
    return points, {**{names[name]: values for name, values in drawn.items()}, "f1": f1_drawn}


def _drawn_f1(slides: Sequence[SlideFigures], weights: NDArray[np.int64]) -> Floats:
    """Pooled F1 at the thresholds of each slide, in each draw; `weights` is `(draws, n_slides)`."""
    hits = weights @ np.array([(s.positive & s.hot).sum() for s in slides])
    positive = weights @ np.array([s.positive.sum() for s in slides])
    hot = weights @ np.array([s.hot.sum() for s in slides])
    return np.asarray(2 * hits / np.where(positive > 0, positive + hot, np.nan))
