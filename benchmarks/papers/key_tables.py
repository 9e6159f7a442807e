"""Tables of key instances."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.papers.cells import NOT_RUN, Result, difference, markdown, over_seeds

PLAIN = {
    "attention": "attention a",
    "attention_logits": "attention logit e",
    "attention × norm": "a·‖h‖",
    "evidence": "evidence c = w·h + b",
    "standardised_sum": "z(e) + z(c)",
    "probability": "instance probability",
    "gradient_input": "gradient × pixels",
    "gradient_input of features": "gradient × features",
}
READ_OFF = ("attention", "attention (control)", "evidence", "evidence (control)", "standardised_sum", "retained")
FIRST = (
    *("attention", "evidence", "standardised_sum", "probability"),
    *("pixels → attention", "pixels → attention (control)", "pixels, best for attention → attention", "pixels → evidence"),
    *("features → attention", "features → attention (control)", "features → evidence"),
)
"""Rows shown in the page; the section below them that can be unfolded has all rows."""
KEY_FIGURES = {
    "f1": "F1",
    "f1_oracle": "oracle F1",
    "pooled_auroc": "AUROC",
    "pooled_auprc": "AUPRC",
    "tile_auroc": "AUROC within a bag",
}


def keys(results: Mapping[str, Result], prefix: str, seeds: int, *, suffix: str = "") -> str:
    """Return the table of every score of key instances over the seeds of an experiment."""
    runs = [r for name, r in results.items() if name.startswith(f"{prefix}/seed-") and name.rpartition("seed-")[2][1:] == suffix]
    return key_table(runs, seeds)


def key_table(runs: Sequence[Result], n_expected: int) -> str:
    """Return the table of runs that differ in the seed only: the most important rows, and all rows in a folded section."""
    if not runs:
        return f"*{NOT_RUN}*"
    scores = [r["figures"]["scores"] for r in runs]
    rows = {}
    for method, title in titles(scores[0]).items():
        cells = [_key_cell(scores, method, figure, n_expected) for figure in KEY_FIGURES]
        minus_attention = "–"
        if "attention" in scores[0] and method != "attention":
            minus_attention = difference(*([s[m]["f1"] for s in scores] for m in (method, "attention")))
        rows[method] = [title, *cells, minus_attention]
    head = ["score", *KEY_FIGURES.values(), "F1 minus attention's"]
    first = markdown(head, [rows[m] for m in FIRST if m in rows])
    all_rows = markdown(head, rows.values())
    return f"{first}\n\n<details><summary>All {len(rows)} scores</summary>\n\n{all_rows}\n\n</details>"


def titles(scores: Mapping[str, Any]) -> dict[str, str]:
    """Return the rows of a table of key instances that have figures, with their titles."""
    rows = {method: title for method, title in PLAIN.items() if method in scores}
    for how in dict.fromkeys(method.partition(" → ")[0] for method in scores if " → " in method):
        rows |= {f"{how} → {r}": f"inversion of {how} → {r.replace('_', ' ')}" for r in READ_OFF if f"{how} → {r}" in scores}
    return rows


def key_verdict(results: Mapping[str, Result]) -> str:
    """Return the table of differences in F1 between inversion and other scores, over runs that differ in the seed only."""
    groups: dict[str, list[Result]] = {}
    for name, result in results.items():
        if name.startswith("mnist_keys/") and "attention" in result["figures"]["scores"]:
            start, _, seed = name.removeprefix("mnist_keys/").rpartition("/seed-")
            groups.setdefault(f"{start} {seed.partition('-')[2]}".strip(), []).append(result)
    pairs = [
        ("pixels → attention", "attention"),
        ("pixels → attention", "pixels → attention (control)"),
        ("pixels → evidence", "evidence"),
        ("features → evidence", "evidence"),
        ("standardised_sum", "attention"),
    ]
    rows = []
    for name, runs in groups.items():
        f1 = {m: [r["figures"]["scores"][m]["f1"] for r in runs] for pair in pairs for m in pair}
        differences = [difference(f1[first], f1[second]) for first, second in pairs]
        rows.append([name, str(len(runs)), f"{statistics.fmean(f1['attention']):.3f}", *differences])
    words = ("attention", "control", "evidence", "evidence (features)", "z(e) + z(c) minus attention")
    head = [f"inversion minus {w}" for w in words[:4]] + [words[4]]
    return markdown(["models", "runs", "F1 of attention", *head], rows or [[NOT_RUN] * 8])


def key_settings(results: Mapping[str, Result]) -> str:
    """Return the table of settings of inversion selected on validation bags, and of instances attended to."""
    rows = []
    for name, result in results.items():
        figures = result["figures"]
        if name.startswith("mnist_keys/") and figures.get("sweep"):
            best = ["η {} λ {} T {}".format(*figures["settings"][f"pixels, best for {s}"]) for s in ("attention", "evidence")]
            summary = figures["summary"]
            missed = f"{summary['bags_missed']} of {summary['bags']}"
            counts = [f"{summary['attended']:.1f}", f"{summary['share_positive']:.3f}", missed]
            rows.append([name.removeprefix("mnist_keys/"), *counts, *best])
    head = ["model", "instances attended to", "share of positive instances", "bags missed"]
    return markdown([*head, "best for attention", "best for evidence"], rows or [[NOT_RUN] * 6])


def key_differences(runs: Sequence[Result]) -> str:
    """Return the table of differences between inversion and the plain score or its control, with intervals over bags."""
    rows = [
        [d["first"], d["second"], f"{d['value']:+.4f} ({d['ci95'][0]:+.4f} to {d['ci95'][1]:+.4f})"]
        for result in runs
        for d in result["figures"]["differences"]
    ]
    return markdown(["score", "minus", "mean AUROC within a bag"], rows or [[NOT_RUN] * 3])


def _key_cell(scores: Sequence[Mapping[str, Any]], method: str, figure: str, n_expected: int) -> str:
    """Return mean ± sd over seeds; for a single run the figure with its interval over bags."""
    if n_expected > 1:
        return over_seeds([s[method][figure] for s in scores], n_expected)
    low, high = scores[0][method][f"{figure}_ci95"]
    return f"{scores[0][method][figure]:.3f} ({low:.3f} to {high:.3f})"
