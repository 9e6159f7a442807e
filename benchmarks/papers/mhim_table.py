"""Tables of MHIM's components and masks, with published and our differences."""

from collections.abc import Mapping

import benchmarks.papers.mhim_defaults as defaults
from benchmarks.papers.cells import NOT_RUN, Result, difference, markdown, over_seeds, results_under
from benchmarks.papers.mhim import ARMS, BASE, SEEDS

TITLES = {
    BASE: "ABMIL (baseline)",
    "masking": "+ masking (R-HAM)",
    "siamese": "+ Siamese: the teacher follows slowly",
    "r_ham": "+ consistency = R-HAM",
    "ham": "HAM instead",
    "l_ham": "L-HAM instead",
    "lr_ham": "LR-HAM instead",
    "random": "control: random masking, no high scores",
    "unmasked": "control: nothing masked, no consistency",
}
PUBLISHED = {
    BASE: (94.00, 93.17),
    "masking": (95.86, 94.14),
    "siamese": (95.82, 94.55),
    "r_ham": (96.14, 94.79),
    "ham": (95.68, 93.83),
    "l_ham": (95.81, 94.33),
    "lr_ham": (95.92, 94.97),
}
"""AUROC in per cent on CAMELYON16 and TCGA NSCLC, over ABMIL. For NSCLC, "+ consistency" is LR-HAM; here it is R-HAM."""

STEPS = {
    ("masking", BASE): ("masking, the student scoring its own bags", "+0.0186", "+0.0097"),
    ("siamese", "masking"): ("a teacher that follows slowly", "-0.0004", "+0.0041"),
    ("r_ham", "siamese"): ("consistency", "+0.0032", "+0.0042 (LR-HAM)"),
    ("r_ham", "random"): ("hiding high scores, compared with random ones", "–", "–"),
    ("unmasked", BASE): ("training again from the baseline's embedding, nothing else", "–", "–"),
}
"""Pairs of arms (with a component, without it): its description, and differences published on CAMELYON16 and NSCLC."""


def mhim(results: Mapping[str, Result]) -> str:
    """Return the table of each arm's AUROC, and its paired and published differences from the baseline."""
    of_arm = {arm: results_under(results, f"mhim/{arm}") for arm in TITLES}
    rows = []
    for arm, title in TITLES.items():
        aurocs = [run["figures"]["auroc"] for run in of_arm[arm]]
        minus_baseline = "–" if arm == BASE else fold_difference(of_arm[arm], of_arm[BASE])
        rows.append([title, _masks(arm), over_seeds(aurocs, len(SEEDS)), minus_baseline, *_published(arm)])
    head = ["arm", "random, low, high, share", "AUROC", "minus the baseline", "published, CAMELYON16", "published, NSCLC"]
    return markdown(head, rows)


def mhim_steps(results: Mapping[str, Result]) -> str:
    """Return the table of what each component adds."""
    rows = []
    for (arm, without), (title, *published) in STEPS.items():
        own = fold_difference(results_under(results, f"mhim/{arm}"), results_under(results, f"mhim/{without}"))
        rows.append([title, own, *published])
    return markdown(["step", "AUROC", "published, CAMELYON16", "published, NSCLC"], rows)


def fold_difference(arm: list[Result], other: list[Result], n_seeds: int = len(SEEDS)) -> str:
    """Return the paired difference over the folds of common seeds, and in how many folds the arm is better."""
    first, second = ({r["seed"]: [f["auroc"] for f in r["figures"]["folds"]] for r in runs} for runs in (arm, other))
    both = sorted(first.keys() & second.keys())
    pairs = [pair for seed in both for pair in zip(first[seed], second[seed], strict=True)]
    if not pairs:
        return NOT_RUN
    better = sum(a > b for a, b in pairs)
    count = f"; {len(both)} of {n_seeds} seeds" if len(both) < n_seeds else ""
    return f"{difference(*zip(*pairs, strict=True))}; better in {better} of {len(pairs)}{count}"


def mhim_defaults(results: Mapping[str, Result]) -> str:
    """Return the table of what masking adds with the package's training, on the cohort chosen and on those that were tried."""
    rows = []
    for low, high in defaults.TRIED[: defaults.TRIED.index(defaults.CHOSEN) + 1]:
        share = f"{100 * low:g}-{100 * high:g}"
        for base, title in {"gated": "gated ABMIL", "transmil": "TransMIL"}.items():
            of_base = results_under(results, f"mhim_defaults/{share}/{base}")
            rows.append([f"{share} %", title, _aurocs(of_base), "–", "–"])
            for arm, over in {"mhim": f"MHIM over {title}", "unmasked": f"control over {title}: nothing hidden"}.items():
                of_arm = results_under(results, f"mhim_defaults/{share}/{arm}-{base}")
                control = results_under(results, f"mhim_defaults/{share}/unmasked-{base}") if arm == "mhim" else []
                minus = fold_difference(of_arm, of_base, len(defaults.SEEDS))
                minus_control = fold_difference(of_arm, control, len(defaults.SEEDS)) if arm == "mhim" else "–"
                rows.append([f"{share} %", over, _aurocs(of_arm), minus, minus_control])
    return markdown(["tumour", "model", "AUROC", "minus its base", "minus the control"], rows)


def _aurocs(runs: list[Result]) -> str:
    return over_seeds([run["figures"]["auroc"] for run in runs], len(defaults.SEEDS))


def _masks(arm: str) -> str:
    if arm == BASE:
        return "–"
    return ", ".join(f"{ARMS[arm][key]:g}" for key in ("random_ratio", "low_ratio", "high_ratio", "high_share"))


def _published(arm: str) -> list[str]:
    if arm not in PUBLISHED:
        return ["–", "–"]
    if arm == BASE:
        return [f"{value / 100:.4f}" for value in PUBLISHED[arm]]
    return [f"{(value - base) / 100:+.4f}" for value, base in zip(PUBLISHED[arm], PUBLISHED[BASE], strict=True)]
