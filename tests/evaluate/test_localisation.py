import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from wsi_mil.evaluate.localisation import (
    Detections,
    TileTruth,
    best_f1,
    best_threshold,
    bootstrap_figures,
    detections,
    f1,
    froc,
    nan_to_neg_inf,
    neighbours,
    patient_histograms,
    tile_figures,
)
from wsi_mil.metrics import patient_draws, patient_weights

INF = np.inf
BOX = (10, 5)
GRID = np.array([[x, y] for y in (0, 5, 10) for x in (0, 10, 20, 30)])
"""Three rows of four tiles that touch."""


def truth(coords: np.ndarray = GRID, hits: list[tuple[int, int]] = (), *, n_lesions: int = 0) -> TileTruth:
    """Tiles that overlap lesions in these pairs (tile, lesion)."""
    pairs = np.array(hits, np.int64).reshape(-1, 2)
    return TileTruth(coords, np.isin(np.arange(len(coords)), pairs[:, 0]), n_lesions, pairs, neighbours(coords, box=BOX))


def tiles(n: int, seed: int, *, share: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Truth and scores with ties and a tenth never hot; positive tiles score higher."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < share
    scores = np.round(rng.normal(size=n) + 1.5 * positive, 1)
    return positive, np.where(rng.random(n) < 0.1, -INF, scores)


def test_tile_figures_equal_those_of_scikit_learn() -> None:
    positive, scores = tiles(400, 0)
    finite = np.where(np.isfinite(scores), scores, -99)
    expected = roc_auc_score(positive, finite), average_precision_score(positive, finite)
    assert tile_figures(positive, scores) == pytest.approx(expected)


def test_nothing_shown_is_chance_and_tiles_of_one_class_have_no_figure() -> None:
    positive = np.array([True, False, False, False])
    assert tile_figures(positive, nan_to_neg_inf(np.full(4, np.nan, np.float32))) == (0.5, 0.25)
    assert np.isnan(tile_figures(np.zeros(3, bool), np.arange(3.0))).all()


def test_the_threshold_is_the_midpoint_below_the_best_f1() -> None:
    positive = np.array([True, True, False, True, False])
    scores = np.array([8.0, 6.0, 3.0, 2.0, 1.0])
    # F1 after 1..5 tiles: 2/4, 4/5, 4/6, 6/7, 6/8
    assert best_threshold(positive, scores) == 1.5
    assert best_f1(positive, scores) == pytest.approx(6 / 7)
    assert f1(positive, scores >= 4.5) == pytest.approx(4 / 5)


def test_equal_scores_are_hot_together() -> None:
    positive, scores = np.array([True, False, False, True]), np.array([2.0, 2.0, 2.0, 1.0])
    # of 3 tiles one is true, of all 4 two: 2/5 against 4/6
    assert best_threshold(positive, scores) == 1.0 and best_f1(positive, scores) == pytest.approx(4 / 6)


def test_the_highest_of_equally_good_thresholds_is_taken() -> None:
    # F1 after 1..4 tiles: 2/3, 2/4, 2/5, 4/6
    assert best_threshold(np.array([True, False, False, True]), np.array([4.0, 3.0, 2.0, 1.0])) == 3.5


def test_a_tile_that_is_never_hot_is_below_every_threshold() -> None:
    assert best_threshold(np.array([True, False, True]), np.array([9.0, 5.0, -INF])) == 7.0, "2/3, then 2/4"
    positive = np.array([True, True])
    assert best_threshold(positive, np.array([3.0, -INF])) == 3.0
    assert np.isnan(best_threshold(positive, np.full(2, -INF))) and best_f1(positive, np.full(2, -INF)) == 0
    assert np.isnan(best_threshold(~positive, np.array([3.0, 2.0])))


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_better_than_the_best(seed: int) -> None:
    positive, scores = tiles(200, seed)
    each = [f1_score(positive, scores >= cut) for cut in np.unique(scores[np.isfinite(scores)])]
    assert best_f1(positive, scores) == pytest.approx(max(each))
    assert f1(positive, scores >= best_threshold(positive, scores)) == pytest.approx(max(each))


def test_a_detection_suppresses_the_tiles_around_it_and_no_others() -> None:
    scores = np.array([1, 2, 3, 9, 4, 5, 6, 8, 7, 0.5, 2, 1.0])
    # 9 at (30, 0) takes (20, 0), (20, 5), (30, 5); then 7 at (0, 10) takes (0, 5), (10, 5), (10, 10);
    # then 2 at (10, 0), which takes (0, 0), and 2 at (20, 10), which takes (30, 10)
    found = detections(scores, truth())
    assert sorted(found.false_positives) == [2, 2, 7, 9]


def test_neighbours_are_measured_along_each_side_of_the_tile() -> None:
    coords = np.array([[0, 0], [0, 6], [7, 0], [11, 0]])
    found = detections(np.array([4.0, 3.0, 2.0, 1.0]), truth(coords))
    assert sorted(found.false_positives) == [1, 3, 4], "(7, 0) is less than a width from (0, 0), (0, 6) more than a height"


def test_a_detection_finds_every_lesion_that_it_overlaps_and_is_then_no_false_positive() -> None:
    scores = np.array([0, 0, 0, 9, 0, 0, 0, 0, 7, 0, 0, 0.0])
    scores[scores == 0] = -INF
    found = detections(scores, truth(GRID, [(3, 0), (3, 2), (8, 2), (1, 1)], n_lesions=4))
    assert found.lesions.tolist() == [9, -INF, 9, -INF] and found.false_positives.tolist() == []


def test_detections_do_not_depend_on_the_order_of_tiles() -> None:
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 4, len(GRID)).astype(float)
    hits = [(0, 0), (5, 0), (6, 1)]
    first = detections(scores, truth(GRID, hits, n_lesions=2))
    order = rng.permutation(len(GRID))
    place = np.argsort(order)
    second = detections(scores[order], truth(GRID[order], [(place[t], lesion) for t, lesion in hits], n_lesions=2))
    assert sorted(first.false_positives) == sorted(second.false_positives)
    assert first.lesions.tolist() == second.lesions.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_detections_equal_those_of_taking_the_hottest_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, 90, (300, 2)), axis=0)
    scores = np.where(rng.random(len(coords)) < 0.1, -INF, rng.permutation(len(coords)).astype(float))
    left, kept = scores.copy(), []
    while np.isfinite(left).any():
        hottest = int(np.argmax(left))
        kept.append(left[hottest])
        left[(np.abs(coords - coords[hottest]) <= BOX).all(axis=1)] = -INF
    assert sorted(detections(scores, truth(coords)).false_positives) == sorted(kept)


