"""Writes docs/papers.md from the runs' JSON files and the text that stands beside them: `python -m benchmarks.papers.tables`."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.papers import breast, colon
from benchmarks.papers.histology import CLASSES
from benchmarks.papers.runs import HERE, RESULTS
from wsi_mil.config import Split
from wsi_mil.figures import FoldPart, cohort_figures
from wsi_mil.files import write_text
from wsi_mil.localisation import Floats

PAGE = HERE.parents[1] / "docs" / "papers.md"
TEXT = HERE / "text.md"
"""What stands around the tables; `{{table: NAME}}` is where each goes."""
NOT_RUN = "not yet run"
DRAWS = 1000

MODELS = {
    "instance_max": "Instance + max",
    "instance_mean": "Instance + mean",
    "embedding_max": "Embedding + max",
    "embedding_mean": "Embedding + mean",
    "attention": "Attention",
    "gated": "Gated attention",
}
MNIST_ACCURACY = {"instance_max": ".804 ± .232", "instance_mean": ".708 ± .095", "attention": ".996 ± .008"}
"""Shin et al."""
HISTOLOGY = {
    "colon": {
        "instance_max": ".842/.866/.816/.839/.914",
        "attention": ".904/.953/.855/.901/.968",
        "gated": ".898/.944/.851/.893/.968",
    },
    "breast": {
        "instance_max": ".614/.585/.477/.506/.612",
        "attention": ".745/.718/.715/.712/.775",
        "gated": ".755/.728/.731/.725/–",
    },
}
"""Ilse et al.: accuracy, precision, recall, F1, AUROC."""
SPLITS: dict[str, Split] = {"colon": colon.SPLIT, "breast": breast.SPLIT}

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
KEY_FIGURES = {
    "f1": "F1",
    "f1_oracle": "oracle F1",
    "pooled_auroc": "AUROC",
    "pooled_auprc": "AUPRC",
    "tile_auroc": "AUROC within a bag",
}

Result = Mapping[str, Any]


def read_results(folder: Path) -> dict[str, Result]:
    """Every run's JSON by its name."""
    return {
        str(path.relative_to(folder).with_suffix("")): json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))
    }


def below(results: Mapping[str, Result], start: str) -> list[Result]:
    """The runs below a name, in order."""
    return [result for name, result in results.items() if name.startswith(f"{start}/")]


