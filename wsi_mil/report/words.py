"""What the figures mean, in sentences for somebody who has never seen the tool. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wsi_mil.records import SlideRow, Status
from wsi_mil.report.batch_effects import SCANNER, BatchEffects
from wsi_mil.report.kinds import Kind
from wsi_mil.report.model_page import ModelPage
from wsi_mil.wording import listed

NAMED = 12
"""Wrongly called slides that are named one by one; of more only the number is given."""

MOST_TWICE = 5
"""Slides under several names that are named one by one."""


@dataclass(frozen=True)
class Caution:
    """Something to know before relying on the page, and the section that says more, or ""."""

    text: str
    section: str = ""
    slides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cohort:
    """What there is, and how it is called.

    Attributes:
        rows: the whole sheet.
        status: of each slide, by slide_id.
        kind: what is learned, in the report's words.
        bag: `slide` or `patient`: what one prediction is made for.
        is_trained_elsewhere: whether the models come from an earlier run.
        same: slides that hold the same bytes, each group of them.
    """

    rows: Sequence[SlideRow]
    status: Mapping[str, Status]
    kind: Kind
    bag: str
    is_trained_elsewhere: bool
    same: Sequence[Sequence[str]] = ()

    def n_of(self, status: Status) -> int:
        """Slides of a status."""
        return sum(self.status[row.slide_id] is status for row in self.rows)


def what_was_done(cohort: Cohort) -> list[str]:
    """What went in, and what was made of it."""
    n_patients = len({row.patient_id for row in cohort.rows})
    counts = listed(cohort.kind.label_counts([row.label for row in cohort.rows]))
    unlabelled = sum(not row.label for row in cohort.rows)
    rest = f", and {unlabelled} without a label, which {'is' if unlabelled == 1 else 'are'} only predicted" if unlabelled else ""
    lines = [f"{_number(len(cohort.rows), 'slide')} of {_number(n_patients, 'patient')}: {counts}{rest}."]
    unused = [(status, cohort.n_of(status)) for status in (Status.FAILED, Status.EMPTY, Status.SKIPPED)]
    why = {Status.FAILED: "failed", Status.EMPTY: "without tissue", Status.SKIPPED: "skipped for want of a resolution"}
    parts = [f"{n} {why[status]}" for status, n in unused if n]
    lines.append(f"{cohort.n_of(Status.OK)} of them could be used ({listed(parts)})." if parts else "All could be used.")
    if cohort.is_trained_elsewhere:
        lines.append("The models were trained in an earlier run and are applied here as they are.")
    else:
        lines.append(
            f"From the labels alone, one for a whole slide, models learned to {cohort.kind.goal} by small squares of tissue"
            " (tiles). Nobody showed them where in a slide the evidence lies; a heatmap is a model's own opinion of that."
        )
    return lines


def what_came_out(best: ModelPage, n_models: int, cohort: Cohort) -> list[str]:
    """The figures of the best model in plain words; nothing where no labelled slide counts."""
    metrics = best.metrics
    if not metrics.get("n_slides"):
        return ["No slide has a label that a prediction could be held against: there are predictions only."]
    unit, n = "patient" if cohort.bag == "patient" else "slide", metrics["n_bags"]
    which = f"the best of {n_models} models, {best.name}," if n_models > 1 else f"the model {best.name}"
    seen = "whose labels chose its epoch and threshold" if best.is_as_published else "that it had not learned from"
    lines = [f"Of {_number(n, f'labelled {unit}')} {seen}, {which} {cohort.kind.outcome(metrics)}."]
    return lines + cohort.kind.discrimination(metrics, unit) + _localisation(best)


def cautions(models: Sequence[ModelPage], effects: Iterable[BatchEffects], cohort: Cohort, n_suspicious: int) -> list[Caution]:
    """What to know before relying on a figure or a heatmap of the page."""
    found = _guesses(models, cohort.kind) + _blind(models) + _twice(cohort) + _wrong(models[0], cohort) + _unchosen(models)
    unused = len(cohort.rows) - cohort.n_of(Status.OK)
    if unused:
        found.append(Caution(f"{_number(unused, 'slide')} could not be used.", "not-used"))
    if n_suspicious:
        masks = "tissue mask bears" if n_suspicious == 1 else "tissue masks bear"
        found.append(Caution(f"{n_suspicious} {masks} a warning: what is masked wrongly is never looked at.", "masks"))
    found += [Caution(f"{e.encoder}: {text}", "batch-effects") for e in effects for text in e.warnings_on(SCANNER)]
    if len(models) > 1:
        text = "The best of several models was chosen by these very figures, which flatters it a little."
        found.append(Caution(text, "compared"))
    return [*found, Caution("Made for research. No diagnosis may rest on it.")]


def _localisation(best: ModelPage) -> list[str]:
    measured = {name: f for name, f in best.explanations["methods"].items() if f.get("tile_auroc") is not None}
    if not measured:
        return ["No outline was at hand to hold the heatmaps against: whether they point at the right place was not measured."]
    n = max(figures["n_positive_slides"] for figures in measured.values())
    shares = listed([f"{100 * f['tile_auroc']:.1f} % ({name.replace('_', ' ')})" for name, f in measured.items()])
    return [
        f"Held against the outlines of {_number(n, 'slide')}, which no model was shown: a tile inside an outline is ranked higher"
        f" than one outside in {shares} of cases."
    ]


def _guesses(models: Iterable[ModelPage], kind: Kind) -> list[Caution]:
    """Models that have chance in the interval of their main figure, or no interval."""
    interval = f"{kind.main_figure}_ci95"
    names = [m.name for m in models if m.metrics.get("n_slides") and _reaches(m.metrics.get(interval, [None])[0], kind.chance)]
    if not names:
        return []
    heatmaps = "Its heatmaps show" if len(names) == 1 else "Their heatmaps show"
    why = f"the 95 % interval of {kind.main_title} holds {kind.chance:g}, or there is none"
    text = f"{listed(names)} cannot be told from guessing ({why}). {heatmaps} nothing that may be believed."
    return [Caution(text, "figures")]


def _blind(models: Iterable[ModelPage]) -> list[Caution]:
    """Methods whose heatmaps do not find the truth better than chance."""
    blind = [
        f"{model.name} by {name.replace('_', ' ')}"
        for model in models
        for name, figures in model.explanations["methods"].items()
        if figures.get("tile_auroc") is not None and (figures["tile_auroc_ci95"][0] or 0) <= 0.5
    ]
    if not blind:
        return []
    text = f"Heatmaps that find the outlined places no better than chance (tile AUROC interval reaches 0.5): {listed(blind)}."
    return [Caution(text, "explanations")]


def _twice(cohort: Cohort) -> list[Caution]:
    """Slides that stand in the cohort under several names, those that contradict each other first."""
    rows = {row.slide_id: row for row in cohort.rows}
    found = []
    for same in cohort.same:
        labels = list(dict.fromkeys(rows[s].label for s in same if rows[s].label))
        patients = {rows[s].patient_id for s in same}
        text = f"{_number(len(same), 'slide')} are one, under several names"
        if len(labels) > 1:
            text += f", though their labels are {listed([f'“{label}”' for label in labels])}: one of them is wrong"
        if len(patients) > 1:
            text += f"; as {len(patients)} patients they may lie on both sides of a split, which flatters every figure"
        found.append((len(labels) < 2, len(patients) < 2, Caution(f"{text}:", slides=tuple(same))))
    first = [caution for *_, caution in sorted(found, key=lambda entry: entry[:2])]
    rest = len(first) - MOST_TWICE
    if rest <= 0:
        return first
    text = f"{_number(rest, 'more slide')} under several names: cohort_status.csv says which."
    return [*first[:MOST_TWICE], Caution(text)]


def _reaches(low: float | None, chance: float) -> bool:
    return low is None or low <= chance


def _wrong(best: ModelPage, cohort: Cohort) -> list[Caution]:
    """Slides that the best model calls wrongly."""
    labels = {row.slide_id: row.label for row in cohort.rows}
    wrong = tuple(s for s, p in best.predictions.items() if p["role"] in ("test", "") and cohort.kind.is_wrong(p, labels[s]))
    if not wrong:
        return []
    text = f"{best.name} calls {_number(len(wrong), 'slide')} wrongly"
    return [Caution(f"{text}:", slides=wrong) if len(wrong) <= NAMED else Caution(f"{text}; they stand in red.", "cohort")]


def _unchosen(models: Iterable[ModelPage]) -> list[Caution]:
    """Models of which no validation slide chose the epoch, since there were too few."""
    parts = [
        f"{m.name} ({len(m.metrics['unchosen_folds'])} of {_number(m.metrics['n_folds'], 'fold')})"
        for m in models
        if m.metrics.get("unchosen_folds")
    ]
    if not parts:
        return []
    text = f"Too few validation slides to choose an epoch by; the last one was kept: {listed(parts)}."
    return [Caution(f"{text} Their thresholds stand on those few slides.", "figures")]


def _number(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
