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
"""Rows that stand in the page; all of them can be unfolded below."""
KEY_FIGURES = {
    "f1": "F1",
    "f1_oracle": "oracle F1",
    "pooled_auroc": "AUROC",
    "pooled_auprc": "AUPRC",
    "tile_auroc": "AUROC within a bag",
}


def keys(results: Mapping[str, Result], start: str, seeds: int, *, suffix: str = "") -> str:
    """Every score of key instances; F1 beside that of attention, run by run."""
    found = [r for name, r in results.items() if name.startswith(f"{start}/seed-") and name.rpartition("seed-")[2][1:] == suffix]
    return key_table(found, seeds)


def key_table(found: Sequence[Result], wanted: int) -> str:
    """Of runs that are alike but for the seed: the rows that matter most, and all of them, folded."""
    if not found:
        return f"*{NOT_RUN}*"
    scores = [r["figures"]["scores"] for r in found]
    rows = {}
    for method, title in titles(scores[0]).items():
        cells = [_key_cell(scores, method, figure, wanted) for figure in KEY_FIGURES]
        less = "–"
        if "attention" in scores[0] and method != "attention":
            less = difference(*([s[m]["f1"] for s in scores] for m in (method, "attention")))
        rows[method] = [title, *cells, less]
    head = ["score", *KEY_FIGURES.values(), "F1 minus attention's"]
    first, every = markdown(head, [rows[m] for m in FIRST if m in rows]), markdown(head, rows.values())
    return f"{first}\n\n<details><summary>All {len(rows)} scores</summary>\n\n{every}\n\n</details>"


def titles(scores: Mapping[str, Any]) -> dict[str, str]:
    """Rows of a table of key instances that there are figures of, with their names in words."""
    found = {method: title for method, title in PLAIN.items() if method in scores}
    for how in dict.fromkeys(method.partition(" → ")[0] for method in scores if " → " in method):
        found |= {f"{how} → {r}": f"inversion of {how} → {r.replace('_', ' ')}" for r in READ_OFF if f"{how} → {r}" in scores}
    return found


def key_verdict(results: Mapping[str, Result]) -> str:
    """Where inversion helps: differences in F1 over all runs that are alike but for the seed."""
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
    for name, found in groups.items():
        f1 = {m: [r["figures"]["scores"][m]["f1"] for r in found] for pair in pairs for m in pair}
        less = [difference(f1[first], f1[second]) for first, second in pairs]
        rows.append([name, str(len(found)), f"{statistics.fmean(f1['attention']):.3f}", *less])
    words = ("attention", "control", "evidence", "evidence (features)", "z(e) + z(c) minus attention")
    head = [f"inversion minus {w}" for w in words[:4]] + [words[4]]
    return markdown(["models", "runs", "F1 of attention", *head], rows or [[NOT_RUN] * 8])


def key_settings(results: Mapping[str, Result]) -> str:
    """Which settings of inversion the validation bags chose, and how few instances are attended to."""
    rows = []
    for name, result in results.items():
        figures = result["figures"]
        if name.startswith("mnist_keys/") and figures.get("sweep"):
            chosen = ["η {} λ {} T {}".format(*figures["settings"][f"pixels, best for {s}"]) for s in ("attention", "evidence")]
            about = figures["summary"]
            missed = f"{about['bags_missed']} of {about['bags']}"
            rows.append(
                [name.removeprefix("mnist_keys/"), f"{about['attended']:.1f}", f"{about['share_positive']:.3f}", missed, *chosen]
            )
    head = ["model", "instances attended to", "share of positive instances", "bags missed"]
    return markdown([*head, "best for attention", "best for evidence"], rows or [[NOT_RUN] * 6])


def key_differences(found: Sequence[Result]) -> str:
    """Of one run: inversion against the plain score and against its control, with intervals over bags."""
    rows = [
        [d["first"], d["second"], f"{d['value']:+.4f} ({d['ci95'][0]:+.4f} to {d['ci95'][1]:+.4f})"]
        for result in found
        for d in result["figures"]["differences"]
    ]
    return markdown(["score", "minus", "mean AUROC within a bag"], rows or [[NOT_RUN] * 3])


def _key_cell(scores: Sequence[Mapping[str, Any]], method: str, figure: str, wanted: int) -> str:
    """Mean ± sd over seeds; of a single wanted run the figure with its interval over bags."""
    if wanted > 1:
        return over_seeds([s[method][figure] for s in scores], wanted)
    low, high = scores[0][method][f"{figure}_ci95"]
    return f"{scores[0][method][figure]:.3f} ({low:.3f} to {high:.3f})"
