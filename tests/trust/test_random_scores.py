"""Random scores on a simulated model: how often a slide's line calls them faithful."""

from typing import Any

import numpy as np

from tests.trust.test_words import text
from wsi_mil.explain.curves import Model, Predicted, curve_log, curves_of, random_curves

N_TILES, N_SLIDES, POINTS = 200, 120, 12


def attending(rng: np.random.Generator) -> tuple[Model, np.ndarray]:
    """A model that pools few positive tiles by attention, and what each tile contributes to it."""
    attention = np.exp(rng.normal(size=N_TILES))
    evidence = rng.exponential(size=N_TILES) * (rng.random(N_TILES) < 0.08)

    def logit(rows: np.ndarray) -> float:
        return 24 * float(np.sum(attention[rows] * evidence[rows]) / np.sum(attention[rows]))

    offset = 1 - logit(np.arange(N_TILES))

    def model(rows: np.ndarray) -> Predicted:
        prob = 1 / (1 + np.exp(-logit(rows) - offset))
        return Predicted(prob, prob >= 0.5)

    return model, attention * evidence


def lines(seed: int) -> tuple[str, str]:
    """Lines of random scores, and of scores that are what tiles contribute."""
    rng = np.random.default_rng(seed)
    model, contribution = attending(rng)
    random = random_curves(N_TILES, model, points=POINTS, seed=seed)

    def line(order: np.ndarray) -> str:
        log: dict[str, Any] = curve_log(curves_of(order, model, points=POINTS), random)
        return text(curves=log)

    return line(rng.permutation(N_TILES)), line(np.argsort(-contribution))


def test_random_scores_are_seldom_called_faithful_and_good_ones_nearly_always() -> None:
    at_random, good = zip(*map(lines, range(N_SLIDES)), strict=True)
    n_random, n_good = (sum(line.startswith("faithful") for line in each) for each in (at_random, good))
    assert n_random <= 0.12 * N_SLIDES, "a comparison with the mean of random orders calls a third or more of them faithful"
    assert n_good >= 0.95 * N_SLIDES
