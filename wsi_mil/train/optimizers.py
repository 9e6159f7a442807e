"""Settings → optimiser and learning rate."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from wsi_mil.config import Training
from wsi_mil.train.epochs import epochs_of

LOOKAHEAD_STEPS, LOOKAHEAD_SHARE = 6, 0.5
"""k and α of Lookahead, as TransMIL's authors and Lookahead's default have them."""


class RAdamLookahead(torch.optim.RAdam):
    """RAdam inside Lookahead: every k-th update the weights go back half the way to where they were k updates before.

    Source:
        Liu et al., ICLR 2020 (RAdam, from torch); Zhang et al.: Lookahead Optimizer, NeurIPS 2019, algorithm 1.
        https://arxiv.org/abs/1907.08610

    Differs:
        As in the code of TransMIL's authors, weight decay does not go through the gradient, and the slow weights start at the
        first synchronisation, which therefore changes nothing.
    """

    def __init__(self, params: Any, **settings: Any):
        super().__init__(params, decoupled_weight_decay=True, **settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; slow weights lie in the state, so that `state_dict` holds all there is to go on with."""
        loss: float | None = super().step(closure)
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            state = self.state[p]
            if int(state["step"]) % LOOKAHEAD_STEPS:
                continue
            if "slow" in state:
                p.copy_(state["slow"].lerp_(p, LOOKAHEAD_SHARE))
            else:
                state["slow"] = p.clone()
        return loss


def create_optimizer(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """The optimiser over all weights that learn."""
    learned = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": learned}]
    if not settings.decay_vectors:
        groups = [{"params": _vectors(learned, wanted=False)}, {"params": _vectors(learned, wanted=True), "weight_decay": 0.0}]
    return OPTIMIZERS[settings.optimizer](groups, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)


def learning_rate(settings: Training, epoch: int) -> float:
    """Rate of an epoch, from 0; cosine from `lr` to `final_lr` over all epochs of a planned training."""
    if settings.schedule == "constant":
        return settings.lr
    return settings.final_lr + (settings.lr - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * epoch / epochs_of(settings)))


def _vectors(parameters: Iterable[Tensor], *, wanted: bool) -> list[Tensor]:
    """Biases and norms, or all but them."""
    return [p for p in parameters if (p.ndim <= 1) == wanted]


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "radam_lookahead": RAdamLookahead,
}
