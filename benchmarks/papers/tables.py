"""Write docs/papers.md from the runs' JSON files and text.md: `python -m benchmarks.papers.tables`."""

import statistics
from collections.abc import Mapping

from benchmarks.papers import breast, colon
from benchmarks.papers.cells import NOT_RUN, Result, difference, markdown, over_seeds, read_results, repeat_figures, results_under
from benchmarks.papers.classical_table import classical
from benchmarks.papers.epoch_choice import WRONG
from benchmarks.papers.frozen_table import colon_nuclei, frozen, nested
from benchmarks.papers.key_tables import key_differences, key_settings, key_table, key_verdict, keys
from benchmarks.papers.mhim_table import mhim, mhim_defaults, mhim_steps
from benchmarks.papers.runs import HERE, RESULTS
from benchmarks.papers.stopping_table import colon_stopping, epoch_choice
from wsi_mil.files import write_text

PAGE = HERE.parents[1] / "docs" / "papers.md"
TEXT = HERE / "text.md"
"""Text of the page; `{{table: NAME}}` is replaced by a table."""

MODELS = {
    "instance_max": "Instance + max",
    "instance_mean": "Instance + mean",
    "embedding_max": "Embedding + max",
    "embedding_mean": "Embedding + mean",
    "attention": "Attention",
    "gated": "Gated attention",
}
MNIST_ACCURACY = {"instance_max": ".804 ± .232", "instance_mean": ".708 ± .095", "attention": ".996 ± .008"}
"""Accuracy as published by Shin et al."""
HISTOLOGY = {
    "colon": {
        "instance_max": ".842/.866/.816/.839/.914",
        "instance_mean": ".772/.821/.710/.759/.866",
        "embedding_max": ".824/.884/.753/.813/.918",
        "embedding_mean": ".860/.911/.804/.853/.940",
        "attention": ".904/.953/.855/.901/.968",
        "gated": ".898/.944/.851/.893/.968",
    },
    "breast": {
        "instance_max": ".614/.585/.477/.506/.612",
        "instance_mean": ".672/.672/.515/.577/.719",
        "embedding_max": ".607/.558/.546/.543/.650",
        "embedding_mean": ".741/.741/.654/.689/.796",
        "attention": ".745/.718/.715/.712/.775",
        "gated": ".755/.728/.731/.725/.799",
    },
}
"""Accuracy, precision, recall, F1 and AUROC as published by Ilse et al.; the last one is quoted from memory."""
SHIN = {
    "colon": {"instance_max": ".868 ± .025", "instance_mean": ".798 ± .023", "attention": ".909 ± .020"},
    "breast": {"instance_max": ".536 ± .062", "instance_mean": ".612 ± .038", "attention": ".718 ± .054"},
}
"""Accuracy as published by Shin et al., in their own protocol."""
FOLDS = {"colon": colon.SPLIT.folds, "breast": breast.SPLIT.folds}
REPEATS: dict[str, Mapping[str, int]] = {
    "colon": colon.REPEATS,
    "breast": dict.fromkeys(HISTOLOGY["breast"], breast.SPLIT.repeats),
}


def mnist_bags(results: Mapping[str, Result]) -> str:
    """Return the table of AUROC by model and bag length, with our and published accuracy."""
    sizes = {10: 5, 50: 3, 100: 3}
    rows = []
    for model, title in MODELS.items():
        cells = []
        for mean, seeds in sizes.items():
            runs = results_under(results, f"mnist_bags/mean-{mean}/{model}")
            is_planned = mean == 10 or model in ("attention", "gated")
            cells.append(over_seeds([r["figures"]["auroc"] for r in runs], seeds) if is_planned else "–")
        tens = [r["figures"]["accuracy"] for r in results_under(results, f"mnist_bags/mean-10/{model}")]
        rows.append([title, *cells, over_seeds(tens, 5), MNIST_ACCURACY.get(model, "–")])
    head = [f"AUROC, mean {mean}" for mean in sizes]
    return markdown(["model", *head, "accuracy, mean 10", "accuracy of Shin et al."], rows)


def mnist_differences(results: Mapping[str, Result]) -> str:
    """Return the table of AUROC of attention and gated attention minus each baseline, paired by seed."""
    of_model = {m: {r["seed"]: r["figures"]["auroc"] for r in results_under(results, f"mnist_bags/mean-10/{m}")} for m in MODELS}
    rows = []
    for model, title in list(MODELS.items())[:4]:
        cells = []
        for attention in ("attention", "gated"):
            both = sorted(of_model[model].keys() & of_model[attention].keys())
            cells.append(difference([of_model[attention][s] for s in both], [of_model[model][s] for s in both]))
        rows.append([f"minus {title}", *cells])
    return markdown(["AUROC, mean 10", "Attention", "Gated attention"], rows)