FOUND = [
    Detections(np.array([9.0, 4.0, 1.0]), np.array([5.0, 8.0, -INF])),
    Detections(np.array([7.0, 6.0, 3.0]), np.array([])),
    Detections(np.array([]), np.array([2.0])),
]
"""Four lesions of three slides; lesions found at 8, 5 and 2, with 1, 3 and 5 false positives of three slides."""


def test_recall_at_false_positives_a_slide_by_hand() -> None:
    # 1 a slide is 3 in all: lesions 8 and 5 are found; 2 a slide is 6: lesion 2 too; the fourth never is
    assert froc(FOUND).tolist() == [[2 / 4, 3 / 4, 3 / 4, 3 / 4]]


def test_a_slide_without_lesions_allows_more_false_positives() -> None:
    quiet = Detections(np.array([]), np.array([]))
    assert froc([*FOUND, quiet, quiet])[0, 0] == 3 / 4


def test_equal_scores_are_counted_together_in_the_recall_curve() -> None:
    tied = [Detections(np.full(5, 2.0), np.array([2.0, 3.0]))]
    assert froc(tied).tolist() == [[1 / 2, 1 / 2, 1 / 2, 1.0]]


def test_a_weighted_slide_counts_as_so_many_slides() -> None:
    weights = np.array([[2, 0, 1], [1, 1, 1], [0, 3, 0]])
    drawn = froc(FOUND, weights)
    assert drawn[0].tolist() == froc([FOUND[0], FOUND[0], FOUND[2]])[0].tolist()
    assert drawn[1].tolist() == froc(FOUND)[0].tolist() and np.isnan(drawn[2]).all()


def test_nothing_detected_is_no_lesion_found() -> None:
    assert froc([Detections(np.array([]), np.full(3, -INF))]).tolist() == [[0, 0, 0, 0]]


def test_bootstrap_figures_equal_the_exact_ones_of_the_drawn_tiles() -> None:
    positive, scores = tiles(900, 1)
    patients = np.random.default_rng(2).integers(0, 12, 900)
    drawn = bootstrap_figures(patient_histograms(positive, scores, patients, 12), patient_weights(12, draws=20))
    names = [f"p{k:02d}" for k in patients]
    for k, rows in enumerate(patient_draws(names, draws=20)):
        area, precision = tile_figures(positive[rows], scores[rows])
        assert drawn["auroc"][k] == pytest.approx(area) and drawn["auprc"][k] == pytest.approx(precision)
        assert drawn["f1_oracle"][k] == pytest.approx(best_f1(positive[rows], scores[rows]))


def test_with_more_scores_than_bins_figures_are_exact_to_a_thousandth() -> None:
    rng = np.random.default_rng(4)
    positive = rng.random(60_000) < 0.1
    scores = rng.normal(size=60_000) + 1.2 * positive
    counts = patient_histograms(positive, scores, np.arange(60_000) % 7, 7)
    assert counts.positives.shape[1] <= 4096 and counts.positives.sum() == positive.sum()
    drawn = bootstrap_figures(counts, np.ones((1, 7), np.int64))
    area, precision = tile_figures(positive, scores)
    exact = {"auroc": area, "auprc": precision, "f1_oracle": best_f1(positive, scores)}
    assert {name: values[0] for name, values in drawn.items()} == pytest.approx(exact, abs=1e-3)


def test_tiles_that_are_never_hot_are_so_in_the_draws_too() -> None:
    """Where most of what is true is never hot, calling everything hot would be the best cut; it is none."""
    positive = np.arange(12) % 3 > 0
    scores = np.where(np.arange(12) < 9, -np.inf, np.arange(12.0))
    drawn = bootstrap_figures(patient_histograms(positive, scores, np.zeros(12, np.int64), 1), np.ones((1, 1), np.int64))
    assert drawn["f1_oracle"][0] == pytest.approx(best_f1(positive, scores)) == pytest.approx(2 * 2 / (8 + 2))
    nothing = np.full(12, -np.inf)
    drawn = bootstrap_figures(patient_histograms(positive, nothing, np.zeros(12, np.int64), 1), np.ones((1, 1), np.int64))
    assert drawn["f1_oracle"][0] == best_f1(positive, nothing) == 0


def test_a_draw_without_a_lesion_has_no_figures() -> None:
    counts = patient_histograms(np.array([True, False, False]), np.array([3.0, 2.0, 1.0]), np.array([0, 0, 1]), 2)
    drawn = bootstrap_figures(counts, np.array([[0, 2], [1, 1]]))
    assert all(np.isnan(values[0]) and values[1] == 1 for values in drawn.values())
