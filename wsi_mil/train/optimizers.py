"""Create optimisers and learning rates from settings."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from wsi_mil.config import Training
from wsi_mil.train.epochs import n_epochs

LOOKAHEAD_STEPS = 6
"""k of Lookahead: its default, and that of TransMIL's authors."""
LOOKAHEAD_ALPHA = 0.5
"""α of Lookahead: its default, and that of TransMIL's authors."""


class RAdamLookahead(torch.optim.RAdam):
    """RAdam with Lookahead: every k-th update moves the weights halfway back to where they were k updates earlier.

    Source:
        Liu et al., ICLR 2020 (RAdam, from torch); Zhang et al.: Lookahead Optimizer, NeurIPS 2019, algorithm 1.
        https://arxiv.org/abs/1907.08610

    Differs:
        As in the code of TransMIL's authors, weight decay is decoupled from the gradient, and the slow weights are
        initialised at the first synchronisation, which therefore changes nothing.
    """

    def __init__(self, params: Any, **settings: Any):
        super().__init__(params, decoupled_weight_decay=True, **settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do one update; slow weights are kept in the state, so that training can resume from `state_dict`."""
        loss: float | None = super().step(closure)
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            state = self.state[p]
            if int(state["step"]) % LOOKAHEAD_STEPS:
                continue
            if "slow" in state:
                p.copy_(state["slow"].lerp_(p, LOOKAHEAD_ALPHA))
            else:
                state["slow"] = p.clone()
        return loss


def create_optimizer(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """Return the optimiser of all parameters that require a gradient.

    With `decay_vectors: false`, biases and normalisation parameters have no weight decay.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trainable}]
    if not settings.decay_vectors:
        vectors = [p for p in trainable if p.ndim <= 1]
        matrices = [p for p in trainable if p.ndim > 1]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return OPTIMIZERS[settings.optimizer](groups, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)


def learning_rate(settings: Training, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0: constant, or a cosine from `lr` to `final_lr` over all epochs."""
    if settings.schedule == "constant":
        return settings.lr
    return settings.final_lr + (settings.lr - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * epoch / n_epochs(settings)))


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "radam_lookahead": RAdamLookahead,
}
