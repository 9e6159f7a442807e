"""Key instances on the colon images (Shin et al.): localise epithelial nuclei with the fold models of `colon`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.papers import colon, keys
from benchmarks.papers.colon import fold_of, read_colon
from benchmarks.papers.histology import Fold, Image
from benchmarks.papers.runs import Run
from wsi_mil.config import SparseInversion
from wsi_mil.explain.sparse_inversion import Domain
from wsi_mil.records import Role

GLASS_IS_WHITE = Domain.of_pixels(background=1.0)
SWEEP = [SparseInversion(step=step, penalty=penalty, steps=10) for step in (0.3, 1.0, 5.0) for penalty in (0.003, 0.03)]
SWEPT_IMAGES = 3
"""Positive validation images of each fold on which settings are compared; thresholds are selected on all of them."""


def positive_images(images: Sequence[Image]) -> list[keys.AnnotatedBag]:
    """Return the positive images with the labels of their instances."""
    return [keys.AnnotatedBag(image.bag(), image.positive) for image in images if image.label == 1]


def score_fold(fold: Fold, images: Sequence[Image]) -> tuple[list[tuple[keys.ScoredBag, dict[str, float]]], list[dict[str, Any]]]:
    """Score the positive test images of a fold; return them with the fold's thresholds, and its sweep."""
    model, _ = fold.trained_model(images)
    model.to(memory_format=torch.channels_last)
    val, test = (positive_images(fold.images(images, role)) for role in (Role.VAL, Role.TEST))
    rows = keys.sweep(model, val[:SWEPT_IMAGES], GLASS_IS_WHITE, SWEEP)
    inversions = keys.inversions_for(rows)
    thresholds = keys.thresholds(keys.score_bags(model, val, inversions, GLASS_IS_WHITE))
    return [(bag, thresholds) for bag in keys.score_bags(model, test, inversions, GLASS_IS_WHITE)], rows


def work(model: str, data: Path) -> dict[str, Any]:
    """Return the figures of every score on the positive images, each scored by the fold that held it out."""
    images = read_colon(data / "colon")
    test = []
    sweeps = []
    for number in range(colon.SPLIT.folds):
        scored_bags, rows = score_fold(fold_of(model, number), images)
        test += scored_bags
        sweeps.append(rows)
    inversions = keys.inversions_for(sweeps[0])
    return {
        "summary": keys.summary([bag for bag, _ in test]),
        "scores": keys.figures(test),
        "differences": keys.score_differences(test, keys.pairs_of(inversions, keys.SELECTION_SCORES)),
        "sweeps": sweeps,
    }


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each model; the fast subset has none, because ten trained models are needed."""
    if fast:
        return []
    all_runs = []
    for model in ("attention", "gated"):
        sweep = [[s.step, s.penalty, s.steps] for s in SWEEP]
        settings = {**fold_of(model, 0).as_json(), "fold": "all", "swept_images": SWEPT_IMAGES, "sweep": sweep}
        all_runs.append(Run(f"colon_keys/{model}", settings, 0, lambda model=model: work(model, data)))
    return all_runs
