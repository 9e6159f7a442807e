"""Table of accuracy on the classical sets, compared with published figures."""

import statistics
from collections.abc import Mapping

import numpy as np

from benchmarks.papers.cells import NOT_RUN, Result, markdown, outcomes_at_half, results_under, truth_and_probs
from benchmarks.papers.classical import DRAWS, SETS

TITLES = {
    "instance_max": "Instance + max",
    "embedding_mean": "Embedding + mean",
    "embedding_max": "Embedding + max",
    "noisy_or": "Noisy-OR",
    "attention": "Attention",
    "gated": "Gated attention",
    "dsmil": "DSMIL",
    "clam_sb": "CLAM-SB",
    "dtfd": "DTFD (AFS)",
    "transmil": "TransMIL",
    "mhim_gated": "MHIM over gated attention",
    "mhim_transmil": "MHIM over TransMIL",
}
PUBLISHED = {
    "attention": (".892 ± .040", ".615 ± .043", ".839 ± .022", ".868 ± .022"),
    "gated": (".900", ".603", ".845", ".857"),
    "dsmil": (".932", ".729", ".869", ".925"),
}
"""Accuracy by Ilse et al. 2018 (attention, gated) and Li et al. 2021 (DSMIL), from memory: no text of them was available."""


def classical(results: Mapping[str, Result]) -> str:
    """Return the table: mean accuracy over folds ± sd over draws, with the published figure in brackets."""
    rows = []
    for model, title in TITLES.items():
        cells = []
        for at, name in enumerate(SETS):
            draws = [_accuracy(run) for run in results_under(results, f"classical/{name}/{model}")]
            published = f" [{PUBLISHED[model][at]}]" if model in PUBLISHED else ""
            cells.append(_cell(draws) + published)
        rows.append([title, *cells])
    return markdown(["model", *(name.capitalize() for name in SETS)], rows)


def _accuracy(run: Result) -> float:
    """Return the mean accuracy over the folds of a draw."""
    folds = [outcomes_at_half(*truth_and_probs(fold["images"])) for fold in run["figures"]["folds"]]
    return float(np.mean([(fold.truth == fold.predicted).mean() for fold in folds]))


def _cell(draws: list[float]) -> str:
    if not draws:
        return NOT_RUN
    spread = f" ± {statistics.stdev(draws):.3f}" if len(draws) > 1 else ""
    count = f" ({len(draws)} of {DRAWS} draws)" if len(draws) < DRAWS else ""
    return f"{statistics.fmean(draws):.3f}{spread}{count}"
