"""Every method by its name, and what they say of one bag. To add one: docs/add_an_explanation.md."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.bags import stored_tensor
from wsi_mil.config import Explain, Method, SparseInversion
from wsi_mil.ensemble import Ensemble, FoldModel
from wsi_mil.explain.attention import ATTENTION
from wsi_mil.explain.attention_logits import ATTENTION_LOGITS
from wsi_mil.explain.base import InstanceMethod, Values, mean_of
from wsi_mil.explain.class_activation import CLASS_ACTIVATION
from wsi_mil.explain.curves import curve_log, curves_of, random_curves
from wsi_mil.explain.evidence import EVIDENCE
from wsi_mil.explain.gradient_input import GRADIENT_INPUT
from wsi_mil.explain.jacobian_map import JACOBIAN_MAP
from wsi_mil.explain.probability import PROBABILITY
from wsi_mil.explain.sparse_inversion import read_off, refine, shrunk
from wsi_mil.explain.standardised_sum import STANDARDISED_SUM
from wsi_mil.metrics import mid_ranks
from wsi_mil.records import Bag, InstanceScores, SlidePrediction

PLAIN: dict[Method, InstanceMethod] = {
    m.name: m
    for m in (
        ATTENTION,
        ATTENTION_LOGITS,
        EVIDENCE,
        STANDARDISED_SUM,
        PROBABILITY,
        CLASS_ACTIVATION,
        JACOBIAN_MAP,
        GRADIENT_INPUT,
    )
}
"""Methods that are read off the bag as it is."""

INVERSION, CONTROL = "sparse_inversion", "sparse_inversion_control"


@dataclass(frozen=True)
class Question:
    """What is asked about a bag.

    Attributes:
        ensemble: the models.
        bag: the bag.
        prediction: what the models that may speak for it say; those are asked.
        target: class whose evidence is looked for.
    """

    ensemble: Ensemble
    bag: Bag
    prediction: SlidePrediction
    target: int

    @property
    def members(self) -> list[FoldModel]:
        """The models that are asked."""
        return [self.ensemble.folds[fold] for fold in self.prediction.folds]

    @property
    def is_predicted(self) -> bool:
        """Whether the bag is predicted as the class that is asked about."""
        return self.ensemble.task.is_predicted(self.prediction, self.target)


def scores_of(question: Question, settings: Explain) -> list[InstanceScores]:
    """Scores by every method of the settings; the control stands behind sparse inversion."""
    found: list[InstanceScores] = []
    for method in settings.methods:
        if method == INVERSION:
            found += _inverted(question, settings.sparse_inversion)
        else:
            found.append(PLAIN[method].scores([m.model for m in question.members], question.bag, question.target))
    return _with_curves(question, found, settings.curve_points) if settings.curve_points else found


def nothing(
    method: str, bag: Bag, reason: str, *, target: int | None = None, log: dict[str, object] | None = None
) -> InstanceScores:
    """The scores of a method that has nothing to show."""
    values = np.full(len(bag.coords), np.nan, np.float32)
    return InstanceScores(method, values, kind="", unit="", comparable=False, reason=reason, target=target, log=log or {})


def _inverted(question: Question, settings: SparseInversion) -> list[InstanceScores]:
    """Sparse inversion, mean over the models whose prediction holds; and its control, as far shrunk with η = 0."""
    bag, target = question.bag, question.target
    if not question.is_predicted:
        reason = "predicted negative: sparse inversion finds no key instances"
        return [nothing(name, bag, reason, target=target) for name in (INVERSION, CONTROL)]
    logs: dict[str, object] = {}
    refined, controls, reasons = [], [], set()
    for fold, member in zip(question.prediction.folds, question.members, strict=True):
        features = stored_tensor(bag, member.model)
        threshold = question.ensemble.task.threshold_of(member.card.threshold, target)
        result = refine(member.model, features, target, settings, threshold=threshold)
        logs[str(fold)] = result.log()
        if result.refused:
            reasons.add(result.refused)
            continue
        method = read_off(member.model, settings.score)
        refined.append(method.of_model(member.model, result.bag, target))
        control = shrunk(features, settings.penalty, len(result.pull))
        controls.append(method.of_model(member.model, control, target))
    log: dict[str, object] = {"folds": logs}
    if not refined:
        reason = "; ".join(sorted(reasons))
        return [nothing(INVERSION, bag, reason, target=target, log=log), nothing(CONTROL, bag, reason, target=target)]
    log["rank_correlation_with_control"] = round(_rank_correlation(mean_of(refined)[0], mean_of(controls)[0]), 6)
    return [
        replace(_read(INVERSION, "the refined bag", method, refined), target=target, log=log),
        replace(_read(CONTROL, "the bag shrunk as far without the model (η = 0)", method, controls), target=target),
    ]


def _read(name: str, what: str, method: InstanceMethod, values: Sequence[Values]) -> InstanceScores:
    scores, zero = mean_of(values)
    return InstanceScores(name, scores, f"on {what}: {method.kind}", method.unit, comparable=False, zero=zero)


@torch.inference_mode()
def _with_curves(question: Question, scores: list[InstanceScores], points: int) -> list[InstanceScores]:
    """The same, with deletion and insertion curves in the logs where the bag is predicted as the target."""
    bag, target = question.bag, question.target
    if not question.is_predicted:
        return scores

    def prob(rows: NDArray[np.int64]) -> float:
        part = Bag(bag.slide_id, bag.features[rows], bag.coords[rows])
        return question.ensemble.predict(part, question.prediction.folds).probs[target]

    random = random_curves(len(bag.coords), prob, points=points)
    found = []
    for s in scores:
        if s.reason:
            found.append(s)
            continue
        curves = curves_of(np.argsort(-s.values, kind="stable"), prob, points=points)
        found.append(replace(s, log={**s.log, "curves": curve_log(curves, random)}))
    return found


def _rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's; NaN where one of them is all equal."""
    ranks = [mid_ranks(values) - 0.5 for values in (first, second)]
    norm = float(np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1]))
    return float(ranks[0] @ ranks[1]) / norm if norm else float("nan")
