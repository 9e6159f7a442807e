"""Choose the instances that are masked in masked hard instance mining. Pure functions on tensors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Masking:
    """Shares of a bag that are masked.

    Attributes:
        random: drawn at random.
        low: scored lowest by the teacher.
        high: of those scored highest.
        high_share: `high` instances are drawn from the `high / high_share` highest; 1 takes the highest themselves.
    """

    random: float
    low: float
    high: float
    high_share: float


def kept_instances(scores: Tensor, masking: Masking) -> Tensor:
    """Return the indices of the instances that are kept, ascending, at least one.

    Parts are chosen independently, and their union is masked; their overlap is not compensated for. Counts are
    ⌈n_instances · share⌉. So random .7, low .2, high .02 keep .3 · .78 = 23.4 %.

    Source:
        Tang et al.: Multiple Instance Learning Framework with Masked Hard Instance Mining, ICCV 2023, section 3.3 (HAM,
        L-HAM, R-HAM, LR-HAM). https://arxiv.org/abs/2307.15254

    Differs:
        Kept indices ascend, as the teacher and the test see them; the authors' come in interleaved runs, which scrambles
        TransMIL's raster. Ties among votes go to the higher mean score. A bag that would be masked as a whole keeps the instance
        that the teacher scores highest.

    Args:
        scores: `(n_heads, n_instances)`, higher counts more.
        masking: shares.
    """
    n = scores.shape[1]
    kept = torch.ones(n, dtype=torch.bool, device=scores.device)
    kept[_random_part(n, masking.random).to(scores.device)] = False
    kept[voted(scores, _count(n, masking.low), largest=False)] = False
    kept[_high_part(scores, masking)] = False
    if not kept.any():
        kept[voted(scores, 1, largest=True)] = True
    return kept.nonzero().squeeze(1)


def voted(scores: Tensor, k: int, *, largest: bool) -> Tensor:
    """Vote for the `k` instances that most heads rank among their `k` highest (or lowest); ties go to the higher (lower) mean."""
    if k == 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    signed = scores.double() if largest else -scores.double()
    if scores.shape[0] == 1:
        return signed[0].topk(k).indices
    votes = torch.zeros_like(signed).scatter_(1, signed.topk(k, dim=1).indices, 1.0).sum(dim=0)
    rank = signed.mean(dim=0).argsort().argsort()
    return (votes + rank / (len(rank) + 1)).topk(k).indices


def _high_part(scores: Tensor, masking: Masking) -> Tensor:
    n = scores.shape[1]
    k, pool = _count(n, masking.high), masking.high / masking.high_share
    if pool > 1:
        return _random_part(n, masking.high).to(scores.device)
    candidates = voted(scores, _count(n, pool), largest=True)
    return candidates[torch.randperm(len(candidates))[:k].to(scores.device)]


def _random_part(n: int, share: float) -> Tensor:
    """Drawn on the CPU, so that one generator state is enough to resume from."""
    return torch.randperm(n)[: _count(n, share)]


def _count(n: int, share: float) -> int:
    """⌈n · share⌉, without the error of floating point (⌈100 · .07⌉ is 7)."""
    return math.ceil(round(n * share, 9))
