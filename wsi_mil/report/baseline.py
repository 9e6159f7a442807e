"""Models beside a baseline, in words: is one better than the simpler one on the same slides? No I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from wsi_mil.report.comparison import Comparison
from wsi_mil.report.summary import Limitation
from wsi_mil.report.task_report import decimals
from wsi_mil.report.templating import signed

Verdict = Literal["better", "perhaps better", "not better", "worse", "unknown"]

NO_EVIDENCE = "so its heatmaps are no evidence that single regions matter"


@dataclass(frozen=True)
class Against:
    """A model beside a simpler one, on the slides that both predicted.

    Attributes:
        model: name of the model.
        baseline: name of the simpler one.
        about: what the simpler one is, to follow its name; "" to leave that out.
        figure: title of the figure that is compared.
        n: number of slides.
        value: figure of the model less that of the simpler one.
        ci95: its paired 95 % interval.
        p_holm: p-value, adjusted for all pairs that were compared.
        n_pairs: their number.
    """

    model: str
    baseline: str
    about: str
    figure: str
    n: int
    value: float
    ci95: tuple[float, float]
    p_holm: float
    n_pairs: int

    @property
    def verdict(self) -> Verdict:
        """What follows: only a difference that stands after correction for all pairs makes a model better."""
        low, high = self.ci95
        if any(map(math.isnan, (self.value, low, high))):
            return "unknown"
        if high < 0:
            return "worse"
        if low <= 0:
            return "not better"
        return "better" if self.p_holm < 0.05 else "perhaps better"

    @property
    def sentence(self) -> str:
        """Whether the model is better, with the difference."""
        baseline = f"{self.baseline}, {self.about}" if self.about else self.baseline
        slides = f"on the same {self.n:,} slide{'' if self.n == 1 else 's'}"
        if self.verdict == "unknown":
            return f"{self.model} cannot be compared with {baseline}: {self.figure} cannot be computed {slides}."
        low, high = map(signed, self.ci95)
        measured = f"{self.figure} {signed(self.value)} (95 % interval {low} to {high}), {slides}"
        if self.verdict == "perhaps better":
            chance = f"with {self.n_pairs} pairs of models compared, this can be chance (adjusted p {decimals(self.p_holm)})"
            return f"{self.model} may be better than {baseline}: {measured}; {chance}."
        words = {"better": "is better than", "worse": "is worse than", "not better": "has not been shown to be better than"}
        return f"{self.model} {words[self.verdict]} {baseline}: {measured}."


def against(model: str, baseline: str, comparisons: Sequence[Comparison], about: str = "") -> Against | None:
    """Return two models of a target beside each other; None if they have no slide in common.

    Args:
        model: name of the model.
        baseline: name of the one that it ought to be better than.
        comparisons: all pairs of the target, in any order; their figure is higher for a better model.
        about: what the baseline is, to follow its name.
    """
    for pair in comparisons:
        if {pair.first, pair.second} == {model, baseline}:
            sign = 1 if pair.first == model else -1
            low, high = sorted((sign * end for end in pair.difference.ci95), key=float)
            value = sign * pair.difference.value
            ends = (low, high)
            return Against(model, baseline, about, pair.figure, pair.n, value, ends, pair.p_holm, len(comparisons))
    return None


def beside_baselines(entries: Mapping[str, str], comparisons: Sequence[Comparison]) -> list[Against]:
    """Return every model beside the best baseline of each kind.

    Args:
        entries: names of the models on the features of one encoder, the best first, with what the baselines among them are, ""
            of all others (`ModelSettings.baseline`).
        comparisons: all pairs of the target.
    """
    best: dict[str, str] = {}
    for name, about in entries.items():
        if about:
            best.setdefault(about, name)
    pairs = [
        against(name, baseline, comparisons, about)
        for about, baseline in best.items()
        for name, own in entries.items()
        if not own
    ]
    return [pair for pair in pairs if pair is not None]


def baseline_summary(best: str, beside: Sequence[Against]) -> tuple[list[str], list[Limitation]]:
    """Return sentences about the best model beside baselines, and what limits its heatmaps.

    Args:
        best: name of the best model of the target.
        beside: every model beside the baselines.
    """
    own = [pair for pair in beside if pair.model == best]
    sentences = [pair.sentence for pair in own]
    abouts = {pair.baseline: pair.about for pair in beside}
    if best in abouts:
        n_others = sum(pair.baseline == best for pair in beside)
        none = "the other model on these features has not" if n_others == 1 else f"none of the {n_others} others has"
        sentences.append(f"{best} is {abouts[best]}; {none} been shown to be better.")
    cautions = [
        f"{pair.model} has not been shown to be better than {pair.baseline}, {pair.about}, {NO_EVIDENCE}."
        for pair in own
        if pair.verdict in ("not better", "perhaps better", "unknown")
    ]
    return sentences, [Limitation(text, "compared") for text in cautions]
