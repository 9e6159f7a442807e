"""Localisation of annotated lesions by tile scores: AUROC and F1 of tiles, thresholds, recall of lesions (FROC). No I/O.

A score of -inf is below every threshold, so the tile is never hot. Tied scores are always treated together.

Bootstrap figures are computed from score histograms of each patient's tiles, weighted by how often the patient is drawn; a
test compares them with the exact figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.metrics import auprc, auroc

FALSE_POSITIVES = (1, 2, 4, 8)
"""Average false positives per slide at which the recall of lesions is given; CAMELYON16 also uses 1/4 and 1/2."""

MAX_BINS = 4096
DRAWS_PER_BLOCK = 250

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TileTruth:
    """Ground truth of the tiles of a slide.

    Attributes:
        coords: int64 `(n, 2)` top-left corners (x, y), level-0 pixels.
        positive: bool `(n,)`, which tiles are truly positive.
        n_lesions: number of lesions, with or without a tile on them.
        hits: int64 `(n_hits, 2)`, pairs (tile, lesion) that overlap.
        neighbours: int64 `(n_pairs, 2)`, result of `neighbours`.
    """

    coords: NDArray[np.int64]
    positive: NDArray[np.bool_]
    n_lesions: int
    hits: NDArray[np.int64]
    neighbours: NDArray[np.int64]


@dataclass(frozen=True)
class Detections:
    """Detections of one method on one slide.

    Attributes:
        false_positives: `(n_false_positives,)`, scores of the detections that overlap no lesion.
        lesions: `(n_lesions,)`, score of the hottest detection that overlaps each lesion, -inf without one.
    """

    false_positives: Floats
    lesions: Floats


@dataclass(frozen=True)
class ScoreHistograms:
    """Numbers of tiles of each patient by score, the hottest bin first.

    Attributes:
        positives: `(n_patients, n_bins)`, positive tiles.
        negatives: `(n_patients, n_bins)`, negative tiles.
    """

    positives: Floats
    negatives: Floats


def nan_to_neg_inf(values: NDArray[np.floating]) -> Floats:
    """Return scores in float64, with -inf instead of NaN (nothing to show)."""
    return np.where(np.isnan(values), -np.inf, values.astype(np.float64))


def tile_figures(positive: NDArray[np.bool_], scores: Floats) -> tuple[float, float]:
    """Return AUROC and AUPRC of tiles; NaN if no tile, or every tile, is positive.

    If nothing is shown, they are at chance: 0.5, and the share of positive tiles.

    Args:
        positive: `(n,)`, which tiles are truly positive.
        scores: `(n,)`, -inf for tiles that are never hot.
    """
    ranks = np.unique(scores, return_inverse=True)[1].astype(np.float64)
    columns = np.stack([-ranks, ranks], axis=1)
    truth = positive.astype(np.int64)
    return auroc(truth, columns), auprc(truth, columns)


def f1(positive: NDArray[np.bool_], hot: NDArray[np.bool_]) -> float:
    """Return the F1 score of tiles; NaN if none is positive."""
    if not positive.any():
        return float("nan")
    return float(2 * (positive & hot).sum() / (positive.sum() + hot.sum()))


def best_threshold(positive: NDArray[np.bool_], scores: Floats) -> float:
    """Return the threshold with the largest F1; a tile is hot if score ≥ threshold. NaN if no tile is positive or can be hot.

    Candidates are the midpoints between neighbouring distinct scores, and the lowest score; of equally good ones the
    highest is returned.

    Args:
        positive: `(n,)`, which tiles are truly positive.
        scores: `(n,)`, -inf for tiles that are never hot.
    """
    distinct, bin_of = np.unique(scores, return_inverse=True)
    hottest_first = distinct[::-1][np.isfinite(distinct[::-1])]
    if not positive.any() or not len(hottest_first):
        return float("nan")
    hits, tiles = (np.cumsum(np.bincount(bin_of, weights, len(distinct))[::-1]) for weights in (positive, None))
    best = int(np.argmax((2 * hits / (positive.sum() + tiles))[: len(hottest_first)]))
    return float(np.mean(hottest_first[best : best + 2]))


def best_f1(positive: NDArray[np.bool_], scores: Floats) -> float:
    """Return the F1 score at the `best_threshold` of the same tiles (an oracle); NaN without a positive tile."""
    if not positive.any():
        return float("nan")
    threshold = best_threshold(positive, scores)
    return f1(positive, scores >= threshold)


def neighbours(coords: NDArray[np.int64], *, box: tuple[int, int]) -> NDArray[np.int64]:
    """Return the pairs of tiles whose centres are at most one tile width and one tile height apart.

    Args:
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of a footprint, level-0 pixels.

    Returns:
        int64 `(n_pairs, 2)`, each pair once.
    """
    from scipy.spatial import cKDTree  # here: it takes a quarter of a second, and figures are read without it

    within = 1 + 1e-9  # includes adjacent tiles of a grid despite rounding
    return np.asarray(cKDTree(coords / np.asarray(box)).query_pairs(within, p=np.inf, output_type="ndarray"), np.int64)


def detections(scores: Floats, truth: TileTruth) -> Detections:
    """Return the detections of a slide, each a hit of one or more lesions or a false positive.

    Non-maximum suppression: the hottest tile is a detection and suppresses its neighbours; then the hottest of the
    remaining tiles, and so on (ties: the upper one, then the left one). A detection hits every lesion that its footprint
    overlaps; if it overlaps none, it is a false positive.

    Args:
        scores: `(n,)`, -inf for tiles that are never hot.
        truth: ground truth of the same tiles.
    """
    is_detection = _unsuppressed(scores, truth)
    is_false_positive = is_detection.copy()
    is_false_positive[truth.hits[:, 0]] = False
    hits = truth.hits[is_detection[truth.hits[:, 0]]]
    lesions = np.full(truth.n_lesions, -np.inf)
    np.maximum.at(lesions, hits[:, 1], scores[hits[:, 0]])
    return Detections(scores[is_false_positive], lesions)


def froc(slides: Sequence[Detections], weights: NDArray[np.integer] | None = None) -> Floats:
    """Return the recall of lesions at each of `FALSE_POSITIVES` per slide on average; NaN without lesions.

    It is the highest recall at any threshold with at most so many false positives, without interpolation.

    Args:
        slides: detections of every evaluated slide, including those without lesions.
        weights: `(draws, n_slides)`, how often each slide counts; None: each once, in a single draw.

    Returns:
        `(draws, len(FALSE_POSITIVES))`.
    """
    slide_weights = np.ones((1, len(slides))) if weights is None else weights.astype(np.float64)
    lesions = np.concatenate([slide.lesions for slide in slides])
    thresholds = np.unique(lesions[np.isfinite(lesions)])  # recall changes only at the score of a lesion
    n_hits, n_false = np.zeros((2, len(slides), len(thresholds)))
    for i, slide in enumerate(slides):
        n_hits[i] = (slide.lesions[:, None] >= thresholds).sum(axis=0)
        n_false[i] = len(slide.false_positives) - np.searchsorted(np.sort(slide.false_positives), thresholds)
    n_lesions = slide_weights @ np.array([len(slide.lesions) for slide in slides], np.float64)
    recall = _ratio(slide_weights @ n_hits, n_lesions[:, None])
    false_per_slide = (slide_weights @ n_false) / slide_weights.sum(axis=1)[:, None]
    best_recalls = [np.where(false_per_slide <= most, recall, 0).max(axis=1, initial=0) for most in FALSE_POSITIVES]
    return np.where(n_lesions[:, None] > 0, np.stack(best_recalls, axis=1), np.nan)


def patient_histograms(
    positive: NDArray[np.bool_], scores: Floats, patient_of: NDArray[np.int64], n_patients: int
) -> ScoreHistograms:
    """Return histograms of the scores of each patient's tiles, with at most `MAX_BINS` bins.

    Half of the bin edges are quantiles of all scores, half of the scores of positive tiles, which are few and mostly high,
    where the figures are decided. With up to 2,048 distinct scores of either, all tiles of a bin have the same score.

    Args:
        positive: `(n_tiles,)`, which tiles are truly positive.
        scores: `(n_tiles,)`, -inf for tiles that are never hot.
        patient_of: `(n_tiles,)`, index of each tile's patient.
        n_patients: number of patients.
    """
    edges = np.unique(np.concatenate([_quantiles(scores), _quantiles(scores[positive])]))
    bin_of = len(edges) - np.searchsorted(edges, scores, side="right")
    shape = (n_patients, len(edges) + 1)
    cell = patient_of * shape[1] + bin_of
    counts = [np.bincount(cell[rows], minlength=shape[0] * shape[1]).reshape(shape) for rows in (positive, ~positive)]
    return ScoreHistograms(counts[0].astype(np.float64), counts[1].astype(np.float64))


def bootstrap_figures(histograms: ScoreHistograms, weights: NDArray[np.integer]) -> dict[str, Floats]:
    """Return pooled AUROC, AUPRC and best F1 of tiles in each draw `(draws,)`; NaN if all tiles are positive, or none.

    Scores of one bin are treated as ties.

    Args:
        histograms: scores of each patient's tiles.
        weights: `(draws, n_patients)`, how often each patient counts.
    """
    starts = range(0, len(weights), DRAWS_PER_BLOCK)
    blocks = [weights[start : start + DRAWS_PER_BLOCK].astype(np.float64) for start in starts]
    figures = [_figures(block @ histograms.positives, block @ histograms.negatives) for block in blocks]
    return {name: np.concatenate([of_block[name] for of_block in figures]) for name in figures[0]}


def _figures(positives: Floats, negatives: Floats) -> dict[str, Floats]:
    """Figures of histograms `(draws, n_bins)`, the hottest bin first."""
    hits = np.cumsum(positives, axis=1)
    misses = np.cumsum(negatives, axis=1)
    n_positive, n_negative = hits[:, -1], misses[:, -1]
    below = n_negative[:, None] - misses + negatives / 2
    precision = _ratio(hits, hits + misses)
    best = _ratio(2 * hits, n_positive[:, None] + hits + misses)[:, :-1].max(axis=1, initial=0)
    return {
        "auroc": _ratio((positives * below).sum(axis=1), n_positive * n_negative),
        "auprc": np.where(n_negative > 0, _ratio(np.nansum(positives * precision, axis=1), n_positive), np.nan),
        "f1_oracle": np.where(n_positive > 0, best, np.nan),
    }


def _unsuppressed(scores: Floats, truth: TileTruth) -> NDArray[np.bool_]:
    """Which tiles `(n,)` are left when each, hottest first, has suppressed its neighbours.

    In each round, every tile that is hotter than all of its remaining neighbours is kept, and these are removed.
    """
    rank = np.empty(len(scores), np.int64)
    rank[np.lexsort((truth.coords[:, 0], truth.coords[:, 1], -scores))] = np.arange(len(scores))
    remaining = np.isfinite(scores)
    kept = np.zeros(len(scores), bool)
    pairs = truth.neighbours
    while remaining.any():
        pairs = pairs[remaining[pairs].all(axis=1)]
        first, second = pairs.T
        is_top = remaining.copy()
        is_top[np.where(rank[first] < rank[second], second, first)] = False
        kept |= is_top
        remaining &= ~is_top
        remaining[second[is_top[first]]] = False
        remaining[first[is_top[second]]] = False
    return kept


def _quantiles(scores: Floats) -> Floats:
    """Distinct finite scores, or quantiles of them if there are more than half the number of bins."""
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return scores
    distinct = np.unique(scores)
    n = MAX_BINS // 2 - 1
    return distinct if len(distinct) <= n else np.quantile(scores, np.linspace(0, 1, n), method="lower")


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient; NaN where the denominator is 0."""
    return np.asarray(numerator / np.where(denominator > 0, denominator, np.nan))
