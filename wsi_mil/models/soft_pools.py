"""Probabilities of instances → probability of the bag, in logarithms, so that neither certainty loses its gradient.

Each pool takes logits z `(n_instances, n_outputs)`, of which the probabilities are p = σ(z), and gives log P and log(1 - P),
`(n_outputs,)`. In float32 both are right to a few digits (next to zero: to 1e-6) from P = 1e-38 to 1 - P = 1e-38, for any number
of instances: P itself would be 1 for every large bag under noisy-OR, and a negative bag would have no gradient.

Source:
    Kraus, Ba, Frey: Classifying and segmenting microscopy images with deep multiple instance learning, Bioinformatics 2016,
    section 2. https://arxiv.org/abs/1511.05286
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

TINY = 1e-20
"""Below it a mean of any of these kinds is the plain mean to all digits of float32."""

FIRST_ORDER = -15.0
"""Logarithm below which log(1 + x) and 1 - exp(-x) are x to all digits of float32."""


class Pooled(NamedTuple):
    """Logarithms of the bag's probability P and of 1 - P, `(n_outputs,)`."""

    log_p: Tensor
    log_q: Tensor


def noisy_or(z: Tensor) -> Pooled:
    """P = 1 - Π (1 - p_n)."""
    # log softplus(z), the logarithm of -log(1 - p), is z where e^z is small
    small = z < FIRST_ORDER
    log_terms = torch.where(small, z, softplus(z.masked_fill(small, 0.0)).log())
    return Pooled(_log_one_minus_exp(torch.logsumexp(log_terms, dim=0)), -softplus(z).sum(dim=0))


def isr(z: Tensor) -> Pooled:
    """Integrated segmentation and recognition: P = v / (1 + v), v = Σ p_n / (1 - p_n), where p / (1 - p) is e^z."""
    log_v = torch.logsumexp(z, dim=0)
    return Pooled(logsigmoid(log_v), logsigmoid(-log_v))


def generalised_mean(z: Tensor, exponent: float) -> Pooled:
    """P = (mean p_n^r)^(1 / r)."""
    log_p = exponent * logsigmoid(z)
    lack = -torch.expm1(log_p).mean(dim=0)  # 1 - mean p^r, exact near 0
    log_pooled = _log_of_larger(torch.logsumexp(log_p, dim=0) - math.log(len(z)), lack) / exponent
    return Pooled(log_pooled, _log_or(-torch.expm1(log_pooled), log_mean(-z)))


def log_sum_exp(z: Tensor, exponent: float) -> Pooled:
    """P = (1 / r) log mean e^(r p_n), between mean and maximum."""
    p = torch.log1p(torch.expm1(exponent * torch.sigmoid(z)).mean(dim=0)) / exponent  # exact near 0
    q = -torch.log1p(torch.expm1(-exponent * torch.sigmoid(-z)).mean(dim=0)) / exponent  # 1 - p, exact near 0
    return Pooled(_log_of_larger(_log_or(p, log_mean(z)), q), _log_of_larger(_log_or(q, log_mean(-z)), p))


def noisy_and(z: Tensor, threshold: Tensor, slope: float) -> Pooled:
    """P = [σ(a (p̄ - b)) - σ(-a b)] / [σ(a (1 - b)) - σ(-a b)], p̄ the mean: 0 at p̄ = 0 and 1 at p̄ = 1, whatever b.

    With σ(x) - σ(y) = σ(x) σ(-y) (1 - e^(y - x)) the differences are products, of which each factor is exact.

    Args:
        z: as above.
        threshold: b `(n_outputs,)`, the mean near which P rises.
        slope: a.
    """
    log_p, log_q, mean = log_mean(z), log_mean(-z), torch.sigmoid(z).mean(dim=0)
    whole, log_slope = _log_one_minus_exp(torch.full_like(mean, math.log(slope))), math.log(slope)
    rise = logsigmoid(slope * (mean - threshold)) - logsigmoid(slope * (1 - threshold))
    fall = logsigmoid(slope * (threshold - mean)) - logsigmoid(slope * threshold)
    return Pooled(
        rise + _log_one_minus_exp(log_slope + log_p) - whole,
        fall + _log_one_minus_exp(log_slope + log_q) - whole,
    )


def log_mean(z: Tensor) -> Tensor:
    """Logarithm of the mean of σ(z) over instances, exactly 0 where all are 1."""
    return _log_of_larger(torch.logsumexp(logsigmoid(z), dim=0) - math.log(len(z)), torch.sigmoid(-z).mean(dim=0))


def _log_one_minus_exp(log_x: Tensor) -> Tensor:
    """log(1 - e^(-x)) from log x; log x itself where x is small."""
    small = log_x < FIRST_ORDER
    return torch.where(small, log_x, (-torch.expm1(-log_x.masked_fill(small, 0.0).exp())).log())


def _log_of_larger(log_value: Tensor, lack: Tensor) -> Tensor:
    """Logarithm of a share that lacks `lack` to 1, by that where it is less than a half."""
    is_larger = lack < 0.5
    return torch.where(is_larger, torch.log1p(-lack.masked_fill(~is_larger, 0.0)), log_value)


def _log_or(value: Tensor, log_value: Tensor) -> Tensor:
    """Logarithm of a value or, where that is next to nothing, what is given for it."""
    small = value < TINY
    return torch.where(small, log_value, value.masked_fill(small, 1.0).log())
