"""How far several models, or a model and one of permuted weights, agree on the scores of a bag."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.metrics import spearman
from wsi_mil.models import MILModel


def agreement_log(scores: Sequence[NDArray[np.float64]]) -> dict[str, object]:
    """Return the mean rank correlation between the scores of each two of several models, for a receipt; {} of one model.

    It is NaN if all tiles have the same score by one of them.
    """
    if len(scores) < 2:
        return {}
    each = [spearman(first, second) for first, second in combinations(scores, 2)]
    return {"agreement": round(float(np.mean(each)), 6), "n_models": len(scores)}


@torch.no_grad()
def with_permuted_weights(model: MILModel, *, seed: int = 0) -> MILModel:
    """Return a copy of a model in which the entries of each weight tensor are permuted: it has learnt nothing.

    Source:
        Adebayo et al.: Sanity checks for saliency maps, NeurIPS 2018, https://arxiv.org/abs/1810.03292. A map that stays the
        same shows the bag, not what the model makes of it.
    """
    generator, copy = torch.Generator().manual_seed(seed), deepcopy(model)
    for weights in copy.parameters():
        order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
        weights.copy_(weights.flatten()[order].view_as(weights))
    return copy
