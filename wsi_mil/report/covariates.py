"""What slides and covariates add to each other: the clinical model, the slides alone, and both, on the same slides. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsi_mil.config import Clinical, Model, architecture_of
from wsi_mil.report.baseline import NO_EVIDENCE, Against, against
from wsi_mil.report.comparison import Comparison
from wsi_mil.report.model_page import ModelPage
from wsi_mil.report.summary import Limitation
from wsi_mil.wording import listed

ALONE = "the covariates without the slides"
WITHOUT = "the same model without covariates"
OF_SLIDES = "Do the slides add to the covariates?"
OF_COVARIATES = "Do the covariates add to the slides?"
EITHER = "Are the slides alone better than the covariates alone?"


@dataclass(frozen=True)
class Added:
    """A question about slides and covariates, and the two models whose difference answers it."""

    question: str
    pair: Against


def what_is_added(models: Sequence[ModelPage], comparisons: Sequence[Comparison], settings: Mapping[str, Model]) -> list[Added]:
    """Return what each kind of input adds to the other, for all models with covariates and their counterparts.

    Args:
        models: of the target.
        comparisons: all pairs of the target.
        settings: entries of `models`.
    """
    found: list[Added] = []
    for encoder in dict.fromkeys(model.encoder for model in models):
        own = [model for model in models if model.encoder == encoder]
        clinical = [m for m in own if isinstance(settings[m.model], Clinical)]
        both = [m for m in own if m not in clinical and architecture_of(settings, m.model).uses_covariates]
        pairs = [(OF_SLIDES, m, c, ALONE) for m in both for c in clinical]
        counterparts = [(m, other) for m in both for other in own if _is_counterpart(settings, m.model, other.model)]
        pairs += [(OF_COVARIATES, m, other, WITHOUT) for m, other in counterparts]
        pairs += [(EITHER, other, c, ALONE) for _, other in counterparts for c in clinical]
        for question, model, simpler, about in pairs:
            pair = against(model.name, simpler.name, comparisons, about)
            found += [Added(question, pair)] if pair is not None else []
    return found


def added_summary(added: Sequence[Added]) -> list[str]:
    """Return a sentence for each model with covariates: whether the slides add to the covariates."""
    words = {
        "better": "The slides add to the covariates",
        "perhaps better": "The slides may add to the covariates",
        "worse": "The slides add nothing to the covariates",
        "not better": "The slides have not been shown to add to the covariates",
        "unknown": "Whether the slides add to the covariates is not known",
    }
    return [f"{words[item.pair.verdict]}: {item.pair.sentence}" for item in added if item.question == OF_SLIDES]


def no_evidence_of_regions(
    best: ModelPage, beside: Sequence[Against], added: Sequence[Added], settings: Mapping[str, Model]
) -> list[Limitation]:
    """Return why heatmaps of the best model are no evidence, though it is better than a baseline: that has no covariates.

    What it is better by may come from the covariates, or, if it is also better than these alone, from both together with the
    mean of the features, which no baseline has both of. So the model without covariates must be better than the baseline too.

    Args:
        best: the best model of the target.
        beside: every model beside the baselines.
        added: answers of `what_is_added`.
        settings: entries of `models`.
    """
    if not architecture_of(settings, best.model).uses_covariates:
        return []
    own = [pair for pair in beside if pair.model == best.name and pair.verdict == "better"]
    found = [
        f"{p.model} is better than {p.baseline}, but {doubt}, {NO_EVIDENCE}." for p in own if (doubt := _doubt(p, beside, added))
    ]
    return [Limitation(text, "compared") for text in found]


def _doubt(pair: Against, beside: Sequence[Against], added: Sequence[Added]) -> str:
    """Why a model with covariates may be better than a baseline for another reason than single regions, or ""."""
    of_best = [item for item in added if item.pair.model == pair.model]
    clinical = [item.pair for item in of_best if item.question == OF_SLIDES]
    if not clinical:
        return "that has no covariates, and without a model `clinical` it is not known what they do alone"
    if all(other.verdict != "better" for other in clinical):
        return f"that has no covariates, and {pair.model} has not been shown to be better than {clinical[0].baseline}, {ALONE}"
    counterparts = {item.pair.baseline for item in of_best if item.question == OF_COVARIATES}
    if any(p.model in counterparts and p.baseline == pair.baseline and p.verdict == "better" for p in beside):
        return ""
    return f"that has no covariates, and {WITHOUT} has not been shown to be better than it"


def covariate_limitations(models: Sequence[ModelPage]) -> list[Limitation]:
    """Return how covariates were coded that are missing, or that no training slide has, one sentence for each kind."""
    facts = next((model.metrics["covariates"] for model in models if model.metrics.get("covariates")), None)
    if facts is None:
        return []
    found = []
    if facts["missing"]:
        counts = listed([f"{column} ({n} of {facts['n_slides']:,} slides)" for column, n in facts["missing"].items()])
        found.append(f"Covariates with missing values: {counts}; a mean, or no category, takes their place.")
    unseen = [
        f"{column} “{value}” ({n} slide{'' if n == 1 else 's'})"
        for column, values in facts["unseen"].items()
        for value, n in values.items()
    ]
    if unseen:
        found.append(f"Categories that no training slide of a fold has, coded as none: {listed(unseen)}.")
    return [Limitation(text, "compared") for text in found]


def _is_counterpart(settings: Mapping[str, Model], entry: str, other: str) -> bool:
    """Whether two entries are the same but for covariates, MHIM's bases included."""
    with_covariates = not architecture_of(settings, other).uses_covariates
    return with_covariates and _plain(settings, entry) == _plain(settings, other)


def _plain(settings: Mapping[str, Model], entry: str) -> list[dict[str, object]]:
    """Settings of an entry and of its network, without covariates and the name of the base."""
    parts = (settings[entry], architecture_of(settings, entry))
    return [part.model_dump(exclude={"covariates", "base"}) for part in parts]
