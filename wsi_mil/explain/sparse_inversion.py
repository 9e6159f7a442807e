"""Sparse network inversion: refine the bag until only what supports the prediction is left."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from wsi_mil.config import ReadOff, SparseInversion, supports
from wsi_mil.explain.gradient import CHUNK, MarginGradient, margin_gradient
from wsi_mil.models import MILModel

PIXELS = SparseInversion(step=5.0, penalty=0.003, steps=5)
"""Settings for pixels behind an image encoder that was trained along; those of features are the defaults."""

LEAST_NONZERO = 0.5
"""Refinement stops when less than this share of the values that were not background are left."""

MOST_BLANK = 0.2
"""Largest share of instances that may lose every feature: with more there are too many ties to score the bag."""


def _parts(bag: Tensor) -> Iterator[Tensor]:
    """A bag in float32, piece by piece, so that computing on it takes no memory of its size."""
    return (part.float() for part in torch.split(bag, CHUNK, dim=1))


@dataclass(frozen=True)
class Domain:
    """Bounds of refined values, and the value that they are shrunk towards.

    Attributes:
        lower: least value.
        upper: largest value.
        background: the value that stands for nothing: 0 of features, the colour of glass for pixels.
    """

    lower: float = -torch.inf
    upper: float = torch.inf
    background: float = 0.0

    @classmethod
    def of_features(cls, bag: Tensor) -> "Domain":
        """Features without a negative one, as after a ReLU, stay so."""
        return cls(lower=0.0 if float(bag.min()) >= 0 else -torch.inf)

    @classmethod
    def of_pixels(cls, background: float = 0.0) -> "Domain":
        """Intensities from 0 to 1; the background is 0 for digits, and 1 (white) for bright-field slides."""
        return cls(0.0, 1.0, background)

    def shrunk(self, values: Tensor, penalty: float) -> Tensor:
        """The soft threshold around the background, then the bounds."""
        return (self.background + soft_threshold(values - self.background, penalty)).clamp(self.lower, self.upper)

    def scale_of(self, bag: Tensor) -> float:
        """m: mean distance of a bag's values from the background."""
        return sum(float((part - self.background).abs().sum()) for part in _parts(bag)) / bag.numel()

    def length_of(self, bag: Tensor) -> float:
        """Euclidean distance of a bag from the background."""
        return math.sqrt(sum(float((part - self.background).square().sum()) for part in _parts(bag)))

    def nonzero_of(self, bag: Tensor) -> float:
        """Share of a bag's values that differ from the background."""
        return sum(int((part != self.background).sum()) for part in _parts(bag)) / bag.numel()

    def blank_of(self, bag: Tensor) -> float:
        """Share of a bag's instances all of whose values are background."""
        return sum(int((part == self.background).flatten(2).all(dim=2).sum()) for part in _parts(bag)) / bag.shape[1]


@dataclass(frozen=True)
class Refinement:
    """A refined bag, and the course of its refinement.

    Attributes:
        bag: the last iterate, float32 `(1, n_instances, …)`.
        log_prob: log P of the class at the start and after each step.
        nonzero: share of values that differ from the background, likewise.
        moved: distance from the original bag, in shares of its own from the background, likewise.
        pull: mean |gradient step| of each step, in units of the penalty; 0 where η is 0 and infinite where λ is.
        stopped: why there are no more steps: "all steps taken", or another reason.
        refused: why the refinement must not be used, or "".
    """

    bag: Tensor
    log_prob: tuple[float, ...]
    nonzero: tuple[float, ...]
    moved: tuple[float, ...]
    pull: tuple[float, ...]
    stopped: str
    refused: str

    def log(self) -> dict[str, object]:
        """Return all but the bag, for a receipt."""
        curves = {name: [round(v, 6) for v in getattr(self, name)] for name in ("log_prob", "nonzero", "moved", "pull")}
        return {"steps": len(self.pull), "stopped": self.stopped, **curves, "reason": self.refused}


def refine(
    model: MILModel,
    bag: Tensor,
    output: int,
    settings: SparseInversion,
    *,
    threshold: float | None = None,
    domain: Domain | None = None,
) -> Refinement:
    """Proximal gradient on the bag: towards the class `output`, with a sparsity penalty.

    Source:
        Shin et al., sparse network inversion for key instance detection in MIL: minimise l(X) = -log P(output) from
        the bag itself by X ← S_λ(X - η ∂l/∂X), S_λ the soft threshold. The model is frozen and in eval mode, and the
        whole bag stands under one softmax.

    Differs:
        X are the encoder's features where the encoder is frozen; with an instance encoder that was trained along, its
        images, as in the paper. With s the log odds of the output, ∂l/∂X = -(1 - P) ∂s/∂X, where 1 - P = σ(-s) stays
        exact at P ≈ 1. The paper gives no η, λ, T. Here they are relative to the bag: with b the background, m the mean
        |X - b| and r the RMS of ∂s/∂X at the start, the step is η·m/r and the penalty λ·m, since gradients scale with
        1/n_instances. Values stay in their domain, and are shrunk towards the background.
        No more steps are taken when one moved the bag by less than `tolerance` of itself, or when half of the values
        that were not background have become so: from there on the bag fades as a whole.

    Args:
        model: frozen, in eval mode.
        bag: `(1, n_instances, …)`, float32 or, to hold less, float16 as it is stored; left as it is.
        output: index of the class or label.
        settings: η, λ, number of steps, tolerance.
        threshold: P from which the bag counts as `output`; None: where it is the most probable class.
        domain: of the values; None: of features.

    Returns:
        The last iterate, refused where the bag is not predicted as the output, at any step; where its log odds are no
        number; where the model does not react to it; or where too many instances lost every value.
    """
    run = _Inversion(model, bag, output, settings, threshold, Domain.of_features(bag) if domain is None else domain)
    while not run.stopped:
        run.take_step()
    return run.refinement()


