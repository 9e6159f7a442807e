"""Explanations: one record for each way to score the instances of a bag.

`explain.methods`, `check`, the registry of `wsi_mil.explain`, the schema and the tables of the documentation follow from these
records. To add one: docs/add_an_explanation.md.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote

from wsi_mil.config.models import InstanceScoreKind
from wsi_mil.config.targets import KINDS


@dataclass(frozen=True)
class ExplanationRecord:
    """A way to score the instances of a bag. What it says of its numbers decides how they are drawn.

    Attributes:
        name: as in `explain.methods`.
        sentence: what the number of an instance is.
        implementation: "module:function" of `(model, bag, output)` → `explain.base.Values`; of sparse inversion, which scores a
            refined bag by one of the others, the function that refines.
        kind: what the numbers are, as receipts have it; "" of sparse inversion.
        unit: as in `InstanceScores`; "" of sparse inversion.
        comparable: whether scores of different slides may be compared.
        comparable_weighted: whether they may be once they are weighted by the slide's probability.
        requires: what a model must provide, all of it.
        excludes: what a model must not provide.
        scores_refined_bags: whether sparse inversion may score its refined bag by it.
        kinds: kinds of targets that it can explain.
    """

    name: str
    sentence: str
    implementation: str
    kind: str = ""
    unit: str = ""
    comparable: bool = False
    comparable_weighted: bool = False
    requires: tuple[InstanceScoreKind, ...] = ()
    excludes: tuple[InstanceScoreKind, ...] = ()
    scores_refined_bags: bool = False
    kinds: tuple[str, ...] = KINDS


EXPLANATIONS: dict[str, ExplanationRecord] = {
    record.name: record
    for record in (
        ExplanationRecord(
            name="attention",
            sentence="share of the pooling weight; of TransMIL the class token's in its first layer, of DTFD tier 1's over the"
            " whole slide",
            implementation="wsi_mil.explain.attention:attention",
            kind="attention: sums to 1 over the bag, also in a negative one",
            unit="share",
            comparable_weighted=True,
            requires=("attention",),
            scores_refined_bags=True,
        ),
        ExplanationRecord(
            name="attention_logits",
            sentence="attention before the softmax",
            implementation="wsi_mil.explain.attention_logits:attention_logits",
            kind="attention before the softmax; zero is the logit of an even share",
            unit="logit",
            comparable_weighted=True,
            requires=("attention_logits",),
            scores_refined_bags=True,
        ),
        ExplanationRecord(
            name="evidence",
            sentence="log odds of the class or label, or value or log risk, for the tile alone",
            implementation="wsi_mil.explain.evidence:evidence",
            kind="each instance's own log odds, value or log risk",
            unit="log_odds",
            comparable=True,
            comparable_weighted=True,
            requires=("evidence",),
            scores_refined_bags=True,
        ),
        ExplanationRecord(
            name="standardised_sum",
            sentence="attention logit and evidence, each in standard deviations, added",
            implementation="wsi_mil.explain.standardised_sum:standardised_sum",
            kind="attention logit and evidence, each in standard deviations from the bag's mean, added",
            unit="deviation",
            requires=("attention_logits", "evidence"),
            scores_refined_bags=True,
        ),
        ExplanationRecord(
            name="probability",
            sentence="the tile's own probability of the class or label",
            implementation="wsi_mil.explain.probability:probability",
            kind="each instance's own probability of the class or label",
            unit="probability",
            comparable=True,
            comparable_weighted=True,
            requires=("probability",),
        ),
        ExplanationRecord(
            name="class_activation",
            sentence="attention × evidence: the log odds of DTFD's derived instance probability, independent of the bag's size",
            implementation="wsi_mil.explain.class_activation:class_activation",
            kind="attention × evidence without bias, times the number of instances: log odds of the derived instance probability",
            unit="contribution",
            requires=("class_activation",),
        ),
        ExplanationRecord(
            name="jacobian_map",
            sentence="the class's positive signal passed back to the tile's features (Kraus et al. 2016)",
            implementation="wsi_mil.explain.jacobian_map:jacobian_map",
            kind="Jacobian map: probabilities of bag and instance × positive sensitivity to the instance's features, in bag"
            " means",
            unit="sensitivity",
            requires=("probability",),
            excludes=("attention",),  # of models that are nothing but a pool of instances' probabilities
        ),
        ExplanationRecord(
            name="gradient_input",
            sentence="gradient × input",
            implementation="wsi_mil.explain.gradient_input:gradient_input",
            kind="gradient × input, times the number of instances: contribution to what is explained of the bag",
            unit="contribution",
        ),
        ExplanationRecord(
            name="contribution",
            sentence="share of the bag's log odds, value or log risk: sums to it with those of class token and biases (xMIL)",
            implementation="wsi_mil.explain.contribution:contribution",
            kind="contribution to what is explained of the bag, with attention held constant; sums to it over the bag",
            unit="part",
            comparable_weighted=True,
        ),
        ExplanationRecord(
            name="centred_contribution",
            sentence="contribution of what sets the tile apart from the slide's mean tile, times the number of tiles",
            implementation="wsi_mil.explain.contribution:centred_contribution",
            kind="contribution of the difference from the bag's mean instance, times the number of instances",
            unit="contribution",
        ),
        ExplanationRecord(
            name="direction",
            sentence="how far the tile lies in the direction that raises the log odds, value or log risk, wherever attention is",
            implementation="wsi_mil.explain.contribution:direction",
            kind="product with the summed gradient of what is explained of the bag, attention held constant",
            unit="log_odds",
            comparable=True,
            comparable_weighted=True,
            scores_refined_bags=True,
        ),
        ExplanationRecord(
            name="standardised_contribution",
            sentence="centred contribution and direction, each in standard deviations, added",
            implementation="wsi_mil.explain.contribution:standardised_contribution",
            kind="centred contribution and direction, each in standard deviations from the bag's mean, added",
            unit="deviation",
            scores_refined_bags=True,
        ),
        ExplanationRecord(
            name="single",
            sentence="log odds, value or log risk of the tile as a bag of its own; of most models the same as `evidence`",
            implementation="wsi_mil.explain.single:single",
            kind="what is explained, of a bag of this instance alone",
            unit="log_odds",
        ),
        ExplanationRecord(
            name="integrated_gradients",
            sentence="gradient × input, mean along the way from a bag of zeros (Sundararajan et al. 2017)",
            implementation="wsi_mil.explain.integrated_gradients:integrated_gradients",
            kind="integrated gradients from zeros; sums to the change of what is explained of the bag",
            unit="part",
            comparable_weighted=True,
        ),
        ExplanationRecord(
            name="sparse_inversion",
            sentence="the bag is refined until what does not carry the prediction fades (Shin et al.), then scored by"
            " `sparse_inversion.score`; nothing on slides predicted negative",
            implementation="wsi_mil.explain.sparse_inversion:refine",
            kinds=("classes", "multilabel"),
        ),
    )
}
"""By name, in the order in which choices are listed."""

FURTHER = "@"
"""Between method and output in the name of scores for a further output of a slide."""

FINE = ".fine"
"""After the method, in the name of scores that are the mean over shifted tilings. Names of methods have no dot."""

BEST = "best"
"""In `explain.methods`: the method that `best` of the model's record names."""