def over_seeds(values: Sequence[float], wanted: int) -> str:
    """Mean ± standard deviation (n - 1); how many of the wanted runs there are, if not all."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return NOT_RUN
    spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.3f}{spread}" + (f" ({len(known)} of {wanted})" if len(known) < wanted else "")


def difference(first: Sequence[float], second: Sequence[float]) -> str:
    """Mean of paired differences with its 95 % interval (Student's t)."""
    each = np.subtract(first, second)
    if len(each) < 2:
        return f"{each.mean():+.3f}" if len(each) else NOT_RUN
    half = float(student.ppf(0.975, len(each) - 1)) * each.std(ddof=1) / math.sqrt(len(each))
    return f"{each.mean():+.3f} ({each.mean() - half:+.3f} to {each.mean() + half:+.3f})"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mnist_bags(results: Mapping[str, Result]) -> str:
    """AUROC of bags by model and length; accuracy beside the only published one."""
    sizes = {10: 5, 50: 3, 100: 3}
    rows = []
    for model, title in MODELS.items():
        cells = []
        for mean, seeds in sizes.items():
            found = below(results, f"mnist_bags/mean-{mean}/{model}")
            is_wanted = mean == 10 or model in ("attention", "gated")
            cells.append(over_seeds([r["figures"]["auroc"] for r in found], seeds) if is_wanted else "–")
        tens = [r["figures"]["accuracy"] for r in below(results, f"mnist_bags/mean-10/{model}")]
        rows.append([title, *cells, over_seeds(tens, 5), MNIST_ACCURACY.get(model, "–")])
    head = [f"AUROC, mean {mean}" for mean in sizes]
    return markdown(["model", *head, "accuracy, mean 10", "accuracy of Shin et al."], rows)


def mnist_differences(results: Mapping[str, Result]) -> str:
    """Attention and gated attention less each baseline: AUROC of the same bags, seed by seed."""
    of_model = {m: {r["seed"]: r["figures"]["auroc"] for r in below(results, f"mnist_bags/mean-10/{m}")} for m in MODELS}
    rows = []
    for model, title in list(MODELS.items())[:4]:
        cells = []
        for attention in ("attention", "gated"):
            both = sorted(of_model[model].keys() & of_model[attention].keys())
            cells.append(difference([of_model[attention][s] for s in both], [of_model[model][s] for s in both]))
        rows.append([f"less {title}", *cells])
    return markdown(["AUROC, mean 10", "Attention", "Gated attention"], rows)


def keys(results: Mapping[str, Result], start: str, seeds: int, *, suffix: str = "") -> str:
    """Every score of key instances; F1 beside that of attention, run by run."""
    found = [r for name, r in results.items() if name.startswith(f"{start}/seed-") and name.rpartition("seed-")[2][1:] == suffix]
    return key_table(found, seeds)


def key_table(found: Sequence[Result], wanted: int) -> str:
    """Of runs that are alike but for the seed."""
    if not found:
        return f"*{NOT_RUN}*"
    scores = [r["figures"]["scores"] for r in found]
    rows = []
    for method, title in titles(scores[0]).items():
        cells = [_key_cell(scores, method, figure, wanted) for figure in KEY_FIGURES]
        less = "–"
        if "attention" in scores[0] and method != "attention":
            less = difference(*([s[m]["f1"] for s in scores] for m in (method, "attention")))
        rows.append([title, *cells, less])
    return markdown(["score", *KEY_FIGURES.values(), "F1 less attention's"], rows)


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
    words = ("attention", "control", "evidence", "evidence (features)", "z(e) + z(c) less attention")
    head = [f"inversion less {w}" for w in words[:4]] + [words[4]]
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
    return markdown(["score", "less", "mean AUROC within a bag"], rows or [[NOT_RUN] * 3])


def histology(results: Mapping[str, Result], experiment: str) -> str:
    """Figures of held-out images, by repeat of the cross-validation, beside the published ones."""
    split, rows = SPLITS[experiment], []
    for model, published in HISTOLOGY[experiment].items():
        found = {r["settings"]["fold"]: r["figures"]["images"] for r in below(results, f"{experiment}/{model}")}
        whole = [r for r in range(split.repeats) if all(r * split.folds + f in found for f in range(split.folds))]
        wanted = f"{split.folds * split.repeats} folds"
        if not whole:
            rows.append([MODELS[model], *[f"{NOT_RUN} ({len(found)} of {wanted})"] * 2, published])
            continue
        each = [repeat_figures([found[r * split.folds + f] for f in range(split.folds)]) for r in whole]
        names = ("accuracy", "precision", "sensitivity", "f1", "auroc")
        ours = "/".join(f"{statistics.fmean(e[name] for e in each):.3f}".lstrip("0") for name in names)
        spread = "; ".join(
            f"{title} {e[name]:.3f} ({e[f'{name}_ci95'][0]:.3f} to {e[f'{name}_ci95'][1]:.3f}), folds ± {e['fold_sd'][name]:.3f}"
            for e in each[:1]
            for name, title in (("accuracy", "accuracy"), ("auroc", "AUROC"))
        )
        rows.append([MODELS[model], ours, spread, published])
    return markdown(["model", "accuracy/precision/recall/F1/AUROC", "intervals over images", "published"], rows)


def repeat_figures(parts: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Figures of all images of one cross-validation, each by the fold that held it out.

    Args:
        parts: of each fold, {image: {"label": index, "prob": of the positive class}}.
    """
    arrays = [_arrays(part) for part in parts]
    folds = [
        FoldPart(number, truth, probs, (probs[:, 1] >= 0.5).astype(np.int64)) for number, (truth, probs) in enumerate(arrays)
    ]
    truth, probs = (np.concatenate([a[i] for a in arrays]) for i in range(2))
    names, predicted = [name for part in parts for name in part], (probs[:, 1] >= 0.5).astype(np.int64)
    found = cohort_figures(truth, probs, predicted, names, folds, classes=CLASSES, draws=DRAWS)
    (_, false_positive), (_, hits) = found["confusion_matrix"]
    return {**found, "precision": hits / (hits + false_positive) if hits + false_positive else math.nan}


def hours(results: Mapping[str, Result]) -> str:
    """What the runs cost."""
    found = {}
    for name, result in results.items():
        found.setdefault(name.partition("/")[0], []).append(result)
    rows = []
    for experiment, runs in found.items():
        cpus = sorted({f"{r['hardware']['cpu']}, {r['hardware']['threads']} thread" for r in runs})
        torch = sorted({r["versions"]["torch"] for r in runs})
        dates = sorted({r["date"] for r in runs})
        span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        took = sum(r["seconds"] for r in runs) / 3600
        rows.append([experiment, str(len(runs)), f"{took:.1f}", "; ".join(cpus), ", ".join(torch), span])
    return markdown(["experiment", "runs", "hours", "machine", "torch", "date"], rows or [[NOT_RUN] * 6])


def page(text: str, results: Mapping[str, Result]) -> str:
    """The text with its tables.

    Raises:
        KeyError: the text names a table that there is not.
    """
    tables = {
        "mnist_bags": lambda: mnist_bags(results),
        "mnist_differences": lambda: mnist_differences(results),
        "key_verdict": lambda: key_verdict(results),
        "key_settings": lambda: key_settings(results),
        "colon": lambda: histology(results, "colon"),
        "breast": lambda: histology(results, "breast"),
        "hours": lambda: hours(results),
    }
    for model in ("attention", "gated"):
        of_model = [r for name, r in results.items() if name == f"colon_keys/{model}"]
        tables[f"colon_keys {model}"] = lambda of_model=of_model: key_table(of_model, 1)
        tables[f"colon_keys {model} differences"] = lambda of_model=of_model: key_differences(of_model)
    parts = text.split("{{table: ")
    made = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}}")
        first, _, suffix = name.partition(" sharpened ")
        if first.startswith("mnist_keys/"):
            made.append(keys(results, first, 5 if "/mean-10/" in first else 3, suffix=f"-sharpened-{suffix}" if suffix else ""))
        else:
            made.append(tables[name]())
        made.append(rest)
    return "".join(made)


def _key_cell(scores: Sequence[Mapping[str, Any]], method: str, figure: str, wanted: int) -> str:
    """Mean ± sd over seeds; of a single wanted run the figure with its interval over bags."""
    if wanted > 1:
        return over_seeds([s[method][figure] for s in scores], wanted)
    low, high = scores[0][method][f"{figure}_ci95"]
    return f"{scores[0][method][figure]:.3f} ({low:.3f} to {high:.3f})"


def _arrays(part: Mapping[str, Mapping[str, float]]) -> tuple[np.ndarray, Floats]:
    truth = np.array([image["label"] for image in part.values()], np.int64)
    positive = np.array([image["prob"] for image in part.values()], np.float64)
    return truth, np.stack([1 - positive, positive], axis=1)


def main() -> None:
    write_text(PAGE, page(TEXT.read_text(encoding="utf-8"), read_results(RESULTS)))
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
