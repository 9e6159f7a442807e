"""Table of newer aggregators on frozen features, compared with the best published figures."""

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.papers import colon_nuclei as nuclei
from benchmarks.papers.cells import NOT_RUN, Result, markdown, over_seeds, repeat_figures, results_under
from benchmarks.papers.frozen import FOLDS
from benchmarks.papers.nested import COLOURS

TITLES = {
    "embedding_mean": "Embedding + mean",
    "instance_max": "Instance + max",
    "gated": "Gated attention",
    "mhim": "MHIM over it",
    "clam_sb": "CLAM-SB",
    "clam_mb": "CLAM-MB",
    "dtfd": "DTFD (AFS)",
    "dsmil": "DSMIL",
    "transmil": "TransMIL, 64 landmarks",
    "noisy_and": "Noisy-AND, joint loss",
    "gated_defaults": "Gated attention, the package's training",
    "dsmil_defaults": "DSMIL, the package's training",
    "transmil_defaults": "TransMIL, 128 units, the package's training",
    "mhim_gated_defaults": "MHIM over gated attention, the package's training",
    "mhim_transmil_defaults": "MHIM over TransMIL, the package's training",
}
HEAD = [
    "accuracy/precision/recall/F1/AUROC",
    "accuracy",
    "AUROC",
    "AUROC, mean over folds",
    "draws above: accuracy, AUROC",
]
NAMES = ("accuracy", "precision", "sensitivity", "f1", "auroc")
BEST = {"colon": (".904/.953/.855/.901/.968", 0.904, 0.968), "breast": (".755/.728/.731/.725/.799", 0.755, 0.799)}
"""Ilse et al.: the row with the best accuracy; the best accuracy and AUROC. The AUROC of that row of the breast images is quoted
from memory."""


NESTED = (
    *((images, images, draws) for images, (_, draws) in FOLDS.items()),
    ("colon_colours", "colon, by the colours of the image alone", 1),
    ("breast_by_block", "breast, each tissue block held out as a whole", 1),
    ("breast_colours_by_block", "the same, by the colours of the image alone", 1),
)
"""Folder of results, title and number of draws of each row of the linear model."""


def frozen(results: Mapping[str, Result], images: str) -> str:
    """Return the table: figures of all held-out images, mean ± sd over draws, and in how many the best published is exceeded."""
    published, best_accuracy, best_auroc = BEST[images]
    rows = [["best published, network trained end to end", published, "", "", "", ""]]
    for model, title in TITLES.items():
        each = [of_draw(run) for run in results_under(results, f"frozen/{images}/{model}")]
        rows.append([title, *cells_of_draws(each, FOLDS[images][1], best_accuracy, best_auroc)])
    return markdown(["model", *HEAD], rows)


def colon_nuclei(results: Mapping[str, Result]) -> str:
    """Return the table of bags of nuclei: a row for each choice of scales and model."""
    published, best_accuracy, best_auroc = BEST["colon"]
    rows = [["best published, network trained end to end", "27 px", published, "", "", "", ""]]
    for scales, sides in nuclei.SCALES.items():
        for model in nuclei.MODELS:
            each = [of_draw(run) for run in results_under(results, f"colon_nuclei/{scales}/{model}")]
            title = TITLES[model]
            patches = " + ".join(str(side) for side in sides) + " px"
            rows.append([title, patches, *cells_of_draws(each, nuclei.DRAWS, best_accuracy, best_auroc)])
    return markdown(["model", "patches", *HEAD], rows)


def nested(results: Mapping[str, Result]) -> str:
    """Return the table of the linear model whose settings each fold chooses: figures of both sets, and what was chosen."""
    rows = []
    for images, title, n_draws in NESTED:
        published, best_accuracy, best_auroc = BEST[images.partition("_")[0]]
        runs = results_under(results, f"nested/{images}")
        each = [of_draw(run) for run in runs]
        chosen = Counter(_in_words(fold["chosen"]) for run in runs for fold in run["figures"]["folds"])
        often = "; ".join(f"{words} ({n})" for words, n in chosen.most_common(3)) or NOT_RUN
        rows.append([title, *cells_of_draws(each, n_draws, best_accuracy, best_auroc), published, often])
    return markdown(["images", *HEAD, "best published", "chosen most often (folds)"], rows)


def _in_words(chosen: Mapping[str, Any]) -> str:
    sides = " + ".join(str(side) for side in chosen["scales"])
    of = "colours" if chosen["scales"] == [COLOURS] else f"{sides} px"
    return f"{of}, {' and '.join(chosen['statistics'])}, C {chosen['penalty']:g}"


def of_draw(run: Result) -> dict[str, Any]:
    """Return the figures of all held-out images of a draw."""
    return repeat_figures([fold["images"] for fold in run["figures"]["folds"]])


def cells_of_draws(each: list[dict[str, Any]], n_expected: int, best_accuracy: float, best_auroc: float) -> list[str]:
    """Return the cells of a row, from the figures of each draw."""
    if not each:
        return [NOT_RUN] * 5
    ours = "/".join(f"{statistics.fmean(e[name] for e in each):.3f}".lstrip("0") for name in NAMES)
    above = [sum(e[name] > best for e in each) for name, best in (("accuracy", best_accuracy), ("auroc", best_auroc))]
    count = f" ({len(each)} of {n_expected} draws)" if len(each) < n_expected else ""
    return [
        ours + count,
        *(_spread(each, name) for name in ("accuracy", "auroc")),
        over_seeds([e["fold_mean"]["auroc"] for e in each], len(each)),
        " and ".join(f"{n} of {len(each)}" for n in above),
    ]


def _spread(each: list[dict[str, Any]], name: str) -> str:
    """Return mean ± sd over draws, and the first draw's interval over images."""
    values = [e[name] for e in each]
    low, high = each[0][f"{name}_ci95"]
    sd = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{sd} ({low:.3f} to {high:.3f})"