def histology(results: Mapping[str, Result], experiment: str) -> str:
    """Return the table of figures of all held-out images, and mean ± sd over folds, with the published ones."""
    folds = FOLDS[experiment]
    rows = []
    for model, published in HISTOLOGY[experiment].items():
        repeats, shin = REPEATS[experiment][model], SHIN[experiment].get(model, "–")
        of_fold = {r["settings"]["fold"]: r["figures"]["images"] for r in results_under(results, f"{experiment}/{model}")}
        complete = [r for r in range(repeats) if all(r * folds + f in of_fold for f in range(folds))]
        if not complete:
            rows.append([MODELS[model], *[f"{NOT_RUN} ({len(of_fold)} of {folds * repeats} folds)"] * 2, published, shin])
            continue
        each = [repeat_figures([of_fold[r * folds + f] for f in range(folds)]) for r in complete]
        names = ("accuracy", "precision", "sensitivity", "f1", "auroc")
        ours = "/".join(f"{statistics.fmean(e[name] for e in each):.3f}".lstrip("0") for name in names)
        ours += f" ({len(complete)} of {repeats} repeats)" if len(complete) < repeats else ""
        spread = "; ".join(
            f"{title} {e[name]:.3f} ({e[f'{name}_ci95'][0]:.3f} to {e[f'{name}_ci95'][1]:.3f}),"
            f" over folds {e['fold_mean'][name]:.3f} ± {e['fold_sd'][name]:.3f}"
            for e in each[:1]
            for name, title in (("accuracy", "accuracy"), ("auroc", "AUROC"))
        )
        rows.append([MODELS[model], ours, spread, published, shin])
    head = ["model", "accuracy/precision/recall/F1/AUROC", "intervals over images; mean ± sd over folds"]
    return markdown([*head, "published", "accuracy of Shin et al."], rows)


def hours(results: Mapping[str, Result]) -> str:
    """Return the table of hours and machines of each experiment."""
    runs_of = {}
    for name, result in results.items():
        runs_of.setdefault(name.partition("/")[0], []).append(result)
    rows = []
    for experiment, runs in runs_of.items():
        cpus = sorted({f"{r['hardware']['cpu']}, {r['hardware']['threads']} thread" for r in runs})
        torch = sorted({r["versions"]["torch"] for r in runs})
        dates = sorted({r["date"] for r in runs})
        span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        total = sum(r["seconds"] for r in runs) / 3600
        rows.append([experiment, str(len(runs)), f"{total:.1f}", "; ".join(cpus), ", ".join(torch), span])
    return markdown(["experiment", "runs", "hours", "machine", "torch", "date"], rows or [[NOT_RUN] * 6])


def page(text: str, results: Mapping[str, Result]) -> str:
    """Return the text with its tables.

    Raises:
        KeyError: the text names an unknown table.
    """
    tables = {
        "mnist_bags": lambda: mnist_bags(results),
        "mnist_differences": lambda: mnist_differences(results),
        "key_verdict": lambda: key_verdict(results),
        "key_settings": lambda: key_settings(results),
        "colon": lambda: histology(results, "colon"),
        "colon_stopping": lambda: colon_stopping(results),
        "breast": lambda: histology(results, "breast"),
        "frozen colon": lambda: frozen(results, "colon"),
        "frozen breast": lambda: frozen(results, "breast"),
        "colon_nuclei": lambda: colon_nuclei(results),
        "nested": lambda: nested(results),
        "classical": lambda: classical(results),
        "mhim": lambda: mhim(results),
        "mhim_steps": lambda: mhim_steps(results),
        "mhim_defaults": lambda: mhim_defaults(results),
        **{f"epoch_choice {labels}": lambda labels=labels: epoch_choice(results, labels) for labels in WRONG},
        "hours": lambda: hours(results),
    }
    for model in ("attention", "gated"):
        of_model = [r for name, r in results.items() if name == f"colon_keys/{model}"]
        tables[f"colon_keys {model}"] = lambda of_model=of_model: key_table(of_model, 1)
        tables[f"colon_keys {model} differences"] = lambda of_model=of_model: key_differences(of_model)
    parts = text.split("{{table: ")
    sections = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}}")
        first, _, suffix = name.partition(" sharpened ")
        if first.startswith("mnist_keys/"):
            seeds = 5 if "/mean-10/" in first else 3
            sections.append(keys(results, first, seeds, suffix=f"-sharpened-{suffix}" if suffix else ""))
        else:
            sections.append(tables[name]())
        sections.append(rest)
    return "".join(sections)


def main() -> None:
    write_text(PAGE, page(TEXT.read_text(encoding="utf-8"), read_results(RESULTS)))
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
