"""How well scores of tiles find annotated lesions: tiles told apart, thresholds, lesions found (FROC). Pure.

A score of -inf never counts as hot: it lies below every threshold. Equal scores are always taken together.

What the bootstrap asks for a thousand times is counted from histograms of each patient's tiles, a draw being a whole
number of times that each patient counts; a test holds it against the exact figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from wsi_mil.metrics import auprc, auroc

FALSE_POSITIVES = (1, 2, 4, 8)
"""Average false positives a slide at which the recall of lesions is given; CAMELYON16 has 1/4 and 1/2 before these."""

MAX_BINS = 4096
DRAWS_AT_ONCE = 250

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TileTruth:
    """What is true of a slide's tiles.

    Attributes:
        coords: int64 `(n, 2)` top-left corners (x, y), level-0 pixels.
        positive: bool `(n,)`.
        n_lesions: how many lesions there are, with or without a tile on them.
        hits: int64 `(n_hits, 2)` rows (tile, lesion) that overlap.
        neighbours: `neighbours` of the tiles.
    """

    coords: NDArray[np.int64]
    positive: NDArray[np.bool_]
    n_lesions: int
    hits: NDArray[np.int64]
    neighbours: NDArray[np.int64]


@dataclass(frozen=True)
class Detections:
    """What one method's scores detect on one slide.

    Attributes:
        false_positives: `(n_detections_beside_every_lesion,)` their scores.
        lesions: `(n_lesions,)` score of the hottest detection that overlaps the lesion, -inf where none does.
    """

    false_positives: Floats
    lesions: Floats


@dataclass(frozen=True)
class Counts:
    """Tiles of each patient by score, the hottest bin first.

    Attributes:
        positives: `(n_patients, n_bins)`.
        negatives: `(n_patients, n_bins)`.
    """

    positives: Floats
    negatives: Floats


def never_hot(values: NDArray[np.floating]) -> Floats:
    """Scores with -inf where there is nothing to show (NaN)."""
    return np.where(np.isnan(values), -np.inf, values.astype(np.float64))


def tile_figures(positive: NDArray[np.bool_], scores: Floats) -> tuple[float, float]:
    """AUROC and AUPRC of tiles; NaN where no tile, or every tile, is positive.

    Where nothing is shown they are what chance gives: 0.5, and the share of positive tiles.

    Args:
        positive: `(n,)`.
        scores: `(n,)`, -inf for never hot.
    """
    ranks = np.unique(scores, return_inverse=True)[1].astype(np.float64)
    columns, truth = np.stack([-ranks, ranks], axis=1), positive.astype(np.int64)
    return auroc(truth, columns), auprc(truth, columns)


def f1(positive: NDArray[np.bool_], hot: NDArray[np.bool_]) -> float:
    """F1 of tiles; NaN where none is positive."""
    if not positive.any():
        return float("nan")
    return float(2 * (positive & hot).sum() / (positive.sum() + hot.sum()))


def best_threshold(positive: NDArray[np.bool_], scores: Floats) -> float:
    """Cut-off with the largest F1; hot means score ≥ cut-off. NaN where no tile is positive, or none can be hot.

    Candidates lie half-way between neighbouring distinct scores, and at the lowest, where every tile that can be hot
    is so; of equally good ones the highest is taken.

    Args:
        positive: `(n,)`.
        scores: `(n,)`, -inf for never hot.
    """
    distinct, bin_of = np.unique(scores, return_inverse=True)
    hottest_first = distinct[::-1][np.isfinite(distinct[::-1])]
    if not positive.any() or not len(hottest_first):
        return float("nan")
    hits, tiles = (np.cumsum(np.bincount(bin_of, weights, len(distinct))[::-1]) for weights in (positive, None))
    best = int(np.argmax((2 * hits / (positive.sum() + tiles))[: len(hottest_first)]))
    return float(np.mean(hottest_first[best : best + 2]))


def best_f1(positive: NDArray[np.bool_], scores: Floats) -> float:
    """F1 at `best_threshold` of these very tiles: an oracle's, the best that any threshold gives; NaN without a positive."""
    if not positive.any():
        return float("nan")
    threshold = best_threshold(positive, scores)
    return f1(positive, scores >= threshold)


def neighbours(coords: NDArray[np.int64], *, box: tuple[int, int]) -> NDArray[np.int64]:
    """Pairs of tiles whose centres lie within one tile's width and one tile's height of each other.

    Args:
        coords: `(n, 2)` top-left corners (x, y), level-0 pixels.
        box: (width, height) of a footprint, level-0 pixels.

    Returns:
        int64 `(n_pairs, 2)`, each pair once.
    """
    within = 1 + 1e-9  # so that tiles of a grid, just one side apart, are within
    return np.asarray(cKDTree(coords / np.asarray(box)).query_pairs(within, p=np.inf, output_type="ndarray"), np.int64)


def detections(scores: Floats, truth: TileTruth) -> Detections:
    """Hottest tiles that suppress their neighbours, each a lesion found or a false positive.

    Non-maximum suppression: the hottest tile is a detection, and none of its neighbours can be; then the hottest of
    the others, and so on (of equally hot ones the upper, then the left). A detection finds every lesion that its
    footprint overlaps; where it overlaps none it is a false positive.

    Args:
        scores: `(n,)`, -inf for never hot.
        truth: of these tiles.
    """
    kept = _unsuppressed(scores, truth)
    beside = kept.copy()
    beside[truth.hits[:, 0]] = False
    found = truth.hits[kept[truth.hits[:, 0]]]
    lesions = np.full(truth.n_lesions, -np.inf)
    np.maximum.at(lesions, found[:, 1], scores[found[:, 0]])
    return Detections(scores[beside], lesions)


