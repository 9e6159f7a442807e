"""The methods by name, and the scores of one bag by all that are asked for. To add one: docs/add_an_explanation.md."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pkgutil import resolve_name

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.bags import stored_tensor
from wsi_mil.config import EXPLANATIONS, Explain, Method, SparseInversion
from wsi_mil.ensemble import Ensemble, FoldModel
from wsi_mil.explain.base import InstanceMethod, Values, mean_of
from wsi_mil.explain.curves import curve_log, curves_of, random_curves
from wsi_mil.explain.sparse_inversion import read_off, refine, shrunk
from wsi_mil.metrics import mid_ranks
from wsi_mil.records import Bag, InstanceScores, SlidePrediction

INVERSION, CONTROL = "sparse_inversion", "sparse_inversion_control"

METHODS: dict[Method, InstanceMethod] = {
    name: InstanceMethod(record, resolve_name(record.implementation))
    for name, record in EXPLANATIONS.items()
    if name != INVERSION
}
"""Methods that score the bag as it is, by name."""


@dataclass(frozen=True)
class ExplainRequest:
    """A bag, and the models and the output to explain it by.

    Attributes:
        ensemble: the models of all folds.
        bag: the bag.
        prediction: of the folds that held the bag's patient out; their models explain it.
        output: index of the output to explain: class, label, number or risk.
    """

    ensemble: Ensemble
    bag: Bag
    prediction: SlidePrediction
    output: int

    @property
    def members(self) -> list[FoldModel]:
        """The models that explain the bag."""
        return [self.ensemble.folds[fold] for fold in self.prediction.folds]

    @property
    def is_predicted(self) -> bool:
        """Whether the bag is predicted as the output that is asked about."""
        return self.ensemble.task.is_predicted(self.prediction, self.output)


def scores_of(request: ExplainRequest, settings: Explain) -> list[InstanceScores]:
    """Scores by every method of the settings, the control after sparse inversion."""
    scores: list[InstanceScores] = []
    for method in settings.methods:
        if method == INVERSION:
            scores += _inverted(request, settings.sparse_inversion)
        else:
            models = [member.model for member in request.members]
            scores.append(METHODS[method].scores(models, request.bag, request.output))
    return _with_curves(request, scores, settings.curve_points) if settings.curve_points else scores


def empty_scores(
    method: str, bag: Bag, reason: str, *, output: int | None = None, log: dict[str, object] | None = None
) -> InstanceScores:
    """The scores of a method that has nothing to show, all NaN, with the reason."""
    values = np.full(len(bag.coords), np.nan, np.float32)
    return InstanceScores(method, values, kind="", unit="", comparable=False, reason=reason, output=output, log=log or {})


def _inverted(request: ExplainRequest, settings: SparseInversion) -> list[InstanceScores]:
    """Scores by sparse inversion, mean over the models whose prediction holds, and by its control, shrunk as far with η = 0."""
    bag, output = request.bag, request.output
    if not request.is_predicted:
        reason = "predicted negative: sparse inversion finds no key instances"
        return [empty_scores(name, bag, reason, output=output) for name in (INVERSION, CONTROL)]
    logs: dict[str, object] = {}
    refined, controls, reasons = [], [], set()
    for fold, member in zip(request.prediction.folds, request.members, strict=True):
        features = stored_tensor(bag, member.model)
        threshold = request.ensemble.task.threshold_of(member.card.threshold, output)
        result = refine(member.model, features, output, settings, threshold=threshold)
        logs[str(fold)] = result.log()
        if result.refused:
            reasons.add(result.refused)
            continue
        method = METHODS[read_off(member.model, settings.score)]
        values = method.of_model(member.model, result.bag, output)
        if values.refused:
            reasons.add(values.refused)
            continue
        refined.append(values)
        control = shrunk(features, settings.penalty, len(result.pull))
        controls.append(method.of_model(member.model, control, output))
    log: dict[str, object] = {"folds": logs}
    if not refined:
        reason = "; ".join(sorted(reasons))
        return [
            empty_scores(INVERSION, bag, reason, output=output, log=log),
            empty_scores(CONTROL, bag, reason, output=output),
        ]
    log["rank_correlation_with_control"] = round(rank_correlation(mean_of(refined)[0], mean_of(controls)[0]), 6)
    return [
        replace(_read(INVERSION, "the refined bag", method, refined), output=output, log=log),
        replace(_read(CONTROL, "the bag shrunk as far without the model (η = 0)", method, controls), output=output),
    ]


def _read(name: str, what: str, method: InstanceMethod, values: Sequence[Values]) -> InstanceScores:
    scores, zero = mean_of(values)
    return InstanceScores(name, scores, f"on {what}: {method.record.kind}", method.record.unit, comparable=False, zero=zero)


@torch.inference_mode()
def _with_curves(request: ExplainRequest, scores: list[InstanceScores], points: int) -> list[InstanceScores]:
    """Scores with deletion and insertion curves in their logs, if the bag is predicted as the output."""
    bag, output = request.bag, request.output
    if not request.is_predicted:
        return scores

    def value(rows: NDArray[np.int64]) -> float:
        part = Bag(bag.slide_id, bag.features[rows], bag.coords[rows])
        prediction = request.ensemble.predict(part, request.prediction.folds)
        return request.ensemble.task.explained_value(prediction, output)

    random = random_curves(len(bag.coords), value, points=points)
    with_curves = []
    for s in scores:
        if s.reason:
            with_curves.append(s)
            continue
        curves = curves_of(np.argsort(-s.values, kind="stable"), value, points=points)
        with_curves.append(replace(s, log={**s.log, "curves": curve_log(curves, random)}))
    return with_curves


def rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's rank correlation; NaN if all values of one of them are equal."""
    ranks = [mid_ranks(values) - 0.5 for values in (first, second)]
    norm = float(np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1]))
    return float(ranks[0] @ ranks[1]) / norm if norm else float("nan")