READ_OFF = tuple(name for name, record in EXPLANATIONS.items() if record.scores_refined_bags)
"""Names of the explanations that may score a refined bag."""

if TYPE_CHECKING:  # names stand in the records alone; settings are validated against them when they are read
    Method = str
    MethodChoice = str
    ReadOff = str
else:
    Method = Literal[tuple(EXPLANATIONS)]
    MethodChoice = Literal[(*EXPLANATIONS, BEST)]
    ReadOff = Literal[READ_OFF]


def supports(provides: Collection[InstanceScoreKind], method: Method) -> bool:
    """Whether a model that provides these scores can be explained by a method."""
    record = EXPLANATIONS[method]
    return set(record.requires) <= set(provides) and set(record.excludes).isdisjoint(provides)


def resolved(methods: Iterable[MethodChoice], best: Method) -> tuple[Method, ...]:
    """Return methods with the name of the best one in the place of `best`, each once; none of a model that has no best one."""
    return () if not best else tuple(dict.fromkeys(best if method == BEST else method for method in methods))


def further_name(name: str, label: str) -> str:
    """Return the name of scores for a further class or label of a slide, `{name}@{label}`, which is a file name.

    Characters other than letters of ASCII, digits, and ``_.-`` become ``~`` and their code, so that no two labels share a name.
    """
    return name + FURTHER + quote(label, safe="").replace("~", "%7E").replace("%", "~")


def further_label(name: str) -> str:
    """Return the class or label in a name of `further_name`; "" for the scores of a slide's first one."""
    return unquote(name.partition(FURTHER)[2].replace("~", "%"))


def method_of(name: str) -> str:
    """Return the method that scores are by, from their name; of those on the finer grid, `{method}.fine`."""
    return name.partition(FURTHER)[0]


def fine_name(name: str) -> str:
    """Return the name of the scores on the finer grid, `{method}.fine` or `{method}.fine@{label}`."""
    method, separator, label = name.partition(FURTHER)
    return f"{method}{FINE}{separator}{label}"


def usual_name(name: str) -> str:
    """Return the name without `.fine`, which is that of the usual scores or their method."""
    method, separator, label = name.partition(FURTHER)
    return f"{method.removesuffix(FINE)}{separator}{label}"


def is_fine(name: str) -> bool:
    """Return whether scores are the mean over shifted tilings, by their name."""
    return method_of(name).endswith(FINE)


def explains(method: Method, kind: str) -> bool:
    """Whether a method can explain models of a kind of target."""
    return kind in EXPLANATIONS[method].kinds