def froc(found: Sequence[Detections], weights: NDArray[np.integer] | None = None) -> Floats:
    """Recall of lesions at each of `FALSE_POSITIVES` on average a slide; NaN where there is no lesion.

    The highest recall that any threshold reaches with so many or fewer: no line is drawn between thresholds.

    Args:
        found: of every slide that is evaluated, those without a lesion too.
        weights: `(draws, n_slides)` how often each slide counts; None: each once, as the only draw.

    Returns:
        `(draws, len(FALSE_POSITIVES))`.
    """
    times = np.ones((1, len(found))) if weights is None else weights.astype(np.float64)
    lesions = np.concatenate([d.lesions for d in found])
    cuts = np.unique(lesions[np.isfinite(lesions)])  # recall grows at the score of a lesion only
    n_found, n_false = np.zeros((2, len(found), len(cuts)))
    for row, d in enumerate(found):
        n_found[row] = (d.lesions[:, None] >= cuts).sum(axis=0)
        n_false[row] = len(d.false_positives) - np.searchsorted(np.sort(d.false_positives), cuts)
    n_lesions = times @ np.array([len(d.lesions) for d in found], np.float64)
    recall = _ratio(times @ n_found, n_lesions[:, None])
    each = (times @ n_false) / times.sum(axis=1)[:, None]
    reached = [np.where(each <= most, recall, 0).max(axis=1, initial=0) for most in FALSE_POSITIVES]
    return np.where(n_lesions[:, None] > 0, np.stack(reached, axis=1), np.nan)


def counts_of_patients(positive: NDArray[np.bool_], scores: Floats, patient_of: NDArray[np.int64], n_patients: int) -> Counts:
    """Histograms of tiles over `MAX_BINS` or fewer bins.

    Half of the edges are quantiles of all scores, half of the positive tiles' (few, and at the hot end, where the
    figures are decided): with up to 2,048 distinct scores of either every bin holds tiles of one score or of none.

    Args:
        positive: `(n_tiles,)`.
        scores: `(n_tiles,)`, -inf for never hot.
        patient_of: `(n_tiles,)` index of the patient.
        n_patients: how many there are.
    """
    edges = np.unique(np.concatenate([_quantiles(scores), _quantiles(scores[positive])]))
    bin_of = len(edges) - np.searchsorted(edges, scores, side="right")
    flat, shape = patient_of * (len(edges) + 1) + bin_of, (n_patients, len(edges) + 1)
    count = [np.bincount(flat[rows], minlength=shape[0] * shape[1]).reshape(shape) for rows in (positive, ~positive)]
    return Counts(count[0].astype(np.float64), count[1].astype(np.float64))


def drawn_figures(counts: Counts, weights: NDArray[np.integer]) -> dict[str, Floats]:
    """Pooled AUROC, AUPRC and best F1 of tiles in each draw `(draws,)`, bins taken as ties; NaN without both classes.

    Args:
        counts: of each patient.
        weights: `(draws, n_patients)` how often each patient counts.
    """
    parts = [weights[start : start + DRAWS_AT_ONCE].astype(np.float64) for start in range(0, len(weights), DRAWS_AT_ONCE)]
    each = [_figures(part @ counts.positives, part @ counts.negatives) for part in parts]
    return {name: np.concatenate([figures[name] for figures in each]) for name in each[0]}


def _figures(positives: Floats, negatives: Floats) -> dict[str, Floats]:
    """Of histograms `(draws, n_bins)`, the hottest bin first."""
    hits, misses = np.cumsum(positives, axis=1), np.cumsum(negatives, axis=1)
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
    """Tiles `(n,)` that are left when each, hottest first, has suppressed its neighbours.

    Round by round: a tile that is hotter than all of its neighbours still in play is kept, and they go out of play.
    """
    place = np.empty(len(scores), np.int64)
    place[np.lexsort((truth.coords[:, 0], truth.coords[:, 1], -scores))] = np.arange(len(scores))
    in_play, kept = np.isfinite(scores), np.zeros(len(scores), bool)
    pairs = truth.neighbours
    while in_play.any():
        pairs = pairs[in_play[pairs].all(axis=1)]
        first, second = pairs.T
        is_top = in_play.copy()
        is_top[np.where(place[first] < place[second], second, first)] = False
        kept |= is_top
        in_play &= ~is_top
        in_play[second[is_top[first]]] = False
        in_play[first[is_top[second]]] = False
    return kept


def _quantiles(scores: Floats) -> Floats:
    """Distinct scores, or as many quantiles of them as half of the bins; -inf is no edge."""
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return scores
    distinct = np.unique(scores)
    n = MAX_BINS // 2 - 1
    return distinct if len(distinct) <= n else np.quantile(scores, np.linspace(0, 1, n), method="lower")


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """NaN where the denominator is 0."""
    return np.asarray(numerator / np.where(denominator > 0, denominator, np.nan))
