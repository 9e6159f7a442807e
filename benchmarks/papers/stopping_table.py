"""Table of rules of stopping on the colon images."""

from collections.abc import Mapping

from benchmarks.papers.cells import NOT_RUN, Result, markdown, repeat_figures, results_under
from benchmarks.papers.colon import SPLIT

NAMES = ("accuracy", "auroc")


def colon_stopping(results: Mapping[str, Result]) -> str:
    """Return the table: which epochs each rule keeps, and figures of all held-out images."""
    folds = [run["figures"] for run in results_under(results, "colon_stopping/attention")]
    head = ["rule", "epochs kept", "accuracy", "AUROC", "AUROC, mean over folds"]
    if len(folds) < SPLIT.folds:
        return markdown(head, [[f"{NOT_RUN} ({len(folds)} of {SPLIT.folds} folds)", *["–"] * 4]])
    rows = []
    for rule in folds[0]["images"]:
        figures = repeat_figures([fold["images"][rule] for fold in folds])
        epochs = sorted(fold["kept"][rule] for fold in folds) if rule in folds[0]["kept"] else []
        kept = f"{epochs[0]} to {epochs[-1]}" if epochs and epochs[0] != epochs[-1] else "–"
        cells = [f"{figures[name]:.3f} ({figures[f'{name}_ci95'][0]:.3f} to {figures[f'{name}_ci95'][1]:.3f})" for name in NAMES]
        rows.append([rule, kept, *cells, f"{figures['fold_mean']['auroc']:.3f}"])
    return markdown(head, rows)