def soft_threshold(values: Tensor, penalty: float) -> Tensor:
    """sign(u)·max(|u| - λ, 0), elementwise: the proximal map of λ‖·‖₁."""
    return values.sign() * (values.abs() - penalty).clamp_min(0)


def shrunk(bag: Tensor, penalty: float, steps: int, domain: Domain | None = None) -> Tensor:
    """The control: what `refine` makes of a bag in so many steps with η = 0, where the model has no say.

    Soft thresholds add up, so no iteration is needed.

    Args:
        bag: `(1, n_instances, …)`.
        penalty: λ of each step, relative to the bag.
        steps: how many.
        domain: of the values; None: of features.
    """
    domain = Domain.of_features(bag) if domain is None else domain
    return domain.shrunk(bag.float(), steps * penalty * domain.scale_of(bag))


def read_off(model: MILModel, score: ReadOff) -> ReadOff:
    """Method that scores a refined bag: `score` if the model supports it, else evidence, else standardised contribution."""
    return next(name for name in (score, "evidence", "standardised_contribution") if supports(model.provides, name))


class _Inversion:
    """A refinement in progress."""

    def __init__(
        self, model: MILModel, bag: Tensor, output: int, settings: SparseInversion, threshold: float | None, domain: Domain
    ):
        self.model, self.bag, self.output, self.settings, self.domain = model, bag, output, settings, domain
        self.threshold = threshold
        self.current, self.scale = bag.to(torch.float32, copy=True), domain.scale_of(bag)
        self.length = domain.length_of(bag)
        self.log_prob: list[float] = []
        self.nonzero: list[float] = []
        self.moved, self.pull = [0.0], list[float]()
        self.stopped = self.refused = ""
        self.gradient = self._evaluate()
        if not self.length:
            self._refuse("the bag holds nothing but background")
        self.step = self._step_size()

    def refinement(self) -> Refinement:
        log_prob, nonzero, moved, pull = map(tuple, (self.log_prob, self.nonzero, self.moved, self.pull))
        return Refinement(self.current, log_prob, nonzero, moved, pull, self.stopped, self.refused)

    def take_step(self) -> None:
        """X ← S_λ(X + η (1 - P) ∂s/∂X) in place, part by part."""
        weight, penalty = self.step * float(torch.sigmoid(-self.gradient.margin)), self.settings.penalty * self.scale
        pulled = stepped = moved = 0.0
        for rows, part in self.gradient.parts():
            before = self.current[:, rows]
            after = self.domain.shrunk(torch.add(before, part, alpha=weight), penalty)
            pulled += weight * float(part.abs().sum())
            stepped += float((after - before).square().sum())
            moved += float((after - self.bag[:, rows]).square().sum())
            self.current[:, rows] = after
        self.pull.append(pulled / self.bag.numel() / penalty if penalty else math.inf)
        self.moved.append(moved**0.5 / self.length)
        del self.gradient  # before the next is computed: both are as large as the embedded bag
        self.gradient = self._evaluate()
        if not self.stopped:
            self._stop_if_done(stepped**0.5)

    def _evaluate(self) -> MarginGradient:
        """Evaluate the model at the current bag, and stop where the refinement must not go on."""
        gradient = margin_gradient(self.model, self.current, self.output, chunk=self.settings.chunk)
        self.log_prob.append(float(functional.logsigmoid(gradient.margin)))
        self.nonzero.append(self.domain.nonzero_of(self.current))
        if not torch.isfinite(gradient.margin):
            self._refuse("the model's log odds are no number")
        elif not self._holds(gradient.logits):
            is_start = len(self.log_prob) == 1
            self._refuse("this model predicts otherwise" if is_start else "the prediction flipped while the bag was refined")
        return gradient

    def _holds(self, logits: Tensor) -> bool:
        """Whether the bag is still predicted as the output."""
        if self.threshold is None:
            return int(logits.argmax()) == self.output
        return float(self.model.outputs.probability(logits.double(), self.output)) >= self.threshold

    def _step_size(self) -> float:
        """η·m/r, where r is the gradient's RMS at the start."""
        if self.stopped or not self.settings.step:
            return 0.0
        squares = sum(float(part.square().sum()) for _, part in self.gradient.parts())
        steepness = math.sqrt(squares / self.bag.numel())
        if not steepness > 0:
            self._refuse("the model does not react to this bag")
            return 0.0
        return self.settings.step * self.scale / steepness

    def _stop_if_done(self, stepped: float) -> None:
        if self.nonzero[-1] < LEAST_NONZERO * self.nonzero[0]:
            self.stopped = "half of the values became background"
        elif stepped < self.settings.tolerance * self.length:
            self.stopped = "converged"
        elif len(self.pull) == self.settings.steps:
            self.stopped = "all steps taken"
        if self.stopped and self.domain.blank_of(self.current) > MOST_BLANK:
            self._refuse(f"more than {MOST_BLANK:.0%} of the tiles lost every feature: a smaller penalty or fewer steps may do")

    def _refuse(self, reason: str) -> None:
        self.stopped, self.refused = "refused", reason
