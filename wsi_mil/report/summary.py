"""Summary of the results in sentences, for readers who do not know the tool. No I/O."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from wsi_mil.config import FeatureUnit
from wsi_mil.records import SlideRow, Status
from wsi_mil.report.batch_effects import SCANNER, BatchEffects
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.task_report import TaskReport, decimals, interval_text
from wsi_mil.wording import listed

MAX_NAMED = 12
"""Upper limit on misclassified slides that are named; of more only the number is given."""

INDEX = "index.html"
"""The page about the cohort."""

REASONS = {
    Status.FAILED: "failed",
    Status.EMPTY: "without tissue",
    Status.SKIPPED: "skipped: no resolution (µm per pixel)",
}
"""Why slides are not used."""

MAX_DUPLICATES = 5
"""Upper limit on groups of slides under several names that are listed."""

LEARNED_FROM: dict[FeatureUnit, str] = {
    "tile": "small square images of tissue (tiles)",
    "slide": "one vector for each slide, computed by another tool",
}
WHAT_MAPS_ARE = " A heatmap is therefore a model's own estimate of where the evidence is."
NO_MAPS = "It learned from one vector for each slide, so there is no heatmap of where its evidence is."
NO_SLIDES = "It learned from covariates alone, without the slides, so there is no heatmap."


@dataclass(frozen=True)
class Limitation:
    """A limitation of the results.

    Attributes:
        text: the sentence.
        section: id of the section with details, or "".
        slides: slides to name after the sentence.
        page: file name of the page with the section; "" if it is the page of the target.
    """

    text: str
    section: str = ""
    slides: tuple[str, ...] = ()
    page: str = ""


RESEARCH_ONLY = Limitation("For research use only, not for diagnosis.")


@dataclass(frozen=True)
class CohortOverview:
    """The cohort, as the summary of a target describes it.

    Attributes:
        rows: all rows of the sheet.
        status: status of each slide, by slide_id.
        task_report: texts of the task.
        bag: `slide` or `patient`: what one prediction is for.
        is_trained_elsewhere: whether the models come from an earlier run.
        duplicates: groups of slides with the same bytes.
        units: what the features of its models describe.
    """

    rows: Sequence[SlideRow]
    status: Mapping[str, Status]
    task_report: TaskReport
    bag: str
    is_trained_elsewhere: bool
    duplicates: Sequence[Sequence[str]] = ()
    units: Collection[FeatureUnit] = frozenset[FeatureUnit]({"tile"})


def describe_slides(rows: Sequence[SlideRow], status: Mapping[str, Status]) -> list[str]:
    """Return sentences about the number of slides and patients, and which slides could be used."""
    return [f"{_sample(rows)}.", _usable_slides(rows, status)]


def describe_labels(rows: Sequence[SlideRow], task_report: TaskReport) -> str:
    """Return how many slides have each label, and how many have none, as part of a sentence."""
    counts = listed(task_report.label_counts([row.label for row in rows]))
    unlabelled = sum(not row.label for row in rows)
    verb = "is" if unlabelled == 1 else "are"
    rest = f"{unlabelled} {task_report.lacking}, which {verb} only predicted" if unlabelled else ""
    return ", and ".join(part for part in (counts, rest) if part)


def learned_from(units: Collection[FeatureUnit]) -> str:
    """Return what models learn from, in words."""
    return " or ".join(text for unit, text in LEARNED_FROM.items() if unit in units)


def describe_cohort(cohort: CohortOverview) -> list[str]:
    """Return sentences about the slides and how models were trained."""
    labels = describe_labels(cohort.rows, cohort.task_report)
    sentences = [f"{_sample(cohort.rows)}: {labels}.", _usable_slides(cohort.rows, cohort.status)]
    if cohort.is_trained_elsewhere:
        sentences.append("The models were trained in an earlier run and are applied here unchanged.")
    else:
        sentences.append(
            f"Models were trained to {cohort.task_report.goal} from {learned_from(cohort.units)}, with"
            f" {cohort.task_report.training_labels} and without annotations." + (WHAT_MAPS_ARE if "tile" in cohort.units else "")
        )
    return sentences


def describe_results(best: ModelPage, n_models: int, cohort: CohortOverview) -> list[str]:
    """Return sentences about the performance of the best model; one sentence if no labelled slide was evaluated."""
    metrics = best.metrics
    if not metrics.get("n_slides"):
        reason = "No labelled slide could be evaluated" if any(row.label for row in cohort.rows) else "No slide is labelled"
        return [f"{reason}, so performance could not be measured; only predictions are shown."]
    unit = "patient" if cohort.bag == "patient" else "slide"
    model = f"the best of {n_models} models, {best.name}," if n_models > 1 else f"the model {best.name}"
    verb = "were" if cohort.task_report.has_thresholds else "was"
    chosen = f"on which its {cohort.task_report.selected} {verb} selected"
    relation = chosen if best.is_as_published else "that it was not trained on"
    labelled = cohort.task_report.labelled(metrics, unit)
    sentences = [f"Of {labelled} {relation}, {model} {cohort.task_report.outcome(metrics)}."]
    where = _localisation(best, cohort) if best.has_tiles else NO_MAPS if best.sees_slides else NO_SLIDES
    return sentences + cohort.task_report.discrimination(metrics, unit) + _over_groups(best, cohort.task_report) + [where]


def limitations(
    models: Sequence[ModelPage],
    effects: Iterable[BatchEffects],
    cohort: CohortOverview,
    beside_baselines: Sequence[Limitation] = (),
) -> list[Limitation]:
    """Return what to know before relying on a figure or heatmap of a target, the most important first.

    Args:
        models: of the target, the best first.
        effects: of each encoder.
        cohort: the cohort.
        beside_baselines: what follows from the comparison of the best model with baselines (`report.baseline`).
    """
    entries = _chance_models(models, cohort.task_report) + _chance_heatmaps(models) + list(beside_baselines)
    entries += _contradictions(cohort)
    entries += [Limitation(f"{e.encoder}: {text}", "batch-effects") for e in effects for text in e.warnings_on(SCANNER)]
    entries += _last_epochs(models, has_thresholds=cohort.task_report.has_thresholds) + _misclassified(models[0], cohort)
    if len(models) > 1:
        text = "The best model was selected by the same figures that are shown, which makes its performance look slightly better."
        entries.append(Limitation(text, "compared"))
    return entries


def cohort_limitations(
    rows: Sequence[SlideRow], duplicates: Iterable[Sequence[str]], *, n_unused: int, n_suspicious: int
) -> list[Limitation]:
    """Return what to know about the slides, whatever is asked of them.

    Args:
        rows: all rows of the sheet.
        duplicates: groups of slides with the same bytes.
        n_unused: number of slides that could not be used.
        n_suspicious: number of tissue masks of usable slides that have warnings.
    """
    entries = _duplicates(rows, duplicates)
    if n_unused:
        entries.append(Limitation(f"{_number(n_unused, 'slide')} could not be used.", "not-used", page=INDEX))
    if n_suspicious:
        masks = "1 tissue mask has warnings" if n_suspicious == 1 else f"{n_suspicious} tissue masks have warnings"
        entries.append(Limitation(f"{masks}: tissue outside the mask is never analysed.", "masks", page=INDEX))
    return [*entries, RESEARCH_ONLY]


def is_at_chance(model: ModelPage, task_report: TaskReport) -> bool:
    """Return whether an evaluated model has not been shown to be better than chance, by `trust` or by its interval.

    The interval is that of the figure by which models are compared: over several groups, the mean over them.
    """
    if model.line.is_warning:
        return True
    ends = model.compared.get(f"{task_report.main_figure}_ci95", [None])
    return bool(model.metrics.get("n_slides")) and _reaches(ends[0], task_report.chance)


def _sample(rows: Sequence[SlideRow]) -> str:
    return f"{_number(len(rows), 'slide')} of {_number(len({row.patient_id for row in rows}), 'patient')}"


def _usable_slides(rows: Sequence[SlideRow], status: Mapping[str, Status]) -> str:
    counts = Counter(status[row.slide_id] for row in rows)
    unused = [f"{counts[status]} {reason}" for status, reason in REASONS.items() if counts[status]]
    if not unused:
        return "All of them could be used."
    return f"{counts[Status.OK]} of them could be used. Not used: {listed(unused)}."


def _over_groups(best: ModelPage, task_report: TaskReport) -> list[str]:
    """The mean over groups, by which models are compared, if there are several groups."""
    if not best.group:
        return []
    value, ends = (best.compared.get(f"{task_report.main_figure}{end}") for end in ("", "_ci95"))
    if value is None or ends is None:
        return [f"No {best.group} by itself has a figure ({task_report.main_title}) to compare models by."]
    interval = interval_text(ends, "patient")
    found = f"is {decimals(value)} ({task_report.chance:g} is chance, 1 is perfect{interval})"
    return [f"Its {task_report.mean_title(best.group)}, by which models are ordered and compared, {found}."]


def _localisation(best: ModelPage, cohort: CohortOverview) -> str:
    measured = {name: f for name, f in best.explanations["methods"].items() if f.get("tile_auroc") is not None}
    if not measured:
        is_annotated = any(row.annotation for row in cohort.rows)
        reason = "No annotated slide could be evaluated" if is_annotated else "No annotations were available"
        return f"{reason}, so heatmap localisation was not evaluated."
    n = max(figures["n_positive_slides"] for figures in measured.values())
    shares = listed([f"{100 * f['tile_auroc']:.1f} % ({name.replace('_', ' ')})" for name, f in measured.items()])
    return (
        f"Compared with annotations of {_number(n, 'slide')} (never used in training): a tile inside an annotation has a higher"
        f" score than a tile outside in {shares} of cases."
    )


def _chance_models(models: Sequence[ModelPage], task_report: TaskReport) -> list[Limitation]:
    """Models whose main figure has an interval that reaches chance, or no interval."""
    at_chance = [model for model in models if is_at_chance(model, task_report)]
    names, with_maps = [model.name for model in at_chance], [model.name for model in at_chance if model.has_tiles]
    if not names:
        return []
    verb, pronoun = ("has", "its") if len(names) == 1 else ("have", "their")
    group, title = at_chance[0].group, task_report.main_title
    interval = f"95 % interval of the {task_report.mean_title(group)}" if group else f"95 % {title} interval"
    reason = f"the {interval} is not entirely above {task_report.chance:g} or could not be"
    reason += " computed, or permuted labels do as well"
    text = f"{listed(names)} {verb} not been shown to be better than chance ({reason})."
    whose = f"{pronoun} heatmaps" if with_maps == names else f"heatmaps of {listed(with_maps)}"
    return [Limitation(f"{text} Do not interpret {whose}." if with_maps else text, "figures")]


def _chance_heatmaps(models: Iterable[ModelPage]) -> list[Limitation]:
    """Methods whose heatmaps have not been shown to locate annotations better than chance."""
    names = [
        f"{model.name} by {name.replace('_', ' ')}"
        for model in models
        for name, figures in model.explanations["methods"].items()
        if figures.get("tile_auroc") is not None and _reaches(figures["tile_auroc_ci95"][0], 0.5)
    ]
    if not names:
        return []
    reason = "the 95 % tile AUROC interval is not entirely above 0.5, or could not be computed"
    text = f"Heatmaps that have not been shown to locate annotations better than chance ({reason}): {listed(names)}."
    return [Limitation(text, "explanations")]


def _contradictions(cohort: CohortOverview) -> list[Limitation]:
    """Slides that are the same file and have labels that cannot both be right."""
    label_of = {row.slide_id: row.label for row in cohort.rows}
    entries = []
    for group in cohort.duplicates:
        labels = list(dict.fromkeys(label_of[slide_id] for slide_id in group if label_of[slide_id]))
        if cohort.task_report.contradict(labels):
            texts = listed([f"“{cohort.task_report.label_text(label)}”" for label in labels])
            text = f"{_same_file(group)}, but their labels are {texts}, so at least one is wrong:"
            entries.append(Limitation(text, slides=tuple(group)))
    return _first(entries)


def _duplicates(rows: Sequence[SlideRow], duplicates: Iterable[Sequence[str]]) -> list[Limitation]:
    """Slides that are in the cohort under several names, those of several patients first."""
    patient_of = {row.slide_id: row.patient_id for row in rows}
    of_one, of_several = list[Limitation](), list[Limitation]()
    for group in duplicates:
        n_patients = len({patient_of[slide_id] for slide_id in group})
        leak = f"; they count as {n_patients} patients, so one can be used to train a model and another to test it"
        entries = of_several if n_patients > 1 else of_one
        entries.append(Limitation(f"{_same_file(group)}{leak if n_patients > 1 else ''}:", slides=tuple(group)))
    return _first(of_several + of_one)


def _same_file(group: Sequence[str]) -> str:
    return f"{_number(len(group), 'slide')} are the same file under different names"


def _first(entries: list[Limitation]) -> list[Limitation]:
    """The first entries on slides under several names, and the number of the others."""
    rest = len(entries) - MAX_DUPLICATES
    if rest <= 0:
        return entries
    text = f"{_number(rest, 'more slide')} under several names: see cohort_status.csv."
    return [*entries[:MAX_DUPLICATES], Limitation(text)]


def _reaches(low: float | None, chance: float) -> bool:
    return low is None or low <= chance


def _misclassified(best: ModelPage, cohort: CohortOverview) -> list[Limitation]:
    """Slides that the best model predicts wrongly."""
    labels = {row.slide_id: row.label for row in cohort.rows}
    is_wrong = cohort.task_report.is_wrong
    slides = tuple(s for s, p in best.predictions.items() if p["role"] in ("test", "") and is_wrong(p, labels[s]))
    if not slides:
        return []
    text = f"{best.name} predicts a wrong label for {_number(len(slides), 'slide')}"
    if len(slides) <= MAX_NAMED:
        return [Limitation(f"{text}:", slides=slides)]
    return [Limitation(f"{text}; they are marked in red.", "cohort")]


def _last_epochs(models: Iterable[ModelPage], *, has_thresholds: bool) -> list[Limitation]:
    """Models whose last epoch was kept, since there were too few validation slides to select one."""
    parts = [
        f"{m.name} ({len(m.metrics['unchosen_folds'])} of {_number(m.metrics['n_folds'], 'fold')})"
        for m in models
        if m.metrics.get("unchosen_folds")
    ]
    if not parts:
        return []
    text = f"Too few validation slides to select an epoch, so the last one was kept: {listed(parts)}."
    thresholds = " Thresholds are based on these few slides." if has_thresholds else ""
    return [Limitation(f"{text}{thresholds}", "figures")]


def _number(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
