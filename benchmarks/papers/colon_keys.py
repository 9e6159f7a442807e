"""Key instances on the colon set (Shin et al.): where are the epithelial nuclei? By the fold models of `colon`."""

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
"""Positive validation images of each fold that try each setting; thresholds are chosen on all of them."""


def positives(images: Sequence[Image]) -> list[keys.Known]:
    """Positive images with their truth."""
    return [keys.Known(image.bag(), image.positive) for image in images if image.label == 1]


def of_fold(fold: Fold, images: Sequence[Image]) -> tuple[list[tuple[keys.Scored, dict[str, float]]], list[dict[str, Any]]]:
    """The held-out positive images scored by a fold's model, with its thresholds; and its sweep."""
    model, _ = fold.trained(images)
    model.to(memory_format=torch.channels_last)
    val, test = (positives(fold.images(images, role)) for role in (Role.VAL, Role.TEST))
    rows = keys.sweep(model, val[:SWEPT_IMAGES], GLASS_IS_WHITE, SWEEP)
    inversions = keys.inversions_for(rows)
    cut = keys.thresholds(keys.scored(model, val, inversions, GLASS_IS_WHITE))
    return [(bag, cut) for bag in keys.scored(model, test, inversions, GLASS_IS_WHITE)], rows


def work(model: str, data: Path) -> dict[str, Any]:
    """Figures of every score on the positive images, each by the fold that holds it out."""
    images = read_colon(data / "colon")
    test, sweeps = [], []
    for number in range(colon.SPLIT.folds):
        found, rows = of_fold(fold_of(model, number), images)
        test += found
        sweeps.append(rows)
    inversions = keys.inversions_for(sweeps[0])
    return {
        "summary": keys.summary([bag for bag, _ in test]),
        "scores": keys.figures(test),
        "differences": keys.compared(test, keys.pairs_of(inversions, keys.CHOOSERS)),
        "sweeps": sweeps,
    }


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Each model is a run; the subset has none, as ten trained models are needed."""
    if fast:
        return []
    found = []
    for model in ("attention", "gated"):
        plain = fold_of(model, 0).plain()
        settings = {**plain, "fold": "all", "swept_images": SWEPT_IMAGES, "sweep": [[s.step, s.penalty, s.steps] for s in SWEEP]}
        found.append(Run(f"colon_keys/{model}", settings, 0, lambda model=model: work(model, data)))
    return found
