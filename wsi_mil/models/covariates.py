"""Covariates of a bag beside its instances: one more term in the classifier of the bag's embedding."""

import copy
from typing import ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from wsi_mil.config import ModelSettings
from wsi_mil.covariates import Cells, Coding
from wsi_mil.errors import ConfigError

M = TypeVar("M", bound=nn.Module)

SPEED = 10.0
"""V is this times its parameter. An optimiser like Adam moves every weight equally far, and there are hundreds of units of the
embedding beside each covariate, which would hardly be learned (docs/decisions.md has the figures)."""


class TakesCovariates(nn.Module):
    """A model whose bag classifiers may have a term for covariates: logits(bag, c) = f(bag) + V c.

    That is what appending c to the bag's embedding gives, since the classifiers are linear: W [z; c] + b = W_z z + b + V c. So,
    with c fixed, V c is part of the bias, and whatever explains a model without covariates explains this one. The explanation is
    not the same for each c where the explained quantity is not linear in the logits: of three or more classes, of hazards.

    Attributes:
        coding: how covariates become c; None if the model takes none.
    """

    read_outs: ClassVar[tuple[str, ...]] = ("classifier",)
    """Names of the linear layers that classify the embedding of the bag, or what takes its place."""

    coding: Coding | None = None
    is_fixed = False
    """Whether the covariates of a bag are in the biases already."""

    def take_covariates(self, coding: Coding) -> Self:
        """Give the model weights of covariates, zero at the start, and return it.

        Raises:
            TypeError: the model has no linear classifier of an embedding of the bag.
        """
        if not self.read_outs:
            raise TypeError(f"{type(self).__name__} has no embedding of the bag that covariates could be appended to")
        self.coding = coding
        n_rows = len(self.get_parameter(f"{self.read_outs[0]}.bias"))
        self.covariate_weights = nn.Parameter(torch.zeros(n_rows, len(coding.names)))
        return self

    def at(self, cells: Cells | None) -> Self:
        """Return the model with the covariates of a bag fixed, or the model itself if it takes none.

        It shares all other weights with this one, and gradients reach them.

        Args:
            cells: covariates of the bag by column; None: it has none.

        Raises:
            ConfigError: the model takes covariates, and the bag has none, or its settings have `covariates: true` and it does not
                know yet which.
        """
        if self.coding is None:
            self._require_coding()
            return self
        if cells is None:
            raise ConfigError([f"the model was trained with covariates: expected a bag with {', '.join(self.coding.columns)}"])
        return self._at(torch.from_numpy(self.coding.encode(cells)))

    def at_mean(self) -> Self:
        """Return the model with the mean c of its training part fixed, or the model itself if it takes none.

        What it predicts differs between bags by their instances only. The mean, and not c = 0, leaves the bias where the model
        has it: without any category it would lack what every bag has from its own.
        """
        return self if self.coding is None else self._at(torch.tensor(self.coding.mean))

    def _require_coding(self) -> None:
        """Raise if the settings have covariates, and the model was given no coding of them."""
        settings = getattr(self, "settings", None)
        if not self.is_fixed and isinstance(settings, ModelSettings) and settings.uses_covariates:
            remedy = "train it with fitted_for(…, covariates={…}), or call take_covariates first"
            raise ConfigError([f"{type(self).__name__} with covariates does not know which: {remedy}"])

    @property
    def covariate_effects(self) -> Tensor:
        """V `(n_rows, k)`, what the coded covariates are multiplied by."""
        return SPEED * self.covariate_weights

    def set_covariate_effects(self, effects: Tensor) -> None:
        """Set V `(n_rows, k)`."""
        with torch.no_grad():
            self.covariate_weights.copy_(effects / SPEED)

    def _at(self, coded: Tensor) -> Self:
        fixed = _copied(self)
        fixed.coding, fixed.is_fixed = None, True
        fixed._parameters.pop("covariate_weights")
        shift = self.covariate_effects @ coded.to(self.covariate_weights)
        for path in self.read_outs:
            fixed = _with_shifted_bias(fixed, path, shift)
        return fixed


def _copied(module: M) -> M:
    """A module that shares its parts with another one, any of which may be replaced."""
    copied = copy.copy(module)
    copied._parameters, copied._modules = dict(module._parameters), dict(module._modules)
    return copied


def _with_shifted_bias(module: M, path: str, shift: Tensor) -> M:
    """A copy whose bias at a path is another one: a parameter, or in training what gradients go through."""
    name, _, rest = path.partition(".")
    copied = _copied(module)
    part = copied._modules[name]
    assert part is not None
    if rest:
        copied._modules[name] = _with_shifted_bias(part, rest, shift)
        return copied
    shifted = _copied(part)
    bias = torch.as_tensor(shifted._parameters.pop("bias")) + shift
    if bias.requires_grad:
        shifted.bias = bias
    else:
        shifted.bias = nn.Parameter(bias, requires_grad=False)
    copied._modules[name] = shifted
    return copied
