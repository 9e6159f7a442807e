"""Tables of rules that choose the epoch: on the colon images, and with the package's own training."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.papers import epoch_choice as choice
from benchmarks.papers.cells import NOT_RUN, Result, difference, markdown, over_seeds, repeat_figures, results_under
from benchmarks.papers.colon import SPLIT

NAMES = ("accuracy", "auroc")
PLAIN = "the lowest loss, by gains of 0.05"
TITLES = {"gated": "gated ABMIL", "transmil": "TransMIL", "dsmil": "DSMIL"}

Seeds = Sequence[Sequence[Sequence[Mapping[str, float]]]]
"""The recorded epochs of each fold, for each seed."""


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


def epoch_choice(results: Mapping[str, Result], labels: str) -> str:
    """Return the table of a condition in `epoch_choice.WRONG`: what each rule keeps, and how good it is on the test slides."""
    head = ["model", "rule", "epochs kept", "AUROC", f"minus “{PLAIN}”", "Brier score"]
    return markdown(head, [row for model, title in TITLES.items() for row in _choice_rows(results, labels, model, title)])


def _choice_rows(results: Mapping[str, Result], labels: str, model: str, title: str) -> list[list[str]]:
    seeds = [run["figures"]["folds"] for run in results_under(results, f"epoch_choice/{labels}/{model}")]
    if not seeds:
        return [[title, NOT_RUN, *["–"] * 4]]
    plain = _kept_epochs(seeds, PLAIN)
    rows = []
    for rule in choice.RULES:
        own = _kept_epochs(seeds, rule)
        epochs = sorted(at + 1 for folds in own for at, _ in folds)
        aurocs = over_seeds([statistics.fmean(e["auroc"] for _, e in folds) for folds in own], len(choice.SEEDS))
        pairs = [[epoch["auroc"] for folds in kept for _, epoch in folds] for kept in (own, plain)]
        minus = "–" if rule == PLAIN else difference(*pairs)
        brier = statistics.fmean(epoch["brier"] for folds in own for _, epoch in folds)
        rows.append([title, rule, f"{statistics.median(epochs):g} ({epochs[0]} to {epochs[-1]})", aurocs, minus, f"{brier:.3f}"])
    return rows


def _kept_epochs(seeds: Seeds, rule: str) -> list[list[tuple[int, Mapping[str, float]]]]:
    """Return the epoch that a rule keeps, with its index, for each fold of each seed."""
    return [[(at := choice.kept(curve, rule), curve[at]) for curve in folds] for folds in seeds]
