"""The methods by name, and the scores of one bag by all that are asked for. To add one: docs/add_an_explanation.md."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pkgutil import resolve_name

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.bags import bag_tensor, stored_tensor
from wsi_mil.config import EXPLANATIONS, Explain, Method, SparseInversion, method_of
from wsi_mil.ensemble import Ensemble, FoldModel
from wsi_mil.explain.agreement import agreement_log
from wsi_mil.explain.base import InstanceMethod, Values, mean_of
from wsi_mil.explain.curves import Predicted, curve_log, curves_of, descending, random_curves
from wsi_mil.explain.sparse_inversion import Refinement, read_off, refine, shrunk
from wsi_mil.metrics import are_equal, spearman
from wsi_mil.models import MILModel
from wsi_mil.records import Bag, InstanceScores, SlidePrediction
from wsi_mil.tasks import not_predicted

INVERSION, CONTROL = "sparse_inversion", "sparse_inversion_control"
RANDOMISED = "randomised_correlation"
"""Key of a validation slide's scores: how much they are like those of a model of permuted weights, 0 to 1."""

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
        """The models that explain the bag, with its covariates fixed."""
        folds = [self.ensemble.folds[fold] for fold in self.prediction.folds]
        return [replace(member, model=member.model.at(self.bag.covariates)) for member in folds]

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
    return _with_curves(request, scores, settings.curve_points)


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
        reason = f"{not_predicted(request.ensemble.task, output)}: sparse inversion finds no key instances"
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
        read = [method.of_model(member.model, each, output) for each in (result.bag, _control(features, result, settings))]
        refusals = [values.refused for values in read if values.refused]
        if refusals:
            reasons.update(refusals)
            continue
        refined.append(read[0])
        controls.append(read[1])
    log: dict[str, object] = {"folds": logs}
    if not refined:
        reason = "; ".join(sorted(reasons))
        return [
            empty_scores(INVERSION, bag, reason, output=output, log=log),
            empty_scores(CONTROL, bag, reason, output=output),
        ]
    log |= agreement_log([values.scores for values in refined])
    log["rank_correlation_with_control"] = round(spearman(mean_of(refined)[0], mean_of(controls)[0]), 6)
    return [
        replace(_read(INVERSION, "the refined bag", method, refined), output=output, log=log),
        replace(_read(CONTROL, "the bag shrunk as far without the model (η = 0)", method, controls), output=output),
    ]


def _control(features: Tensor, result: Refinement, settings: SparseInversion) -> Tensor:
    """The bag shrunk as far as its refinement, without the model."""
    return shrunk(features, settings.penalty, len(result.pull))


def _read(name: str, what: str, method: InstanceMethod, values: Sequence[Values]) -> InstanceScores:
    scores, zero = mean_of(values)
    return InstanceScores(name, scores, f"on {what}: {method.record.kind}", method.record.unit, comparable=False, zero=zero)


def with_randomisation(
    request: ExplainRequest, permuted: MILModel, scores: Sequence[InstanceScores], settings: SparseInversion
) -> list[InstanceScores]:
    """Return scores with |rank correlation| to those by the same method on a model of permuted weights, in their logs.

    Source:
        Adebayo et al.: Sanity checks for saliency maps, NeurIPS 2018, https://arxiv.org/abs/1810.03292.

    Args:
        request: a bag that one model explains.
        permuted: that model with permuted weights, see `with_permuted_weights`.
        scores: of all methods; those without a result, and the control, which no model has a say in, stay as they are.
        settings: of sparse inversion.
    """
    found, permuted = [], permuted.at(request.bag.covariates)
    for s in scores:
        other = None if s.reason or method_of(s.method) == CONTROL else _of_permuted(request, permuted, s, settings)
        if other is not None:
            s = replace(s, log={**s.log, RANDOMISED: round(abs(spearman(s.values, other)), 6)})
        found.append(s)
    return found


def _of_permuted(
    request: ExplainRequest, permuted: MILModel, scores: InstanceScores, settings: SparseInversion
) -> NDArray[np.float64] | None:
    """Scores as others are, by a model of permuted weights, whatever that predicts; None where they are refused."""
    method, output = method_of(scores.method), request.output if scores.output is None else scores.output
    if method != INVERSION:
        values = METHODS[method].of_model(permuted, bag_tensor(request.bag, permuted), output)
        return None if values.refused else values.scores
    result = refine(permuted, stored_tensor(request.bag, permuted), output, settings, threshold=0.0)
    if result.refused:
        return None
    values = METHODS[read_off(permuted, settings.score)].of_model(permuted, result.bag, output)
    return None if values.refused else values.scores


@torch.inference_mode()
def _with_curves(request: ExplainRequest, scores: list[InstanceScores], points: int) -> list[InstanceScores]:
    """Scores with deletion and insertion curves in their logs, or with the reason why there are none."""
    bag, output = request.bag, request.output
    untested = _untested(request, points)
    if untested:
        return [replace(s, log={**s.log, "untested": untested}) for s in scores]

    def model(rows: NDArray[np.int64]) -> Predicted:
        task, prediction = request.ensemble.task, request.prediction
        if len(rows) < len(bag.coords):
            part = replace(bag, features=bag.features[rows], coords=bag.coords[rows])
            prediction = request.ensemble.predict(part, request.prediction.folds)
        return Predicted(task.explained_value(prediction, output), task.is_predicted(prediction, output))

    random = random_curves(len(bag.coords), model, points=points)
    with_curves = []
    for s in scores:
        if s.reason:
            with_curves.append(s)
        elif are_equal(s.values):
            with_curves.append(replace(s, log={**s.log, "untested": "all tiles have the same score"}))
        else:
            curves = curves_of(descending(s.values), model, points=points)
            with_curves.append(replace(s, log={**s.log, "curves": curve_log(curves, random)}))
    return with_curves


def _untested(request: ExplainRequest, points: int) -> str:
    """Why a bag has no curves by any method, or ""."""
    if not points:
        return "explain.curve_points is 0"
    if len(request.bag.coords) == 1:
        return "there is one tile only"
    if not request.is_predicted:
        return f"the slide is not predicted as {request.ensemble.task.output_name(request.output)}"
    return ""
