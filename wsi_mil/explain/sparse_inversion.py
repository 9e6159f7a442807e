"""Sparse network inversion: refine the bag itself until only what carries the prediction is left."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.config import Offer, SparseInversion
from wsi_mil.models import MILModel, margin_of

KIND = {
    "evidence": "sparse inversion: each refined instance's own log odds for the class, which refining itself has raised",
    "attention": "sparse inversion: attention on the refined bag, sums to 1 over the bag",
}
UNIT = {"evidence": "log_odds", "attention": "share"}


@dataclass(frozen=True)
class Refinement:
    """A refined bag, and how it came about.

    Attributes:
        features: `(1, n_instances, feature_dim)`.
        log_prob: log P of the class before each step and at the end.
        nonzero: share of non-zero features, likewise.
        predicted: most probable class, likewise.
        reason: why the refinement must not be used, or "".
    """

    features: Tensor
    log_prob: list[float] = field(default_factory=list)
    nonzero: list[float] = field(default_factory=list)
    predicted: list[int] = field(default_factory=list)
    reason: str = ""


def refine(model: MILModel, features: Tensor, target: int, settings: SparseInversion) -> Refinement:
    """Proximal gradient on the bag: towards the class `target`, with a sparsity penalty.

    Source:
        Shin et al., sparse network inversion for key instance detection in MIL: minimise l(X) = -log P(target) from
        the bag itself by X ← S_λ(X - η ∂l/∂X), S_λ the soft threshold. The model is frozen and in eval mode, and the
        whole bag stands under one softmax.

    Differs:
        X are the encoder's features, not pixels. With s = logit(target) - logsumexp(other logits),
        ∂l/∂X = -(1 - P) ∂s/∂X, where 1 - P = σ(-s) stays exact at P ≈ 1. η and λ are relative to the bag: with m the
        mean |feature| and r the RMS of ∂s/∂X at the start, the step is η·m/r and the penalty λ·m, since gradients
        scale with 1/n_instances. Bags without negative values stay non-negative.

    Args:
        model: frozen, in eval mode.
        features: `(1, n_instances, feature_dim)`.
        target: class index.
        settings: η, λ and number of steps.

    Returns:
        The last iterate; the bag itself with a reason where the gradient vanishes. Whether the prediction still holds
        is for the caller to judge, from the last `log_prob` and its threshold.
    """
    scale = float(features.abs().mean())
    lower = 0.0 if float(features.min()) >= 0 else -torch.inf
    result = Refinement(features.clone())
    step = 0.0
    current = features
    for number in range(settings.steps):
        margin, gradient = _margin_gradient(model, current, target, result)
        if number == 0:
            steepness = float(gradient.square().mean().sqrt())
            if steepness == 0:
                return replace(result, reason="the model does not react to this bag")
            step = settings.step * scale / steepness
        moved = current + step * torch.sigmoid(-margin) * gradient
        current = soft_threshold(moved, settings.penalty * scale).clamp_min(lower)
    _margin_gradient(model, current, target, result)
    return replace(result, features=current)


def soft_threshold(values: Tensor, penalty: float) -> Tensor:
    """sign(u)·max(|u| - λ, 0), elementwise: the proximal map of λ‖·‖₁."""
    return values.sign() * (values.abs() - penalty).clamp_min(0)


def refined_scores(model: MILModel, refined: Tensor, target: int, name: Offer) -> NDArray[np.float64]:
    """What is read off a refined bag: `(n_instances,)`."""
    return model.instance_scores(refined, target)[name].cpu().numpy()


def read_off(model: MILModel, settings: SparseInversion) -> Literal["evidence", "attention"]:
    """The score that is read: as set, or the other one where the model has no such thing (TransMIL has no evidence)."""
    if settings.score in model.offers:
        return settings.score
    return "attention" if settings.score == "evidence" else "evidence"


def _margin_gradient(model: MILModel, features: Tensor, target: int, result: Refinement) -> tuple[Tensor, Tensor]:
    """Margin of `target` and its gradient over the bag; notes the step in `result`."""
    variable = features.detach().requires_grad_(True)
    logits = model(variable).logits[0]
    margin = margin_of(logits, target)
    (gradient,) = torch.autograd.grad(margin, variable)
    result.log_prob.append(float(torch.nn.functional.logsigmoid(margin.detach())))
    result.nonzero.append(float((features != 0).float().mean()))
    result.predicted.append(int(logits.argmax()))
    return margin.detach(), gradient
